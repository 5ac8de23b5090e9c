//! Held-out code: whole packages that no training has seen, cleaned as the recipe cleans what it trains on.
//!
//! The recipe writes a file of lines per language and split (`python.heldout.jsonl`), each line a file of a package. What is measured is
//! chosen by hashes of the files' names, so that it is the same on every machine and nobody picks it.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::bench::draw::hash;

/// The languages of the recipe, by its names; `c` is C and C++.
pub(in crate::bench) const LANGUAGES: [&str; 7] =
    ["python", "typescript", "rust", "go", "c", "sql", "lua"];
/// Files of one language that are read; the recipe writes fewer for what is held out.
const FILES_MAX: usize = 20_000;
/// The folders of the source tree that it may be in: the whole corpus, or what is held out alone.
const CORPORA: [&str; 2] = ["../../.tools/nano-data/corpus", "../../.tools/heldout/corpus"];

/// Which packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::bench) enum Split {
    /// What the model is measured on.
    HeldOut,
    /// What weights and thresholds are fitted on.
    Validation,
    /// What it was trained on.
    Training,
}

/// A file of a package.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(in crate::bench) struct File {
    /// The package's name.
    pub(in crate::bench) package: String,
    /// Its path in the package.
    pub(in crate::bench) path: String,
    /// What it holds.
    pub(in crate::bench) text: String,
}

/// The files of one language, one package after the other in turn, so that the biggest does not decide.
#[derive(Debug, Clone)]
pub(in crate::bench) struct Held {
    pub(in crate::bench) language: &'static str,
    pub(in crate::bench) files: Vec<File>,
}

/// Where the recipe's corpus is, if nobody says otherwise.
pub(in crate::bench) fn folder() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let [whole, held_out] = CORPORA.map(|folder| here.join(folder));
    if path_of(&whole, LANGUAGES[0], Split::HeldOut).is_file() { whole } else { held_out }
}

/// The files of a language; `None` where the recipe has written none.
///
/// # Errors
/// They cannot be read: one sentence.
pub(in crate::bench) fn read(
    folder: &Path,
    language: &'static str,
    split: Split,
) -> Result<Option<Held>, String> {
    let path = path_of(folder, language, split);
    if !path.is_file() {
        return Ok(None);
    }
    let mut files = Vec::new();
    each(&path, |file| {
        files.push(file);
        files.len() < FILES_MAX
    })?;
    Ok(if files.is_empty() { None } else { Some(Held { language, files: in_turn(files) }) })
}

/// Hands the files of a split to `take` as they are read, until it wants no more.
///
/// # Errors
/// They cannot be read: one sentence.
#[allow(clippy::disallowed_methods, reason = "the corpus is the measurement's own")]
pub(in crate::bench) fn each(
    path: &Path,
    mut take: impl FnMut(File) -> bool,
) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| {
        format!(
            "{} cannot be read ({error}); `daemon/nano/build.sh heldout` writes it",
            path.display()
        )
    };
    let opened = std::fs::File::open(path).map_err(|error| failed(&error))?;
    for line in BufReader::new(opened).lines() {
        let line = line.map_err(|error| failed(&error))?;
        if !take(serde_json::from_str(&line).map_err(|error| failed(&error))?) {
            break;
        }
    }
    Ok(())
}

/// The file of a language and split.
pub(in crate::bench) fn path_of(folder: &Path, language: &str, split: Split) -> PathBuf {
    let split = match split {
        Split::HeldOut => "heldout",
        Split::Validation => "valid",
        Split::Training => "train",
    };
    folder.join(format!("{language}.{split}.jsonl"))
}

/// One file of each package, then the next of each; both in the order of hashes of their names.
fn in_turn(mut files: Vec<File>) -> Vec<File> {
    files.sort_by_cached_key(|file| (hash(&[&file.package, &file.path]), file.path.clone()));
    let mut turns: BTreeMap<String, usize> = BTreeMap::new();
    let mut placed: Vec<((usize, u64), File)> = Vec::with_capacity(files.len());
    for file in files {
        let turn = turns.entry(file.package.clone()).or_default();
        *turn += 1;
        placed.push(((*turn, hash(&[&file.package])), file));
    }
    placed.sort_by_key(|(key, _)| *key);
    placed.into_iter().map(|(_, file)| file).collect()
}

impl Held {
    /// The other files of a package: what a workspace has beside this one.
    pub(in crate::bench) fn beside<'h>(&'h self, file: &'h File) -> impl Iterator<Item = &'h File> {
        self.files.iter().filter(move |one| one.package == file.package && one.path != file.path)
    }
}
