//! Reading past the page cache: threads that read whole tensors before they are used, each into memory of its own.
//!
//! For models that would not stay in the page cache: a copy out of it, and the making and giving back of its pages, take longer than the
//! disk. The threads go in the order in which the model is built, a window of bytes before whoever uses them, so that the disk works
//! while tensors are packed. Nobody depends on them: what they do not have, or cannot read, is read in the usual way.

use std::{
    collections::HashMap,
    fs::File,
    io,
    ops::ControlFlow,
    os::unix::fs::FileExt,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use super::{
    Place,
    buffer::{Bytes, PAGE, Spares},
    numbers::has_nan,
};

/// Threads that read: two requests keep a disk busy, and a third is on its way meanwhile.
const READERS: usize = 3;
/// How far ahead of its use a tensor may be read, in bytes.
const WINDOW_BYTES_MAX: u64 = 256 << 20;
/// Bytes of one request.
const REQUEST_BYTES: usize = 8 << 20;

/// The threads, which end when this is dropped.
pub(super) struct Direct {
    shared: Arc<Shared>,
    /// Where in the order a tensor stands, by its file, its start and its bytes.
    turns: HashMap<(usize, u64, u64), usize>,
    threads: Vec<JoinHandle<()>>,
}

/// A tensor to read.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) place: Place,
    pub(super) dtype: String,
}

struct Shared {
    files: Vec<File>,
    steps: Vec<Step>,
    spares: Arc<Spares>,
    state: Mutex<State>,
    moved: Condvar,
}

struct State {
    slots: Vec<Slot>,
    /// The first step that nobody has begun.
    next: usize,
    /// Bytes of the steps that are read, or are being read.
    held: u64,
    /// The step that is waited for.
    wanted: Option<usize>,
    is_over: bool,
}

/// How far a step is.
enum Slot {
    Open,
    /// So many bytes are there.
    Reading(u64),
    Read(Ready),
    /// Used, passed over, or not to be read in this way.
    Gone,
}

/// The bytes of a tensor.
pub(super) struct Ready {
    pub(super) bytes: Bytes,
    /// One of its floats is no number.
    pub(super) has_nan: bool,
}

/// Opens a file for reading past the page cache, if its file system can do that.
#[cfg(target_os = "linux")]
pub(super) fn open(path: &Path, spares: &Arc<Spares>) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = rustix::fs::OFlags::DIRECT;
    let file = File::options().read(true).custom_flags(flags.bits() as i32).open(path)?;
    // Some say only now that they cannot.
    file.read_at(spares.take_pages(0, PAGE).pages(), 0)?;
    Ok(file)
}

/// Opens a file for reading past the page cache: not done here.
#[cfg(not(target_os = "linux"))]
pub(super) fn open(_path: &Path, _spares: &Arc<Spares>) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

impl Direct {
    /// Starts the threads; `None` without one.
    pub(super) fn start(
        files: Vec<File>,
        mut steps: Vec<Step>,
        spares: Arc<Spares>,
    ) -> Option<Direct> {
        steps.retain(|step| step.place.bytes > 0);
        let turns = steps.iter().enumerate();
        let turns = turns
            .map(|(turn, Step { place, .. })| ((place.file, place.start, place.bytes), turn))
            .collect();
        let slots = steps.iter().map(|_| Slot::Open).collect();
        let state = State { slots, next: 0, held: 0, wanted: None, is_over: false };
        let (state, moved) = (Mutex::new(state), Condvar::new());
        let shared = Arc::new(Shared { files, steps, spares, state, moved });
        let threads = (0..READERS).map_while(|_| {
            let shared = shared.clone();
            thread::Builder::new().name("read".to_owned()).spawn(move || shared.serve()).ok()
        });
        let threads: Vec<_> = threads.collect();
        (!threads.is_empty()).then_some(Direct { shared, turns, threads })
    }

    /// The tensor at a place, as soon as it is read; `None`: it has to be read otherwise. `tell` hears how many bytes of it are there.
    pub(super) fn take(
        &self,
        place: Place,
        tell: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> ControlFlow<(), Option<Ready>> {
        let Some(&turn) = self.turns.get(&(place.file, place.start, place.bytes)) else {
            return ControlFlow::Continue(None);
        };
        let (mut state, mut told) = (self.shared.lock(), 0);
        loop {
            match &state.slots[turn] {
                Slot::Gone => return ControlFlow::Continue(None),
                Slot::Read(_) => {
                    state.held -= place.bytes;
                    let slot = std::mem::replace(&mut state.slots[turn], Slot::Gone);
                    self.shared.moved.notify_all();
                    let Slot::Read(ready) = slot else { return ControlFlow::Continue(None) };
                    return ControlFlow::Continue(Some(ready));
                }
                &Slot::Reading(bytes) if bytes != told => {
                    drop(state);
                    tell(bytes)?;
                    told = bytes;
                    state = self.shared.lock();
                    continue;
                }
                Slot::Reading(_) => {}
                Slot::Open if state.is_over => return ControlFlow::Continue(None),
                Slot::Open => {
                    if state.wanted != Some(turn) {
                        self.shared.pass_over(&mut state, turn);
                        self.shared.moved.notify_all();
                    }
                }
            }
            state = self.shared.wait(state);
        }
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.moved.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::debug!("reading ended in a panic");
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'s>(&self, state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        self.moved.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// The step `turn` is waited for, and nobody has begun it: what stands before it will hardly be used any more.
    fn pass_over(&self, state: &mut State, turn: usize) {
        state.wanted = Some(turn);
        for earlier in 0..turn {
            match &state.slots[earlier] {
                Slot::Reading(_) | Slot::Gone => continue,
                Slot::Open => {}
                Slot::Read(_) => state.held -= self.steps[earlier].place.bytes,
            }
            state.slots[earlier] = Slot::Gone;
        }
    }

    /// Reads step after step.
    fn serve(&self) {
        while let Some(turn) = self.claim() {
            // It is given up if it does not become anything else.
            let claim = Claim { shared: self, turn };
            match self.read(turn) {
                Ok(ready) => self.lock().slots[turn] = Slot::Read(ready),
                Err(error) => {
                    tracing::debug!("the page cache is not passed any more: {error}");
                    self.lock().is_over = true;
                }
            }
            drop(claim);
        }
    }

    /// The next step that may be read, as soon as there is one; `None`: there will be none.
    fn claim(&self) -> Option<usize> {
        let mut state = self.lock();
        loop {
            while matches!(state.slots.get(state.next)?, Slot::Gone) {
                state.next += 1;
            }
            if state.is_over {
                return None;
            }
            let (turn, bytes) = (state.next, self.steps[state.next].place.bytes);
            let fits = state.held == 0 || state.held + bytes <= WINDOW_BYTES_MAX;
            if fits || state.wanted == Some(turn) {
                state.slots[turn] = Slot::Reading(0);
                (state.next, state.held) = (turn + 1, state.held + bytes);
                return Some(turn);
            }
            state = self.wait(state);
        }
    }

    fn read(&self, turn: usize) -> io::Result<Ready> {
        let Step { place, dtype } = &self.steps[turn];
        let (len, before) = (place.bytes as usize, place.start as usize % PAGE);
        let mut bytes = self.spares.take_pages(before, len);
        let (pages, mut filled) = (bytes.pages(), 0);
        while filled < before + len {
            let end = pages.len().min(filled + REQUEST_BYTES);
            let at = place.start - before as u64 + filled as u64;
            match self.files[place.file].read_at(&mut pages[filled..end], at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            let mut state = self.lock();
            if state.is_over {
                return Err(io::Error::other("nobody wants more"));
            }
            state.slots[turn] = Slot::Reading(filled.saturating_sub(before).min(len) as u64);
            self.moved.notify_all();
        }
        Ok(Ready { has_nan: has_nan(dtype, &bytes), bytes })
    }
}

/// A step that a thread has begun.
struct Claim<'s> {
    shared: &'s Shared,
    turn: usize,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if matches!(state.slots[self.turn], Slot::Reading(_)) {
            state.slots[self.turn] = Slot::Gone;
            state.held -= self.shared.steps[self.turn].place.bytes;
        }
        // Whoever waits for a thread that is no more reads by itself.
        state.is_over |= thread::panicking();
        self.shared.moved.notify_all();
    }
}

#[cfg(test)]
mod tests;
