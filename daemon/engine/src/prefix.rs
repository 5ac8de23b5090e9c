//! Caches of finished sequences, kept so that the next job with the same beginning pays only for the rest.

use crate::job::TokenId;

/// How many finished caches are kept. The oldest makes room.
pub(crate) const PREFIXES_MAX: usize = 6;
/// The most bytes that kept caches may hold. The oldest make room.
pub(crate) const PREFIX_BYTES_MAX: u64 = 512 << 20;
/// A shorter common beginning is not worth a lookup.
pub(crate) const PREFIX_LEN_MIN: usize = 4;

/// A cache and the tokens that it has seen.
pub(crate) struct Kept<S> {
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) state: S,
    pub(crate) bytes: u64,
}

/// The kept caches, oldest first.
pub(crate) struct Prefixes<S> {
    kept: Vec<Kept<S>>,
}

impl<S> Prefixes<S> {
    pub(crate) fn new() -> Self {
        Self { kept: Vec::new() }
    }

    pub(crate) fn keep(&mut self, entry: Kept<S>) {
        if entry.tokens.len() < PREFIX_LEN_MIN || entry.bytes > PREFIX_BYTES_MAX {
            return;
        }
        // What the new entry knows as well is not kept twice.
        self.kept.retain(|old| !entry.tokens.starts_with(&old.tokens));
        self.kept.push(entry);
        while self.kept.len() > PREFIXES_MAX
            || self.kept.iter().map(|old| old.bytes).sum::<u64>() > PREFIX_BYTES_MAX
        {
            self.kept.remove(0);
        }
    }

    /// The length of the longest beginning that a kept cache shares with `tokens`.
    pub(crate) fn best(&self, tokens: &[TokenId]) -> Option<(usize, usize)> {
        let shared = self
            .kept
            .iter()
            .enumerate()
            .map(|(index, old)| (common_len(&old.tokens, tokens), index));
        shared.max().filter(|&(len, _)| len >= PREFIX_LEN_MIN)
    }

    /// Takes an entry out, as [`Prefixes::best`] named it.
    pub(crate) fn take(&mut self, index: usize) -> Kept<S> {
        self.kept.remove(index)
    }
}

/// The length of the common beginning.
pub(crate) fn common_len(a: &[TokenId], b: &[TokenId]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
