//! The file of one journal: appended to, synced, and written anew from the open documents when it has grown.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proxy::OpenDocument;
use rustix::fs::{FlockOperation, flock};
use serde_json::json;
use text::Encoding;
use wire::{Bytes, Envelope};

use super::record::{self, Entry, Kind};
use super::{EDITS_BYTES_MAX, EDITS_MAX, Head, JOURNAL_BYTES_MAX, TEXT_BYTES_MAX, now_ms};

/// A journal is written anew when it has grown by this beyond twice what it began with.
const GROWTH_BYTES: u64 = 4 * 1024 * 1024;
/// How long after a failure (a full disk) the journal is tried again.
pub(super) const TRY_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// A document by its URI.
pub(super) type Document<'d> = (&'d str, &'d OpenDocument);

/// One journal's file.
pub(super) struct Book {
    path: PathBuf,
    file: File,
    head: Bytes,
    /// How many bytes of the file are whole entries.
    len: u64,
    /// How many there were when it was written anew.
    began: u64,
    edits: VecDeque<Entry>,
    edits_bytes: usize,
    /// What is to be written next.
    buffer: Vec<u8>,
    /// Since when nothing can be written.
    failed: Option<Instant>,
    told: bool,
}

impl Book {
    /// A new journal, whose file is made at once: private, locked for as long as it is kept, and not written yet.
    pub(super) fn create(path: &Path, head: &Head) -> io::Result<Book> {
        let head = serde_json::to_vec(head)?;
        let file = open(path)?;
        let mut book = Book {
            path: path.to_owned(),
            file,
            head: head.into(),
            len: 0,
            began: 0,
            edits: VecDeque::new(),
            edits_bytes: 0,
            buffer: Vec::new(),
            failed: None,
            told: false,
        };
        let beginning = book.beginning(None);
        book.buffer.extend_from_slice(&beginning);
        Ok(book)
    }

    /// Notes an entry; [`Book::sync`] writes it. While nothing can be written it is dropped: a snapshot comes first.
    pub(super) fn note(&mut self, kind: Kind, content: Bytes) {
        let entry = Entry { kind, at_ms: now_ms(), content };
        if self.writable() {
            record::append(&mut self.buffer, &entry);
        }
        if matches!(kind, Kind::Edit | Kind::Accepted) && entry.content.len() <= EDITS_BYTES_MAX {
            self.edits_bytes += entry.content.len();
            self.edits.push_back(entry);
            while self.edits.len() > EDITS_MAX || self.edits_bytes > EDITS_BYTES_MAX {
                let gone = self.edits.pop_front();
                self.edits_bytes -= gone.map_or(0, |entry| entry.content.len());
            }
        }
    }

    /// Brings what was noted to the disk.
    pub(super) fn sync(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let written = self.file.write_all(&self.buffer).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => self.len += self.buffer.len() as u64,
            Err(error) => {
                // What was torn is cut, so that the entries before it stay readable.
                let _ = self.file.set_len(self.len);
                self.fail(&error);
            }
        }
        self.buffer.clear();
        self.buffer.shrink_to(1024 * 1024);
    }

    /// Whether the file is to be written anew: it has grown, or a failure is long enough ago.
    pub(super) fn wants_snapshot(&self, now: Instant) -> bool {
        match self.failed {
            Some(since) => now.duration_since(since) >= TRY_AGAIN_AFTER,
            None => self.len > self.began * 2 + GROWTH_BYTES || self.len >= JOURNAL_BYTES_MAX,
        }
    }

    /// Writes the journal anew: what is open now, and the last accepted edits. The old file stays until that is done.
    pub(super) fn snapshot<'d>(
        &mut self,
        documents: impl Iterator<Item = Document<'d>>,
        encoding: Encoding,
    ) {
        self.buffer.clear();
        match self.rewrite(documents, encoding) {
            Ok((file, len)) => {
                self.file = file;
                (self.len, self.began) = (len, len);
                self.failed = None;
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Removes the file: the editor has left in good order.
    pub(super) fn remove(self) {
        let _ = std::fs::remove_file(&self.path);
    }

    fn rewrite<'d>(
        &self,
        documents: impl Iterator<Item = Document<'d>>,
        encoding: Encoding,
    ) -> io::Result<(File, u64)> {
        let new = self.path.with_extension("new");
        let mut file = open(&new)?;
        let mut buffer = self.beginning(Some(encoding));
        let (mut len, mut room) = (0, TEXT_BYTES_MAX);
        for (uri, open) in documents {
            let entry = match room.checked_sub(open.document.len()) {
                Some(rest) => {
                    room = rest;
                    Entry { kind: Kind::Message, at_ms: now_ms(), content: did_open(uri, open) }
                }
                None => {
                    let content = Bytes::copy_from_slice(uri.as_bytes());
                    Entry { kind: Kind::LeftOut, at_ms: now_ms(), content }
                }
            };
            record::append(&mut buffer, &entry);
            file.write_all(&buffer)?;
            len += buffer.len() as u64;
            buffer.clear();
        }
        self.edits.iter().for_each(|entry| record::append(&mut buffer, entry));
        file.write_all(&buffer)?;
        len += buffer.len() as u64;
        file.sync_data()?;
        std::fs::rename(&new, &self.path)?;
        if let Some(dir) = self.path.parent() {
            File::open(dir)?.sync_all()?;
        }
        Ok((file, len))
    }

    /// What every file begins with.
    fn beginning(&self, encoding: Option<Encoding>) -> Vec<u8> {
        let mut out = Vec::new();
        record::begin(&mut out);
        let head = Entry { kind: Kind::Head, at_ms: now_ms(), content: self.head.clone() };
        record::append(&mut out, &head);
        if let Some(encoding) = encoding {
            let content = Bytes::from_static(encoding.as_lsp().as_bytes());
            record::append(&mut out, &Entry { kind: Kind::Encoding, at_ms: now_ms(), content });
        }
        out
    }

    fn writable(&self) -> bool {
        self.failed.is_none() && self.len < JOURNAL_BYTES_MAX
    }

    /// Said once; tried again, silently.
    fn fail(&mut self, error: &io::Error) {
        self.failed = Some(Instant::now());
        if !std::mem::replace(&mut self.told, true) {
            let path = self.path.display();
            tracing::warn!(%error, %path, "the journal cannot be written; nothing else is affected");
        }
    }
}

/// A private file that is locked while it is open.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.create(true).write(true).truncate(true).mode(0o600).open(path)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(io::Error::from)?;
    Ok(file)
}

fn did_open(uri: &str, open: &OpenDocument) -> Bytes {
    let item = json!({
        "uri": uri,
        "languageId": &*open.language_id,
        "version": open.document.revision().0,
        "text": open.document.text(),
    });
    Envelope::notification("textDocument/didOpen", &json!({ "textDocument": item })).body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_said_once_and_what_is_written_stays_readable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.journal");
        let mut book = Book::create(&path, &Head::default()).unwrap();
        book.sync();
        let whole = std::fs::read(&path).unwrap();
        // A device that is always full, in the place of the file.
        let file = std::mem::replace(
            &mut book.file,
            File::options().write(true).open("/dev/full").unwrap(),
        );
        book.note(Kind::Edit, Bytes::from_static(b"{}"));
        book.sync();
        assert!(book.told && !book.writable());
        book.note(Kind::Message, Bytes::from_static(b"lost"));
        assert!(book.buffer.is_empty(), "nothing piles up");
        assert!(!book.wants_snapshot(Instant::now()));
        assert!(book.wants_snapshot(Instant::now() + TRY_AGAIN_AFTER));
        assert_eq!(std::fs::read(&path).unwrap(), whole);
        drop(file);
        book.snapshot(std::iter::empty(), Encoding::Utf8);
        assert!(book.writable());
        let (entries, _) = record::read(&std::fs::read(&path).unwrap().into());
        let kinds: Vec<Kind> = entries.iter().map(|entry| entry.kind).collect();
        assert_eq!(kinds, [Kind::Head, Kind::Encoding, Kind::Edit]);
    }

    #[test]
    fn a_journal_is_private_and_edits_are_bounded() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.journal");
        let mut book = Book::create(&path, &Head::default()).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for _ in 0..EDITS_MAX * 2 {
            book.note(Kind::Edit, vec![b'x'; EDITS_BYTES_MAX / 50].into());
        }
        assert!(book.edits.len() <= EDITS_MAX && book.edits_bytes <= EDITS_BYTES_MAX);
        assert!(Book::create(&path, &Head::default()).is_err(), "it is locked");
        book.remove();
        assert!(!path.exists());
    }
}
