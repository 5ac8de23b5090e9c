//! `cargo xtask fuzz`: builds the fuzz targets of `tests/fuzz` with libFuzzer on stable Rust, and runs them.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use super::{cargo, tool};
use crate::paths;
use crate::shell::Shell;

/// The targets, as in `tests/fuzz/Cargo.toml`.
const TARGETS: &[&str] = &["framer", "envelope", "edits", "router"];

/// What makes the compiler count the edges that an input takes; the unstable sanitizers are not needed for that.
const FLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Ccodegen-units=1",
    "--cfg",
    "fuzzing",
];

/// The longest input: choices in a sequence of messages, or bytes of a stream.
const INPUT_BYTES_MAX: usize = 256;

/// What is to be run.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Targets (framer, envelope, edits, router); without any, all one after the other.
    targets: Vec<String>,
    /// How many inputs each target gets.
    #[arg(long, default_value_t = 1_000_000)]
    runs: u64,
}

/// Builds, and runs the targets until each has had its inputs. What fails lies in `fuzz/artifacts` beside what was built; the
/// inputs that took new ways are kept in `fuzz/corpus` there, and are where the next run begins.
pub(crate) fn run(options: &Options) -> Result<bool> {
    for target in &options.targets {
        ensure!(
            TARGETS.contains(&target.as_str()),
            "no fuzz target is called `{target}`; there are {}",
            TARGETS.join(", ")
        );
    }
    let (folder, host) = (paths::target().join("fuzz"), host()?);
    let manifest = paths::root().join("tests/fuzz/Cargo.toml").display().to_string();
    let target_dir = folder.display().to_string();
    // With a target named, cargo gives the flags to the program alone and not to what builds it.
    let built = cargo(&["build", "--release", "--manifest-path", &manifest])
        .args(["--target", &host, "--target-dir", &target_dir])
        .env("RUSTFLAGS", FLAGS.join(" "))
        .show()?;
    if !built {
        return Ok(false);
    }
    let artifacts = folder.join("artifacts");
    fs::create_dir_all(&artifacts).context("cannot make the folder for inputs that fail")?;
    let wanted = |target: &&&str| {
        options.targets.is_empty() || options.targets.iter().any(|name| name == **target)
    };
    let mut all_hold = true;
    for target in TARGETS.iter().filter(wanted) {
        let corpus = folder.join("corpus").join(target);
        fs::create_dir_all(&corpus).context("cannot make the folder of the corpus")?;
        let program = folder.join(&host).join("release").join(target).display().to_string();
        let holds = tool(&program)
            .arg(&corpus)
            .arg(format!("-runs={}", options.runs))
            .arg(format!("-max_len={INPUT_BYTES_MAX}"))
            .arg(format!("-artifact_prefix={}/{target}-", artifacts.display()))
            .args(["-print_final_stats=1", "-verbosity=1"])
            .show()?;
        println!("fuzz: {target} {}", if holds { "holds" } else { "FAILED" });
        all_hold &= holds;
    }
    Ok(all_hold)
}

/// The triple of this machine.
fn host() -> Result<String> {
    let printed = Shell::new("rustc").arg("-vV").read()?;
    let host = printed.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` names no host")?.to_owned())
}
