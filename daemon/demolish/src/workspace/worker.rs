//! The thread behind the workspaces: it alone changes what is known of them.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use recall::index::{Inserted, Prepared};
use text::{Document, differing};

use super::judge::{self, Reading};
use super::walk::{self, Stamp, Walk};
use super::{Root, Sink, lock};

/// Entries of a tree that are looked at before the queue is looked at again.
const ENTRIES_AT_ONCE: usize = 8;
/// A document that is being typed into is read so often.
const TYPING_PERIOD: Duration = Duration::from_millis(1000);
/// Documents whose text waits; more are read at the next walk, from disk.
pub(super) const PENDING_MAX: usize = 256;
/// How much the thread gives way to others (`nice`).
const NICENESS: i32 = 10;

/// What the thread is told.
pub(super) enum Note {
    /// Walk this workspace, beginning with this folder.
    Walk(Arc<Root>, PathBuf),
    /// An open document has this text: the root, the path inside, the text.
    Text(PathBuf, PathBuf, Document),
    /// A document was closed.
    Closed(PathBuf, PathBuf),
    /// A file has changed, or has come or gone.
    Disk(PathBuf, PathBuf),
    /// A workspace is no longer wanted.
    Forget(PathBuf),
    /// Somebody wants every text.
    Attach(Box<dyn Sink>),
}

/// What the thread knows.
pub(super) struct Worker {
    bytes_max: usize,
    /// Entries that one walk looks at.
    entries_max: usize,
    /// The most recently walked last.
    roots: Vec<Held>,
    walks: VecDeque<(Arc<Root>, Walk)>,
    /// Texts that wait for their time, by their place.
    pending: BTreeMap<(PathBuf, PathBuf), (Instant, Document)>,
    sinks: Vec<Box<dyn Sink>>,
}

/// A workspace with what only the thread needs.
struct Held {
    root: Arc<Root>,
    /// The files that were read, and those that were looked at and left out.
    known: HashMap<PathBuf, Stamp>,
    /// Open documents: what is on disk does not count.
    open: HashSet<PathBuf>,
    /// Files that the present walk, or the last one, has come by and for which there was no room.
    left_out: usize,
}

impl Held {
    fn new(root: Arc<Root>) -> Held {
        Held { root, known: HashMap::new(), open: HashSet::new(), left_out: 0 }
    }
}

impl Worker {
    pub(super) fn new(bytes_max: usize) -> Worker {
        Worker {
            bytes_max,
            entries_max: walk::ENTRIES_MAX,
            roots: Vec::new(),
            walks: VecDeque::new(),
            pending: BTreeMap::new(),
            sinks: Vec::new(),
        }
    }

    /// Looks at so many entries of a tree at most.
    #[cfg(test)]
    pub(super) fn of_entries(self, entries_max: usize) -> Worker {
        Worker { entries_max, ..self }
    }

    /// How many files it knows the stamp of.
    #[cfg(test)]
    pub(super) fn known(&self) -> usize {
        self.roots.iter().map(|held| held.known.len()).sum()
    }

    /// Works until nobody can tell it anything any more.
    pub(super) fn run(mut self, notes: &Receiver<Note>) {
        give_way();
        loop {
            match self.next(notes) {
                Ok(Some(note)) => self.take(note, Instant::now()),
                Ok(None) => {}
                Err(()) => return,
            }
            self.flush(Instant::now());
            self.step();
        }
    }

    /// The next note; none where there is other work to do. `Err`: nobody is there.
    fn next(&self, notes: &Receiver<Note>) -> Result<Option<Note>, ()> {
        if !self.walks.is_empty() {
            return match notes.try_recv() {
                Ok(note) => Ok(Some(note)),
                Err(TryRecvError::Empty) => Ok(None),
                Err(TryRecvError::Disconnected) => Err(()),
            };
        }
        let Some(due) = self.pending.values().map(|(due, _)| *due).min() else {
            return notes.recv().map(Some).map_err(|_| ());
        };
        match notes.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(note) => Ok(Some(note)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(()),
        }
    }

    /// Does, or begins, what a note says.
    pub(super) fn take(&mut self, note: Note, now: Instant) {
        match note {
            Note::Walk(root, near) => self.begin(root, &near),
            Note::Text(root, path, document) => {
                let Some(held) = self.held(&root) else { return };
                let first = held.open.insert(path.clone());
                let due = if first { now } else { now + TYPING_PERIOD };
                let room = self.pending.len() < PENDING_MAX;
                let place = (root, path);
                // A text takes the place of the one that waits, and its time.
                match self.pending.get_mut(&place) {
                    Some(waiting) => waiting.1 = document,
                    None if room => drop(self.pending.insert(place, (due, document))),
                    None => {
                        // Until it is told again, what is on disk counts.
                        let (root, path) = place;
                        self.held(&root).map(|held| held.open.remove(&path));
                    }
                }
            }
            Note::Closed(root, path) => {
                self.pending.remove(&(root.clone(), path.clone()));
                let Some(held) = self.held(&root) else { return };
                held.open.remove(&path);
                self.look_again(&root, &path);
            }
            Note::Disk(root, path) => {
                if self.held(&root).is_some_and(|held| !held.open.contains(&path)) {
                    self.look_again(&root, &path);
                }
            }
            Note::Forget(root) => self.forget(&root),
            Note::Attach(sink) => self.attach(sink),
        }
    }

    fn held(&mut self, root: &Path) -> Option<&mut Held> {
        self.roots.iter_mut().find(|held| held.root.path == root)
    }

    fn begin(&mut self, root: Arc<Root>, near: &Path) {
        let known = self.roots.iter().position(|held| held.root.path == root.path);
        let held = match known.map(|at| self.roots.remove(at)) {
            Some(held) if Arc::ptr_eq(&held.root, &root) => held,
            _ => Held::new(root.clone()),
        };
        self.roots.push(held);
        let walk = Walk::new(&root.path, near, self.entries_max);
        lock(&root.facts).walking = true;
        if let Some(held) = self.held(&root.path) {
            held.left_out = 0;
        }
        self.walks.push_back((root, walk));
    }

    /// Goes on with the oldest walk. `false`: there is none.
    pub(super) fn step(&mut self) -> bool {
        let Some((root, mut walk)) = self.walks.pop_front() else { return false };
        match walk.step(ENTRIES_AT_ONCE) {
            Some(found) => {
                for file in found {
                    self.meet(&root.path, &file.path, file.stamp);
                }
                self.walks.push_front((root, walk));
            }
            None => self.end(&root, &walk),
        }
        true
    }

    /// A walk has come by a file.
    fn meet(&mut self, root: &Path, path: &Path, stamp: Stamp) {
        let Some(held) = self.held(root) else { return };
        if held.open.contains(path) || held.known.get(path) == Some(&stamp) {
            return;
        }
        // What has no room is not even read: a tree may have far more files than are remembered.
        let index = held.root.index();
        let full = index.is_full() && !index.contains(path);
        drop(index);
        if full {
            held.left_out += 1;
            return;
        }
        held.known.insert(path.to_owned(), stamp);
        match judge::read(&root.join(path)) {
            Reading::Text(text) => self.insert(root, path, &text),
            Reading::LeftOut | Reading::Unreadable => self.remove(root, path),
        }
    }

    /// What a walk of the whole tree has not seen is gone. One that was cut tells nothing of what it has not come to: of that, what is
    /// in the index is looked for, and nothing else is kept, so that no more is known than two walks' worth.
    fn end(&mut self, root: &Arc<Root>, walk: &Walk) {
        let mut gone = Vec::new();
        if let Some(held) = self.held(&root.path) {
            let index = root.index();
            let stays = |path: &Path| {
                let unseen = || index.contains(path) && root.path.join(path).is_file();
                walk.has_seen(path) || walk.is_cut() && unseen()
            };
            held.known.retain(|path, _| {
                let stays = stays(path);
                if !stays {
                    gone.push(path.clone());
                }
                stays
            });
        }
        for path in gone {
            self.remove(&root.path, &path);
        }
        let left_out = self.held(&root.path).map_or(0, |held| held.left_out);
        let mut facts = lock(&root.facts);
        (facts.walking, facts.cut, facts.left_out) = (false, walk.is_cut(), left_out);
    }

    /// A file may have changed, come or gone.
    fn look_again(&mut self, root: &Path, path: &Path) {
        let Some(stamp) = walk::find(root, path) else {
            if let Some(held) = self.held(root) {
                held.known.remove(path);
            }
            return self.remove(root, path);
        };
        if let Some(held) = self.held(root) {
            held.known.remove(path);
        }
        self.meet(root, path, stamp);
    }

    /// Reads the documents whose time has come.
    pub(super) fn flush(&mut self, now: Instant) {
        let due = |(place, (due, _)): (&(PathBuf, PathBuf), &(Instant, Document))| {
            (*due <= now).then(|| place.clone())
        };
        let places: Vec<_> = self.pending.iter().filter_map(due).collect();
        for place in places {
            let Some((_, document)) = self.pending.remove(&place) else { continue };
            let (root, path) = place;
            let Some(held) = self.held(&root) else { continue };
            // A file that the ignore rules leave out is left out when it is open, too.
            if !held.known.contains_key(&path) && walk::find(&root, &path).is_none() {
                continue;
            }
            let text = document.text();
            let text: &str = &text;
            if !judge::is_wanted(text) {
                self.remove(&root, &path);
                continue;
            }
            let held = self.held(&root).map(|held| held.root.clone());
            let before = held.as_ref().and_then(|root| root.index().text(&path));
            if before.as_deref() == Some(text) {
                continue;
            }
            self.insert(&root, &path, text);
            if let (Some(before), Some(held)) = (before, held) {
                let (_, new) = differing(&before, text);
                let line = |at: usize| text[..at].matches('\n').count();
                let lines = line(new.start)..line(new.end) + 1;
                held.index.write().unwrap_or_else(PoisonError::into_inner).edited(&path, lines);
            }
        }
    }

    fn insert(&mut self, root: &Path, path: &Path, text: &str) {
        let Some(held) = self.held(root).map(|held| held.root.clone()) else { return };
        let prepared = Prepared::new(text, &judge::symbols(path, text));
        let inserted = {
            let mut index = held.index.write().unwrap_or_else(PoisonError::into_inner);
            index.insert_prepared(path, prepared)
        };
        if inserted == Inserted::Full {
            if let Some(held) = self.held(root) {
                held.left_out += 1;
            }
            self.sinks.iter_mut().for_each(|sink| sink.remove(root, path));
        } else {
            self.sinks.retain_mut(|sink| sink.insert(root, path, text));
            self.make_room(&held);
        }
        self.count(&held);
    }

    /// Puts down how much is held, for those who ask without waiting.
    fn count(&mut self, root: &Arc<Root>) {
        lock(&root.facts).size = root.index().size();
    }

    /// All workspaces together have no more than one may have: others go, the least recently walked first.
    fn make_room(&mut self, kept: &Arc<Root>) {
        let bytes: usize = self.roots.iter().map(|held| held.root.index().size().bytes).sum();
        if bytes <= self.bytes_max {
            return;
        }
        let other = self.roots.iter().find(|held| !Arc::ptr_eq(&held.root, kept));
        if let Some(other) = other.map(|held| held.root.path.clone()) {
            self.forget(&other);
        }
    }

    fn remove(&mut self, root: &Path, path: &Path) {
        let Some(held) = self.held(root).map(|held| held.root.clone()) else { return };
        let removed = held.index.write().unwrap_or_else(PoisonError::into_inner).remove(path);
        if removed {
            self.count(&held);
            self.sinks.iter_mut().for_each(|sink| sink.remove(root, path));
        }
    }

    fn forget(&mut self, root: &Path) {
        let Some(at) = self.roots.iter().position(|held| held.root.path == root) else { return };
        let held = self.roots.remove(at);
        self.walks.retain(|(walked, _)| !Arc::ptr_eq(walked, &held.root));
        self.pending.retain(|(of, _), _| of != root);
        held.root.index.write().unwrap_or_else(PoisonError::into_inner).clear();
        *lock(&held.root.facts) = super::Progress::default();
        self.sinks.iter_mut().for_each(|sink| sink.forget(root));
    }

    fn attach(&mut self, mut sink: Box<dyn Sink>) {
        for held in &self.roots {
            let paths = held.root.index().paths();
            for path in paths {
                let text = held.root.index().text(&path);
                if let Some(text) = text
                    && !sink.insert(&held.root.path, &path, &text)
                {
                    return;
                }
            }
        }
        self.sinks.push(sink);
    }
}

/// Others go first.
fn give_way() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "the workspace's thread keeps its priority");
    }
}
