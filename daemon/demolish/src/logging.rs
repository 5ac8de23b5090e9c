//! The log: where it goes, and how much of it there is.
//!
//! Verbs log to stderr (warnings, unless asked for more). The daemon logs to a file of its own, which is turned over once
//! it is full, so that a daemon that runs for months does not fill a disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::LogLevel;
use crate::env_vars;

/// The daemon's log file is turned over at this size; one older file is kept beside it.
pub const LOG_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The daemon's log.
#[must_use]
pub fn daemon_log() -> PathBuf {
    env_vars::state_dir().join("daemon.log")
}

/// The folder of the language servers' logs (their stderr).
#[must_use]
pub fn servers_dir() -> PathBuf {
    env_vars::state_dir().join("servers")
}

fn filter(level: &str) -> EnvFilter {
    // The framework calls every dropped completion worth telling, and that is one per keystroke.
    let usual = format!("{level},tower_lsp_server=warn");
    let asked = env_vars::log_filter().unwrap_or_else(|| usual.clone());
    EnvFilter::try_new(&asked).unwrap_or_else(|_| EnvFilter::new(usual))
}

/// Logs to stderr from now on: what a verb does in the foreground.
pub fn to_stderr(level: LogLevel) {
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter(level.as_str()))
        .with_writer(io::stderr)
        .with_target(false)
        .without_time()
        .finish();
    // A test, or a verb that calls another, may have set one already: the first one stays.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Logs to `file` from now on.
///
/// # Errors
/// The file or its folder cannot be created.
pub fn to_file(file: &Path, level: LogLevel) -> io::Result<()> {
    let turning = Turning::open(file)?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter(level.as_str()))
        .with_ansi(false)
        .with_writer(turning)
        .finish();
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}

/// A log file that is renamed to `….old` when it is full.
struct Turning(Mutex<Open>);

struct Open {
    path: PathBuf,
    file: File,
    len: u64,
}

impl Turning {
    fn open(path: &Path) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let file = append(path)?;
        let len = file.metadata()?.len();
        Ok(Turning(Mutex::new(Open { path: path.to_owned(), file, len })))
    }
}

fn append(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

impl Open {
    fn turn(&mut self) -> io::Result<()> {
        let mut old = self.path.clone().into_os_string();
        old.push(".old");
        std::fs::rename(&self.path, &old)?;
        self.file = append(&self.path)?;
        self.len = 0;
        Ok(())
    }
}

/// One line on its way into the file.
struct Line<'t>(&'t Turning);

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut open = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len + bytes.len() as u64 > LOG_BYTES_MAX {
            open.turn()?;
        }
        open.file.write_all(bytes)?;
        open.len += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'t> MakeWriter<'t> for Turning {
    type Writer = Line<'t>;

    fn make_writer(&'t self) -> Line<'t> {
        Line(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_log_is_turned_over_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/daemon.log");
        let turning = Turning::open(&path).unwrap();
        let line = vec![b'x'; 1024 * 1024];
        for _ in 0..5 {
            turning.make_writer().write_all(&line).unwrap();
        }
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 1024 * 1024);
        assert_eq!(
            std::fs::metadata(dir.path().join("deep/daemon.log.old")).unwrap().len(),
            4 * 1024 * 1024
        );
    }
}
