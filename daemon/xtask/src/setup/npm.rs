//! npm packages in a folder of their own. Their scripts are not run where what we use is inside the packages.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context as _, Result};

use super::install::Site;
use super::table::Step;
use crate::paths;
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

/// The same with the packages' scripts, which build native parts: by the Node of `.tools` and for it.
pub(crate) fn install_built(packages: &[&str], site: &Site, step: &Step) -> Result<()> {
    let node = fs::canonicalize(paths::tools().join("bin/node"))
        .context("Node is not there; `cargo xtask setup --only node` brings it")?;
    let bin = node.parent().context("Node has no folder")?;
    let wheel = bin.parent().context("Node has no folder")?;
    let folder = site.empty_package(step)?;
    fs::write(folder.join("package.json"), "{\"private\":true}\n")
        .context("cannot write package.json")?;
    let npm = wheel.join("lib/node_modules/npm/bin/npm-cli.js");
    // The scripts call `npm` and `node` by name; the wheel's own `npm` looks for its parts in the wrong place.
    let names = folder.join("names");
    fs::create_dir(&names).context("cannot make a folder for names")?;
    std::os::unix::fs::symlink(&node, names.join("node")).context("cannot link Node")?;
    let script = format!("#!/bin/sh\nexec '{}' '{}' \"$@\"\n", node.display(), npm.display());
    fs::write(names.join("npm"), script).context("cannot write npm's script")?;
    fs::set_permissions(names.join("npm"), PermissionsExt::from_mode(0o755))
        .context("npm's script cannot be made executable")?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(names).chain(std::env::split_paths(&path));
    let path = std::env::join_paths(path).context("PATH")?;
    Shell::new(&node)
        .arg(&npm)
        .args(["install", "--no-audit", "--no-fund", "--no-save", "--prefix"])
        .arg(&folder)
        .args(packages)
        .dir(&folder)
        .env("PATH", path)
        .env("npm_config_nodedir", wheel)
        .env("npm_config_build_from_source", "true")
        .log(&site.log(step))
        .run()
}
