//! Journals as they lie on the disk: which there are, what is in them, and which are too old.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use proxy::Mirror;
use rustix::fs::{FlockOperation, flock};
use serde_json::{Value as Json, json};
use wire::{Bytes, Envelope};

use super::record::{self, Kind};
use super::{EXTENSION, Head, JOURNAL_BYTES_MAX, LEFT_AGE_MAX, LEFT_MAX};

/// One journal, read.
#[derive(Clone, Debug)]
pub struct Journal {
    /// Its name.
    pub id: String,
    /// Whose it is.
    pub head: Head,
    /// Whether its shim is still running.
    pub in_use: bool,
    /// When the last entry was made, in milliseconds since 1970.
    pub last_ms: u64,
    /// What was open last, in the order of opening.
    pub documents: Vec<Document>,
    /// Documents that were open and had no room.
    pub left_out: Vec<String>,
    /// Edits that were accepted, the oldest first: when, and what.
    pub accepted: Vec<Accepted>,
    /// How many bytes at the end are no whole entry.
    pub torn: usize,
}

/// A document that was open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its URI, as the editor spells it.
    pub uri: String,
    /// What the editor calls its language.
    pub language: String,
    /// The version of the text.
    pub version: i32,
    /// The last text.
    pub text: String,
}

/// An edit that was accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// Whether it was a suggestion while typing; otherwise an edit that a server had applied.
    pub suggestion: bool,
    /// The params of the message.
    pub params: Json,
}

/// The journals in `dir`, the latest first. What cannot be read as one is not among them.
#[must_use]
pub fn all(dir: &Path) -> Vec<Journal> {
    let mut journals: Vec<Journal> =
        files(dir, &[EXTENSION]).iter().filter_map(|(path, _)| load(path).ok()).collect();
    journals.sort_by_key(|journal| std::cmp::Reverse((journal.head.started_ms, journal.head.pid)));
    journals
}

/// The journal in a file.
///
/// # Errors
/// The file cannot be read, or is none.
pub fn load(path: &Path) -> io::Result<Journal> {
    let mut file = File::open(path)?;
    let in_use = is_locked(&file);
    let mut bytes = Vec::new();
    // A file beyond the limit was not written by us.
    file.by_ref().take(JOURNAL_BYTES_MAX * 4).read_to_end(&mut bytes)?;
    let id = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    of_bytes(&id, in_use, &bytes.into())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a journal"))
}

/// The journal that `bytes` are, if they begin as one.
#[must_use]
pub fn of_bytes(id: &str, in_use: bool, bytes: &Bytes) -> Option<Journal> {
    let (entries, len) = record::read(bytes);
    let first = entries.first().filter(|entry| entry.kind == Kind::Head)?;
    let mut journal = Journal {
        id: id.to_owned(),
        head: serde_json::from_slice(&first.content).ok()?,
        in_use,
        last_ms: entries.iter().map(|entry| entry.at_ms).max().unwrap_or_default(),
        documents: Vec::new(),
        left_out: Vec::new(),
        accepted: Vec::new(),
        torn: bytes.len() - len,
    };
    let mut mirror = Mirror::default();
    let mut order: Vec<String> = Vec::new();
    for entry in entries {
        match entry.kind {
            Kind::Head => {}
            Kind::Encoding => {
                let name = String::from_utf8_lossy(&entry.content);
                let result = json!({ "capabilities": { "positionEncoding": name } });
                mirror.on_initialize_result(result.to_string().as_bytes());
            }
            Kind::Message => {
                if let Ok(envelope) = Envelope::read(entry.content) {
                    order.extend(opened(&envelope));
                    mirror.on_client(&envelope);
                }
            }
            Kind::LeftOut => {
                journal.left_out.push(String::from_utf8_lossy(&entry.content).into_owned());
            }
            Kind::Edit | Kind::Accepted => journal.accepted.push(Accepted {
                at_ms: entry.at_ms,
                suggestion: entry.kind == Kind::Accepted,
                params: serde_json::from_slice(&entry.content).unwrap_or_default(),
            }),
        }
    }
    let documents = mirror.documents();
    for uri in order {
        let known = journal.documents.iter().any(|document| document.uri == uri);
        let Some(open) = documents.get(uri.as_str()).filter(|_| !known) else { continue };
        let (language, version) = (open.language_id.to_string(), open.document.revision().0);
        journal.documents.push(Document { uri, language, version, text: open.document.text() });
    }
    journal.left_out.retain(|uri| !journal.documents.iter().any(|document| document.uri == *uri));
    Some(journal)
}

/// The name of a journal: when its shim was started, and its process.
#[must_use]
pub fn id(head: &Head) -> String {
    format!("{}-{}", head.started_ms / 1000, head.pid)
}

/// Removes what nobody keeps any more and is too old, or too many.
pub fn prune(dir: &Path) {
    let mut left = files(dir, &[EXTENSION, "new"]);
    left.retain(|(path, _)| File::open(path).is_ok_and(|file| !is_locked(&file)));
    left.sort_by_key(|(_, modified)| std::cmp::Reverse(*modified));
    let now = SystemTime::now();
    for (at, (path, modified)) in left.iter().enumerate() {
        let age = now.duration_since(*modified).unwrap_or_default();
        if at >= LEFT_MAX || age > LEFT_AGE_MAX {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The URI of the document that a message opens.
fn opened(envelope: &Envelope) -> Option<String> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Params {
        text_document: Item,
    }
    #[derive(serde::Deserialize)]
    struct Item {
        uri: String,
    }
    let opens = envelope.method() == Some("textDocument/didOpen");
    let params = opens.then(|| envelope.params_as::<Params>().ok()).flatten();
    params.map(|params| params.text_document.uri)
}

/// Whether a shim keeps this file: it has it locked.
fn is_locked(file: &File) -> bool {
    flock(file, FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK)
}

/// The journals in a folder, with the time of their last change. Links and folders are none.
fn files(dir: &Path, extensions: &[&str]) -> Vec<(PathBuf, SystemTime)> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let path = entry.path();
            let meta = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
            let ours = path.extension().is_some_and(|end| extensions.iter().any(|e| end == *e));
            ours.then(|| Some((path, meta.modified().ok()?))).flatten()
        })
        .collect()
}

#[cfg(test)]
mod tests;
