//! Caches go to the disk while nobody wants anything, and come back piece by piece.
//!
//! The engine thread writes a few megabytes at a time, and looks at the board in between. Making a file durable takes as long as
//! the disk takes, so a thread of its own does that and rings the bell. A cache that is read back is a run's work like any other:
//! one tensor is a chunk.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io,
    sync::Arc,
    thread::JoinHandle,
    time::Instant,
};

use super::Runner;
use crate::{
    backend::Backend,
    job::TokenId,
    line::{Request, Shared},
    prefix::{Kept, PREFIX_BYTES_MAX},
    run::Run,
    spill::{Cut, Files, Label, Output, Reading, UNLOAD_PATIENCE, Writing},
};

/// How many caches that had to make room wait for their turn to be written. A further one takes the place of the last of them, whose
/// tokens are read again when they are needed. Together they hold no more bytes than kept caches may, or [`PREFIX_BYTES_MAX`].
const EVICTED_MAX: usize = 2;

/// What the thread has to do with the disk.
pub(super) struct Disk<B: Backend> {
    files: Files,
    writing: Option<(Source, Writing<B::Tensor>)>,
    finishing: Option<JoinHandle<io::Result<()>>>,
    /// What had to make room in memory.
    evicted: VecDeque<Kept<B::State>>,
    /// Kept caches that were written or refused.
    tried: HashSet<u64>,
    /// The caches that are being read, by the arrival of the run that wants them, and how many of their tokens it can use.
    reading: HashMap<u64, (Reading<B::Tensor>, usize)>,
}

/// Where a cache that is written comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Kept(u64),
    /// The first of those that had to make room.
    Evicted,
}

impl<B: Backend> Runner<B> {
    pub(super) fn use_disk(&mut self, files: Files) {
        self.disk = Some(Disk {
            files,
            writing: None,
            finishing: None,
            evicted: VecDeque::new(),
            tried: HashSet::new(),
            reading: HashMap::new(),
        });
    }

    /// When there is something to write, if nobody wants anything before.
    pub(super) fn disk_due(&self) -> Option<Instant> {
        let disk = self.disk.as_ref()?;
        let since = self.idle_since?;
        if disk.finishing.is_some() {
            return None; // Whoever finishes rings the bell.
        }
        if disk.writing.is_some() || !disk.evicted.is_empty() {
            return Some(since);
        }
        self.next_source(false).map(|_| since + disk.files.patience())
    }

    /// The cache to write next.
    fn next_source(&self, is_last: bool) -> Option<Source> {
        let disk = self.disk.as_ref()?;
        if !disk.evicted.is_empty() {
            return Some(Source::Evicted);
        }
        let wanted = self.prefixes.latest().find(|&(id, kept)| {
            kept.soul.is_none()
                && !disk.tried.contains(&id)
                && disk.files.wants(&kept.tokens, is_last)
        });
        wanted.map(|(id, _)| Source::Kept(id))
    }

    /// Writes a piece.
    pub(super) fn write_piece(&mut self) {
        if let Some(disk) = &mut self.disk
            && disk.writing.is_none()
        {
            let prefixes = &self.prefixes;
            disk.tried.retain(|&id| prefixes.get(id).is_some());
            return self.begin_file(false);
        }
        if let Some((label, output)) = self.write_tensor()
            && let Some(disk) = &mut self.disk
        {
            let shared = self.shared.clone();
            disk.finishing = Some(std::thread::spawn(move || finish(&shared, label, output)));
        }
    }

    fn begin_file(&mut self, is_last: bool) {
        let source = self.next_source(is_last);
        let Some((disk, source)) = self.disk.as_mut().zip(source) else { return };
        let kept = match source {
            Source::Kept(id) => {
                disk.tried.insert(id);
                self.prefixes.get(id)
            }
            Source::Evicted => disk.evicted.front(),
        };
        let Some(Kept { tokens, state, .. }) = kept else { return };
        let probe = self.backend.fork(state, 1);
        let cut = match self.backend.len(&probe) {
            1 => Cut::Anywhere,
            _ => Cut::At(self.backend.saved_places(state)),
        };
        drop(probe);
        let begun = match self.backend.save(state) {
            Ok(tensors) => disk.files.begin(tokens, cut, tensors),
            Err(error) => {
                tracing::warn!("a cache cannot be written: {error}");
                None
            }
        };
        disk.writing = begun.map(|writing| (source, writing));
        if disk.writing.is_none() && source == Source::Evicted {
            disk.evicted.pop_front();
        }
    }

    /// Writes the next piece of the file that was begun, or has the next tensor ready. Hands the file over when all of it is written.
    fn write_tensor(&mut self) -> Option<(Label, Output)> {
        let disk = self.disk.as_mut()?;
        let (source, mut writing) = disk.writing.take()?;
        if let Source::Kept(id) = source
            && self.prefixes.get(id).is_none()
        {
            return None; // Somebody goes on from it: it will be longer, and kept again.
        }
        match writing.write_piece() {
            Ok(false) => {}
            Ok(true) => {
                disk.writing = Some((source, writing));
                return None;
            }
            Err(error) => {
                disk.files.refuse(&error);
                disk.evicted.clear();
                return None;
            }
        }
        let Some((head, tensor)) = writing.next() else {
            if source == Source::Evicted {
                disk.evicted.pop_front();
            }
            return Some((writing.label, writing.output));
        };
        let bytes =
            self.backend.tensor_bytes(&tensor).map_err(|error| io::Error::other(error.to_string()));
        drop(tensor);
        match bytes.and_then(|bytes| writing.put(&head, bytes)) {
            Ok(()) => disk.writing = Some((source, writing)),
            Err(error) => {
                disk.files.refuse(&error);
                disk.evicted.clear();
            }
        }
        None
    }

    /// A file is finished, or could not be.
    pub(super) fn file_finished(&mut self, label: Label, path: std::path::PathBuf, bytes: u64) {
        let Some(disk) = &mut self.disk else { return };
        let Some(thread) = disk.finishing.take() else { return };
        let outcome =
            thread.join().unwrap_or_else(|_| Err(io::Error::other("its thread panicked")));
        match outcome {
            Ok(()) => {
                self.stats.spilled += 1;
                self.stats.spilled_bytes += bytes;
                disk.files.written(path, label, bytes);
            }
            Err(error) => disk.files.refuse(&error),
        }
    }

    /// The caches that wait to be written although they had to make room.
    pub(super) fn evicted(&self) -> impl Iterator<Item = &B::State> {
        self.disk.iter().flat_map(|disk| disk.evicted.iter().map(|kept| &kept.state))
    }

    pub(super) fn has_evicted(&self) -> bool {
        self.evicted().next().is_some()
    }

    /// Memory is short: kept caches go until they hold no more than `bytes`, and what only waits to be written goes at once.
    pub(super) fn give_up(&mut self, bytes: u64) {
        drop(self.prefixes.shrink_to(bytes));
        if let Some(disk) = &mut self.disk {
            disk.evicted.clear();
        }
        self.stop_writing_stale();
    }

    /// A file whose cache is gone from memory is not finished: what is left of it would hold the cache's arrays.
    pub(super) fn stop_writing_stale(&mut self) {
        let Some(disk) = &mut self.disk else { return };
        let is_stale = disk.writing.as_ref().is_some_and(|(source, _)| match source {
            Source::Kept(id) => self.prefixes.get(*id).is_none(),
            Source::Evicted => disk.evicted.is_empty(),
        });
        if is_stale {
            disk.writing = None; // Dropping it deletes the file.
        }
    }

    /// A cache had to make room in memory.
    pub(super) fn evict(&mut self, away: Vec<Kept<B::State>>) {
        self.stop_writing_stale();
        let bytes_max = self.prefixes.bytes_max().max(PREFIX_BYTES_MAX);
        let Some(disk) = &mut self.disk else { return };
        for kept in away {
            if kept.soul.is_some() || !disk.files.wants(&kept.tokens, false) {
                continue;
            }
            // The first one may be half written.
            if disk.evicted.len() >= EVICTED_MAX {
                disk.evicted.pop_back();
            }
            let waiting: u64 = disk.evicted.iter().map(|kept| kept.bytes).sum();
            if kept.bytes <= disk.files.bytes_max() && waiting + kept.bytes <= bytes_max {
                disk.evicted.push_back(kept);
            }
        }
    }

    /// Writes what is worth it, before everything is gone.
    pub(super) fn unload(&mut self) {
        for run in std::mem::take(&mut self.runs) {
            self.keep(run);
        }
        let until = Instant::now() + UNLOAD_PATIENCE;
        let goes_on = |shared: &Shared| Instant::now() < until && !shared.lock().exiting;
        if let Some(disk) = &mut self.disk {
            disk.writing = None;
            disk.tried.clear();
            if let Some(thread) = disk.finishing.take() {
                let _ = thread.join(); // It is on the disk, or it is not.
            }
        }
        while goes_on(&self.shared) {
            self.begin_file(true);
            if self.disk.as_ref().is_none_or(|disk| disk.writing.is_none()) {
                if self.next_source(true).is_none() {
                    return;
                }
                continue;
            }
            while goes_on(&self.shared)
                && self.disk.as_ref().is_some_and(|disk| disk.writing.is_some())
            {
                let Some((label, output)) = self.write_tensor() else { continue };
                let (path, bytes) = (output.target().to_owned(), output.bytes());
                let finished = output.finish();
                let Some(disk) = &mut self.disk else { return };
                match finished {
                    Ok(()) => disk.files.written(path, label, bytes),
                    Err(error) => disk.files.refuse(&error),
                }
            }
        }
    }

    /// Begins to read a cache from the disk, where that is worth it: `known` tokens can be had from memory.
    pub(super) fn begin_restoring(
        &mut self,
        index: usize,
        tokens: &[TokenId],
        known: usize,
    ) -> bool {
        let run = &mut self.runs[index];
        let Some(disk) = self.disk.as_mut().filter(|_| run.soul.is_none()) else {
            return false;
        };
        let Some((len, path)) = disk.files.best(tokens, known + disk.files.gain_min() - 1) else {
            return false;
        };
        let Some(reading) = disk.files.read(&path) else { return false };
        disk.reading.insert(run.arrival, (reading, len));
        run.restoring = true;
        true
    }

    /// Reads a tensor of a run's cache.
    pub(super) fn restore_piece(&mut self, index: usize) {
        let Self { disk: Some(disk), backend, runs, stats, .. } = self else { return };
        let run = &mut runs[index];
        run.restoring = false;
        let Some((mut reading, len)) = disk.reading.remove(&run.arrival) else { return };
        let piece = match reading.next() {
            Ok(Some((head, bytes))) => match backend.tensor(&head, &bytes) {
                Ok(tensor) => {
                    reading.put(head.name, tensor);
                    disk.reading.insert(run.arrival, (reading, len));
                    run.restoring = true;
                    return;
                }
                Err(error) => Err(error.to_string()),
            },
            Ok(None) => Ok(()),
            Err(error) => Err(error.to_string()),
        };
        let path = reading.path.clone();
        let whole = reading.label.tokens.len();
        let state = piece.and_then(|()| {
            let tensors = reading.finish().map_err(|error| error.to_string())?;
            backend.restore(whole, tensors).map_err(|error| error.to_string())
        });
        match state {
            Ok(mut state) => {
                // A course may have cut the tape while the cache was read; the last token is fed for its logits.
                let fed_max = run.tokens().len().saturating_sub(1);
                backend.truncate(&mut state, len.min(fed_max));
                run.fed = backend.len(&state);
                run.state = Some(state);
                stats.tokens_reused += run.fed as u64;
                stats.tokens_restored += run.fed as u64;
            }
            // It begins again, without this file.
            Err(why) => disk.files.distrust(&path, &why),
        }
    }

    /// A run is over before its cache was read.
    pub(super) fn stop_restoring(&mut self, run: &Run<B::State>) {
        if let Some(disk) = &mut self.disk {
            disk.reading.remove(&run.arrival);
        }
    }
}

/// Makes a file durable, and rings the bell.
fn finish(shared: &Arc<Shared>, label: Label, output: Output) -> io::Result<()> {
    let (path, bytes) = (output.target().to_owned(), output.bytes());
    let outcome = output.finish();
    shared.tell(Request::Written { label, path, bytes });
    outcome
}
