//! Where things are in the repository.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// The root of the repository that this crate was built in.
#[must_use]
pub fn root() -> PathBuf {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir.ancestors().nth(2).unwrap_or(crate_dir).to_path_buf()
}

/// `.tools/bin`: Neovim and the language servers that `make setup` installs.
#[must_use]
pub fn tools_bin() -> PathBuf {
    root().join(".tools/bin")
}

/// A program of `.tools/bin`.
///
/// # Errors
/// It is not there; the message says what installs it.
pub fn tool(name: &str) -> Result<PathBuf> {
    let path = tools_bin().join(name);
    if !path.exists() {
        bail!("{} is missing: run `make setup`", path.display());
    }
    Ok(path)
}

/// The program `demolish`, of the same build as this one: beside the running program, or one folder up from a test.
///
/// # Errors
/// It has not been built.
pub fn demolish() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    for dir in own.ancestors().skip(1).take(2) {
        let program = dir.join("demolish");
        if program.is_file() {
            return Ok(program);
        }
    }
    bail!(
        "no program `demolish` beside {}: run `cargo build -p demolish` with the same profile",
        own.display()
    );
}
