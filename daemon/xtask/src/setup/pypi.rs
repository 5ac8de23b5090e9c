//! Wheels from PyPI: as plain folders, without a virtual environment, dependencies, or Python at run time; or, for programs in
//! Python, as a virtual environment of pinned packages.

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

/// A virtual environment with the packages of a requirements file, which names all of them with their versions. It is used
/// through a link to its folder: Python finds its packages beside the program that was called.
pub(crate) fn environment(requirements: &str, site: &Site, step: &Step) -> Result<()> {
    let folder = site.empty_package(step)?;
    let list = site.cache(step)?.join("requirements.txt");
    std::fs::write(&list, requirements)?;
    Shell::new("python3").args(["-m", "venv"]).arg(&folder).log(&site.log(step)).run()?;
    Shell::new(folder.join("bin/python"))
        .args(["-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--no-deps"])
        .args(["--only-binary", ":all:", "--root-user-action", "ignore", "-r"])
        .arg(&list)
        .log(&site.log(step))
        .run()
}
