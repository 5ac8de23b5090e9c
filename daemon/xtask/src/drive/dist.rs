//! `cargo xtask dist`: the program with its libraries, the default model and the editor's files, as one archive.

use std::env::consts::{ARCH, OS};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{cargo, set_up};
use crate::paths;
use crate::setup::Purpose;
use crate::shell::Shell;

/// What goes into the archive besides the program, where the repository has it.
const CONTENTS: &[&str] = &[
    "lua",
    "plugin",
    "doc",
    "README.md",
    "LICENSE",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    "CHANGELOG.md",
];
const MODEL: &str = "daemon/nano/model";

/// `pack_only` takes the program as an earlier run has built it.
pub(crate) fn run(pack_only: bool) -> Result<bool> {
    if !pack_only {
        set_up(Purpose::Build)?;
        if !cargo(&["build", "--profile", "dist", "--package", "demolish", "--bins"]).show()? {
            return Ok(false);
        }
    }
    let name = format!("demolish-{}-{OS}-{ARCH}", env!("CARGO_PKG_VERSION"));
    let folder = paths::target().join("archives").join(&name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(folder.join("bin"))?;
    let program = folder.join("bin/demolish");
    fs::copy(paths::target().join("dist/demolish"), &program).context("cannot copy the program")?;
    for item in CONTENTS.iter().filter(|item| paths::root().join(item).exists()) {
        copy(&paths::root().join(item), &folder)?;
    }
    if paths::root().join(MODEL).exists() {
        fs::create_dir_all(folder.join("share/demolish"))?;
        // Where the program looks for it (demolish/src/model.rs).
        copy(&paths::root().join(MODEL), &folder.join("share/demolish/nano"))?;
    }
    if OS == "linux" {
        bundle_libraries(&folder, &program)?;
    }
    let archive = PathBuf::from(format!("{}.tar.gz", folder.display()));
    let parent = folder.parent().context("the folder lies in target/archives")?;
    Shell::new("tar").arg("-czf").arg(&archive).arg("-C").arg(parent).arg(&name).run()?;
    println!("dist: {}", archive.display());
    Ok(true)
}

/// MLX, its C interface and their libraries beside the program, found by paths relative to it. OpenBLAS stays the system's.
fn bundle_libraries(folder: &Path, program: &Path) -> Result<()> {
    let mlx = paths::tools().join("mlx").canonicalize().context("MLX is not in .tools")?;
    // The wheel's own layout: libmlx looks for its libraries two folders above itself.
    let libraries = folder.join("lib/mlx/lib");
    fs::create_dir_all(&libraries)?;
    copy(&mlx.join("lib/libmlx.so"), &libraries)?;
    copy(&mlx.with_file_name("mlx_cpu.libs"), &folder.join("lib"))?;
    // The C interface is built by mlx-sys, and named by its place in the build.
    let needed = Shell::new("patchelf").arg("--print-needed").arg(program).read()?;
    let built = needed
        .lines()
        .find(|line| line.ends_with("/libmlxc.so"))
        .context("the program does not name libmlxc.so")?;
    copy(Path::new(built), &libraries)?;
    let bundled = libraries.join("libmlxc.so");
    // One change a call: patchelf 0.14 forgets the others.
    patch(&["--set-soname", "libmlxc.so"], &bundled)?;
    patch(&["--set-rpath", "$ORIGIN"], &bundled)?;
    patch(&["--replace-needed", built, "libmlxc.so"], program)?;
    patch(&["--set-rpath", "$ORIGIN/../lib/mlx/lib"], program)
}

fn patch(change: &[&str], file: &Path) -> Result<()> {
    Shell::new("patchelf").args(change).arg(file).run()
}

fn copy(from: &Path, into: &Path) -> Result<()> {
    Shell::new("cp").arg("-RL").arg(from).arg(into).run()
}
