//! The crash model: runs that are drawn from seeds, with real processes (`demolish bench faults`).

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use crate::house::{DEMOLISH, House, slow};

/// Runs these seeds; whatever they show is counted in a row that must be 0. How long recovery takes is not judged here: the
/// machine may be busy.
fn check(first: u64, runs: u64) {
    let house = House::new();
    let (first, runs) = (first.to_string(), runs.to_string());
    let output = Command::new(DEMOLISH)
        .args(["bench", "faults", "--json", "--jobs", "4", "--seed", &first, "--runs", &runs])
        .env_clear()
        .envs(&house.env)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}"));
    let rows: BTreeMap<&str, f64> = report["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["metric"].as_str().unwrap(), row["value"].as_f64().unwrap()))
        .collect();
    for row in [
        "requests_without_one_answer",
        "documents_that_differ",
        "notifications_reordered",
        "screens_that_differ",
        "processes_left",
        "other_failures",
        "runs_failed",
    ] {
        assert_eq!(rows[row], 0.0, "{row}\n{said}");
    }
    assert_eq!(rows["runs"].to_string(), runs);
    assert!(rows["faults"] > rows["runs"], "{rows:?}");
}

#[test]
fn rule_4_14_whatever_dies_stops_or_raves_nothing_is_lost() {
    check(141, 20);
}

#[test]
fn rule_4_14_the_same_with_many_seeds() {
    if !slow() {
        println!("skipped: takes a minute, needs DEMOLISH_SLOW=1");
        return;
    }
    check(10_000, 300);
}
