//! `cargo xtask bench`: runs the benchmarks and writes docs/benchmarks.md from the rows that they print.

mod card;
mod conformance;

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::{cargo, set_up, tool};
use crate::paths;
use crate::setup::Purpose;

/// The benchmarks, in the order of the document.
const BENCHES: &[&str] = &[
    "proxy",
    "conformance",
    "faults",
    "soak",
    "speculate",
    "replay",
    "steer",
    "engine",
    "decode",
    "load",
    "verdicts",
    "nano",
    "retrieval",
];
/// What is held out from the default model's training, once `build.sh heldout` or the whole recipe has fetched it.
const HELD_OUT: [&str; 2] = [".tools/heldout/corpus", ".tools/nano-data/corpus"];
/// The default model's first edition, once `build.sh first` has brought it.
const FIRST: &str = ".tools/first";
/// Real packages as projects, once `build.sh projects` has laid them out.
const PROJECTS: &str = ".tools/heldout/projects";
/// Every try of the ablation, a line each.
const TRIES: &str = "tests/eval/steer.csv";
/// The picture that `decode` draws.
const ROOFLINE: &str = "docs/benchmarks-roofline.svg";

/// What `demolish bench NAME --json` prints.
#[derive(Deserialize)]
struct Bench {
    bench: String,
    date: String,
    machine: Machine,
    commit: String,
    rows: Vec<Row>,
    #[serde(default)]
    notes: Vec<String>,
}

#[derive(Deserialize)]
struct Machine {
    cpu: String,
    cores: u32,
    memory_gib: f64,
}

#[derive(Deserialize)]
struct Row {
    metric: String,
    value: f64,
    unit: String,
    #[serde(default)]
    against: Option<String>,
    #[serde(default)]
    ratio: Option<f64>,
    #[serde(default)]
    goal: Option<String>,
    #[serde(default)]
    holds: Option<bool>,
    #[serde(default)]
    note: Option<String>,
}

/// Runs the benchmarks named, or all. Those named are written into the document only if `writes`.
pub(crate) fn run(names: &[String], writes: bool) -> Result<bool> {
    for name in names {
        ensure!(
            BENCHES.contains(&name.as_str()),
            "no benchmark is called `{name}`; there are {}",
            BENCHES.join(", ")
        );
    }
    set_up(Purpose::Slow)?;
    if !cargo(&["build", "--quiet", "--release", "--package", "demolish", "--bins"]).show()? {
        return Ok(false);
    }
    let mut benches = Vec::new();
    for name in
        BENCHES.iter().filter(|name| names.is_empty() || names.iter().any(|wanted| wanted == *name))
    {
        println!("bench: {name} …");
        let is_there = |folder: &&str| paths::root().join(folder).is_dir();
        if *name == "nano" && !HELD_OUT.iter().any(is_there) {
            recipe("heldout")?;
        }
        if matches!(*name, "replay" | "steer") && !is_there(&PROJECTS) {
            recipe("projects")?;
        }
        if *name == "nano" && !is_there(&FIRST) {
            recipe("first")?;
        }
        // The program exits with 1 when a goal does not hold; what it printed is wanted then too.
        let program = paths::target().join("release/demolish").display().to_string();
        let mut shell = tool(&program).args(["bench", name, "--json"]);
        if *name == "decode" {
            shell = shell.arg("--svg").arg(paths::root().join(ROOFLINE));
        }
        if *name == "steer" && writes {
            shell = shell.arg("--out").arg(paths::root().join(TRIES));
        }
        if *name == "nano" {
            shell = shell.arg("--examples").arg(paths::root().join(card::EXAMPLES));
            shell = shell.arg("--compare").arg(paths::root().join(FIRST));
        }
        let printed = shell.read_whatever()?;
        let bench: Bench = serde_json::from_str(&printed)
            .with_context(|| format!("bench {name} printed no object of benchmarks"))?;
        print!("{}", part(&bench)?);
        benches.push(bench);
    }
    let hold = benches.iter().flat_map(|bench| &bench.rows).all(|row| row.holds != Some(false));
    if names.is_empty() || writes {
        let path = paths::root().join("docs/benchmarks.md");
        let before = if names.is_empty() { None } else { Some(fs::read_to_string(&path)?) };
        fs::write(path, document(before.as_deref(), &benches)?)
            .context("cannot write docs/benchmarks.md")?;
        if let Some(nano) = benches.iter().find(|bench| bench.bench == "nano") {
            card::write(&part(nano)?)?;
        }
        println!("bench: docs/benchmarks.md is written");
    }
    Ok(hold)
}

/// A part of the default model's recipe.
fn recipe(part: &str) -> Result<()> {
    let recipe = paths::root().join("daemon/nano/build.sh").display().to_string();
    ensure!(tool("sh").args([&*recipe, part]).show()?, "{recipe} {part} failed");
    Ok(())
}

/// The whole document: these benchmarks, and the sections of the others as they were before.
fn document(before: Option<&str>, benches: &[Bench]) -> Result<String> {
    let mut text = String::from(
        "# Benchmarks\n\nWritten by `make bench` from what `demolish bench NAME --json` prints; do not edit. Ratios and the two sides of\n\
         a comparison come from one run on one machine.\n",
    );
    for name in BENCHES {
        if let Some(bench) = benches.iter().find(|bench| bench.bench == *name) {
            let Machine { cpu, cores, memory_gib } = &bench.machine;
            let _ = write!(
                text,
                "\n## {name}\n\n{cpu}, {cores} cores, {memory_gib:.0} GiB; {}, commit {}.\n\n",
                bench.date, bench.commit
            );
            text.push_str(&part(bench)?);
        } else if let Some(section) = before.and_then(|before| section(before, name)) {
            text.push_str(section);
        }
    }
    Ok(text)
}

/// The part of the document about one benchmark, from the empty line before its title.
fn section<'d>(document: &'d str, name: &str) -> Option<&'d str> {
    let start = document.find(&format!("\n## {name}\n"))?;
    let end = document[start + 1..].find("\n## ").map_or(document.len(), |end| start + 1 + end);
    Some(&document[start..end])
}

/// What one benchmark found.
fn part(bench: &Bench) -> Result<String> {
    match &*bench.bench {
        "conformance" => Ok(conformance::table(bench, &conformance::peers()?)),
        "decode" => {
            Ok(format!("{}\n![Roofline]({})\n\n{}", table(bench), roofline(), remarks(bench)))
        }
        _ => Ok(format!("{}{}", table(bench), notes(bench))),
    }
}

/// The picture as the document names it.
fn roofline() -> &'static str {
    ROOFLINE.trim_start_matches("docs/")
}

/// What the rows say beside their numbers, and what was not measured.
fn remarks(bench: &Bench) -> String {
    let mut text = String::from(
        "Names without an ending are of a mixture of experts with random weights (1.7 billion parameters, 0.64 billion take part in\n\
         a token), `_dense` of the shape of Qwen2.5-0.5B. The peers have the same numbers in their own formats.\n\n",
    );
    for row in &bench.rows {
        if let Some(note) = &row.note {
            let _ = writeln!(text, "* `{}`: {note}.", row.metric);
        }
    }
    text + &bench.notes.iter().map(|note| format!("* {note}.\n")).collect::<String>()
}

/// What was not measured, below the table.
fn notes(bench: &Bench) -> String {
    let notes: String = bench.notes.iter().map(|note| format!("* {note}.\n")).collect();
    if notes.is_empty() { notes } else { format!("\n{notes}") }
}

fn table(bench: &Bench) -> String {
    let mut text = String::from(
        "| metric | value | against | ratio | goal | holds |\n|---|---|---|---|---|---|\n",
    );
    for row in &bench.rows {
        let ratio = row.ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
        let holds = row.holds.map_or("", |holds| if holds { "yes" } else { "no" });
        let (against, goal) =
            (row.against.as_deref().unwrap_or(""), row.goal.as_deref().unwrap_or(""));
        let _ = writeln!(
            text,
            "| {} | {} {} | {against} | {ratio} | {goal} | {holds} |",
            row.metric,
            figure(row.value),
            row.unit
        );
    }
    text
}

/// Three significant figures, whole numbers whole.
fn figure(value: f64) -> String {
    let size = value.abs();
    if value.fract() == 0.0 || size >= 100.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else if size >= 1.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_benchmark_becomes_a_table() {
        let json = r#"{"bench":"proxy","date":"2026-01-02","machine":{"cpu":"C","cores":4,"memory_gib":23.4},"commit":"abc",
            "rows":[{"metric":"added_latency_p50","value":21.34,"unit":"us","against":"direct pipe","ratio":1.04,"goal":"<= 30","holds":true}]}"#;
        let bench: Bench = serde_json::from_str(json).unwrap();
        assert!(document(None, &[bench]).unwrap().ends_with(
            "## proxy\n\nC, 4 cores, 23 GiB; 2026-01-02, commit abc.\n\n| metric | value | against | ratio | goal | holds |\n\
             |---|---|---|---|---|---|\n| added_latency_p50 | 21.3 us | direct pipe | 1.04 | <= 30 | yes |\n"
        ));
    }

    #[test]
    fn one_section_is_replaced_and_the_others_stay() {
        let bench = |name: &str, date: &str| -> Bench {
            let json = format!(
                r#"{{"bench":"{name}","date":"{date}","machine":{{"cpu":"C","cores":4,"memory_gib":23.4}},"commit":"abc","rows":[]}}"#
            );
            serde_json::from_str(&json).unwrap()
        };
        let all = |dates: [&str; 3]| {
            ["proxy", "engine", "verdicts"]
                .into_iter()
                .zip(dates)
                .map(|(name, date)| bench(name, date))
                .collect::<Vec<_>>()
        };
        let before = document(None, &all(["d1", "d1", "d1"])).unwrap();
        let after = document(Some(&before), &[bench("engine", "d2")]).unwrap();
        assert_eq!(after, document(None, &all(["d1", "d2", "d1"])).unwrap());
    }

    #[test]
    fn decoding_has_a_picture_and_remarks() {
        let json = r#"{"bench":"decode","date":"d","machine":{"cpu":"C","cores":4,"memory_gib":23.4},"commit":"abc",
            "rows":[{"metric":"read_bandwidth","value":162.0,"unit":"GB/s","note":"read"}],"notes":["a peer is missing"]}"#;
        let text = part(&serde_json::from_str(json).unwrap()).unwrap();
        assert!(text.contains("\n![Roofline](benchmarks-roofline.svg)\n"), "{text}");
        assert!(text.ends_with("* `read_bandwidth`: read.\n* a peer is missing.\n"), "{text}");
    }

    #[test]
    fn figures_are_short() {
        assert_eq!(
            [0.1234, 1.234, 12.34, 1234.5, 7.0].map(figure),
            ["0.123", "1.23", "12.3", "1234", "7"]
        );
    }
}
