//! A few query rows against one chunk of keys: the scores, their exponentials, and the mixture of the values.
//!
//! Every score is a sum over the dimensions in one order, every mixture one over the keys in ascending order: so neither the rows
//! that are computed together nor the parts that the keys lie in make a difference.

use crate::simd::{LANES, Simd, dispatch};

/// Keys whose exponentials are taken against one maximum. Chunks begin at multiples of this, wherever a sequence is cut.
pub(super) const CHUNK: usize = 512;
/// So many bytes before they are needed, keys and values are asked for.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 4096;
/// Values are mixed so many keys at a time, all their dimensions one after the other: memory is read in its order.
const BLOCK_KEYS: usize = 16;

/// Keys or values of consecutive positions of one head.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub(super) start: *const f32,
    /// Floats between rows.
    pub(super) stride: usize,
}

/// A stretch of a chunk that lies in one array.
#[derive(Clone, Copy)]
pub(super) struct Stretch {
    /// Its keys, counted from the chunk's first.
    pub(super) first: usize,
    pub(super) end: usize,
    /// Of the key `first`.
    pub(super) keys: Rows,
    pub(super) values: Rows,
}

/// A query.
#[derive(Clone, Copy)]
pub(super) struct Query {
    /// `dim` floats and zeros up to a multiple of [`LANES`]; already multiplied by the scale.
    pub(super) row: *const f32,
    /// The keys it sees, counted from the chunk's first.
    pub(super) first: usize,
    pub(super) end: usize,
}

/// What a row makes of some keys: the greatest score, the sum of exponentials against it, and the values mixed by these.
pub(super) struct Mixed<'a> {
    pub(super) greatest: &'a mut f32,
    pub(super) sum: &'a mut f32,
    /// A multiple of [`LANES`].
    pub(super) values: &'a mut [f32],
}

/// Floats of a head's dimensions, in whole vectors.
pub(super) fn padded(dim: usize) -> usize {
    dim.next_multiple_of(LANES)
}

dispatch! {
    /// Some queries against a chunk.
    ///
    /// All rows of the stretches can be read, of `dims` (keys, values) floats each; stretches cover what the queries see.
    pub(super) fn mix(queries: &[Query], stretches: &[Stretch], dims: (usize, usize), into: &mut [Mixed<'_>]) => mix_by
}

#[inline(always)]
fn mix_by<S: Simd>(
    s: S,
    queries: &[Query],
    stretches: &[Stretch],
    dims: (usize, usize),
    into: &mut [Mixed<'_>],
) {
    // The first rows bring the chunk nearer, for the others too.
    let mut done = match queries.len() {
        4.. => mix_rows::<S, 4, true>(s, queries, stretches, dims, into),
        2.. => mix_rows::<S, 2, true>(s, queries, stretches, dims, into),
        _ => mix_rows::<S, 1, true>(s, queries, stretches, dims, into),
    };
    while done < queries.len() {
        let (queries, into) = (&queries[done..], &mut into[done..]);
        done += match queries.len() {
            4.. => mix_rows::<S, 4, false>(s, queries, stretches, dims, into),
            2.. => mix_rows::<S, 2, false>(s, queries, stretches, dims, into),
            _ => mix_rows::<S, 1, false>(s, queries, stretches, dims, into),
        };
    }
}

#[inline(always)]
fn mix_rows<S: Simd, const R: usize, const F: bool>(
    s: S,
    queries: &[Query],
    stretches: &[Stretch],
    (dim, value_dim): (usize, usize),
    into: &mut [Mixed<'_>],
) -> usize {
    let queries: [Query; R] = std::array::from_fn(|row| queries[row]);
    let first = queries.iter().map(|query| query.first).min().unwrap_or(0);
    let end = queries.iter().map(|query| query.end).max().unwrap_or(0);
    let mut scores = [[0.0f32; CHUNK]; R];
    for stretch in stretches {
        let (from, to) = (stretch.first.max(first), stretch.end.min(end));
        if from < to {
            // SAFETY: the caller's: keys `from..to` are of this stretch and can be read.
            unsafe { score::<S, R, F>(s, &queries, stretch, from, to, dim, &mut scores) };
        }
    }
    for ((scores, query), mixed) in scores.iter_mut().zip(&queries).zip(&mut *into) {
        let bounds = (first / LANES * LANES, end.next_multiple_of(LANES).min(CHUNK));
        (*mixed.greatest, *mixed.sum) = exponentials(s, scores, query, bounds);
        mixed.values.fill(0.0);
    }
    // What all see, and before and after it what only some do; row by row in ascending order.
    let common_first = queries.iter().map(|query| query.first).max().unwrap_or(0);
    let common_end = queries.iter().map(|query| query.end).min().unwrap_or(0).max(common_first);
    let width = padded(value_dim);
    let values: [*mut f32; R] = std::array::from_fn(|row| into[row].values.as_mut_ptr());
    assert!(into[..R].iter().all(|mixed| mixed.values.len() >= width), "room for the values");
    for row in 0..R {
        let bounds = (queries[row].first, queries[row].end.min(common_first));
        // SAFETY: as above; `values` has room for all vectors.
        unsafe { add_alone::<S, F>(s, &scores[row], stretches, bounds, value_dim, values[row]) };
    }
    for stretch in stretches {
        let (from, to) = (stretch.first.max(common_first), stretch.end.min(common_end));
        if from < to {
            let scores: [&[f32; CHUNK]; R] = std::array::from_fn(|row| &scores[row]);
            // SAFETY: as above.
            unsafe { add_values::<S, R, F>(s, &scores, stretch, from, to, value_dim, &values) };
        }
    }
    for row in 0..R {
        let bounds = (queries[row].first.max(common_end), queries[row].end);
        // SAFETY: as above.
        unsafe { add_alone::<S, F>(s, &scores[row], stretches, bounds, value_dim, values[row]) };
    }
    R
}

/// Adds the values that one row sees between two keys.
///
/// # Safety
/// As for [`add_values`].
#[inline(always)]
unsafe fn add_alone<S: Simd, const F: bool>(
    s: S,
    scores: &[f32; CHUNK],
    stretches: &[Stretch],
    (from, to): (usize, usize),
    dim: usize,
    into: *mut f32,
) {
    for stretch in stretches {
        let (from, to) = (stretch.first.max(from), stretch.end.min(to));
        if from < to {
            // SAFETY: the caller's.
            unsafe { add_values::<S, 1, F>(s, &[scores], stretch, from, to, dim, &[into]) };
        }
    }
}

/// Products of the queries with the keys `from..to`.
///
/// # Safety
/// The keys can be read, and the queries as [`Query`] says.
#[inline(always)]
unsafe fn score<S: Simd, const R: usize, const F: bool>(
    s: S,
    queries: &[Query; R],
    stretch: &Stretch,
    from: usize,
    to: usize,
    dim: usize,
    scores: &mut [[f32; CHUNK]; R],
) {
    let mut key = from;
    // SAFETY: the caller's.
    unsafe {
        let rows = stretch.keys.start;
        let at = |key: usize| rows.add((key - stretch.first) * stretch.keys.stride);
        // As many sums as registers hold.
        macro_rules! by {
            ($keys:literal) => {
                while to - key >= $keys {
                    products::<S, R, $keys, F>(
                        s,
                        queries,
                        at(key),
                        stretch.keys.stride,
                        dim,
                        key,
                        scores,
                    );
                    key += $keys;
                }
            };
        }
        match S::SUMS / R {
            16 => by!(16),
            8 => by!(8),
            4 => by!(4),
            2 => by!(2),
            _ => {}
        }
        by!(1);
    }
}

/// Asks for what lies `AHEAD` of a vector, if `F`. The memory need not be there.
#[inline(always)]
fn ask_for<const F: bool>(from: *const f32) {
    #[cfg(target_arch = "x86_64")]
    if F {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, which fails in silence.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.wrapping_byte_add(AHEAD).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = from;
}

/// # Safety
/// As for [`score`], of `K` keys from `keys` on.
#[inline(always)]
unsafe fn products<S: Simd, const R: usize, const K: usize, const F: bool>(
    s: S,
    queries: &[Query; R],
    keys: *const f32,
    stride: usize,
    dim: usize,
    place: usize,
    scores: &mut [[f32; CHUNK]; R],
) {
    let mut sums = [s.zero(); 16];
    // SAFETY: the caller's.
    unsafe {
        let whole = dim / LANES * LANES;
        let mut at = 0;
        while at < whole {
            let mut vectors = [s.zero(); K];
            for (key, vector) in vectors.iter_mut().enumerate() {
                let key = keys.add(key * stride + at);
                ask_for::<F>(key);
                *vector = s.load(key);
            }
            for row in 0..R {
                let query = s.load(queries[row].row.add(at));
                for key in 0..K {
                    sums[row * K + key] = s.fma(query, vectors[key], sums[row * K + key]);
                }
            }
            at += LANES;
        }
        if whole < dim {
            for key in 0..K {
                let rest = std::slice::from_raw_parts(keys.add(key * stride + whole), dim - whole);
                let rest = s.load_part(rest, 0.0);
                for row in 0..R {
                    let query = s.load(queries[row].row.add(whole));
                    sums[row * K + key] = s.fma(query, rest, sums[row * K + key]);
                }
            }
        }
    }
    if R * K <= 4 {
        for (index, &sum) in sums[..R * K].iter().enumerate() {
            scores[index / K][place + index % K] = s.sum(sum);
        }
        return;
    }
    let sums = s.sums(&sums);
    for row in 0..R {
        scores[row][place..place + K].copy_from_slice(&sums[row * K..row * K + K]);
    }
}

/// Replaces the scores within `bounds` (whole vectors) by exponentials against their greatest, 0 where the query does not see; the
/// greatest score and the sum.
#[inline(always)]
fn exponentials<S: Simd>(
    s: S,
    scores: &mut [f32; CHUNK],
    query: &Query,
    (from, to): (usize, usize),
) -> (f32, f32) {
    let (first, end) = (query.first.max(from), query.end.min(to));
    if first >= end {
        scores[from..to.max(from)].fill(0.0);
        return (f32::NEG_INFINITY, 0.0);
    }
    scores[from..first].fill(f32::NEG_INFINITY);
    scores[end..to].fill(f32::NEG_INFINITY);
    let mut greatest = s.splat(f32::NEG_INFINITY);
    let vectors = scores[from..to].as_chunks_mut::<LANES>().0;
    for vector in &*vectors {
        // SAFETY: sixteen floats.
        greatest = s.max(unsafe { s.load(vector.as_ptr()) }, greatest);
    }
    let greatest = s.greatest(greatest);
    let (against, mut sum) = (s.splat(greatest), s.zero());
    for vector in vectors {
        // SAFETY: sixteen floats.
        unsafe {
            let y = s.exp(s.sub(s.load(vector.as_ptr()), against));
            s.store(vector.as_mut_ptr(), y);
            sum = s.add(sum, y);
        }
    }
    (greatest, s.sum(sum))
}

/// Adds the values of the keys `from..to`, times their exponentials, to `into`.
///
/// # Safety
/// The values can be read, and as many whole vectors of `into` be written as hold `dim` floats.
#[inline(always)]
unsafe fn add_values<S: Simd, const R: usize, const F: bool>(
    s: S,
    scores: &[&[f32; CHUNK]; R],
    stretch: &Stretch,
    from: usize,
    to: usize,
    dim: usize,
    into: &[*mut f32; R],
) {
    let mut block = from;
    while block < to {
        let end = if F { (block + BLOCK_KEYS).min(to) } else { to };
        // SAFETY: the caller's.
        unsafe { add_block::<S, R, F>(s, scores, stretch, block, end, dim, into) };
        block = end;
    }
}

/// # Safety
/// As for [`add_values`].
#[inline(always)]
unsafe fn add_block<S: Simd, const R: usize, const F: bool>(
    s: S,
    scores: &[&[f32; CHUNK]; R],
    stretch: &Stretch,
    from: usize,
    to: usize,
    dim: usize,
    into: &[*mut f32; R],
) {
    let mut at = 0;
    // SAFETY: the caller's.
    unsafe {
        let stride = stretch.values.stride;
        let values = stretch.values.start.add((from - stretch.first) * stride);
        let (weights, count) = (scores.map(|scores| scores.as_ptr().add(from)), to - from);
        macro_rules! by {
            ($vectors:literal) => {
                while at + $vectors * LANES <= dim {
                    add_vectors::<S, R, $vectors, F>(
                        s,
                        &weights,
                        values.add(at),
                        stride,
                        count,
                        &into.map(|into| into.add(at)),
                    );
                    at += $vectors * LANES;
                }
            };
        }
        match S::SUMS / R {
            8.. => by!(8),
            4 => by!(4),
            2 => by!(2),
            _ => {}
        }
        by!(1);
        if at < dim {
            for row in 0..R {
                let mut sum = s.load(into[row].add(at));
                for key in 0..count {
                    let value = std::slice::from_raw_parts(values.add(key * stride + at), dim - at);
                    sum = s.fma(s.splat(*weights[row].add(key)), s.load_part(value, 0.0), sum);
                }
                s.store(into[row].add(at), sum);
            }
        }
    }
}

/// # Safety
/// As for [`add_values`], of `N` vectors of each value.
#[inline(always)]
unsafe fn add_vectors<S: Simd, const R: usize, const N: usize, const F: bool>(
    s: S,
    weights: &[*const f32; R],
    values: *const f32,
    stride: usize,
    count: usize,
    into: &[*mut f32; R],
) {
    // SAFETY: the caller's.
    unsafe {
        // Loops and no closures: those would be functions of their own, without the instructions.
        let mut sums = [[s.zero(); N]; R];
        for (sums, into) in sums.iter_mut().zip(into) {
            for (vector, sum) in sums.iter_mut().enumerate() {
                *sum = s.load(into.add(vector * LANES));
            }
        }
        for key in 0..count {
            let mut value = [s.zero(); N];
            for (vector, value) in value.iter_mut().enumerate() {
                let from = values.add(key * stride + vector * LANES);
                ask_for::<F>(from);
                *value = s.load(from);
            }
            for row in 0..R {
                let weight = s.splat(*weights[row].add(key));
                for vector in 0..N {
                    sums[row][vector] = s.fma(weight, value[vector], sums[row][vector]);
                }
            }
        }
        for (sums, into) in sums.iter().zip(into) {
            for (vector, &sum) in sums.iter().enumerate() {
                s.store(into.add(vector * LANES), sum);
            }
        }
    }
}

dispatch! {
    /// What two stretches of keys give together: `more` is of the later ones.
    pub(super) fn merge(state: &mut Mixed<'_>, more: (f32, f32, &[f32])) => merge_by
}

#[inline(always)]
fn merge_by<S: Simd>(s: S, state: &mut Mixed<'_>, (greatest, sum, values): (f32, f32, &[f32])) {
    let both = if *state.greatest > greatest { *state.greatest } else { greatest };
    let mut factors = [*state.greatest, greatest];
    for factor in &mut factors {
        // Minus infinity less itself would be no number.
        let below = if *factor == f32::NEG_INFINITY { *factor } else { *factor - both };
        *factor = s.to_array(s.exp(s.splat(below)))[0];
    }
    let [old, new] = factors;
    *state.greatest = both;
    *state.sum = *state.sum * old + sum * new;
    let (old, new) = (s.splat(old), s.splat(new));
    let vectors = state.values.as_chunks_mut::<LANES>().0.iter_mut();
    for (state, more) in vectors.zip(values.as_chunks::<LANES>().0) {
        // SAFETY: sixteen floats each.
        unsafe {
            let kept = s.mul(s.load(state.as_ptr()), old);
            s.store(state.as_mut_ptr(), s.fma(s.load(more.as_ptr()), new, kept));
        }
    }
}
