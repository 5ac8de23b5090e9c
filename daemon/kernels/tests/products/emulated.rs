//! All tests of this program again, on emulated processors without the newer instructions: what the best variant of such a
//! processor is cannot be known from a machine that has all of them.
//!
//! Part of the slow run. The random cases are fewer than in the fast run, so that all of it takes less than a minute.
#![allow(clippy::disallowed_methods, reason = "tests read DEMOLISH_SLOW and start an emulator")]
#![allow(clippy::print_stderr, reason = "a test says what it skips")]

use std::env;
use std::ffi::OsStr;
use std::process::Command;

use crate::variants;

/// The emulator, as Debian's `qemu-user` and `qemu-user-static` call it.
const EMULATORS: [&str; 2] = ["qemu-x86_64", "qemu-x86_64-static"];
/// Says on an emulated processor which variants it has.
const EXPECTED: &str = "DEMOLISH_EMULATED_VARIANTS";
/// Tests that run at a time on one emulated processor.
const THREADS: &str = "2";

#[allow(dead_code, reason = "only some of the programs ask")]
pub(crate) fn is_emulated() -> bool {
    env::var_os(EXPECTED).is_some()
}

/// Runs this program's tests on `processor`, which has these variants.
fn run_on(processor: &str, expected: &str) {
    if env::var_os("DEMOLISH_SLOW").is_none_or(|value| value != "1") {
        return eprintln!("skipped: an emulated processor needs DEMOLISH_SLOW=1");
    }
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return eprintln!("skipped: the emulated processors are for programs of Linux on x86-64");
    }
    let runs = |name: &&str| Command::new(name).arg("--version").output().is_ok();
    let emulator = EMULATORS.into_iter().find(runs);
    let emulator = emulator.expect("no qemu-x86_64 on the PATH: install Debian's qemu-user");
    let output = Command::new(emulator)
        .args([OsStr::new("-cpu"), OsStr::new(processor)])
        .arg(env::current_exe().unwrap())
        .args(["--test-threads", THREADS])
        .env_remove("DEMOLISH_SLOW")
        .env(EXPECTED, expected)
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success()
            && printed.contains("the_processor_has_what_is_said_of_it ... ok")
            && printed.contains(" 0 filtered out"),
        "{emulator} -cpu {processor}: {}\n{printed}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn the_processor_has_what_is_said_of_it() {
    let Some(expected) = env::var_os(EXPECTED) else {
        return eprintln!("skipped: this processor is not emulated");
    };
    assert_eq!(OsStr::new(&format!("{:?}", variants())), expected);
}

#[test]
fn everything_holds_on_a_processor_without_avx() {
    run_on("qemu64", "[Portable]");
}

#[test]
fn everything_holds_on_a_processor_without_avx_512() {
    run_on("Haswell", "[Portable, Avx2]");
}
