//! Programs of a newer Debian in a folder of their own: the packages with all that they depend on, their own C library
//! included, are unpacked, and the named programs are patched to start through that library's loader.
//!
//! Nothing of the system is touched: apt-get works with lists, state and cache of its own. The mirror is the one that this
//! machine's apt is configured for. `LD_LIBRARY_PATH` is not used, because children would inherit it and break.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::install::Site;
use super::table::{DebPrefix, Step};
use crate::shell::Shell;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

pub(crate) fn install(recipe: &DebPrefix, site: &Site, step: &Step) -> Result<()> {
    let cache = site.cache(step)?;
    let mut refusals = Vec::new();
    for suites in recipe.suites {
        match download(recipe.packages, suites, &cache, &site.log(step)) {
            Ok(archives) => {
                return unpack(recipe, &archives, &site.empty_package(step)?, &site.log(step));
            }
            Err(error) => refusals.push(format!("from {}: {error:#}", suites.join(" and "))),
        }
    }
    bail!("{}", refusals.join("\n"))
}

/// Downloads the packages and everything that they depend on. An interrupted download goes on where it stopped.
fn download(packages: &[&str], suites: &[&str], cache: &Path, log: &Path) -> Result<Vec<PathBuf>> {
    let apt = cache.join(suites.join("+"));
    for folder in ["lists/partial", "archives/partial", "parts"] {
        fs::create_dir_all(apt.join(folder))?;
    }
    fs::write(apt.join("status"), "")?;
    fs::write(apt.join("sources.list"), sources(&mirror()?, suites))?;
    let get = || {
        Shell::new("apt-get").args(options(&apt)).env("DEBIAN_FRONTEND", "noninteractive").log(log)
    };
    get().args(["-qq", "update"]).run()?;
    let plan = get().args(["-q", "-y", "--simulate", "install"]).args(packages).read()?;
    get().args(["-qq", "-y", "--download-only", "install"]).args(packages).run()?;
    // The cache is kept between tries, so it may hold packages that this plan no longer wants.
    let archives: Vec<PathBuf> =
        plan.lines().filter_map(archive).map(|name| apt.join("archives").join(name)).collect();
    ensure!(!archives.is_empty(), "apt-get plans to install nothing");
    Ok(archives)
}

/// The name of the file that a line of the plan stands for: `Inst neovim (0.12.4-1 Debian:testing [amd64])`.
fn archive(line: &str) -> Option<String> {
    let (name, rest) = line.strip_prefix("Inst ")?.split_once(" (")?;
    let name = name.split(' ').next()?;
    let rest = rest.split_once(')')?.0;
    let version = rest.split_whitespace().next()?.replace(':', "%3a");
    let architecture = rest.rsplit_once('[')?.1.split_once(']')?.0;
    Some(format!("{name}_{version}_{architecture}.deb"))
}

fn sources(mirror: &str, suites: &[&str]) -> String {
    let signed =
        if Path::new(KEYRING).exists() { format!("[signed-by={KEYRING}] ") } else { String::new() };
    suites.iter().map(|suite| format!("deb {signed}{mirror} {suite} main\n")).collect()
}

/// The mirror that this machine's apt uses for Debian.
fn mirror() -> Result<String> {
    let printed = Shell::new("apt-get")
        .args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"])
        .read()?;
    let found = printed.lines().find(|line| line.trim_end_matches('/').ends_with("/debian"));
    found
        .map(str::to_owned)
        .context("apt-get knows no Debian mirror; `apt-get update` must have run once")
}

/// apt's settings for a life apart from the system.
fn options(apt: &Path) -> Vec<String> {
    let place = |name: &str, path: &str| format!("{name}={}", apt.join(path).display());
    let settings = [
        place("Dir::Etc::sourcelist", "sources.list"),
        place("Dir::Etc::sourceparts", "parts"),
        place("Dir::Etc::preferencesparts", "parts"),
        place("Dir::State", ""),
        place("Dir::State::lists", "lists"),
        place("Dir::State::status", "status"),
        place("Dir::Cache", ""),
        place("Dir::Cache::archives", "archives"),
        "APT::Install-Recommends=false".into(),
        "APT::Sandbox::User=root".into(),
        "APT::Keep-Downloaded-Packages=true".into(),
        "Debug::NoLocking=1".into(),
        "Acquire::Languages=none".into(),
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".into(),
    ];
    settings.into_iter().flat_map(|setting| ["-o".to_owned(), setting]).collect()
}

fn unpack(recipe: &DebPrefix, archives: &[PathBuf], prefix: &Path, log: &Path) -> Result<()> {
    for archive in archives {
        Shell::new("dpkg-deb").arg("-x").arg(archive).arg(prefix).log(log).run()?;
    }
    for folder in recipe.unused {
        let _ = fs::remove_dir_all(prefix.join(folder));
    }
    let libraries = prefix.join("usr/lib").join(triplet());
    for program in recipe.programs {
        let patch =
            Shell::new("patchelf").arg("--set-interpreter").arg(libraries.join(loader())).log(log);
        patch
            .args(["--force-rpath", "--set-rpath"])
            .arg(&libraries)
            .arg(prefix.join(program))
            .run()?;
    }
    for (folder, start) in recipe.libraries {
        for library in starting_with(&prefix.join(folder), start)? {
            let patch = Shell::new("patchelf").args(["--force-rpath", "--set-rpath"]).log(log);
            patch.arg(&libraries).arg(library).run()?;
        }
    }
    Ok(())
}

fn starting_with(folder: &Path, start: &str) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let paths =
        entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(start));
    Ok(paths.map(|entry| entry.path()).collect())
}

/// Debian's name for the folder of this machine's libraries.
fn triplet() -> &'static str {
    if cfg!(target_arch = "aarch64") { "aarch64-linux-gnu" } else { "x86_64-linux-gnu" }
}

fn loader() -> &'static str {
    if cfg!(target_arch = "aarch64") { "ld-linux-aarch64.so.1" } else { "ld-linux-x86-64.so.2" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_plan_names_its_archive() {
        let line = "Inst vim (2:9.1-3+b1 Debian:13.1/stable, Debian:forky [amd64])";
        assert_eq!(archive(line).as_deref(), Some("vim_2%3a9.1-3+b1_amd64.deb"));
        assert_eq!(archive("Conf vim (2:9.1-3 Debian:13.1/stable [amd64])"), None);
        let upgrade = "Inst libc6 [2.36] (2.42-1 Debian:testing [amd64]) []";
        assert_eq!(
            archive(upgrade).as_deref(),
            Some("libc6_2.42-1_amd64.deb"),
            "an installed one is named with its version"
        );
    }

    #[test]
    fn every_suite_has_a_line() {
        let text = sources("mirror:/debian", &["trixie-backports", "trixie"]);
        let suites: Vec<_> = text.lines().map(|line| line.rsplit(' ').nth(1).unwrap()).collect();
        assert_eq!(suites, ["trixie-backports", "trixie"]);
    }
}
