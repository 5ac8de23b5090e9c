//! Reading ahead: a thread that asks the system for the tensors that come next, a window of bytes before whoever uses them.
//!
//! It goes in the order in which the model is built, which mlx-lm's files do not keep; within a stretch it asks in the order of the
//! files, so that neighbours are read at once. It only asks: the bytes wait in the system's page cache, and nobody depends on it.

use std::{
    collections::HashMap,
    fs::File,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use super::Place;

/// How far ahead of its use a tensor may be read, in bytes.
const AHEAD_BYTES_MAX: u64 = 256 << 20;
/// What is put into the order of the files at a time, in bytes.
const STRETCH_BYTES: u64 = 32 << 20;
/// Bytes of one request: the system reads no more than its largest transfer for one, and forgets the rest.
const REQUEST_BYTES_MAX: u64 = 512 << 10;

/// The thread, which ends when this is dropped.
pub(super) struct Ahead {
    progress: Arc<Progress>,
    /// Where in the order a tensor begins, in bytes from the first one.
    starts: HashMap<(usize, u64), u64>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Progress {
    /// Bytes in the order of use that were used; `None`: no more are wanted.
    used: Mutex<Option<u64>>,
    moved: Condvar,
}

impl Ahead {
    /// Starts the thread; `None` without one, which only takes longer.
    pub(super) fn start(files: Arc<[File]>, order: &[Place]) -> Option<Ahead> {
        let (mut starts, mut end) = (HashMap::new(), 0);
        for place in order {
            starts.insert((place.file, place.start), end);
            end += place.bytes;
        }
        let steps = order.to_vec();
        let progress = Arc::new(Progress { used: Mutex::new(Some(0)), moved: Condvar::new() });
        let shared = progress.clone();
        let run = move || run(&files, &steps, &shared);
        let thread = thread::Builder::new().name("read-ahead".to_owned()).spawn(run).ok()?;
        Some(Ahead { progress, starts, thread: Some(thread) })
    }

    /// So many bytes of a tensor were read.
    pub(super) fn used(&self, place: &Place, bytes: u64) {
        let Some(&start) = self.starts.get(&(place.file, place.start)) else { return };
        let mut used = self.progress.used.lock().unwrap_or_else(PoisonError::into_inner);
        // What was passed over will hardly be used.
        *used = used.map(|used| used.max(start + bytes));
        self.progress.moved.notify_one();
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        *self.progress.used.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.progress.moved.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::debug!("reading ahead ended in a panic");
        }
    }
}

impl Progress {
    /// Waits until what begins at `start` is within the window; `false`: no more is wanted.
    fn wait_for(&self, start: u64) -> bool {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let is_far =
            |used: &mut Option<u64>| used.is_some_and(|used| start > used + AHEAD_BYTES_MAX);
        let used = self.moved.wait_while(used, is_far);
        used.unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

/// Asks for everything in `steps`, stretch by stretch.
fn run(files: &[File], steps: &[Place], progress: &Progress) {
    let (mut rest, mut start) = (steps, 0);
    while !rest.is_empty() {
        let mut bytes = 0;
        let count = rest.iter().take_while(|step| {
            let fits = bytes < STRETCH_BYTES;
            bytes += if fits { step.bytes } else { 0 };
            fits
        });
        let (stretch, others) = rest.split_at(count.count());
        rest = others;
        for (file, from, to) in merged(stretch) {
            let mut at = from;
            while at < to {
                if !progress.wait_for(start) {
                    return;
                }
                let len = REQUEST_BYTES_MAX.min(to - at);
                will_need(&files[file], at, len);
                (at, start) = (at + len, start + len);
            }
        }
    }
}

/// Places in the order of the files, those that touch each other joined: file, start and end of each.
fn merged(stretch: &[Place]) -> Vec<(usize, u64, u64)> {
    let mut places: Vec<_> =
        stretch.iter().map(|place| (place.file, place.start, place.start + place.bytes)).collect();
    places.sort_unstable();
    let mut joined: Vec<(usize, u64, u64)> = Vec::new();
    for place in places {
        match joined.last_mut() {
            Some(last) if last.0 == place.0 && last.2 == place.1 => last.2 = place.2,
            _ => joined.push(place),
        }
    }
    joined
}

/// Has the system read a part of a file in the background. It may refuse: the part is read when it is used, then.
fn will_need(file: &File, start: u64, len: u64) {
    #[cfg(target_os = "linux")]
    let asked = {
        use std::num::NonZeroU64;
        rustix::fs::fadvise(file, start, NonZeroU64::new(len), rustix::fs::Advice::WillNeed)
    };
    // Not tested: nobody has run it on a Mac yet.
    #[cfg(target_os = "macos")]
    let asked = rustix::fs::fcntl_rdadvise(file, start, len);
    if let Err(error) = asked {
        tracing::trace!("the system does not read ahead: {error}");
    }
}

/// Lets the system forget a part of a file that was read for the last time. What reaches into a page from outside stays.
pub(super) fn forget(file: &File, start: u64, len: u64) {
    #[cfg(target_os = "linux")]
    {
        use std::num::NonZeroU64;
        let advice = rustix::fs::Advice::DontNeed;
        if let Err(error) = rustix::fs::fadvise(file, start, NonZeroU64::new(len), advice) {
            tracing::trace!("the system keeps what was read: {error}");
        }
    }
    // There is no such request on a Mac, whose cache gives way by itself.
    #[cfg(not(target_os = "linux"))]
    let _ = (file, start, len);
}

/// Whether a byte of a file is in the page cache; `false` where nobody knows.
pub(super) fn is_cached(file: &File, at: u64) -> bool {
    #[cfg(target_os = "linux")]
    {
        use rustix::{
            fs::{Advice, fadvise},
            io::{ReadWriteFlags, preadv2},
        };
        // Nothing around it is to be read because of this.
        let asked = fadvise(file, at, None, Advice::Random);
        let mut byte = [0];
        let mut into = [std::io::IoSliceMut::new(&mut byte)];
        let read = preadv2(file, &mut into, at, ReadWriteFlags::NOWAIT);
        let asked = asked.and_then(|()| fadvise(file, at, None, Advice::Normal));
        if let Err(error) = asked {
            tracing::trace!("the system reads ahead as it likes: {error}");
        }
        read == Ok(1)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (file, at);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(file: usize, start: u64, bytes: u64) -> Place {
        Place { file, start, bytes }
    }

    #[test]
    fn neighbours_are_asked_for_at_once_in_the_order_of_the_files() {
        let stretch = [place(1, 0, 5), place(0, 10, 10), place(0, 30, 2), place(0, 20, 10)];
        assert_eq!(merged(&stretch), [(0, 10, 32), (1, 0, 5)]);
    }

    #[test]
    fn it_stays_within_the_window_and_ends_when_it_is_told_to() {
        let progress = Progress { used: Mutex::new(Some(0)), moved: Condvar::new() };
        assert!(progress.wait_for(AHEAD_BYTES_MAX));
        thread::scope(|scope| {
            let waits = scope.spawn(|| progress.wait_for(AHEAD_BYTES_MAX + 2));
            *progress.used.lock().unwrap() = Some(2);
            progress.moved.notify_one();
            assert!(waits.join().unwrap());
            let waits = scope.spawn(|| progress.wait_for(AHEAD_BYTES_MAX + 3));
            *progress.used.lock().unwrap() = None;
            progress.moved.notify_one();
            assert!(!waits.join().unwrap());
        });
    }

    #[test]
    fn what_is_used_out_of_turn_moves_the_window_on() {
        let files: Arc<[File]> = vec![tempfile::tempfile().unwrap()].into();
        let order = [place(0, 0, 10), place(0, 10, 10), place(0, 20, 10)];
        let ahead = Ahead::start(files, &order).unwrap();
        let used = || ahead.progress.used.lock().unwrap().unwrap();
        ahead.used(&order[2], 5);
        assert_eq!(used(), 25);
        ahead.used(&order[0], 10);
        ahead.used(&place(0, 99, 1), 1);
        assert_eq!(used(), 25);
    }
}
