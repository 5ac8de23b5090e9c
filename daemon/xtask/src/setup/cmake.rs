//! Programs built with CMake from a source distribution on PyPI, which pip downloads and checks.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context as _, Result};

use super::install::Site;
use super::table::{Cmake, Step};
use crate::shell::Shell;

pub(crate) fn install(recipe: &Cmake, site: &Site, step: &Step) -> Result<()> {
    let cache = site.cache(step)?;
    let source = match unpacked(&cache, recipe) {
        Ok(source) => source,
        Err(_) => {
            download(recipe, &cache, site, step)?;
            unpacked(&cache, recipe)?
        }
    };
    // What an interrupted run has built stays: CMake goes on from there.
    let build = cache.join("build");
    Shell::new("cmake")
        .arg("-S")
        .arg(source.join(recipe.folder))
        .arg("-B")
        .arg(&build)
        .args(recipe.options)
        .log(&site.log(step))
        .run()?;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    Shell::new("cmake")
        .arg("--build")
        .arg(&build)
        .args(["--parallel", &cores.to_string(), "--target"])
        .args(recipe.programs)
        .log(&site.log(step))
        .run()?;
    let bin = site.empty_package(step)?.join("bin");
    fs::create_dir_all(&bin)?;
    for program in recipe.programs {
        fs::copy(build.join("bin").join(program), bin.join(program))
            .with_context(|| format!("the build has left no {program}"))?;
    }
    Ok(())
}

fn download(recipe: &Cmake, cache: &Path, site: &Site, step: &Step) -> Result<()> {
    let Cmake { package, version, .. } = recipe;
    Shell::new("python3")
        .args(["-m", "pip", "download", "--disable-pip-version-check", "--no-input", "--no-deps"])
        .args(["--no-binary", package, "--dest"])
        .arg(cache)
        .arg(format!("{package}=={version}"))
        .log(&site.log(step))
        .run()?;
    // Unpacked aside: what is interrupted is not taken for whole.
    let draft = cache.join("draft");
    let _ = fs::remove_dir_all(&draft);
    fs::create_dir_all(&draft)?;
    let name = name(recipe);
    Shell::new("tar")
        .arg("-xzf")
        .arg(cache.join(format!("{name}.tar.gz")))
        .arg("-C")
        .arg(&draft)
        .log(&site.log(step))
        .run()?;
    fs::rename(draft.join(&name), cache.join(&name)).context("the archive has another folder")
}

/// The distribution's folder, if its source has been unpacked.
fn unpacked(cache: &Path, recipe: &Cmake) -> Result<PathBuf> {
    let source = cache.join(name(recipe));
    fs::metadata(source.join(recipe.folder).join("CMakeLists.txt"))
        .with_context(|| format!("{} has no {}", source.display(), recipe.folder))?;
    Ok(source)
}

/// What PyPI calls the distribution: dashes of the name are underscores.
fn name(recipe: &Cmake) -> String {
    format!("{}-{}", recipe.package.replace('-', "_"), recipe.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_there_only_when_it_is_whole() {
        let recipe = Cmake {
            package: "some-package",
            version: "1.2",
            folder: "vendor/it",
            options: &[],
            programs: &[],
        };
        let cache = tempfile::tempdir().unwrap();
        assert!(unpacked(cache.path(), &recipe).is_err());
        let project = cache.path().join("some_package-1.2/vendor/it");
        fs::create_dir_all(&project).unwrap();
        assert!(unpacked(cache.path(), &recipe).is_err());
        fs::write(project.join("CMakeLists.txt"), "").unwrap();
        let found = unpacked(cache.path(), &recipe).unwrap();
        assert_eq!(found, cache.path().join("some_package-1.2"));
    }
}
