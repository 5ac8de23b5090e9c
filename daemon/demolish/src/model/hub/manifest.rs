//! What is kept beside the files of a model: what is being pulled, and in the end what was, with its checksums.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What was pulled: written last.
pub(crate) const MANIFEST_FILE: &str = "demolish.manifest.json";
/// What is being pulled: removed last.
pub(crate) const PULL_FILE: &str = "demolish.pull.json";

/// What was pulled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// The repository.
    pub(crate) repo: String,
    /// The revision that was asked for.
    pub(crate) revision: String,
    /// The commit that it was.
    pub(crate) commit: String,
    /// The hub.
    pub(crate) from: String,
    /// The files.
    pub(crate) files: Vec<Held>,
}

/// A file of the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    /// Its name below the folder.
    pub(crate) name: String,
    /// Its length.
    pub(crate) bytes: u64,
    /// Its checksum.
    pub(crate) sha256: String,
}

/// What is being pulled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unfinished {
    /// The repository.
    pub(crate) repo: String,
    /// The revision that was asked for.
    pub(crate) revision: String,
    /// The commit that it was when the pull began.
    pub(crate) commit: String,
    /// The hub.
    pub(crate) from: String,
    /// How many bytes it is all together, as far as the hub said.
    pub(crate) bytes: u64,
    /// The names of all files that it is.
    #[serde(default)]
    pub(crate) files: BTreeSet<String>,
    /// What an earlier pull brought and this one does not have; removed in the end.
    #[serde(default)]
    pub(crate) obsolete: BTreeSet<String>,
    /// Checksums of the files that are there.
    pub(crate) done: BTreeMap<String, String>,
    /// The versions of which parts are there.
    #[serde(default)]
    pub(crate) versions: BTreeMap<String, Version>,
}

/// What is known of the version of a file of which a part is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Version {
    /// What the server calls it.
    pub(crate) etag: Option<String>,
    /// Its checksum, where the hub told it on the way to the file and not in the listing.
    pub(crate) sum: Option<String>,
    /// Its length.
    pub(crate) bytes: Option<u64>,
}

/// The manifest of a folder, if it has one that can be read.
pub(crate) fn manifest(dir: &Path) -> Option<Manifest> {
    read(&dir.join(MANIFEST_FILE))
}

/// What is being pulled into a folder.
pub(crate) fn unfinished(dir: &Path) -> Option<Unfinished> {
    read(&dir.join(PULL_FILE))
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Option<T> {
    if !path.is_file() {
        return None;
    }
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Writes an object under another name first, so that nobody ever reads half of it.
pub(super) fn write(path: &Path, object: &impl Serialize) -> io::Result<()> {
    let temporary = with_part(path);
    let mut file = File::create(&temporary)?;
    file.write_all(serde_json::to_string_pretty(object)?.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(temporary, path)
}

/// What a file is called until it is whole.
pub(crate) fn with_part(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}
