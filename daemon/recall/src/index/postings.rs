//! The inverted index: from a word to the chunks that have it.
//!
//! Words that are in more than [`POSTINGS_MAX`] chunks lead nowhere: they say little, and would be most of the memory. How many chunks
//! have them is still counted, since a word's weight depends on it.

use std::collections::HashMap;

use super::ChunkId;
use super::words::{BySame, Word};

/// Chunks that a word leads to; one that is in more leads to none.
const POSTINGS_MAX: usize = 512;
/// What a word takes beside its chunks, in bytes: its entry, its place in the table, the head of its list.
const WORD_BYTES: usize = 72;

/// The number of a word in the index.
pub(super) type NameId = u32;

#[derive(Debug, Default)]
pub(super) struct Postings {
    ids: HashMap<Word, NameId, BySame>,
    entries: Vec<Entry>,
    free: Vec<NameId>,
    /// Places of chunks in all lists.
    listed: usize,
    chunks: usize,
}

#[derive(Debug, Default)]
struct Entry {
    /// In how many chunks it is.
    count: u32,
    /// Which those are, in no order; none where they are too many.
    chunks: Vec<ChunkId>,
}

impl Postings {
    /// The bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.ids.len() * WORD_BYTES + self.listed * size_of::<ChunkId>()
    }

    /// The number of a word that is in some chunk.
    pub(super) fn id(&self, word: Word) -> Option<NameId> {
        self.ids.get(&word).copied()
    }

    /// A chunk has these words, each once.
    pub(super) fn insert(&mut self, chunk: ChunkId, words: &[Word]) {
        self.chunks += 1;
        for word in words {
            let id = *self.ids.entry(*word).or_insert_with(|| {
                self.free.pop().unwrap_or_else(|| {
                    self.entries.push(Entry::default());
                    (self.entries.len() - 1) as NameId
                })
            });
            let entry = &mut self.entries[id as usize];
            let listed = entry.chunks.len() == entry.count as usize;
            entry.count += 1;
            if listed && entry.chunks.len() < POSTINGS_MAX {
                entry.chunks.push(chunk);
                self.listed += 1;
            } else {
                self.listed -= entry.chunks.len();
                entry.chunks = Vec::new();
            }
        }
    }

    /// A chunk with these words is gone.
    pub(super) fn remove(&mut self, chunk: ChunkId, words: &[Word]) {
        self.chunks -= 1;
        for word in words {
            let Some(id) = self.ids.get(word).copied() else { continue };
            let entry = &mut self.entries[id as usize];
            entry.count -= 1;
            if let Some(at) = entry.chunks.iter().position(|other| *other == chunk) {
                entry.chunks.swap_remove(at);
                self.listed -= 1;
            }
            if entry.count == 0 {
                *entry = Entry::default();
                self.ids.remove(word);
                self.free.push(id);
            }
        }
    }

    /// The chunks that a word leads to, in no order.
    pub(super) fn chunks(&self, id: NameId) -> &[ChunkId] {
        &self.entries[id as usize].chunks
    }

    /// How much a word says: its inverse document frequency, as BM25 has it.
    pub(super) fn weight(&self, id: NameId) -> f32 {
        let (all, with) = (self.chunks as f32, self.entries[id as usize].count as f32);
        (1.0 + (all - with + 0.5).max(0.0) / (with + 0.5)).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_lead_to_chunks_until_they_are_common() {
        let mut postings = Postings::default();
        for chunk in 0..POSTINGS_MAX as u32 {
            postings.insert(chunk, &[7, 1000 + u64::from(chunk)]);
        }
        let common = postings.id(7).unwrap();
        assert_eq!(postings.chunks(common).len(), POSTINGS_MAX);
        postings.insert(9000, &[7]);
        assert_eq!(postings.chunks(common), []);
        assert!(postings.weight(common) < postings.weight(postings.id(1000).unwrap()));
        postings.remove(9000, &[7]);
        postings.insert(9001, &[7]);
        assert_eq!(
            postings.chunks(common),
            [],
            "what is gone from the list does not come back in part"
        );
    }

    #[test]
    fn what_is_removed_leaves_nothing() {
        let mut postings = Postings::default();
        postings.insert(1, &[1, 2]);
        postings.insert(2, &[2, 3]);
        postings.remove(1, &[1, 2]);
        assert_eq!((postings.id(1), postings.chunks(postings.id(2).unwrap())), (None, &[2][..]));
        postings.remove(2, &[2, 3]);
        assert_eq!((postings.bytes(), postings.ids.len()), (0, 0));
    }
}
