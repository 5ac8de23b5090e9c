//! Published crates: a folder of one's source, or a program built from one. Cargo itself downloads and checks them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::install::Site;
use super::table::Step;
use crate::shell::Shell;

/// The part of `cargo metadata` that tells where a package's source is.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    manifest_path: PathBuf,
}

/// Copies `folder` of the published `package` (`name@version`).
pub(crate) fn take_source(package: &str, folder: &str, site: &Site, step: &Step) -> Result<()> {
    let (name, version) = package.split_once('@').context("a package is written name@version")?;
    // A manifest outside the workspace: the workspace may patch the crate whose published source is wanted.
    let manifest = site.cache(step)?.join("Cargo.toml");
    let text = format!(
        "[package]\nname = \"fetch\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[lib]\npath = \"lib.rs\"\n[workspace]\n[dependencies]\n{name} = \"={version}\"\n"
    );
    fs::write(&manifest, text)?;
    fs::write(manifest.with_file_name("lib.rs"), "")?;
    let printed = Shell::new("cargo")
        .args(["metadata", "--format-version", "1", "--manifest-path"])
        .arg(&manifest)
        .read()?;
    let metadata: Metadata = serde_json::from_str(&printed)
        .context("cargo metadata printed something else than JSON")?;
    let found = metadata
        .packages
        .iter()
        .find(|candidate| candidate.name == name && candidate.version == version);
    let source = found
        .with_context(|| format!("cargo does not list {package}"))?
        .manifest_path
        .with_file_name(folder);
    ensure!(source.is_dir(), "{package} has no folder {folder}");
    copy_folder(&source, &site.empty_package(step)?)
}

/// Builds and installs the programs of `package` (`name@version`) from its own lock file.
pub(crate) fn install_binary(
    package: &str,
    arguments: &[&str],
    site: &Site,
    step: &Step,
) -> Result<()> {
    let folder = site.empty_package(step)?;
    Shell::new("cargo")
        .args(["install", "--quiet", "--locked", "--no-track", package, "--root"])
        .arg(&folder)
        .arg("--target-dir")
        .arg(site.cache(step)?.join("target"))
        .args(arguments)
        // A formatter of a few hundred lines of Lua need not be fast; its build should be.
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
        .log(&site.log(step))
        .run()
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)
                .with_context(|| format!("cannot copy {}", entry.path().display()))?;
        }
    }
    Ok(())
}
