//! The places where the latest tokens stood before.

use super::{
    Cache, directory_of,
    store::{ORDERS, Store},
};

/// Matches are not measured beyond this length.
pub const MATCH_LEN_MAX: usize = 24;
/// So many places are looked at for each of the chains, the newest.
pub const LOOKED_AT_MAX: usize = 128;
/// So many matches of a chain are enough.
pub const FOUND_MAX: usize = 48;

/// How near a file is to the one that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Somewhere in the project.
    Project,
    /// In the same directory.
    Directory,
    /// The file itself.
    File,
}

/// A place behind tokens that are the latest ones of the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    /// Where what came next stands.
    pub(super) place: u32,
    /// How many tokens before it are the same, at most [`MATCH_LEN_MAX`].
    pub len: u8,
    /// How near it is.
    pub level: Level,
    /// Which of several caches it lies in, as [`Matches::begin`] counted.
    pub source: u8,
}

/// Whether what is known of the very file that is written takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own {
    /// It does.
    Counts,
    /// It does not: whoever asks knows the file better, and its copy here would say what stands behind the cursor.
    IsLeftOut,
}

/// Matches of one context, maybe in several caches. It keeps its memory from one context to the next.
#[derive(Debug, Clone, Default)]
pub struct Matches {
    pub(super) found: Vec<Match>,
    source: u8,
    level: Option<Level>,
    pub(super) scratch: super::predict::Scratch,
}

impl Matches {
    /// Forgets all matches.
    pub fn clear(&mut self) {
        self.found.clear();
        (self.source, self.level) = (0, None);
    }

    /// What is gathered from now on comes from another cache, or for another context; `level`: it is all as near as that.
    pub fn begin(&mut self, source: u8, level: Option<Level>) {
        (self.source, self.level) = (source, level);
    }

    /// All that were found.
    pub fn all(&self) -> &[Match] {
        &self.found
    }

    /// The longest match; of equals the nearest one, then the newest.
    pub fn best(&self) -> Option<Match> {
        let mut best: Option<Match> = None;
        for &found in &self.found {
            if best.is_none_or(|best| (found.len, found.level) > (best.len, best.level)) {
                best = Some(found);
            }
        }
        best
    }
}

impl Cache {
    /// Adds the places behind the last tokens of `context`, of which the file at `path` is to be written on. Looks at
    /// [`LOOKED_AT_MAX`] places for each chain at most, so that it costs microseconds however large the cache is.
    pub fn gather(&self, path: &str, context: &[u32], own: Own, matches: &mut Matches) {
        let this = self.segment(path);
        let directory = self.directories.get(directory_of(path)).copied();
        let mut known = u32::MAX;
        for (chain, &order) in ORDERS.iter().enumerate() {
            let mut oldest = known;
            let enough = matches.found.len() + FOUND_MAX;
            for place in self.store.places(chain, context).take(LOOKED_AT_MAX) {
                if matches.found.len() >= enough {
                    break;
                }
                oldest = place;
                let len = self.store.common_len(place, context, MATCH_LEN_MAX);
                if len < order {
                    continue; // Other tokens with the same hash.
                }
                let Some(segment) = self.store.alive_at(place) else { continue };
                let len = len.min(Store::reach(place, segment));
                // What a longer chain has led to is there already.
                let is_known = chain > 0 && place >= known && len >= ORDERS[chain - 1];
                let is_own = this.is_some_and(|this| std::ptr::eq(this, segment));
                if len < order || is_known || is_own && own == Own::IsLeftOut {
                    continue;
                }
                let level = match (is_own, directory == Some(segment.directory)) {
                    (true, _) => Level::File,
                    (false, true) => Level::Directory,
                    (false, false) => Level::Project,
                };
                let (source, level) = (matches.source, matches.level.unwrap_or(level));
                matches.found.push(Match { place, len: len as u8, level, source });
            }
            known = oldest;
        }
    }
}
