//! The log: where it goes, and how much of it there is.
//!
//! Verbs log to stderr (warnings, unless asked for more). The daemon logs to a file of its own, which is turned over once
//! it is full, so that a daemon that runs for months does not fill a disk. A shim has one too, but only once there is
//! something to say: a shim that has no trouble leaves no file.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use std::time::{Duration, Instant, SystemTime};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::LogLevel;
use crate::env_vars;

/// A log that cannot be written, because the disk is full, is tried again after this time.
const RETRY_EVERY: Duration = Duration::from_secs(10);
/// The daemon's log file is turned over at this size; one older file is kept beside it.
pub const LOG_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The log of a shim is turned over at this size; one older file is kept beside it.
pub const SHIM_LOG_BYTES_MAX: u64 = 256 * 1024;
/// How many logs of shims are kept, with those that were turned over; the oldest goes first.
pub const SHIM_LOGS_MAX: usize = 40;
/// How long they are kept.
pub const SHIM_LOG_AGE_MAX: Duration = Duration::from_secs(14 * 24 * 60 * 60);

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

/// The folder of the shims' logs, which are named after their processes.
#[must_use]
pub fn shims_dir() -> PathBuf {
    env_vars::state_dir().join("shims")
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
/// The file or its folder cannot be created. It is tried again with every line that is a while later.
pub fn to_file(file: &Path, level: LogLevel) -> io::Result<()> {
    let turning = Turning::lazy(file.to_owned(), LOG_BYTES_MAX, || {});
    let opened = turning.lock().open().map(drop);
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter(level.as_str()))
        .with_ansi(false)
        .with_writer(turning)
        .finish();
    let _ = tracing::subscriber::set_global_default(subscriber);
    opened
}

/// Logs what looks wrong to a file of this process below `dir` from now on; the file is made with its first line. The
/// configuration is not read: a shim has no time for it.
pub fn to_shim_log(dir: &Path) {
    let path = dir.join(format!("{}.log", std::process::id()));
    let folder = dir.to_owned();
    let turning = Turning::lazy(path, SHIM_LOG_BYTES_MAX, move || prune(&folder));
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(turning);
    let _ = match env_vars::log_filter() {
        Some(_) => {
            let subscriber = subscriber.with_env_filter(filter(LogLevel::Warn.as_str()));
            tracing::subscriber::set_global_default(subscriber.finish())
        }
        None => {
            let subscriber = subscriber.with_max_level(LevelFilter::WARN);
            tracing::subscriber::set_global_default(subscriber.finish())
        }
    };
}

/// Removes logs of shims that are too old, or too many.
fn prune(dir: &Path) {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut logs: Vec<(SystemTime, PathBuf)> = entries
        .filter_map(|entry| {
            let meta = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
            Some((meta.modified().ok()?, entry.path()))
        })
        .collect();
    logs.sort_by(|one, other| other.cmp(one));
    let now = SystemTime::now();
    for (at, (modified, path)) in logs.iter().enumerate() {
        let age = now.duration_since(*modified).unwrap_or_default();
        if at >= SHIM_LOGS_MAX - 1 || age > SHIM_LOG_AGE_MAX {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A log file that is made with its first line, and renamed to `….old` when it is full.
struct Turning(Mutex<Open>);

struct Open {
    path: PathBuf,
    bytes_max: u64,
    /// Done once, before the file is made.
    before: Option<Box<dyn FnOnce() + Send>>,
    file: Option<File>,
    len: u64,
    /// Since when nothing can be written, and how many lines that has cost.
    failed: Option<(Instant, u64)>,
    /// Whether it was said that nothing can be written.
    told: bool,
}

impl Turning {
    fn lazy(path: PathBuf, bytes_max: u64, before: impl FnOnce() + Send + 'static) -> Turning {
        let before: Option<Box<dyn FnOnce() + Send>> = Some(Box::new(before));
        Turning(Mutex::new(Open {
            path,
            bytes_max,
            before,
            file: None,
            len: 0,
            failed: None,
            told: false,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn append(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

impl Open {
    /// The file, made if it is not there.
    fn open(&mut self) -> io::Result<&mut File> {
        if self.file.is_none() {
            if let Some(dir) = self.path.parent() {
                std::fs::create_dir_all(dir)?;
            }
            if let Some(before) = self.before.take() {
                before();
            }
            let file = append(&self.path)?;
            self.len = file.metadata()?.len();
            self.file = Some(file);
        }
        self.file.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn turn(&mut self) -> io::Result<()> {
        let mut old = self.path.clone().into_os_string();
        old.push(".old");
        std::fs::rename(&self.path, &old)?;
        self.file = None;
        Ok(())
    }
}

impl Open {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.file.is_some() && self.len + bytes.len() as u64 > self.bytes_max {
            self.turn()?;
        }
        self.open()?.write_all(bytes)?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Writes a line, or does without: a disk that is full costs lines, and nothing else. It is tried again after a while.
    fn line(&mut self, bytes: &[u8], now: Instant) {
        if let Some((since, lost)) = &mut self.failed {
            if now.duration_since(*since) < RETRY_EVERY {
                *lost += 1;
                return;
            }
            let note = format!("… {lost} lines could not be written\n");
            if self.write(note.as_bytes()).is_ok() {
                self.failed = None;
            }
        }
        if let Err(error) = self.write(bytes) {
            let lost = self.failed.map_or(0, |(_, lost)| lost);
            self.failed = Some((now, lost + 1));
            self.file = None;
            if !std::mem::replace(&mut self.told, true) {
                let path = self.path.display();
                // Standard error may be the same full file.
                let _ =
                    writeln!(io::stderr(), "demolish: the log {path} cannot be written ({error})");
            }
        }
    }
}

/// One line on its way into the file. It never fails: whoever logs would say so on standard error, for every line, and end
/// the process if that cannot be written either.
struct Line<'t>(&'t Turning);

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().line(bytes, Instant::now());
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
        let turning = Turning::lazy(path.clone(), LOG_BYTES_MAX, || {});
        assert!(!path.exists(), "nothing was said yet");
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

    #[test]
    fn a_full_disk_costs_lines_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.log");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let turning = Turning::lazy(path.clone(), LOG_BYTES_MAX, || {});
        for _ in 0..3 {
            turning.make_writer().write_all(b"lost\n").unwrap();
        }
        std::fs::remove_file(&path).unwrap();
        let later = Instant::now() + RETRY_EVERY;
        turning.lock().line(b"there is room again\n", later);
        turning.lock().line(b"and again\n", later);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "… 3 lines could not be written\nthere is room again\nand again\n");
    }

    #[test]
    fn old_logs_of_shims_go() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        for at in 0..SHIM_LOGS_MAX as u64 + 5 {
            let file = File::create(dir.path().join(format!("{at}.log"))).unwrap();
            file.set_modified(now - Duration::from_secs(60 * at)).unwrap();
        }
        let old = File::create(dir.path().join("1.log.old")).unwrap();
        old.set_modified(now - SHIM_LOG_AGE_MAX * 2).unwrap();
        prune(dir.path());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), SHIM_LOGS_MAX - 1);
        assert!(dir.path().join("0.log").exists());
    }
}
