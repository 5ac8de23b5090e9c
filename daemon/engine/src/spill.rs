//! Caches on the disk: the beginnings of long conversations survive the end of the process.
//!
//! A cache is written when the engine has had nothing to do for a while, and when it is unloaded; never while anybody waits. Files
//! are found by scanning their headers when the engine starts. A file that was written by another model, or whose checksum is
//! wrong, is deleted and never used. A disk that is full costs one line of the log.

mod file;
mod fingerprint;

use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{backend::TensorHead, job::TokenId, prefix::common_len};
pub(crate) use file::{Cut, Distrust, Label, Output, Reading, Writing};
pub(crate) use fingerprint::{fingerprint, folder};

/// The most bytes of all files of a model. The least recently used make room.
pub(crate) const SPILL_BYTES_MAX: u64 = 16 << 30;
/// The most files of a model. The least recently used make room.
pub(crate) const SPILL_FILES_MAX: usize = 64;
/// The most bytes that are written in a day, for the disk's sake.
pub(crate) const SPILL_DAY_BYTES_MAX: u64 = 64 << 30;
/// A cache of fewer tokens is faster filled again than worth a file.
pub(crate) const SPILL_TOKENS_MIN: usize = 1024;
/// How long nobody must have wanted anything before a cache is written.
pub(crate) const SPILL_PATIENCE: Duration = Duration::from_secs(5);
/// How long unloading may be held up by what is not written yet.
pub(crate) const UNLOAD_PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing is written after the disk refused.
const REFUSED_PATIENCE: Duration = Duration::from_secs(15 * 60);
/// A cache that is on the disk but for fewer tokens than this is not written again before the engine is unloaded.
const GROWTH_MIN: usize = 256;
/// Files end in this.
const ENDING: &str = "cache.safetensors";
const DAY_S: u64 = 24 * 60 * 60;

/// Where caches outlive the process, and how much of the disk they may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spill {
    /// A folder for all models; it is made when it is needed. What is in it is readable for the user alone.
    pub dir: PathBuf,
    /// The most bytes of one model's files.
    pub bytes_max: u64,
    /// The most bytes that are written in a day.
    pub day_bytes_max: u64,
    /// Shorter caches are not written.
    pub tokens_min: usize,
    /// How long nobody must have wanted anything.
    pub patience: Duration,
}

impl Spill {
    /// With the engine's own bounds.
    pub fn to(dir: PathBuf) -> Spill {
        Spill {
            dir,
            bytes_max: SPILL_BYTES_MAX,
            day_bytes_max: SPILL_DAY_BYTES_MAX,
            tokens_min: SPILL_TOKENS_MIN,
            patience: SPILL_PATIENCE,
        }
    }
}

/// The files of one model.
pub(crate) struct Files {
    settings: Spill,
    /// Below the folder of the settings, so that models do not delete each other's.
    dir: PathBuf,
    fingerprint: String,
    known: Vec<Known>,
    /// What was written when (in seconds since 1970) and how much, as far as that is known and not older than a day.
    lately: VecDeque<(u64, u64)>,
    /// After a refusal by the disk.
    refused: Option<Instant>,
}

/// A file.
struct Known {
    path: PathBuf,
    label: Label,
    bytes: u64,
    used: SystemTime,
}

impl Files {
    /// Looks at what is there. Files that cannot be of use any more are deleted.
    pub(crate) fn open(settings: Spill, name: &str, fingerprint: String) -> Files {
        let dir = settings.dir.join(name);
        let mut files = Files {
            settings,
            dir,
            fingerprint,
            known: Vec::new(),
            lately: VecDeque::new(),
            refused: None,
        };
        for path in fs::read_dir(&files.dir).into_iter().flatten().flatten() {
            files.scan(&path.path());
        }
        files.shrink(0);
        files
    }

    fn scan(&mut self, path: &Path) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !name.ends_with(ENDING) {
            // Somebody may be writing it at this moment.
            let age = modified(path).and_then(|at| at.elapsed().ok());
            if name.contains(ENDING) && age.is_some_and(|age| age.as_secs() > DAY_S) {
                remove(path, "it was never finished");
            }
            return;
        }
        match Reading::<()>::open(path) {
            Ok(Reading { label, .. }) if label.fingerprint == self.fingerprint => {
                let bytes = fs::metadata(path).map_or(0, |metadata| metadata.len());
                let used = modified(path).unwrap_or(UNIX_EPOCH);
                self.lately.push_back((label.written, bytes));
                self.known.push(Known { path: path.to_owned(), label, bytes, used });
            }
            Ok(_) => remove(path, "another model wrote it"),
            Err(Distrust::Io(error)) if error.kind() != io::ErrorKind::UnexpectedEof => {
                tracing::warn!("{}: {error}", path.display());
            }
            Err(wrong) => remove(path, &wrong.to_string()),
        }
    }

    /// A cache is read where it knows so many tokens more than those in memory.
    pub(crate) fn gain_min(&self) -> usize {
        (self.settings.tokens_min / 4).max(1)
    }

    /// A larger cache is never written.
    pub(crate) fn bytes_max(&self) -> u64 {
        self.settings.bytes_max
    }

    pub(crate) fn patience(&self) -> Duration {
        self.settings.patience
    }

    /// The file that knows most of `tokens`, if that is more than `known`: how much, and where it is.
    pub(crate) fn best(&self, tokens: &[TokenId], known: usize) -> Option<(usize, PathBuf)> {
        let shared = self.known.iter().filter_map(|file| {
            let len = common_len(&file.label.tokens, tokens);
            let len = file.label.reach(len);
            (len > known).then_some((len, &file.path))
        });
        shared.max().map(|(len, path)| (len, path.clone()))
    }

    /// Opens a file that [`Files::best`] named.
    pub(crate) fn read<T>(&mut self, path: &Path) -> Option<Reading<T>> {
        match Reading::open(path) {
            Ok(reading) if reading.label.fingerprint == self.fingerprint => {
                if let Some(file) = self.known.iter_mut().find(|file| file.path == path) {
                    file.used = SystemTime::now();
                }
                let touched = fs::File::options()
                    .append(true)
                    .open(path)
                    .and_then(|file| file.set_modified(SystemTime::now()));
                touched.unwrap_or_else(|error| tracing::debug!("{}: {error}", path.display()));
                Some(reading)
            }
            Ok(_) => {
                self.distrust(path, "another model wrote it");
                None
            }
            Err(wrong) => {
                self.distrust(path, &wrong.to_string());
                None
            }
        }
    }

    /// It is never looked at again.
    pub(crate) fn distrust(&mut self, path: &Path, why: &str) {
        self.known.retain(|file| file.path != path);
        remove(path, why);
    }

    /// Whether a cache should be written, now that there is time (`is_last`: there will be none later).
    pub(crate) fn wants(&self, tokens: &[TokenId], is_last: bool) -> bool {
        let growth = if is_last { 1 } else { GROWTH_MIN };
        tokens.len() >= self.settings.tokens_min
            && self.best(tokens, 0).is_none_or(|(len, _)| len + growth <= tokens.len())
            && self.refused.is_none_or(|at| at.elapsed() > REFUSED_PATIENCE)
    }

    /// Begins to write a cache, if it may be written.
    pub(crate) fn begin<T>(
        &mut self,
        tokens: &[TokenId],
        cut: Cut,
        tensors: Vec<(TensorHead, T)>,
    ) -> Option<Writing<T>> {
        let bytes: u64 = tensors.iter().map(|(head, _)| head.bytes).sum();
        let now = seconds();
        // What says that it was written later than now says nothing.
        self.lately.retain(|&(at, _)| at <= now && at.saturating_add(DAY_S) > now);
        let written: u64 = self.lately.iter().map(|(_, bytes)| bytes).sum();
        if bytes > self.settings.bytes_max || written + bytes > self.settings.day_bytes_max {
            return None;
        }
        self.shrink(bytes);
        let label = Label {
            fingerprint: self.fingerprint.clone(),
            tokens: tokens.to_vec(),
            cut,
            written: now,
        };
        let mut sum = crc32fast::Hasher::new();
        tokens.iter().for_each(|token| sum.update(&token.to_le_bytes()));
        let name = format!("{:08x}-{}.{ENDING}", sum.finalize(), tokens.len());
        let begun =
            make_dir(&self.dir).and_then(|()| Writing::begin(&self.dir.join(name), label, tensors));
        match begun {
            Ok(writing) => {
                self.lately.push_back((now, bytes));
                Some(writing)
            }
            Err(error) => {
                self.refuse(&error);
                None
            }
        }
    }

    /// A file is there. What it knows as well is not kept twice.
    pub(crate) fn written(&mut self, path: PathBuf, label: Label, bytes: u64) {
        if let Some(at) = self.refused.take() {
            let s = at.elapsed().as_secs();
            tracing::info!("caches are written to {} again, after {s} s", self.dir.display());
        }
        let (covered, others): (Vec<Known>, Vec<Known>) =
            self.known.drain(..).partition(|old| label.tokens.starts_with(&old.label.tokens));
        self.known = others;
        for old in covered.iter().filter(|old| old.path != path) {
            let _ = fs::remove_file(&old.path); // Gone is gone.
        }
        self.known.push(Known { path, label, bytes, used: SystemTime::now() });
        self.shrink(0);
    }

    /// The disk refused. Nothing is lost: the cache is in memory, or its tokens are read again.
    pub(crate) fn refuse(&mut self, error: &io::Error) {
        if self.refused.is_none() {
            tracing::warn!("caches are not written to {} for a while: {error}", self.dir.display());
        }
        self.refused = Some(Instant::now());
    }

    /// Makes room for one more file of so many bytes.
    fn shrink(&mut self, bytes: u64) {
        let one = usize::from(bytes > 0);
        loop {
            let held: u64 = self.known.iter().map(|file| file.bytes).sum();
            if held + bytes <= self.settings.bytes_max && self.known.len() + one <= SPILL_FILES_MAX
            {
                return;
            }
            let ages = self.known.iter().enumerate();
            let Some((oldest, _)) = ages.min_by_key(|(_, file)| file.used) else { return };
            let file = self.known.remove(oldest);
            let _ = fs::remove_file(&file.path); // Gone is gone.
        }
    }
}

fn remove(path: &Path, why: &str) {
    tracing::info!("{} is deleted: {why}", path.display());
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!("{}: {error}", path.display());
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::symlink_metadata(path).and_then(|metadata| metadata.modified()).ok()
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// For the user alone: tokens are text.
fn make_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}
