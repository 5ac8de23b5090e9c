//! What the workspace's own tokens say of the next one: a cache of all of them, looked up by the latest few.
//!
//! Code repeats itself, most of all nearby: in its file, then in its directory, then in its project. A nested cache over these three
//! predicts names that no model has seen (Hellendoorn and Devanbu, "Are deep neural networks the best choice for modeling source
//! code?", FSE 2017; Tu, Su and Devanbu, "On the localness of software", FSE 2014).
//!
//! Tokens lie in one row ([`store`]), and every place of it is chained by the tokens before it, the newest first. [`Cache::gather`]
//! looks at a bounded number of places that came behind the same tokens; [`Matches::predict`] makes a distribution of them, in which the
//! longer match and the nearer level count more. The row grows at its end: a file that comes anew leaves its old tokens behind as
//! waste until they are swept out ([`Cache::swept`]).

mod gather;
mod predict;
mod store;
#[cfg(test)]
mod tests;
pub mod weights;

use std::collections::HashMap;
use std::sync::Arc;

pub use self::gather::{FOUND_MAX, LOOKED_AT_MAX, Level, MATCH_LEN_MAX, Match, Matches, Own};
pub use self::predict::{CANDIDATES_MAX, Prediction};
use self::store::{Segment, Store};

/// The most tokens of all files, with waste; a token takes twelve bytes.
pub const TOKENS_MAX: usize = 6 << 20;
/// The most files.
pub const FILES_MAX: usize = 50_000;
/// The most tokens of one file; what comes behind them is left out.
pub const FILE_TOKENS_MAX: usize = 1 << 16;
/// Waste up to this share of what is there stays: one part in so many.
const WASTE_SHARE: usize = 3;
/// So few tokens of waste are never swept out.
const WASTE_MIN: usize = 1 << 12;

/// How much a cache holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// See [`TOKENS_MAX`].
    pub tokens_max: usize,
    /// See [`FILES_MAX`].
    pub files_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { tokens_max: TOKENS_MAX, files_max: FILES_MAX }
    }
}

/// How large a cache is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Files that it holds.
    pub files: usize,
    /// Their tokens.
    pub tokens: usize,
    /// Tokens that are still there and count no more.
    pub waste: usize,
    /// Bytes of memory, about.
    pub bytes: usize,
}

/// The tokens of a workspace. It has one owner; readers share it between changes.
#[derive(Debug, Clone)]
pub struct Cache {
    limits: Limits,
    store: Store,
    files: HashMap<Arc<str>, File>,
    directories: HashMap<Arc<str>, u32>,
}

/// A file whose tokens are there.
#[derive(Debug, Clone, Copy)]
struct File {
    /// The index of its segment.
    segment: usize,
}

impl Cache {
    /// An empty cache. Memory is taken as it fills.
    pub fn new(limits: Limits) -> Cache {
        Cache {
            limits,
            store: Store::new(limits.tokens_max),
            files: HashMap::new(),
            directories: HashMap::new(),
        }
    }

    /// Has `tokens` stand for the file at `path` from now on, in the place of what did. The files that came first make room.
    pub fn insert(&mut self, path: &str, tokens: &[u32]) {
        self.remove(path);
        let tokens = &tokens[..tokens.len().min(FILE_TOKENS_MAX).min(self.limits.tokens_max / 2)];
        if tokens.is_empty() || self.limits.files_max == 0 {
            return;
        }
        while self.files.len() >= self.limits.files_max
            || self.store.live() + tokens.len() > self.live_max()
        {
            let Some(oldest) = self.store.oldest() else { break };
            let path = self.store.path(oldest);
            self.remove(&path);
        }
        if !self.store.has_room(tokens.len()) {
            *self = self.swept();
        }
        let path: Arc<str> = path.into();
        let next = self.directories.len() as u32;
        let directory = *self.directories.entry(directory_of(&path).into()).or_insert(next);
        let segment = self.store.push(path.clone(), directory, tokens);
        self.files.insert(path, File { segment });
    }

    /// The same where there is room without another file's going; `false` where there is none, and nothing has changed.
    pub fn offer(&mut self, path: &str, tokens: &[u32]) -> bool {
        let len = tokens.len().min(FILE_TOKENS_MAX);
        let has_room =
            self.files.len() < self.limits.files_max && self.store.live() + len <= self.live_max();
        if has_room {
            self.insert(path, tokens);
        }
        has_room
    }

    /// Forgets the file at `path`.
    pub fn remove(&mut self, path: &str) {
        if let Some(file) = self.files.remove(path) {
            self.store.kill(file.segment);
        }
    }

    /// Whether it has tokens of the file at `path`.
    pub fn contains(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    /// The paths of all files, in the order in which they came.
    pub fn paths(&self) -> impl Iterator<Item = Arc<str>> + '_ {
        self.store.living().map(|segment| segment.path.clone())
    }

    /// Whether there is so much waste that [`Cache::swept`] is worth its time.
    pub fn wants_sweeping(&self) -> bool {
        let waste = self.store.len() - self.store.live();
        waste > WASTE_MIN && waste > self.store.len() / WASTE_SHARE
    }

    /// The same without waste. Takes about twenty nanoseconds for each token, so that it is done aside where somebody waits for the cache.
    pub fn swept(&self) -> Cache {
        let mut swept = Cache::new(self.limits);
        for segment in self.store.living() {
            swept.insert(&segment.path, self.store.tokens(segment));
        }
        swept
    }

    /// How large it is.
    pub fn size(&self) -> Size {
        let live = self.store.live();
        Size {
            files: self.files.len(),
            tokens: live,
            waste: self.store.len() - live,
            bytes: self.store.bytes(),
        }
    }

    /// What comes behind `context` in the file at `path`, by all that is known: of itself, its directory, and the rest.
    pub fn next(&self, path: &str, context: &[u32]) -> Prediction {
        let mut matches = Matches::default();
        self.gather(path, context, Own::Counts, &mut matches);
        matches.predict(|found| self.after(found).first().copied())
    }

    /// The tokens that came behind the longest match of `context`, the newest one of equals and the nearest; at most `len` of them.
    pub fn draft(&self, path: &str, context: &[u32], len: usize) -> Vec<u32> {
        let mut matches = Matches::default();
        self.gather(path, context, Own::Counts, &mut matches);
        matches
            .best()
            .map_or_else(Vec::new, |found| self.after(found).iter().take(len).copied().collect())
    }

    /// What stands from the place of a match on, to the end of its file.
    pub fn after(&self, found: Match) -> &[u32] {
        self.store.after(found.place)
    }

    /// So many tokens may count, so that there is always room for waste.
    fn live_max(&self) -> usize {
        self.limits.tokens_max - self.limits.tokens_max / WASTE_SHARE
    }

    fn segment(&self, path: &str) -> Option<&Segment> {
        self.files.get(path).map(|file| self.store.segment(file.segment))
    }
}

/// What stands before the last slash.
fn directory_of(path: &str) -> &str {
    path.rfind(['/', '\\']).map_or("", |end| &path[..end])
}
