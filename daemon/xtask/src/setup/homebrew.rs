//! Homebrew packages on macOS. Untested: no such machine was at hand.

use anyhow::{Result, ensure};

use super::install::Site;
use super::table::Step;
use crate::shell::{Shell, on_path};

pub(crate) fn install(packages: &[&str], site: &Site, step: &Step) -> Result<()> {
    ensure!(
        on_path("brew"),
        "there is no brew here; it would have installed {}",
        packages.join(" ")
    );
    let installed =
        Shell::new("brew").args(["list", "--formula", "-1"]).log(&site.log(step)).read()?;
    let missing: Vec<_> =
        packages.iter().filter(|name| !installed.lines().any(|line| line == **name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Shell::new("brew").arg("install").args(missing).log(&site.log(step)).run()
}
