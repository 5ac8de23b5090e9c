//! The conformance suite's part of docs/benchmarks.md: rules down, proxies across. The direct connection and Demolish are of
//! this run; the other proxies are of the run that is committed beside the suite's tests.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::{Bench, Row};
use crate::paths;

/// What the suite found of the other proxies, and when.
const PEERS: &str = "tests/conformance/peers.json";

/// A proxy that somebody else has made.
#[derive(Deserialize)]
pub(super) struct Peer {
    name: String,
    version: String,
    date: String,
    rows: Vec<Row>,
}

/// The committed runs.
pub(super) fn peers() -> Result<Vec<Peer>> {
    let text = fs::read_to_string(paths::root().join(PEERS))
        .with_context(|| format!("cannot read {PEERS}"))?;
    serde_json::from_str(&text).with_context(|| format!("{PEERS} is not what it should be"))
}

/// A proxy's rows by rule.
struct Column<'r> {
    title: String,
    cells: BTreeMap<u32, &'r Row>,
}

impl<'r> Column<'r> {
    fn new(title: String, rows: impl Iterator<Item = &'r Row>) -> Column<'r> {
        let number = |row: &Row| row.metric.strip_prefix("4.").and_then(|rule| rule.parse().ok());
        Column { title, cells: rows.filter_map(|row| Some((number(row)?, row))).collect() }
    }

    fn cell(&self, rule: u32) -> String {
        match self.cells.get(&rule) {
            Some(row) if row.unit != "share" => "–".to_owned(),
            Some(row) if row.value >= 1.0 => "✓".to_owned(),
            Some(row) => format!("✗ {:.0} %", row.value * 100.0),
            None => "–".to_owned(),
        }
    }

    fn score(&self) -> String {
        let seen = self.cells.values().filter(|row| row.unit == "share");
        let whole = seen.clone().filter(|row| row.value >= 1.0).count();
        format!("{whole} of {}", seen.count())
    }
}

/// The table, and what failed first.
pub(super) fn table(bench: &Bench, peers: &[Peer]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in bench.rows.iter().filter_map(|row| row.against.as_deref()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut columns: Vec<Column<'_>> = Vec::new();
    for name in names {
        let of = bench.rows.iter().filter(|row| row.against.as_deref() == Some(name));
        columns.push(Column::new(name.to_owned(), of));
    }
    for peer in peers {
        columns.push(Column::new(format!("{} {}", peer.name, peer.version), peer.rows.iter()));
    }
    let mut text = String::from(
        "The share of each [rule](proxy-rules.md)'s checks that hold; – where a rule says nothing about a proxy or nothing can be\n\
         seen. How to run the suite stands in [conformance.md](conformance.md).\n",
    );
    for peer in peers {
        let _ = writeln!(text, "{} {} was measured on {}.", peer.name, peer.version, peer.date);
    }
    let head: Vec<&str> = columns.iter().map(|column| &*column.title).collect();
    let _ =
        write!(text, "\n| rule | {} |\n|---|{}\n", head.join(" | "), "---|".repeat(columns.len()));
    let rules: std::collections::BTreeSet<u32> =
        columns.iter().flat_map(|column| column.cells.keys().copied()).collect();
    for rule in rules {
        let cells: Vec<String> = columns.iter().map(|column| column.cell(rule)).collect();
        let _ = writeln!(text, "| 4.{rule} | {} |", cells.join(" | "));
    }
    let scores: Vec<String> = columns.iter().map(Column::score).collect();
    let _ = writeln!(text, "| whole | {} |", scores.join(" | "));
    for column in &columns {
        failures(&mut text, column);
    }
    text
}

fn failures(text: &mut String, column: &Column<'_>) {
    let failed = column.cells.iter().filter(|(_, row)| row.unit == "share" && row.value < 1.0);
    let mut notes = failed.filter_map(|(rule, row)| Some((rule, row.note.as_deref()?))).peekable();
    if notes.peek().is_none() {
        return;
    }
    let _ = write!(text, "\nWhat failed first with {}:\n\n", column.title);
    for (rule, note) in notes {
        // A note quotes what passed, which is no markup.
        let _ = writeln!(text, "* 4.{rule} {}", note.replace('|', "\\|"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_stand_down_and_proxies_across() {
        let json = r#"{"bench":"conformance","date":"d","machine":{"cpu":"C","cores":4,"memory_gib":2.0},"commit":"c","rows":[
            {"metric":"4.1","value":1.0,"unit":"share","against":"direct"},
            {"metric":"4.1","value":0.5,"unit":"share","against":"demolish","note":"a: b"},
            {"metric":"4.3","value":0.0,"unit":"checks","against":"direct"},
            {"metric":"4.3","value":1.0,"unit":"share","against":"demolish"}]}"#;
        let bench: Bench = serde_json::from_str(json).unwrap();
        let peers = r#"[{"name":"mux","version":"1","date":"2026-01-02","rows":[{"metric":"4.1","value":1.0,"unit":"share"}]}]"#;
        let peers: Vec<Peer> = serde_json::from_str(peers).unwrap();
        let text = table(&bench, &peers);
        let expected = "| rule | direct | demolish | mux 1 |\n|---|---|---|---|\n| 4.1 | ✓ | ✗ 50 % | ✓ |\n\
                        | 4.3 | – | ✓ | – |\n| whole | 1 of 1 | 1 of 2 | 1 of 1 |\n\
                        \nWhat failed first with demolish:\n\n* 4.1 a: b\n";
        assert!(text.ends_with(expected), "{text}");
        assert!(text.contains("mux 1 was measured on 2026-01-02."), "{text}");
    }

    #[test]
    fn the_committed_runs_can_be_read() {
        assert!(!peers().unwrap().is_empty());
    }
}
