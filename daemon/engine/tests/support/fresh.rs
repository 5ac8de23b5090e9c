//! Checkpoints that an oracle makes afresh for the slow run, with a seed that nobody has seen.

#![allow(
    dead_code,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "shared by several test binaries, which use different parts, read the environment and report"
)]

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A seed that nobody has seen, or that of the run that is repeated (`DEMOLISH_SEED`).
pub(crate) fn seed() -> String {
    std::env::var("DEMOLISH_SEED").unwrap_or_else(|_| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        (now.subsec_nanos() ^ (now.as_secs() as u32)).to_string()
    })
}

/// mlx-lm's Python.
pub(crate) fn oracle() -> Command {
    let python = root().join(".tools/oracle/bin/python");
    assert!(python.exists(), "{} is not there: run `make setup`", python.display());
    Command::new(python)
}

/// Has checkpoints made.
pub(crate) fn make(command: &mut Command, seed: &str) {
    let made = command.output().unwrap();
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "seed {seed}: {said}");
}

/// Shows the line of every checkpoint, and fails over those that are not right.
pub(crate) fn judge(rows: impl IntoIterator<Item = (String, bool)>, whose: &str) {
    let mut wrong = Vec::new();
    for (line, is_right) in rows {
        println!("{line}");
        if !is_right {
            wrong.push(line);
        }
    }
    assert!(wrong.is_empty(), "{whose}: beyond the tolerance:\n{}", wrong.join("\n"));
}
