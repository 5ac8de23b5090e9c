//! The scan over the tokens.

use super::DeltaShape;
use crate::{
    buffer::Shared,
    pool,
    simd::{LANES, Simd, dispatch},
};

/// Rows of a memory that go through the tokens together: as many as a vector has lanes, so that their sums are taken at once.
const ROWS: usize = LANES;

/// What the scan reads.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    pub(super) shape: DeltaShape,
    pub(super) tokens: usize,
    /// Queries, keys and values, `[tokens, channels]`.
    pub(super) rows: &'a [f32],
    /// What is left of a memory, and how much is written to it: `[tokens, value_heads]`.
    pub(super) gates: &'a [[f32; 2]],
}

/// Takes `memory`, `[value_heads, value_dim, key_dim]`, through all tokens; `results` is `[tokens, value_heads, value_dim]`.
pub(super) fn scan(inputs: &Inputs<'_>, memory: &mut [f32], results: &mut [f32]) {
    let DeltaShape { value_heads, key_dim, value_dim, .. } = inputs.shape;
    let per_head = value_dim.div_ceil(ROWS);
    let (memory, results) = (Shared::new(memory), Shared::new(results));
    pool().run(value_heads * per_head, &|task| {
        let (head, row) = (task / per_head, task % per_head * ROWS);
        let count = ROWS.min(value_dim - row);
        // SAFETY: these rows of this head belong to this task alone, and the memory outlives the region.
        let held = unsafe { memory.part((head * value_dim + row) * key_dim, count * key_dim) };
        for token in 0..inputs.tokens {
            let at = (token * value_heads + head) * value_dim + row;
            // SAFETY: likewise of the results.
            let read = unsafe { results.part(at, count) };
            step(inputs, (token, head, row), held, read);
        }
    });
}

dispatch! {
    /// One token and some rows of one head, whose number and first row are given: what the rows read.
    fn step(inputs: &Inputs<'_>, place: (usize, usize, usize), held: &mut [f32], read: &mut [f32]) => step_by
}

#[inline(always)]
fn step_by<S: Simd>(
    s: S,
    inputs: &Inputs<'_>,
    (token, head, row): (usize, usize, usize),
    held: &mut [f32],
    read: &mut [f32],
) {
    let DeltaShape { key_heads, value_heads, key_dim, value_dim, .. } = inputs.shape;
    let tokens = &inputs.rows[token * inputs.shape.channels()..];
    let keys = key_heads * key_dim;
    let own = head / (value_heads / key_heads) * key_dim;
    let (query, key) = (&tokens[own..own + key_dim], &tokens[keys + own..keys + own + key_dim]);
    let values = &tokens[2 * keys + head * value_dim + row..][..read.len()];
    let [decay, beta] = inputs.gates[token * value_heads + head];
    let fade = s.splat(decay);
    let mut sums = [s.zero(); ROWS];
    for (row, sum) in held.chunks_exact_mut(key_dim).zip(&mut sums) {
        for (row, key) in row.chunks_mut(LANES).zip(key.chunks(LANES)) {
            let faded = s.mul(s.load_part(row, 0.0), fade);
            s.store_part(row, faded);
            *sum = s.fma(faded, s.load_part(key, 0.0), *sum);
        }
    }
    let known = s.sums(&sums);
    let mut sums = [s.zero(); ROWS];
    for (index, (row, sum)) in held.chunks_exact_mut(key_dim).zip(&mut sums).enumerate() {
        let delta = s.splat((values[index] - known[index]) * beta);
        let with = key.chunks(LANES).zip(query.chunks(LANES));
        for (row, (key, query)) in row.chunks_mut(LANES).zip(with) {
            let learnt = s.fma(delta, s.load_part(key, 0.0), s.load_part(row, 0.0));
            s.store_part(row, learnt);
            *sum = s.fma(learnt, s.load_part(query, 0.0), *sum);
        }
    }
    read.copy_from_slice(&s.sums(&sums)[..read.len()]);
}
