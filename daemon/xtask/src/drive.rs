//! The verbs that run several programs one after the other: test, demo, bench, dist, fuzz, fmt, lint, gen.
//!
//! A driver is a list of stages; each prints a line when it starts and one with its time when it ends. Stages that do not
//! need each other's outcome all run, so that one look at the end shows everything that is wrong.

pub(crate) mod bench;
pub(crate) mod bench_metal;
pub(crate) mod checks;
pub(crate) mod demo;
pub(crate) mod dist;
pub(crate) mod fuzz;
pub(crate) mod record;
pub(crate) mod test;

use std::env;
use std::ffi::OsString;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::paths;
use crate::setup::{self, Purpose};
use crate::shell::Shell;

/// The stages that have run, and which of them failed.
#[derive(Default)]
pub(crate) struct Stages {
    failed: Vec<&'static str>,
}

impl Stages {
    /// Runs one stage. A stage that cannot even start counts as failed.
    pub(crate) fn run(&mut self, name: &'static str, stage: impl FnOnce() -> Result<bool>) -> bool {
        println!("== {name}");
        let started = Instant::now();
        let passed = stage().unwrap_or_else(|error| {
            println!("{error:#}");
            false
        });
        let word = if passed { "done" } else { "FAILED" };
        println!("== {name}: {word} in {:.1} s", started.elapsed().as_secs_f64());
        if !passed {
            self.failed.push(name);
        }
        passed
    }

    /// Whether all passed; says which did not.
    pub(crate) fn conclude(&self) -> bool {
        if !self.failed.is_empty() {
            println!("failed: {}", self.failed.join(", "));
        }
        self.failed.is_empty()
    }
}

/// Installs what `purpose` needs; nothing else makes sense when that fails.
pub(crate) fn set_up(purpose: Purpose) -> Result<()> {
    if !setup::run(&setup::Options::only_for(purpose))? {
        bail!("the set-up failed; see above");
    }
    Ok(())
}

/// Builds the program, optimised.
pub(crate) fn build() -> Result<bool> {
    set_up(Purpose::Build)?;
    if !cargo(&["build", "--release", "--package", "demolish", "--bins"]).show()? {
        return Ok(false);
    }
    println!("build: {}", paths::target().join("release/demolish").display());
    Ok(true)
}

/// `cargo` in the repository's root, with `.tools/bin` first on the PATH for what it starts.
pub(crate) fn cargo(arguments: &[&str]) -> Shell {
    tool("cargo").args(arguments)
}

/// Any program in the repository's root, with `.tools/bin` first on the PATH.
pub(crate) fn tool(program: &str) -> Shell {
    Shell::new(program).dir(&paths::root()).env("PATH", path_with_tools())
}

fn path_with_tools() -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(paths::tools().join("bin")).chain(env::split_paths(&path));
    env::join_paths(folders).unwrap_or(path)
}
