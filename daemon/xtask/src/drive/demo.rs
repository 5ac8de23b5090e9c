//! `cargo xtask demo`: sets up, builds, and hands over to the tour that `testkit` drives.

use anyhow::Result;

use super::{cargo, set_up};
use crate::setup::Purpose;

pub(crate) fn run(arguments: &[String]) -> Result<bool> {
    set_up(Purpose::Demo)?;
    println!("demo: building (the first time takes some minutes)");
    if !cargo(&[
        "build",
        "--quiet",
        "--release",
        "--package",
        "demolish",
        "--package",
        "testkit",
        "--bins",
    ])
    .show()?
    {
        return Ok(false);
    }
    cargo(&["run", "--quiet", "--release", "--package", "testkit", "--bin", "demo", "--"])
        .args(arguments)
        .on_terminal()
        .show()
}
