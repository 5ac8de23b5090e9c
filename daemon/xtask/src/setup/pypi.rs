//! Wheels from PyPI as plain folders: no virtual environment, no dependencies, no Python at run time.

use anyhow::Result;

use super::install::Site;
use super::table::Step;
use crate::shell::Shell;

pub(crate) fn install(packages: &[&str], site: &Site, step: &Step) -> Result<()> {
    let folder = site.empty_package(step)?;
    Shell::new("python3")
        .args([
            "-m",
            "pip",
            "install",
            "--disable-pip-version-check",
            "--no-input",
            "--no-deps",
            "--no-compile",
        ])
        .args(["--only-binary", ":all:", "--root-user-action", "ignore", "--target"])
        .arg(&folder)
        .args(packages)
        .log(&site.log(step))
        .run()
}
