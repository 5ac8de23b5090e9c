//! npm packages in a folder of their own. Their scripts are not run: what we use is inside the packages.

use std::fs;

use anyhow::{Context as _, Result};

use super::install::Site;
use super::table::Step;
use crate::shell::Shell;

pub(crate) fn install(packages: &[&str], site: &Site, step: &Step) -> Result<()> {
    let folder = site.empty_package(step)?;
    fs::write(folder.join("package.json"), "{\"private\":true}\n")
        .context("cannot write package.json")?;
    Shell::new("npm")
        .args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-save", "--prefix"])
        .arg(&folder)
        .args(packages)
        .dir(&folder)
        .log(&site.log(step))
        .run()
}
