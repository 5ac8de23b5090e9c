//! Attention of one sequence over its keys and values, fp32.
//!
//! Keys are taken in chunks that begin at fixed positions, and the chunks' results are put together in ascending order: what a token
//! gets depends on its query and on the keys that it sees, to the bit, and not on how many tokens come with it, on the threads, or on
//! the arrays that the keys lie in.

mod prepare;
mod tile;

use std::{
    cell::Cell,
    sync::{Mutex, PoisonError},
};

pub use prepare::{KeyNorms, Projected, Table};
use tile::{CHUNK, Mixed, Query, Rows, Stretch, merge, mix, padded};

use crate::{pool, rope::Rope};

/// Passes of at most so many tokens share the work by chunks of keys: decoding, and what is verified.
const SPLIT_TOKENS_MAX: usize = 8;
/// The results of chunks that wait to be put together have at most so many floats.
const SPLIT_FLOATS_MAX: usize = 1 << 24;
/// So many rows of queries are one task then.
const SPLIT_ROWS: usize = 16;
/// Otherwise at most so many tokens at a time, by heads of keys, and about so many rows of queries.
const BLOCK_TOKENS: usize = 32;
const BLOCK_ROWS: usize = 128;
/// A thread keeps at most so many floats of working memory.
const SCRATCH_FLOATS_MAX: usize = 1 << 22;
/// Fewer products than this are not worth a second thread.
const ALONE: usize = 1 << 15;

/// What all tokens of a layer have in common.
#[derive(Debug, Clone, Copy)]
pub struct Attention<'a> {
    /// Of queries; a multiple of `kv_heads`.
    pub heads: usize,
    /// Of keys and values.
    pub kv_heads: usize,
    /// Floats of a query or key.
    pub dim: usize,
    /// Floats of a value.
    pub value_dim: usize,
    /// Multiplies the products of queries and keys.
    pub scale: f32,
    /// A score per head of queries that leads nowhere.
    pub sinks: Option<&'a [f32]>,
    /// A token sees itself and the `window - 1` before it.
    pub window: Option<usize>,
    /// Of queries and keys, before they are rotated.
    pub norms: KeyNorms<'a>,
    /// Rotates queries and keys.
    pub rope: Option<&'a Rope>,
}

/// Keys and values of `len` consecutive tokens, `[kv_heads, len, dim]`; the floats of a row are dense.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// The position of its first token.
    pub first: usize,
    /// How many tokens it has.
    pub len: usize,
    /// Keys.
    pub keys: &'a [f32],
    /// Values.
    pub values: &'a [f32],
    /// Floats between heads and between tokens, of the keys.
    pub key_strides: (usize, usize),
    /// The same of the values.
    pub value_strides: (usize, usize),
}

/// Keys and values that are written to: `[kv_heads, room, dim]`, dense.
#[derive(Debug)]
pub struct Cached<'a> {
    /// The position of the first row.
    pub first: usize,
    /// Rows per head.
    pub room: usize,
    /// Keys.
    pub keys: &'a mut [f32],
    /// Values.
    pub values: &'a mut [f32],
}

/// Attention of new tokens behind the first `seen`: their queries and keys are normed and rotated, keys and values are written to
/// `cached`, and every token attends to what is in `earlier` and `cached` up to itself.
///
/// `earlier` holds what comes before `cached`, in ascending order. `into` is `[tokens, heads · value_dim]`.
///
/// # Panics
/// If sizes disagree, or a token that is seen is in none of the arrays.
pub fn append_and_attend(
    attention: &Attention<'_>,
    projected: &Projected<'_>,
    seen: usize,
    earlier: &[Part<'_>],
    cached: &mut Cached<'_>,
    into: &mut [f32],
) {
    let tokens = projected.tokens;
    let mut queries = take_scratch(tokens * attention.heads * padded(attention.dim));
    prepare::prepare(attention, projected, seen, cached, &mut queries);
    let (dim, value_dim) = (attention.dim, attention.value_dim);
    let own = Part {
        first: cached.first,
        len: seen + tokens - cached.first,
        keys: cached.keys,
        values: cached.values,
        key_strides: (cached.room * dim, dim),
        value_strides: (cached.room * value_dim, value_dim),
    };
    let parts: Vec<Part<'_>> = earlier.iter().copied().chain([own]).collect();
    attend_prepared(attention, &queries, tokens, seen, &parts, into);
    give_scratch(queries);
}

/// The most floats that wait to be put together in one call, of few tokens the last of which sees `len`.
pub fn waiting_floats_max(heads: usize, value_dim: usize, len: usize) -> usize {
    let floats = SPLIT_TOKENS_MAX * heads * len.div_ceil(CHUNK) * (2 + padded(value_dim));
    floats.min(SPLIT_FLOATS_MAX)
}

/// One of several sequences.
#[derive(Debug)]
pub struct Sequence<'a> {
    /// Of its layer.
    pub attention: Attention<'a>,
    /// What the projections made of its tokens.
    pub projected: Projected<'a>,
    /// How many tokens come before them.
    pub seen: usize,
    /// Keys and values of the first of these.
    pub earlier: Vec<Part<'a>>,
    /// Those behind them.
    pub cached: Cached<'a>,
    /// `[tokens, heads · value_dim]`.
    pub into: &'a mut [f32],
}

impl Sequence<'_> {
    /// Queries times keys.
    fn pairs(&self) -> usize {
        self.projected.tokens * (self.seen + self.projected.tokens)
    }

    fn attend(&mut self) {
        let Sequence { attention, projected, seen, earlier, cached, into } = self;
        append_and_attend(attention, projected, *seen, earlier, cached, into);
    }
}

/// [`append_and_attend`] of each sequence: side by side where none of them is much of the work, else one after the other.
///
/// # Panics
/// As that does.
pub fn append_and_attend_each(sequences: &mut [Sequence<'_>]) {
    let most = sequences.iter().map(Sequence::pairs).max().unwrap_or(0);
    let all: usize = sequences.iter().map(Sequence::pairs).sum();
    if sequences.len() == 1 || most * pool().threads() > all {
        return sequences.iter_mut().for_each(Sequence::attend);
    }
    let sequences: Vec<Mutex<&mut Sequence<'_>>> = sequences.iter_mut().map(Mutex::new).collect();
    pool().run(sequences.len(), &|task| {
        sequences[task].lock().unwrap_or_else(PoisonError::into_inner).attend();
    });
}

/// Attention of the queries `[tokens, heads · dim]` behind the first `seen` tokens, already normed and rotated, over keys and values
/// that are there already, their own among them.
///
/// `norms` and `rope` are not looked at.
///
/// # Panics
/// As [`append_and_attend`].
pub fn attend(
    attention: &Attention<'_>,
    queries: Table<'_>,
    tokens: usize,
    seen: usize,
    parts: &[Part<'_>],
    into: &mut [f32],
) {
    let mut prepared = take_scratch(tokens * attention.heads * padded(attention.dim));
    prepare::scaled(attention, queries, tokens, &mut prepared);
    attend_prepared(attention, &prepared, tokens, seen, parts, into);
    give_scratch(prepared);
}

/// `queries` is `[tokens, heads, dim in whole vectors]`.
fn attend_prepared(
    attention: &Attention<'_>,
    queries: &[f32],
    tokens: usize,
    seen: usize,
    parts: &[Part<'_>],
    into: &mut [f32],
) {
    if tokens == 0 {
        return;
    }
    check(attention, tokens, seen, parts, into.len());
    let pass = Pass { attention, queries, tokens, seen, parts, into: Places::of(into) };
    let chunks = pass.first_seen(0) / CHUNK..(seen + tokens).div_ceil(CHUNK);
    let floats = tokens * attention.heads * chunks.len() * (2 + padded(attention.value_dim));
    if tokens <= SPLIT_TOKENS_MAX && floats <= SPLIT_FLOATS_MAX {
        pass.by_chunks(chunks, floats);
    } else {
        pass.by_tokens();
    }
}

fn check(attention: &Attention<'_>, tokens: usize, seen: usize, parts: &[Part<'_>], room: usize) {
    let &Attention { heads, kv_heads, dim, value_dim, sinks, window, .. } = attention;
    assert!(kv_heads > 0 && heads % kv_heads == 0, "{heads} heads over {kv_heads}");
    assert!(room >= tokens * heads * value_dim, "room for what attention makes");
    assert!(sinks.is_none_or(|sinks| sinks.len() >= heads), "a sink per head");
    let needed = window.map_or(0, |window| (seen + 1).saturating_sub(window.max(1)));
    let mut end = parts.first().map_or(usize::MAX, |part| part.first);
    assert!(end <= needed, "keys from position {needed} on");
    for part in parts {
        assert_eq!(part.first, end, "parts of keys that follow each other");
        end += part.len;
        let sides =
            [(part.keys, part.key_strides, dim), (part.values, part.value_strides, value_dim)];
        for (data, (head, row), dim) in sides {
            let last = (kv_heads - 1) * head + part.len.saturating_sub(1) * row + dim;
            assert!(part.len == 0 || last <= data.len(), "a part of keys or values is too short");
        }
    }
    assert!(end >= seen + tokens, "keys up to position {}", seen + tokens);
}

/// One call.
struct Pass<'a> {
    attention: &'a Attention<'a>,
    queries: &'a [f32],
    tokens: usize,
    seen: usize,
    parts: &'a [Part<'a>],
    into: Places,
}

impl Pass<'_> {
    /// The first position that a token sees.
    fn first_seen(&self, token: usize) -> usize {
        let window = self.attention.window.unwrap_or(usize::MAX).max(1);
        (self.seen + token + 1).saturating_sub(window)
    }

    fn group(&self) -> usize {
        self.attention.heads / self.attention.kv_heads
    }

    /// Query rows of a head of keys are numbered token by token.
    fn query(&self, kv_head: usize, row: usize, chunk: usize) -> Query {
        let (token, head) = (row / self.group(), kv_head * self.group() + row % self.group());
        let width = padded(self.attention.dim);
        let row = &self.queries[(token * self.attention.heads + head) * width..][..width];
        let start = chunk * CHUNK;
        let end = (self.seen + token + 1).saturating_sub(start).min(CHUNK);
        let first = self.first_seen(token).saturating_sub(start).min(end);
        Query { row: row.as_ptr(), first, end }
    }

    /// Where the keys of a chunk lie.
    fn stretches(&self, kv_head: usize, chunk: usize) -> Vec<Stretch> {
        let (start, end) = (chunk * CHUNK, (chunk + 1) * CHUNK);
        let inside = self.parts.iter().filter_map(|part| {
            let (from, to) = (part.first.max(start), (part.first + part.len).min(end));
            let rows = |data: &[f32], (head, row): (usize, usize)| Rows {
                start: data[kv_head * head + (from - part.first) * row..].as_ptr(),
                stride: row,
            };
            (from < to).then(|| Stretch {
                first: from - start,
                end: to - start,
                keys: rows(part.keys, part.key_strides),
                values: rows(part.values, part.value_strides),
            })
        });
        inside.collect()
    }

    /// Few tokens: each chunk of keys by itself, then the chunks of each row one after the other.
    fn by_chunks(&self, chunks: std::ops::Range<usize>, floats: usize) {
        let &Attention { heads, kv_heads, dim, value_dim, .. } = self.attention;
        let (width, rows) = (2 + padded(value_dim), self.tokens * self.group());
        let mut scratch = take_scratch(floats);
        let places = Places::of(&mut scratch);
        // `[kv_heads, rows, chunks, width]`.
        let place = |kv_head, row, chunk| {
            ((kv_head * rows + row) * chunks.len() + chunk - chunks.start) * width
        };
        let blocks = rows.div_ceil(SPLIT_ROWS);
        let one = |task: usize| {
            let (block, kv_head) = (task % blocks, task / blocks % kv_heads);
            let chunk = chunks.start + task / blocks / kv_heads;
            let stretches = self.stretches(kv_head, chunk);
            // SAFETY: no other task has this row of this head and chunk.
            let at = |row| unsafe { places.slice(place(kv_head, row, chunk), width) };
            let rows = block * SPLIT_ROWS..((block + 1) * SPLIT_ROWS).min(rows);
            self.mixed(kv_head, chunk, rows, &stretches, at);
        };
        let put_together = |task: usize| {
            let (kv_head, row) = (task / rows, task % rows);
            let mut values = vec![0.0; width - 2];
            let mut state = self.begun(kv_head, row, &mut values);
            for chunk in chunks.clone() {
                let query = self.query(kv_head, row, chunk);
                if query.first < query.end {
                    // SAFETY: all of them are written, and nobody writes any more.
                    let part = unsafe { places.slice(place(kv_head, row, chunk), width) };
                    merge(&mut state.mixed(), (part[0], part[1], &part[2..]));
                }
            }
            self.finish(kv_head, row, &state);
        };
        let keys = self.seen + self.tokens - self.first_seen(0);
        share(kv_heads * chunks.len() * blocks, keys * rows * kv_heads * dim, &one);
        share(heads * self.tokens, floats, &put_together);
        give_scratch(scratch);
    }

    /// Many tokens: some of them at a time against all chunks.
    fn by_tokens(&self) {
        let &Attention { kv_heads, value_dim, .. } = self.attention;
        let (width, group) = (padded(value_dim), self.group());
        let together = (BLOCK_ROWS / group).clamp(1, BLOCK_TOKENS);
        let blocks = self.tokens.div_ceil(together);
        let one = |task: usize| {
            // The last tokens see most: they come first.
            let (kv_head, block) = (task % kv_heads, blocks - 1 - task / kv_heads);
            let (first, end) = (block * together, ((block + 1) * together).min(self.tokens));
            let rows = first * group..end * group;
            let mut values = vec![0.0; rows.len() * width];
            let mut states: Vec<State<'_>> = rows
                .clone()
                .zip(values.chunks_exact_mut(width))
                .map(|(row, values)| self.begun(kv_head, row, values))
                .collect();
            let mut parts = vec![0.0; rows.len() * (2 + width)];
            let places = Places::of(&mut parts);
            for chunk in self.first_seen(first) / CHUNK..(self.seen + end).div_ceil(CHUNK) {
                let stretches = self.stretches(kv_head, chunk);
                // SAFETY: one row after the other.
                let at = |row: usize| unsafe {
                    places.slice((row - rows.start) * (2 + width), 2 + width)
                };
                self.mixed(kv_head, chunk, rows.clone(), &stretches, at);
                for (row, state) in rows.clone().zip(&mut states) {
                    let query = self.query(kv_head, row, chunk);
                    if query.first < query.end {
                        let part = at(row);
                        merge(&mut state.mixed(), (part[0], part[1], &part[2..]));
                    }
                }
            }
            rows.zip(&states).for_each(|(row, state)| self.finish(kv_head, row, state));
        };
        share(kv_heads * blocks, usize::MAX, &one);
    }

    /// What some rows make of a chunk: greatest score, sum, values, into `at(row)`.
    fn mixed<'b>(
        &self,
        kv_head: usize,
        chunk: usize,
        rows: std::ops::Range<usize>,
        stretches: &[Stretch],
        at: impl Fn(usize) -> &'b mut [f32],
    ) {
        let dims = (self.attention.dim, self.attention.value_dim);
        let queries: Vec<Query> = rows.clone().map(|row| self.query(kv_head, row, chunk)).collect();
        let mut into: Vec<Mixed<'_>> = rows
            .map(|row| {
                let (numbers, values) = at(row).split_at_mut(2);
                let (greatest, sum) = numbers.split_at_mut(1);
                Mixed { greatest: &mut greatest[0], sum: &mut sum[0], values }
            })
            .collect();
        mix(&queries, stretches, dims, &mut into);
    }

    fn begun<'b>(&self, kv_head: usize, row: usize, values: &'b mut [f32]) -> State<'b> {
        let head = kv_head * self.group() + row % self.group();
        match self.attention.sinks {
            Some(sinks) => State { greatest: sinks[head], sum: 1.0, values },
            None => State { greatest: f32::NEG_INFINITY, sum: 0.0, values },
        }
    }

    fn finish(&self, kv_head: usize, row: usize, state: &State<'_>) {
        let &Attention { heads, value_dim, .. } = self.attention;
        let (token, head) = (row / self.group(), kv_head * self.group() + row % self.group());
        // SAFETY: no other task has this row.
        let into = unsafe { self.into.slice((token * heads + head) * value_dim, value_dim) };
        for (into, value) in into.iter_mut().zip(&*state.values) {
            *into = value / state.sum;
        }
    }
}

/// What a row has made of the chunks so far.
struct State<'a> {
    greatest: f32,
    sum: f32,
    values: &'a mut [f32],
}

impl State<'_> {
    fn mixed(&mut self) -> Mixed<'_> {
        Mixed { greatest: &mut self.greatest, sum: &mut self.sum, values: self.values }
    }
}

/// In parallel, unless it is only a little work.
fn share(tasks: usize, products: usize, work: &(dyn Fn(usize) + Sync)) {
    if products < ALONE {
        (0..tasks).for_each(work);
    } else {
        pool().run(tasks, work);
    }
}

/// A slice that several threads write to, each to its own places.
pub(crate) struct Places {
    start: *mut f32,
    len: usize,
}

// SAFETY: whoever takes a slice of it answers for that nobody else has the same.
unsafe impl Sync for Places {}

impl Places {
    pub(crate) fn of(slice: &mut [f32]) -> Places {
        Places { start: slice.as_mut_ptr(), len: slice.len() }
    }

    /// # Safety
    /// Nobody else uses these places meanwhile, and the slice that this was made of is still borrowed for it.
    #[allow(clippy::mut_from_ref, reason = "the caller answers for it")]
    pub(crate) unsafe fn slice<'a>(&self, start: usize, len: usize) -> &'a mut [f32] {
        assert!(start <= self.len && len <= self.len - start, "places of a slice");
        // SAFETY: inside of the slice, and the caller's.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }
}

thread_local! {
    static SCRATCH: Cell<[Vec<f32>; 2]> = const { Cell::new([Vec::new(), Vec::new()]) };
}

/// Working memory of at least so many floats, with anything in it.
fn take_scratch(len: usize) -> Vec<f32> {
    let mut kept = SCRATCH.take();
    let place = usize::from(kept[0].capacity() < kept[1].capacity());
    let mut scratch = std::mem::take(&mut kept[place]);
    SCRATCH.set(kept);
    if scratch.len() < len {
        scratch.resize(len, 0.0);
    }
    scratch
}

fn give_scratch(scratch: Vec<f32>) {
    if scratch.capacity() <= SCRATCH_FLOATS_MAX {
        let mut kept = SCRATCH.take();
        let place = usize::from(kept[0].capacity() > kept[1].capacity());
        kept[place] = scratch;
        SCRATCH.set(kept);
    }
}

#[cfg(test)]
mod tests;
