//! What a fake server writes down at once, so that it is known of one that was killed.
//!
//! Lines of three words: `start PID 0` when it begins, and `NAME PID NUMBER` for every `test/serial`.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// A file that several servers may append to; none if nobody asked for it.
#[derive(Debug, Default)]
pub(super) struct Record(Option<(File, PathBuf)>);

impl Record {
    /// Appends to `path` from now on.
    pub(super) fn open(path: &Path) -> Record {
        let file = OpenOptions::new().create(true).append(true).open(path).ok();
        let mut record = Record(file.map(|file| (file, path.to_owned())));
        record.line("start", 0);
        record
    }

    /// How many servers have begun with this record, this one too.
    pub(super) fn starts(&self) -> usize {
        let text = self.0.as_ref().and_then(|(_, path)| std::fs::read_to_string(path).ok());
        text.unwrap_or_default().lines().filter(|line| line.starts_with("start ")).count()
    }

    /// `test/serial`.
    pub(super) fn serial(&mut self, params: &Value) {
        let name = params["name"].as_str().unwrap_or("?").to_owned();
        self.line(&name, params["number"].as_u64().unwrap_or(0));
    }

    fn line(&mut self, name: &str, number: u64) {
        if let Some((file, _)) = &mut self.0 {
            // One write each: appends of several servers do not mix.
            let _ = file.write_all(format!("{name} {} {number}\n", std::process::id()).as_bytes());
        }
    }
}
