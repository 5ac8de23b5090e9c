//! What the workspace says, kept up to date: the files of the projects in which somebody works, read in the background.
//!
//! A thread of its own, started with the first workspace, walks the tree ([`walk`]), judges what is worth remembering ([`judge`]), and
//! hands each file's text to the index, and to whoever else wants it ([`Sink`]). It has a low priority, and takes a few files at a time, so that
//! what is just being edited never waits for the walk. Nobody waits for the thread: it is told things through a bounded queue, and
//! whoever asks the index meets a lock that is held for as long as one file takes to be put in.

pub mod choice;
mod judge;
mod root;
mod tokens;
#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests write files")]
mod tests;
mod walk;
mod worker;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use lang::Language;
use recall::index::{Chunk, Index, Limits, Size};
use text::Revision;

use crate::config::Config;
use crate::twin::Open;
use crate::twin::plan::path_of;
pub(crate) use judge::symbols;
use worker::{Note, Worker};

/// Workspaces that are remembered at once; the least recently used one goes.
pub const ROOTS_MAX: usize = 4;
/// Things that the thread may be told before it listens. What is beyond is found by the next walk.
const NOTES_MAX: usize = 512;
/// Open documents of which is known which revision was told.
const TOLD_MAX: usize = 1024;
/// While somebody works, the tree is looked over so often for what no editor has told of: a checkout, a generator.
const WALK_PERIOD: Duration = Duration::from_secs(60);

/// Whoever wants the text of each file, as it is and as it becomes. Called on the workspace's own thread, which may take its time.
pub trait Sink: Send {
    /// A file has this text now; both paths together are its place. `false`: nobody wants it any more, and the sink is let go.
    fn insert(&mut self, root: &Path, path: &Path, text: &str) -> bool;

    /// A file is gone.
    fn remove(&mut self, root: &Path, path: &Path);

    /// A whole workspace is no longer remembered.
    fn forget(&mut self, root: &Path);
}

/// The workspaces of all clients. Cloning is cheap.
#[derive(Clone)]
pub struct Workspaces(Arc<Inner>);

struct Inner {
    limits: Limits,
    /// The most recently used last.
    roots: Mutex<Vec<Arc<Root>>>,
    /// The way to the thread, once there is one.
    notes: Mutex<Option<SyncSender<Note>>>,
    /// Which revision of an open document was told.
    told: Mutex<HashMap<String, (Revision, usize)>>,
    /// What was not told because the thread had too much to do.
    dropped: AtomicU64,
    choices: choice::Choices,
    tokens: tokens::Tokens,
}

/// A workspace.
pub struct Root {
    path: PathBuf,
    index: RwLock<Index>,
    facts: Mutex<Progress>,
}

/// How far a workspace is known.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    /// When the last walk was asked for.
    asked: Option<Instant>,
    walking: bool,
    /// What it holds.
    size: Size,
    /// Whether there were more entries than a walk looks at.
    cut: bool,
    /// Files that had no room.
    left_out: usize,
}

/// What is known of a workspace, for `demolish status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootFacts {
    /// Its folder.
    pub root: PathBuf,
    /// Whether its tree is being walked.
    pub walking: bool,
    /// What it holds.
    pub size: Size,
    /// Whether the tree has more entries than are looked at.
    pub cut: bool,
    /// Files for which there was no room.
    pub left_out: usize,
    /// What is known of its tokens, if they are mixed in.
    pub tokens: Option<recall::cache::Size>,
}

impl Default for Workspaces {
    fn default() -> Self {
        Workspaces::new(&Config::default())
    }
}

impl Workspaces {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(config: &Config) -> Workspaces {
        let workspace = &config.workspace;
        let limits = Limits {
            files: workspace.files_max as usize,
            bytes: (workspace.memory_max_mib as usize) << 20,
        };
        Workspaces(Arc::new(Inner {
            limits,
            roots: Mutex::default(),
            notes: Mutex::default(),
            told: Mutex::default(),
            dropped: AtomicU64::new(0),
            choices: choice::Choices::default(),
            tokens: tokens::Tokens::default(),
        }))
    }

    /// The workspace of a file, which is read in the background if it is not yet. `editors` is the folder that its editor has open.
    #[must_use]
    pub fn of(
        &self,
        path: &Path,
        language: Option<&'static Language>,
        editors: Option<&Path>,
    ) -> Option<Arc<Root>> {
        let path_of_root = root::of(path, language, editors)?;
        let (root, gone) = {
            let mut roots = lock(&self.0.roots);
            let known = roots.iter().position(|root| root.path == path_of_root);
            let root = match known {
                Some(at) => roots.remove(at),
                None => Arc::new(Root::new(path_of_root, self.0.limits)),
            };
            roots.push(root.clone());
            let gone = (roots.len() > ROOTS_MAX).then(|| roots.remove(0));
            (root, gone)
        };
        if let Some(gone) = gone {
            self.tell(Note::Forget(gone.path.clone()));
        }
        if root.begins_walk(Instant::now()) {
            let near = path.parent().unwrap_or(path).to_owned();
            if !self.tell(Note::Walk(root.clone(), near)) {
                *lock(&root.facts) = Progress::default();
            }
        }
        Some(root)
    }

    /// Tells what the editor has open and has changed since it was told last.
    pub fn follow(&self, documents: &[Open], editors: Option<&Path>) {
        for open in documents {
            let now = (open.document.revision(), open.document.len());
            if lock(&self.0.told).get(&open.uri) == Some(&now) {
                continue;
            }
            let Some(path) = path_of(&open.uri) else { continue };
            if !judge::is_code(&path) {
                continue;
            }
            let language = lang::by_id(&open.language_id);
            let Some((root, inside)) = self.place(&path, language, editors) else { continue };
            if self.tell(Note::Text(root, inside, open.document.clone())) {
                let mut told = lock(&self.0.told);
                if told.len() >= TOLD_MAX {
                    told.clear();
                }
                told.insert(open.uri.clone(), now);
            }
        }
    }

    /// A document is no longer open: its file counts again.
    pub fn closed(&self, uri: &str) {
        lock(&self.0.told).remove(uri);
        self.tell_of_disk(uri, Note::Closed);
    }

    /// Files were saved, created, changed or removed.
    pub fn changed_on_disk(&self, uris: &[String]) {
        for uri in uris {
            self.tell_of_disk(uri, Note::Disk);
        }
    }

    fn tell_of_disk(&self, uri: &str, note: fn(PathBuf, PathBuf) -> Note) {
        let Some(path) = path_of(uri).filter(|path| judge::is_code(path)) else { return };
        let roots: Vec<Arc<Root>> = lock(&self.0.roots).clone();
        for root in roots {
            if let Ok(inside) = path.strip_prefix(&root.path) {
                self.tell(note(root.path.clone(), inside.to_owned()));
            }
        }
    }

    /// Hands every text that is known, and from now on every change, to `sink`. `false`: there is too much to do for that now.
    pub fn attach(&self, sink: Box<dyn Sink>) -> bool {
        self.tell(Note::Attach(sink))
    }

    /// The tokens of a workspace's files, as far as they are read, and the name of a file among them.
    #[must_use]
    pub fn tokens(
        &self,
        root: &Root,
        path: &Path,
        tokenizer: &Arc<engine::Tokenizer>,
    ) -> (Arc<decode::Workspace>, Arc<str>) {
        let fed = self.0.tokens.of(&root.path, tokenizer, |sink| self.attach(sink));
        (fed, tokens::key(path.strip_prefix(&root.path).unwrap_or(path)).into())
    }

    /// What of the workspace helps at a place, the most relevant last. The same for as long as the user types within a line.
    #[must_use]
    pub fn context(&self, root: &Root, place: &choice::At<'_>) -> Arc<[Chunk]> {
        self.0.choices.at(root, place)
    }

    /// What is known of each workspace, the most recently used last.
    #[must_use]
    pub fn facts(&self) -> Vec<RootFacts> {
        let roots: Vec<Arc<Root>> = lock(&self.0.roots).clone();
        let facts =
            |root: &Arc<Root>| RootFacts { tokens: self.0.tokens.size(&root.path), ..root.facts() };
        roots.iter().map(facts).collect()
    }

    /// Only a workspace that is known already.
    fn place(
        &self,
        path: &Path,
        language: Option<&'static Language>,
        editors: Option<&Path>,
    ) -> Option<(PathBuf, PathBuf)> {
        let root = root::of(path, language, editors)?;
        let known = lock(&self.0.roots).iter().any(|known| known.path == root);
        let inside = path.strip_prefix(&root).ok()?.to_owned();
        known.then_some((root, inside))
    }

    /// `false`: it has too much to do, or cannot be started.
    fn tell(&self, note: Note) -> bool {
        let mut notes = lock(&self.0.notes);
        if notes.is_none() {
            let (sender, receiver) = sync_channel(NOTES_MAX);
            let worker = Worker::new(self.0.limits.bytes);
            let started = std::thread::Builder::new()
                .name("workspace".to_owned())
                .spawn(move || worker.run(&receiver));
            if let Err(error) = started {
                tracing::warn!(%error, "no thread for the workspace: nothing is known of it");
                return false;
            }
            *notes = Some(sender);
        }
        let Some(sender) = notes.as_ref() else { return false };
        match sender.try_send(note) {
            Ok(()) => true,
            Err(error) => {
                self.0.dropped.fetch_add(1, Ordering::Relaxed);
                if matches!(error, TrySendError::Disconnected(_)) {
                    // It has panicked: the next note starts another, and the next walk reads everything again.
                    tracing::error!("the workspace's thread is gone");
                    *notes = None;
                    lock(&self.0.roots).clear();
                }
                false
            }
        }
    }
}

impl Root {
    fn new(path: PathBuf, limits: Limits) -> Root {
        Root { path, index: RwLock::new(Index::new(limits)), facts: Mutex::default() }
    }

    /// Its folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The index, as it is now. Files are put in while nobody holds this.
    pub fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of it; does not wait for the index.
    #[must_use]
    pub fn facts(&self) -> RootFacts {
        let Progress { walking, size, cut, left_out, .. } = *lock(&self.facts);
        RootFacts { root: self.path.clone(), walking, size, cut, left_out, tokens: None }
    }

    /// Whether it is time for a walk, which is then taken for asked.
    fn begins_walk(&self, now: Instant) -> bool {
        let mut facts = lock(&self.facts);
        let due = facts.asked.is_none_or(|asked| now.duration_since(asked) >= WALK_PERIOD);
        let begins = due && !facts.walking;
        if begins {
            facts.asked = Some(now);
            facts.walking = true;
        }
        begins
    }
}

/// Reads a whole tree at once, for measurements.
#[must_use]
pub fn read_all(root: &Path, limits: Limits) -> Arc<Root> {
    let root = Arc::new(Root::new(root.to_owned(), limits));
    let mut worker = Worker::new(limits.bytes);
    let near = root.path.clone();
    worker.take(Note::Walk(root.clone(), near), Instant::now());
    while worker.step() {}
    root
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
