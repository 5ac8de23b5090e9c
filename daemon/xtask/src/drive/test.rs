//! `cargo xtask test` and `cargo xtask slow`: everything that must hold before a change lands.
//!
//! The last line is `N passed, N failed, N skipped`, over the Rust and the Lua tests, for people and for CI.

use std::fmt;
use std::fs;
use std::thread;

use anyhow::{Context as _, Result, bail};

use super::checks::{self, Mode};
use super::{Stages, cargo, set_up, tool};
use crate::paths;
use crate::setup::Purpose;
use crate::shell::{Shell, on_path};

/// The folder of the tests that run in Neovim.
const LUA_TESTS: &str = "tests/nvim";

/// How many tests ended how.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Tally {
    passed: u32,
    failed: u32,
    skipped: u32,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Which tests run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// No network, no real servers, no weights: seconds.
    Fast,
    /// The real servers, the real Neovim and the real model too.
    Slow,
}

pub(crate) fn run(pace: Pace) -> Result<bool> {
    set_up(if pace == Pace::Slow { Purpose::Slow } else { Purpose::Test })?;
    let mut stages = Stages::default();
    let mut tally = Tally::default();
    checks::add_fmt(&mut stages, Mode::Check);
    checks::add_clippy(&mut stages);
    // The tests of the editor drive the program itself.
    let built =
        stages.run("build", || cargo(&["build", "--quiet", "--workspace", "--all-targets"]).show());
    if built {
        stages.run("tests in Rust", || rust_tests(pace, &mut tally));
        stages.run("tests in Neovim", || lua_tests(pace, &mut tally));
    }
    let passed = stages.conclude();
    if !passed && tally.failed == 0 {
        // A check failed rather than a test; the closing line must not look green.
        tally.failed = 1;
    }
    println!("{tally}");
    Ok(passed)
}

fn rust_tests(pace: Pace, tally: &mut Tally) -> Result<bool> {
    let shell = if on_path("cargo-nextest") {
        let profile = if pace == Pace::Slow { "slow" } else { "default" };
        cargo(&["nextest", "run", "--workspace", "--no-tests", "warn", "--profile", profile])
    } else {
        cargo(&["test", "--workspace", "--no-fail-fast"])
    };
    let (passed, printed) = at(pace, shell).show_and_keep()?;
    *tally += tally_of(&printed);
    Ok(passed)
}

/// Runs mini.test in the Neovim of `.tools/`, one Neovim per file of tests and all at once: they mostly wait for children.
fn lua_tests(pace: Pace, tally: &mut Tally) -> Result<bool> {
    let files = lua_test_files()?;
    let runs: Vec<Result<(bool, String)>> = thread::scope(|scope| {
        let start = |file: &String| {
            let run = format!("lua MiniTest.run_file('{file}')");
            let init = format!("{LUA_TESTS}/minimal_init.lua");
            let shell =
                tool("nvim").args(["--headless", "--clean", "-u", &init, "-c", &run, "-c", "qa"]);
            scope.spawn(move || at(pace, shell).keep())
        };
        let threads: Vec<_> = files.iter().map(start).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| bail!("the runner panicked")))
            .collect()
    });
    let mut all_passed = true;
    for (file, run) in files.iter().zip(runs) {
        let (passed, printed) = run?;
        let counted = tally_of(&printed);
        if passed {
            println!("{file}: {counted}");
        } else {
            println!("{printed}");
        }
        // A Neovim that fell over without counting is one failure.
        let fell_over = Tally { failed: u32::from(!passed), ..Tally::default() };
        *tally += if counted.failed == 0 && !passed { fell_over } else { counted };
        all_passed &= passed;
    }
    Ok(all_passed)
}

/// The files of tests, relative to the root.
fn lua_test_files() -> Result<Vec<String>> {
    let entries = fs::read_dir(paths::root().join(LUA_TESTS))
        .with_context(|| format!("cannot read {LUA_TESTS}"))?;
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let tests = names.filter(|name| name.starts_with("test_") && name.ends_with(".lua"));
    let mut files: Vec<String> = tests.map(|name| format!("{LUA_TESTS}/{name}")).collect();
    files.sort_unstable();
    Ok(files)
}

fn at(pace: Pace, shell: Shell) -> Shell {
    if pace == Pace::Slow { shell.env("DEMOLISH_SLOW", "1") } else { shell }
}

/// The counts in the closing lines of nextest (`5 tests run: 4 passed, 1 failed, 2 skipped`), of cargo's own runner
/// (`test result: ok. 5 passed; 0 failed; 2 ignored`), or of ours. The first kind that is there counts alone: nextest shows
/// what cargo's runner printed for each test that failed.
fn tally_of(printed: &str) -> Tally {
    let of_nextest = |line: &&str| line.contains(" tests run: ") || line.contains(" test run: ");
    let of_cargo = |line: &&str| line.contains("test result: ");
    let of_ours = |line: &&str| is_plain(line);
    let kinds: [&dyn Fn(&&str) -> bool; 3] = [&of_nextest, &of_cargo, &of_ours];
    let closing = kinds.iter().find(|kind| printed.lines().any(|line| kind(&line)));
    let Some(closing) = closing else { return Tally::default() };
    let mut tally = Tally::default();
    for line in printed.lines().filter(closing) {
        let words: Vec<&str> = line
            .split(|c: char| !c.is_ascii_alphanumeric())
            .filter(|word| !word.is_empty())
            .collect();
        for pair in words.windows(2) {
            let Ok(count) = pair[0].parse::<u32>() else { continue };
            match pair[1] {
                "passed" => tally.passed += count,
                "failed" | "timed" => tally.failed += count,
                "skipped" | "ignored" => tally.skipped += count,
                _ => {}
            }
        }
    }
    tally
}

/// `N passed, N failed`, alone on its line.
fn is_plain(line: &str) -> bool {
    let mut words = line.split_whitespace();
    words.next().is_some_and(|word| word.parse::<u32>().is_ok()) && words.next() == Some("passed,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_counted() {
        let nextest = "     Summary [   2.391s] 61 tests run: 58 passed (1 slow), 2 failed, 1 timed out, 4 skipped";
        assert_eq!(tally_of(nextest), Tally { passed: 58, failed: 3, skipped: 4 });
        let shown = format!("{nextest}\ntest result: FAILED. 0 passed; 1 failed; 0 ignored");
        assert_eq!(
            tally_of(&shown),
            tally_of(nextest),
            "a failed test's own closing line does not count again"
        );
        let cargo = "test result: ok. 5 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.1s\n";
        assert_eq!(tally_of(&cargo.repeat(2)), Tally { passed: 10, failed: 2, skipped: 4 });
        assert_eq!(tally_of("3 passed, 1 failed"), Tally { passed: 3, failed: 1, skipped: 0 });
        assert_eq!(tally_of("12 of them passed, I think"), Tally::default());
    }
}
