//! Where things are: the repository's root and the folders of `.tools/`. Nothing here creates anything.

use std::path::{Path, PathBuf};

/// The root of the repository, two folders above this crate.
pub(crate) fn root() -> PathBuf {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder
        .ancestors()
        .nth(2)
        .expect("daemon/xtask lies two folders below the root")
        .to_path_buf()
}

/// `.tools/`, with symlinks resolved where it exists: programs are patched for their real place.
pub(crate) fn tools() -> PathBuf {
    let path = root().join(".tools");
    path.canonicalize().unwrap_or(path)
}

/// Cargo's folder for what it builds.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}
