//! The bytes of tensors, each read once: in blocks by several threads, with a thread that reads ahead (`ahead`); or past the page cache
//! (`direct`), where that would not hold the model anyway.
//!
//! Files are read at positions and never mapped: whoever touches a mapped page of a file that was truncated meanwhile is killed by
//! a signal (SIGBUS), and with the daemon every editor would lose its servers. Here a file that changes gives an error.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::File,
    io,
    ops::ControlFlow,
    os::unix::fs::FileExt,
    path::PathBuf,
    slice::ChunksMut,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use super::{
    Entry, Place, Shards,
    ahead::{Ahead, forget, is_cached},
    buffer::{Bytes, Spares},
    direct::{self, Direct, Ready, Step},
    header::Stamp,
    numbers::has_nan,
};
use crate::{
    files,
    info::{LoadError, LoadPhase, LoadProgress, LoadWatch},
    memory::system::machine,
};

/// Bytes that one thread reads at a time, and looks at before they leave its cache.
const BLOCK_BYTES: usize = 1 << 20;
/// The most threads that read one tensor.
const READERS_MAX: usize = 4;
/// A model that takes more than this fraction of the free memory leaves the page cache as it is read: it would only push out what
/// others need, and what is packed from it.
const CACHED_FRACTION: u64 = 4;
/// Places of a model that are looked at to see whether it is in the page cache.
const PROBES: usize = 64;

/// A tensor as it lies in its file.
#[derive(Debug)]
pub(crate) struct Tensor {
    /// As safetensors calls it.
    pub(crate) dtype: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Bytes,
    /// One of its floats is no number.
    pub(crate) has_nan: bool,
}

/// The files of a model, open.
pub(crate) struct Source {
    tensors: Arc<BTreeMap<String, Entry>>,
    paths: Vec<PathBuf>,
    files: Arc<[File]>,
    /// Which files they were when the headers were checked.
    stamps: Vec<Stamp>,
    spares: Arc<Spares>,
    ahead: Option<Ahead>,
    direct: Option<Direct>,
    /// What was read is not to stay in the page cache.
    forgets: bool,
    watch: LoadWatch,
    progress: LoadProgress,
}

impl Source {
    /// Opens the files. What is at `places` will be asked for, in about this order.
    pub(crate) fn open(
        shards: &Shards,
        places: &[Place],
        watch: LoadWatch,
    ) -> Result<Source, LoadError> {
        let open = |path: &PathBuf| {
            files::open(path)
                .map_err(|error| LoadError::File { path: path.clone(), reason: error.to_string() })
        };
        let files: Arc<[File]> = shards.files.iter().map(open).collect::<Result<_, _>>()?;
        let mut seen = HashSet::new();
        let mut order = places.to_vec();
        // Tensors of other sizes may begin at the same place.
        order.retain(|place| seen.insert((place.file, place.start, place.bytes)));
        let total = order.iter().map(|place| place.bytes).sum();
        let free = machine().available().map_or(u64::MAX, |(bytes, _)| bytes);
        let mut source = Source {
            tensors: shards.tensors.clone(),
            paths: shards.files.clone(),
            stamps: shards.stamps.clone(),
            spares: Arc::default(),
            ahead: None,
            direct: None,
            files,
            forgets: total > free / CACHED_FRACTION,
            watch,
            progress: LoadProgress { phase: LoadPhase::Reading, bytes: 0, total },
        };
        (0..source.files.len()).try_for_each(|file| source.check_unchanged(file))?;
        if source.forgets && !source.is_cached(&order) {
            source.pass_cache(&order);
        }
        if source.direct.is_none() {
            source.ahead = Ahead::start(source.files.clone(), &order);
        }
        source.tell()?;
        Ok(source)
    }

    /// Has what is at `order` read past the page cache, if all files can be.
    fn pass_cache(&mut self, order: &[Place]) {
        let open = |(path, stamp): (&PathBuf, &Stamp)| -> io::Result<File> {
            let file = direct::open(path, &self.spares)?;
            match Stamp::of(&file)? == *stamp {
                true => Ok(file),
                // The file that is open already will say so.
                false => Err(io::Error::other("it was changed")),
            }
        };
        let files = self.paths.iter().zip(&self.stamps).map(open).collect::<io::Result<_>>();
        let files = match files {
            Ok(files) => files,
            Err(error) => {
                tracing::debug!("the page cache cannot be passed: {error}");
                return;
            }
        };
        let entries = self.tensors.values();
        let entries =
            entries.map(|entry| entry.origin.as_ref().map_or(entry, |origin| &origin.entry));
        let dtypes: HashMap<_, _> = entries
            .filter(|entry| entry.bytes > 0)
            .map(|entry| ((entry.file, entry.start, entry.bytes), entry.dtype.as_str()))
            .collect();
        let steps = order.iter().map(|place| {
            let dtype =
                dtypes.get(&(place.file, place.start, place.bytes)).copied().unwrap_or_default();
            Step { place: *place, dtype: dtype.to_owned() }
        });
        self.direct = Direct::start(files, steps.collect(), self.spares.clone());
    }

    /// Whether most of what is at `order` is in the page cache, by a look at some places of it.
    fn is_cached(&self, order: &[Place]) -> bool {
        let places = order.iter().step_by(order.len().div_ceil(PROBES).max(1));
        let found = places
            .clone()
            .filter(|place| is_cached(&self.files[place.file], place.start + place.bytes / 2));
        2 * found.count() > places.count()
    }

    /// What is known of a tensor.
    pub(crate) fn get(&self, name: &str) -> Option<&Entry> {
        self.tensors.get(name)
    }

    /// Reads what lies at the place of an entry: the tensor itself, or the one that it is made of.
    pub(crate) fn read(&mut self, entry: &Entry) -> Result<Tensor, LoadError> {
        let entry = entry.origin.as_ref().map_or(entry, |origin| &origin.entry);
        let place = entry.place();
        let Ready { bytes, has_nan } = match self.passed(place)? {
            Some(ready) => ready,
            None => self.filled(place, &entry.dtype)?,
        };
        self.progress.bytes += place.bytes;
        self.tell()?;
        let (dtype, shape) = (entry.dtype.clone(), entry.shape.clone());
        Ok(Tensor { dtype, shape, bytes, has_nan })
    }

    /// What lies at a place, if it is read past the page cache.
    fn passed(&self, place: Place) -> Result<Option<Ready>, LoadError> {
        let Some(direct) = &self.direct else { return Ok(None) };
        let mut tell = |bytes| {
            let bytes = self.progress.bytes + bytes;
            self.watch.tell(LoadProgress { bytes, ..self.progress })
        };
        let ready = match direct.take(place, &mut tell) {
            ControlFlow::Continue(ready) => ready,
            ControlFlow::Break(()) => return Err(LoadError::Cancelled),
        };
        if ready.is_some() {
            self.check_unchanged(place.file)?;
        }
        Ok(ready)
    }

    /// What lies at a place, read now.
    fn filled(&self, place: Place, dtype: &str) -> Result<Ready, LoadError> {
        let mut bytes = self.spares.take(place.bytes as usize);
        let fill = Fill {
            source: self,
            place,
            dtype,
            has_nan: AtomicBool::new(false),
            failed: Mutex::new(None),
        };
        fill.run(&mut bytes);
        let (has_nan, failed) = (fill.has_nan.into_inner(), fill.failed);
        self.check_unchanged(place.file)?;
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(Failure::Stopped) => return Err(LoadError::Cancelled),
            Some(Failure::System(error)) => {
                let path = self.paths[place.file].clone();
                return Err(LoadError::File { path, reason: error.to_string() });
            }
            None => {}
        }
        if self.forgets {
            forget(&self.files[place.file], place.start, place.bytes);
        }
        Ok(Ready { bytes, has_nan })
    }

    /// An error if the file is not any more what it was when its header was checked.
    fn check_unchanged(&self, file: usize) -> Result<(), LoadError> {
        let path = || self.paths[file].clone();
        let stamp = Stamp::of(&self.files[file])
            .map_err(|error| LoadError::File { path: path(), reason: error.to_string() })?;
        if stamp == self.stamps[file] {
            return Ok(());
        }
        let reason = if stamp.bytes < self.stamps[file].bytes {
            "was truncated while it was being read; load the model again when it is whole"
        } else {
            "was changed while it was being read; load the model again when it is finished"
        };
        Err(LoadError::Weights { path: path(), reason: reason.to_owned() })
    }

    /// Says how far it is; an error when nobody wants the model any more.
    fn tell(&self) -> Result<(), LoadError> {
        match self.watch.tell(self.progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(LoadError::Cancelled),
        }
    }
}

/// Why a tensor was not read.
enum Failure {
    Stopped,
    System(io::Error),
}

/// One tensor that is being read.
struct Fill<'r> {
    source: &'r Source,
    place: Place,
    dtype: &'r str,
    has_nan: AtomicBool,
    failed: Mutex<Option<Failure>>,
}

type Blocks<'b> = Mutex<std::iter::Enumerate<ChunksMut<'b, u8>>>;

impl Fill<'_> {
    /// Fills `bytes`, or leaves the reason.
    fn run(&self, bytes: &mut [u8]) {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let readers = bytes.len().div_ceil(BLOCK_BYTES).min(cores).min(READERS_MAX);
        let blocks = Mutex::new(bytes.chunks_mut(BLOCK_BYTES).enumerate());
        thread::scope(|scope| {
            for _ in 1..readers {
                // One thread less is slower, and no error.
                let _ = thread::Builder::new().spawn_scoped(scope, || self.read(&blocks, false));
            }
            self.read(&blocks, true);
        });
    }

    /// Reads blocks until there are none. The first reader says how far they are.
    fn read(&self, blocks: &Blocks<'_>, is_first: bool) {
        loop {
            let next = blocks.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((index, block)) = next else { return };
            let start = (index * BLOCK_BYTES) as u64;
            let file = &self.source.files[self.place.file];
            let read = file.read_exact_at(block, self.place.start + start);
            let end = start + block.len() as u64;
            if let Some(ahead) = &self.source.ahead {
                ahead.used(&self.place, end);
            }
            let progress = self.source.progress;
            let progress = LoadProgress { bytes: progress.bytes + end, ..progress };
            let failure = match read {
                Err(error) => Some(Failure::System(error)),
                Ok(()) if is_first && self.source.watch.tell(progress).is_break() => {
                    Some(Failure::Stopped)
                }
                Ok(()) => None,
            };
            if has_nan(self.dtype, block) {
                self.has_nan.store(true, Ordering::Relaxed);
            }
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            // The first reason is told: what fails after a stop is not what went wrong.
            keep_first(&mut failed, failure);
            if failed.is_some() {
                return;
            }
        }
    }
}

fn keep_first(failed: &mut Option<Failure>, failure: Option<Failure>) {
    *failed = failed.take().or(failure);
}

#[cfg(test)]
mod tests;
