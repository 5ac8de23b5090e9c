//! `make bench-metal`: our decoding and reading beside mlx-lm's on one model, for whoever has a GPU to paste. It runs on any machine.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::paths;
use crate::shell::Shell;

/// What mlx-lm is pinned to: the reference of the engine's tests.
const PACKAGES: [&str; 2] = ["mlx-lm==0.32.0", "mlx==0.32.2"];
/// Tokens of the prompts of `demolish model bench`, and tokens written after each.
const LENGTHS: &str = "128,384";
const WRITTEN: &str = "96";

/// Builds, measures both on the model of a folder, and prints a table and an object.
pub(crate) fn run(model: &Path) -> Result<bool> {
    let model = model.canonicalize().with_context(|| format!("no model at {}", model.display()))?;
    if !super::build()? {
        return Ok(false);
    }
    let folder = paths::target().join("bench-metal");
    let python = folder.join("bin/python");
    if !python.exists() {
        Shell::new("python3").args(["-m", "venv"]).arg(&folder).run()?;
    }
    Shell::new(&python).args(["-m", "pip", "install", "--quiet"]).args(PACKAGES).run()?;
    let ours = Shell::new(paths::target().join("release/demolish"))
        .args(["model", "bench", "--json"])
        .arg(&model)
        .read()?;
    let script = paths::root().join("daemon/xtask/bench_metal.py");
    let theirs = Shell::new(&python).arg(script).arg(&model).args([LENGTHS, WRITTEN]).read()?;
    let ours: Value = serde_json::from_str(&ours).context("what `demolish model bench` prints")?;
    let theirs: Value = serde_json::from_str(&theirs).context("what mlx-lm's script prints")?;
    print!("{}", table(&ours, &theirs));
    println!("{}", json!({"ours": ours, "mlx_lm": theirs}));
    Ok(true)
}

/// A row for each number that both have.
fn table(ours: &Value, theirs: &Value) -> String {
    let mut text =
        format!("{:<18} {:>12} {:>12} {:>8}\n", "tokens/s", "Demolish", "mlx-lm", "ratio");
    for row in ours["rows"].as_array().into_iter().flatten() {
        let (Some(metric), Some(own)) = (row["metric"].as_str(), row["value"].as_f64()) else {
            continue;
        };
        if let Some(other) = theirs[metric].as_f64() {
            let _ = writeln!(text, "{metric:<18} {own:>12.1} {other:>12.1} {:>8.2}", own / other);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_both_have_stand_beside_each_other() {
        let row = |metric: &str, value: f64| json!({"metric": metric, "value": value});
        let ours = json!({"rows": [row("load", 5.0), row("prefill_128", 300.0), row("decode_after_128", 50.0)]});
        let theirs =
            json!({"device": "Device(gpu, 0)", "prefill_128": 200.0, "decode_after_128": 100.0});
        let text = table(&ours, &theirs);
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            lines[1..],
            [
                vec!["prefill_128", "300.0", "200.0", "1.50"],
                vec!["decode_after_128", "50.0", "100.0", "0.50"]
            ]
        );
    }
}
