//! Debian packages into the system: the only step that needs root, and only when something is missing.

use anyhow::{Context as _, Result, bail};

use super::install::Site;
use super::table::Step;
use crate::shell::{Shell, on_path};

/// How long apt-get waits for another apt-get, in seconds.
const LOCK_WAIT_S: &str = "DPkg::Lock::Timeout=300";

pub(crate) fn install(packages: &[&str], site: &Site, step: &Step) -> Result<()> {
    if !on_path("apt-get") {
        bail!("there is no apt-get here; Debian calls what is needed: {}", packages.join(" "));
    }
    let missing = missing(packages)?;
    if missing.is_empty() {
        return Ok(());
    }
    let line = format!(
        "apt-get update && apt-get install -y --no-install-recommends {}",
        missing.join(" ")
    );
    if !is_root()? {
        bail!(
            "these packages are missing and only root can install them; run:\n    sudo sh -c '{line}'"
        );
    }
    let apt = || {
        Shell::new("apt-get")
            .args(["-q", "-y", "-o", LOCK_WAIT_S])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .log(&site.log(step))
    };
    apt().arg("update").run()?;
    apt().args(["install", "--no-install-recommends"]).args(&missing).run()
}

/// The packages that dpkg does not have installed.
fn missing<'p>(packages: &[&'p str]) -> Result<Vec<&'p str>> {
    // dpkg-query fails when a package is unknown to it; what it prints is right all the same.
    let query = Shell::new("sh")
        .args([
            "-c",
            "dpkg-query -W -f '${Package} ${db:Status-Status}\\n' \"$@\" 2>/dev/null; true",
            "sh",
        ])
        .args(packages);
    let installed = query.read().context("cannot ask dpkg what is installed")?;
    let is_there = |name: &&str| installed.lines().any(|line| line == format!("{name} installed"));
    Ok(packages.iter().filter(|name| !is_there(name)).copied().collect())
}

fn is_root() -> Result<bool> {
    Ok(Shell::new("id").arg("-u").read()?.trim() == "0")
}
