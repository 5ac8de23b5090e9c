//! `tidy.toml`: what is allowed to break a rule, and why.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::Finding;

/// Where the exceptions are written, for messages.
const FILE: &str = "daemon/xtask/tidy.toml";

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Table {
    long_files: Vec<Long>,
    long_functions: Vec<Long>,
    unsafe_files: Vec<Place>,
    serialize_files: Vec<Place>,
    blobs: Vec<Place>,
}

/// A file or function above the limit; `lines` must be its present size.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Long {
    path: String,
    /// The function's name; empty for a file.
    #[serde(default)]
    name: String,
    lines: usize,
    #[expect(dead_code, reason = "for the reader of tidy.toml, who must be told")]
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    /// A file, or a folder when it ends with `/`.
    path: String,
    #[expect(dead_code, reason = "for the reader of tidy.toml, who must be told")]
    reason: String,
}

/// The exceptions, and which of them something has asked for.
#[derive(Default)]
pub(crate) struct Exceptions {
    table: Table,
    used: RefCell<BTreeSet<String>>,
}

/// What the size list says about a thing above its limit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ratchet {
    NotListed,
    /// Listed with its present size.
    Holds,
    /// Listed with another size.
    Moved(usize),
}

impl Exceptions {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {FILE}"))?;
        let table =
            toml::from_str(&text).with_context(|| format!("{FILE} is not what it should be"))?;
        Ok(Self { table, used: RefCell::default() })
    }

    pub(crate) fn long_file(&self, path: &str, lines: usize) -> Ratchet {
        self.long(&self.table.long_files, path, "", lines)
    }

    pub(crate) fn long_function(&self, path: &str, name: &str, lines: usize) -> Ratchet {
        self.long(&self.table.long_functions, path, name, lines)
    }

    fn long(&self, list: &[Long], path: &str, name: &str, lines: usize) -> Ratchet {
        let Some(entry) = list.iter().find(|entry| entry.path == path && entry.name == name) else {
            return Ratchet::NotListed;
        };
        self.used.borrow_mut().insert(format!("{path} {name}"));
        if entry.lines == lines { Ratchet::Holds } else { Ratchet::Moved(entry.lines) }
    }

    pub(crate) fn may_be_unsafe(&self, path: &str) -> bool {
        self.place(&self.table.unsafe_files, path, "unsafe")
    }

    pub(crate) fn may_serialize(&self, path: &str) -> bool {
        self.place(&self.table.serialize_files, path, "serialize")
    }

    pub(crate) fn blob(&self, path: &str) -> bool {
        self.place(&self.table.blobs, path, "blob")
    }

    fn place(&self, list: &[Place], path: &str, kind: &str) -> bool {
        let fits = |place: &&Place| {
            path == place.path || (place.path.ends_with('/') && path.starts_with(&place.path))
        };
        let found = list.iter().find(fits);
        if let Some(place) = found {
            self.used.borrow_mut().insert(format!("{kind} {}", place.path));
        }
        found.is_some()
    }

    /// Exceptions that nothing needed any more.
    pub(crate) fn unused(&self) -> Vec<Finding> {
        let used = self.used.borrow();
        let sizes = self.table.long_files.iter().chain(&self.table.long_functions);
        let sizes = sizes.map(|entry| {
            (format!("{} {}", entry.path, entry.name), format!("{} {}", entry.path, entry.name))
        });
        let places = [
            ("unsafe", &self.table.unsafe_files),
            ("serialize", &self.table.serialize_files),
            ("blob", &self.table.blobs),
        ];
        let places = places.iter().flat_map(|(kind, list)| {
            list.iter().map(move |place| {
                (format!("{kind} {}", place.path), format!("{kind} {}", place.path))
            })
        });
        let unused = sizes.chain(places).filter(|(key, _)| !used.contains(key));
        let finding = |(_, what): (String, String)| Finding {
            path: FILE.to_owned(),
            line: 0,
            message: format!("the exception for {} is not needed any more: remove it", what.trim()),
        };
        unused.map(finding).collect()
    }
}

#[cfg(test)]
impl Exceptions {
    /// As if `text` were the file.
    pub(crate) fn of(text: &str) -> Self {
        Self { table: toml::from_str(text).unwrap(), used: RefCell::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_list_is_a_ratchet() {
        let exceptions =
            Exceptions::of("[[long_files]]\npath = \"a.rs\"\nlines = 900\nreason = \"a table\"\n");
        assert_eq!(exceptions.unused().len(), 1);
        assert_eq!(exceptions.long_file("a.rs", 900), Ratchet::Holds);
        assert_eq!(exceptions.long_file("a.rs", 850), Ratchet::Moved(900));
        assert_eq!(exceptions.long_file("b.rs", 850), Ratchet::NotListed);
        assert!(exceptions.unused().is_empty());
    }
}
