//! What a child says that is no message: its stderr and stray lines on its stdout.
//!
//! The last [`TAIL_LINES`] lines are kept to be shown when it crashes; everything goes to a file that is rotated.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;

/// How long a log file grows.
pub const LOG_BYTES_MAX: u64 = 1024 * 1024;
/// How many files are kept: the current one and its predecessors, `.1` and `.2`.
pub const LOG_FILES: usize = 3;
/// How many lines are remembered.
pub const TAIL_LINES: usize = 20;
/// How much of a line is remembered.
pub const LINE_BYTES_MAX: usize = 2 * 1024;

/// The log of one child. Clones share it.
#[derive(Clone, Debug)]
pub struct Log {
    inner: Arc<Mutex<Inner>>,
    drained: Arc<watch::Sender<bool>>,
}

#[derive(Debug)]
struct Inner {
    path: Option<PathBuf>,
    file: Option<File>,
    bytes: u64,
    tail: VecDeque<String>,
    line: Vec<u8>,
}

impl Log {
    /// A log that is written to `path`, if there is one; what is there already is kept. A file that cannot be written
    /// costs the log and nothing else.
    pub fn open(path: Option<PathBuf>) -> Log {
        let mut inner =
            Inner { path, file: None, bytes: 0, tail: VecDeque::new(), line: Vec::new() };
        inner.reopen();
        Log { inner: Arc::new(Mutex::new(inner)), drained: Arc::new(watch::Sender::new(false)) }
    }

    /// Appends `bytes`.
    pub fn append(&self, bytes: &[u8]) {
        self.lock().append(bytes);
    }

    /// The last lines, without escape sequences.
    pub fn tail(&self) -> Vec<String> {
        let inner = self.lock();
        let rest = (!inner.line.is_empty()).then(|| readable(&inner.line));
        inner.tail.iter().cloned().chain(rest).collect()
    }

    /// The file.
    pub fn path(&self) -> Option<PathBuf> {
        self.lock().path.clone()
    }

    /// Waits until the child's stderr has ended, or for `patience`: its children may keep it open.
    pub async fn drained(&self, patience: Duration) {
        let mut drained = self.drained.subscribe();
        let _ = tokio::time::timeout(patience, drained.wait_for(|ended| *ended)).await;
    }

    /// Reads `stderr` to its end on a thread of its own.
    pub(super) fn drain(&self, mut stderr: impl Read + Send + 'static) {
        let log = self.clone();
        let thread = std::thread::Builder::new().name("stderr".to_owned()).stack_size(128 * 1024);
        let started = thread.spawn(move || {
            let mut buffer = [0; 8 * 1024];
            loop {
                match stderr.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(bytes) => log.append(&buffer[..bytes]),
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
            log.drained.send_replace(true);
        });
        if let Err(error) = started {
            tracing::error!(%error, "no thread for a child's stderr: the child may block");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Inner {
    fn append(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' {
                let line = readable(&self.line);
                self.line.clear();
                if self.tail.len() == TAIL_LINES {
                    self.tail.pop_front();
                }
                self.tail.push_back(line);
            } else if self.line.len() < LINE_BYTES_MAX {
                self.line.push(*byte);
            }
        }
        if self.bytes >= LOG_BYTES_MAX {
            self.rotate();
        }
        if let Some(file) = &mut self.file {
            if let Err(error) = file.write_all(bytes) {
                // The last lines are still kept; the file has another chance when the child is started anew.
                tracing::error!(path = ?self.path, %error, "the log of a language server cannot be written");
                self.file = None;
            }
            self.bytes += bytes.len() as u64;
        }
    }

    fn rotate(&mut self) {
        let Some(path) = self.path.clone() else { return };
        self.file = None;
        for index in (1..LOG_FILES).rev() {
            let from = if index == 1 { path.clone() } else { numbered(&path, index - 1) };
            let _ = std::fs::rename(from, numbered(&path, index));
        }
        self.reopen();
    }

    fn reopen(&mut self) {
        let Some(path) = &self.path else { return };
        self.file = OpenOptions::new().create(true).append(true).open(path).ok();
        self.bytes =
            self.file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |m| m.len());
    }
}

fn numbered(path: &Path, index: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{index}"));
    name.into()
}

/// A line without the escape sequences with which terminals are coloured.
fn readable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            if characters.next() == Some('[') {
                let _ = characters.find(|end| ('@'..='~').contains(end));
            }
        } else if !character.is_control() || character == '\t' {
            out.push(character);
        }
    }
    out
}
