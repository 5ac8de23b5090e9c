//! Caches of finished sequences, kept so that the next job with the same beginning pays only for the rest.
//!
//! The caches are found through a tree over their tokens, one tree per adapter. Handing one out copies nothing: whoever goes on from
//! it shares its arrays until they write. What is kept is bounded in bytes; the least recently used goes first.

mod trie;

use std::collections::{BTreeMap, HashMap};

use crate::job::{SoulId, TokenId};
use trie::Trie;

/// How many finished caches are kept. The least recently used makes room.
pub(crate) const PREFIXES_MAX: usize = 64;
/// The most bytes that kept caches may hold where the caller of the engine names no other number. The least recently used make room.
pub(crate) const PREFIX_BYTES_MAX: u64 = 512 << 20;
/// How many kept caches are tried for one job, those with the longest common beginning first.
pub(crate) const CANDIDATES_MAX: usize = 8;
/// A shorter common beginning is not worth a look-up.
pub(crate) const PREFIX_LEN_MIN: usize = 4;
/// A cache that has no more tokens than this for itself makes room for one that shares the rest.
pub(crate) const TAIL_LEN_NEAR: usize = 256;

/// A cache and the tokens that it has seen.
pub(crate) struct Kept<S> {
    pub(crate) soul: Option<SoulId>,
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) state: S,
    pub(crate) bytes: u64,
}

/// The kept caches.
pub(crate) struct Prefixes<S> {
    entries: HashMap<u64, Entry<S>>,
    tries: BTreeMap<Option<SoulId>, Trie>,
    bytes: u64,
    bytes_max: u64,
    /// Counts up with every use.
    clock: u64,
}

struct Entry<S> {
    kept: Kept<S>,
    used: u64,
}

impl<S> Prefixes<S> {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self { entries: HashMap::new(), tries: BTreeMap::new(), bytes: 0, bytes_max, clock: 0 }
    }

    /// Number of kept caches.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Their bytes; what two of them share is counted twice.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The most bytes that it keeps.
    pub(crate) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// The caches themselves.
    pub(crate) fn states(&self) -> impl Iterator<Item = &S> {
        self.entries.values().map(|entry| &entry.kept.state)
    }

    /// Keeps a cache, and hands back what has to make room. `reach` says how near a cache can come to a length from below.
    pub(crate) fn keep(
        &mut self,
        kept: Kept<S>,
        mut reach: impl FnMut(&S, usize) -> usize,
    ) -> Vec<Kept<S>> {
        if kept.tokens.len() < PREFIX_LEN_MIN || kept.bytes > self.bytes_max {
            return vec![kept];
        }
        // What the new one knows as well is not kept twice, and neither is what knows little else; nor is the new one, if an old one
        // knows nearly all of it, and much more.
        for (shared, id) in self.sharing(kept.soul, &kept.tokens) {
            let Some(old) = self.entries.get(&id) else { continue };
            let (reach, reach_old) = (reach(&kept.state, shared), reach(&old.kept.state, shared));
            if old.kept.tokens.len() - shared <= TAIL_LEN_NEAR {
                if reach >= reach_old {
                    drop(self.take(id));
                }
            } else if kept.tokens.len() - shared <= TAIL_LEN_NEAR && reach <= reach_old {
                self.touch(id);
                return Vec::new();
            }
        }
        self.clock += 1;
        let id = self.clock;
        self.tries.entry(kept.soul).or_default().insert(&kept.tokens, id);
        self.bytes += kept.bytes;
        self.entries.insert(id, Entry { kept, used: id });
        let mut away = self.shrink_to(self.bytes_max);
        while self.entries.len() > PREFIXES_MAX {
            away.extend(self.take_oldest());
        }
        away
    }

    /// The kept caches that share the longest beginnings with `tokens`: those lengths and the entries, the longest first.
    pub(crate) fn sharing(&self, soul: Option<SoulId>, tokens: &[TokenId]) -> Vec<(usize, u64)> {
        let mut found = self.tries.get(&soul).map_or_else(Vec::new, |trie| trie.sharing(tokens));
        found.retain(|&(len, _)| len >= PREFIX_LEN_MIN);
        found.truncate(CANDIDATES_MAX);
        found
    }

    /// An entry, as [`Prefixes::sharing`] named it.
    pub(crate) fn get(&self, id: u64) -> Option<&Kept<S>> {
        self.entries.get(&id).map(|entry| &entry.kept)
    }

    /// All entries, the latest used first.
    pub(crate) fn latest(&self) -> impl Iterator<Item = (u64, &Kept<S>)> {
        let mut latest: Vec<(&u64, &Entry<S>)> = self.entries.iter().collect();
        latest.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.used));
        latest.into_iter().map(|(&id, entry)| (id, &entry.kept))
    }

    /// Somebody goes on from it.
    pub(crate) fn touch(&mut self, id: u64) {
        self.clock += 1;
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.used = self.clock;
        }
    }

    /// Takes an entry out.
    pub(crate) fn take(&mut self, id: u64) -> Option<Kept<S>> {
        let Entry { kept, .. } = self.entries.remove(&id)?;
        self.bytes -= kept.bytes;
        if let Some(trie) = self.tries.get_mut(&kept.soul) {
            trie.remove(&kept.tokens, id);
        }
        Some(kept)
    }

    /// Gives up everything that was computed with an adapter.
    pub(crate) fn forget(&mut self, soul: SoulId) {
        let of_soul = |entry: &Entry<S>| entry.kept.soul == Some(soul);
        let ids: Vec<u64> =
            self.entries.iter().filter(|(_, entry)| of_soul(entry)).map(|(&id, _)| id).collect();
        ids.into_iter().for_each(|id| drop(self.take(id)));
        self.tries.remove(&Some(soul));
    }

    /// Another bound of bytes.
    pub(crate) fn keep_within(&mut self, bytes_max: u64) -> Vec<Kept<S>> {
        self.bytes_max = bytes_max;
        self.shrink_to(bytes_max)
    }

    /// Gives up the least recently used until no more than `bytes` are held.
    pub(crate) fn shrink_to(&mut self, bytes: u64) -> Vec<Kept<S>> {
        let mut away = Vec::new();
        while self.bytes > bytes
            && let Some(oldest) = self.take_oldest()
        {
            away.push(oldest);
        }
        away
    }

    fn take_oldest(&mut self) -> Option<Kept<S>> {
        let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(&id, _)| id)?;
        self.take(oldest)
    }
}

/// The length of the common beginning.
pub(crate) fn common_len(a: &[TokenId], b: &[TokenId]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kept(tokens: &[TokenId], bytes: u64) -> Kept<Vec<TokenId>> {
        Kept { soul: None, tokens: tokens.to_vec(), state: tokens.to_vec(), bytes }
    }

    fn reach(_: &Vec<TokenId>, len: usize) -> usize {
        len
    }

    #[test]
    fn the_least_recently_used_makes_room() {
        let mut prefixes = Prefixes::new(100);
        let far = |first: TokenId| (0..500).map(|token| token + first * 1000).collect::<Vec<_>>();
        assert!(prefixes.keep(kept(&far(1), 40), reach).is_empty());
        assert!(prefixes.keep(kept(&far(2), 40), reach).is_empty());
        let (_, first) = prefixes.sharing(None, &far(1))[0];
        prefixes.touch(first);
        let away = prefixes.keep(kept(&far(3), 40), reach);
        assert_eq!(away.len(), 1);
        assert_eq!(away[0].tokens, far(2));
        assert_eq!((prefixes.len(), prefixes.bytes()), (2, 80));
        assert_eq!(prefixes.shrink_to(0).len(), 2);
        assert!(prefixes.tries.values().all(Trie::is_empty));
        assert_eq!(prefixes.keep(kept(&far(4), 101), reach).len(), 1, "too large at all");
    }

    #[test]
    fn souls_share_nothing() {
        let mut prefixes = Prefixes::new(100);
        let tokens: Vec<TokenId> = (0..50).collect();
        prefixes.keep(kept(&tokens, 1), reach);
        assert!(prefixes.sharing(Some(SoulId(1)), &tokens).is_empty());
        assert_eq!(prefixes.sharing(None, &tokens)[0].0, 50);
    }

    proptest! {
        /// The tree finds what comparing with every entry finds.
        #[test]
        fn finds_the_longest(entries in prop::collection::vec(prop::collection::vec(0u32..3, 1..12), 0..12),
                             removed in prop::collection::vec(any::<bool>(), 12),
                             tokens in prop::collection::vec(0u32..3, 0..12)) {
            let mut trie = Trie::default();
            for (id, entry) in entries.iter().enumerate() {
                trie.insert(entry, id as u64);
            }
            let mut left = Vec::new();
            for (id, entry) in entries.iter().enumerate() {
                if removed[id] {
                    trie.remove(entry, id as u64);
                } else {
                    left.push(entry);
                }
            }
            let longest = left.iter().map(|entry| common_len(entry, &tokens)).max();
            let found = trie.sharing(&tokens);
            prop_assert_eq!(found.first().map(|found| found.0), longest);
            for (len, id) in found {
                prop_assert!(!removed[id as usize]);
                prop_assert_eq!(common_len(&entries[id as usize], &tokens), len);
            }
        }
    }
}
