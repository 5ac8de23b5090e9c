//! fmt, lint and gen: the checks that run no test of a feature.

use anyhow::Result;

use super::{Stages, cargo, set_up, tool};
use crate::paths;
use crate::setup::Purpose;

/// The folders with Lua of ours.
const LUA_FOLDERS: &[&str] = &["lua", "plugin", "tests/nvim"];

/// Whether a verb changes files or only says which it would change.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Write,
    Check,
}

/// Formats everything, or says what is not formatted.
pub(crate) fn fmt(mode: Mode) -> Result<bool> {
    set_up(Purpose::Test)?;
    let mut stages = Stages::default();
    add_fmt(&mut stages, mode);
    Ok(stages.conclude())
}

pub(crate) fn add_fmt(stages: &mut Stages, mode: Mode) {
    let check: &[&str] = if mode == Mode::Check { &["--check"] } else { &[] };
    stages.run("format of Rust", || cargo(&["fmt", "--all"]).args(check).show());
    stages.run("format of Lua", || {
        let folders: Vec<_> =
            LUA_FOLDERS.iter().filter(|folder| paths::root().join(folder).exists()).collect();
        if folders.is_empty() {
            return Ok(true);
        }
        tool("stylua").args(check).args(folders).show()
    });
}

pub(crate) fn add_clippy(stages: &mut Stages) {
    stages.run("clippy", || {
        cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"])
            .show()
    });
}

/// Everything that reads the source without running it.
pub(crate) fn lint() -> Result<bool> {
    set_up(Purpose::Test)?;
    let mut stages = Stages::default();
    add_fmt(&mut stages, Mode::Check);
    add_clippy(&mut stages);
    stages.run("layers", || crate::layers::check().map(|wrong| crate::report("layers", &wrong)));
    stages.run("tidy", || crate::tidy::check().map(|wrong| crate::report("tidy", &wrong)));
    Ok(stages.conclude())
}

/// Writes the generated files, or says which are stale. The tests that compare them are also what writes them.
pub(crate) fn generate(mode: Mode) -> Result<bool> {
    let mut stages = Stages::default();
    stages.run("pages of docs", || {
        if mode == Mode::Write { crate::pages::write() } else { crate::pages::are_fresh() }
    });
    set_up(Purpose::Build)?;
    stages.run("settings", || {
        let test = cargo(&["test", "--quiet", "--package", "demolish", "--lib", "generated"]);
        if mode == Mode::Write { test.env("UPDATE", "1").show() } else { test.show() }
    });
    Ok(stages.conclude())
}
