//! A gated delta net between its projections: a short convolution, the scan over the tokens, a gated norm (Yang et al., *Gated Delta
//! Networks: Improving Mamba2 with Delta Rule*, arXiv 2412.06464).
//!
//! Every value head has a memory `S`, `[value_dim, key_dim]`. Each token lets it fade, corrects what it knows of the token's key
//! towards the token's value, and asks it the token's query:
//!
//! ```text
//! S ← g·S;   S ← S + β·(v − S·k)·kᵀ;   y = S·q
//! ```
//!
//! The rows of a memory do not meet: each goes through all tokens by itself, while it lies in the cache. So a token's result is the
//! same to the bit whether it comes alone or behind others of its pass.

mod scan;

use scan::{Inputs, scan};

use crate::{
    buffer::{Scratch, Shared},
    norm::factor_by,
    pool,
    simd::{LANES, Simd, dispatch},
};

/// Added to the squared length of a query or key before it is divided by.
const LENGTH_EPS: f64 = 1e-6;
/// Tokens of a task of the convolution and of the norm.
const TASK_TOKENS: usize = 8;

/// The sizes of a delta net. Value heads share the key heads evenly, neighbours the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeltaShape {
    /// Of queries and keys.
    pub key_heads: usize,
    /// A multiple of `key_heads`.
    pub value_heads: usize,
    /// Floats of a query or key.
    pub key_dim: usize,
    /// Floats of a value.
    pub value_dim: usize,
    /// Tokens that the convolution sees.
    pub kernel: usize,
}

impl DeltaShape {
    /// Floats of all queries, keys and values of a token, which the convolution goes over.
    pub fn channels(self) -> usize {
        2 * self.key_heads * self.key_dim + self.width()
    }

    /// Floats of a token's values.
    pub fn width(self) -> usize {
        self.value_heads * self.value_dim
    }

    fn keys(self) -> usize {
        self.key_heads * self.key_dim
    }
}

/// A delta net's own weights.
#[derive(Debug, Clone, Copy)]
pub struct DeltaNet<'a> {
    /// Its sizes.
    pub shape: DeltaShape,
    /// The taps of the convolution, `[kernel, channels]`, the oldest token's first.
    pub taps: &'a [f32],
    /// How fast each value head forgets, a logarithm.
    pub a_log: &'a [f32],
    /// Added to each value head's gate.
    pub dt_bias: &'a [f32],
    /// The weight of the norm over a head's result, `[value_dim]`.
    pub norm: &'a [f32],
    /// Of that norm.
    pub eps: f32,
}

/// What the projections make of tokens.
#[derive(Debug, Clone, Copy)]
pub struct DeltaTokens<'a> {
    /// Queries, keys and values of all heads, one after the other: `[tokens, channels]`.
    pub qkv: &'a [f32],
    /// The gate of the result, `[tokens, value_heads, value_dim]`.
    pub z: &'a [f32],
    /// The gate of what is written, before its sigmoid, `[tokens, value_heads]`.
    pub b: &'a [f32],
    /// What is forgotten, likewise.
    pub a: &'a [f32],
}

impl DeltaNet<'_> {
    /// Runs tokens through the net, behind those that have left `before`, `[kernel - 1, channels]`, the last inputs of the convolution,
    /// and `memory`, `[value_heads, value_dim, key_dim]`; both are brought up to date. `into` is `[tokens, value_heads, value_dim]`.
    ///
    /// # Panics
    /// If a slice has not the size that the shape says.
    pub fn forward(
        &self,
        tokens: &DeltaTokens<'_>,
        before: &mut [f32],
        memory: &mut [f32],
        into: &mut [f32],
    ) {
        let shape = self.shape;
        let (channels, width, heads) = (shape.channels(), shape.width(), shape.value_heads);
        assert!(shape.kernel >= 1 && shape.value_dim >= 1 && shape.key_dim >= 1, "{shape:?}");
        assert!(
            shape.key_heads >= 1 && heads >= 1 && heads.is_multiple_of(shape.key_heads),
            "{shape:?}"
        );
        assert!(self.norm.len() == shape.value_dim, "{} weights of a norm", self.norm.len());
        assert!(self.a_log.len() == heads && self.dt_bias.len() == heads);
        let count = tokens.qkv.len() / channels;
        assert!(tokens.qkv.len() == count * channels && tokens.z.len() == count * width);
        assert!(tokens.b.len() == count * heads && tokens.a.len() == count * heads);
        assert!(before.len() == (shape.kernel - 1) * channels && into.len() == count * width);
        assert!(
            self.taps.len() == shape.kernel * channels && memory.len() == width * shape.key_dim
        );
        let mut convolved = Scratch::new(count * channels);
        self.convolve(tokens.qkv, before, count, &mut convolved);
        remember(before, tokens.qkv);
        let gates = self.gates(tokens, count);
        let inputs = Inputs { shape, tokens: count, rows: &convolved, gates: &gates };
        scan(&inputs, memory, into);
        self.gate(tokens.z, into);
    }

    /// Convolution, its activation, and the lengths of queries and keys.
    fn convolve(&self, qkv: &[f32], before: &[f32], count: usize, convolved: &mut [f32]) {
        let (shape, channels) = (self.shape, self.shape.channels());
        let inverse = (shape.key_dim as f64).powf(-0.5);
        let eps = (LENGTH_EPS * inverse * inverse) as f32;
        let to_convolved = Shared::new(convolved);
        pool().run(count.div_ceil(TASK_TOKENS), &|task| {
            for token in task * TASK_TOKENS..count.min((task + 1) * TASK_TOKENS) {
                // SAFETY: each token's row belongs to one task, and the rows outlive the region.
                let row = unsafe { to_convolved.part(token * channels, channels) };
                row.fill(0.0);
                for (tap, taps) in self.taps.chunks_exact(channels).enumerate() {
                    let at = (token + tap) * channels;
                    let input = match at.checked_sub(before.len()) {
                        Some(at) => &qkv[at..at + channels],
                        None => &before[at..at + channels],
                    };
                    add_products(taps, input, row);
                }
                silu(row);
                let (queries, rest) = row.split_at_mut(shape.keys());
                for head in queries.chunks_exact_mut(shape.key_dim) {
                    to_length(head, eps, (inverse * inverse) as f32);
                }
                for head in rest[..shape.keys()].chunks_exact_mut(shape.key_dim) {
                    to_length(head, eps, inverse as f32);
                }
            }
        });
    }

    /// What is left of each head's memory at each token, and how much is written.
    fn gates(&self, tokens: &DeltaTokens<'_>, count: usize) -> Vec<[f32; 2]> {
        let heads = self.shape.value_heads;
        let place = |at: usize| {
            let x = f64::from(tokens.a[at] + self.dt_bias[at % heads]);
            let softplus = x.max(0.0) + (-x.abs()).exp().ln_1p();
            let softplus = if x.is_nan() { x } else { softplus };
            let decay = (-f64::from(self.a_log[at % heads]).exp() * softplus).exp();
            let beta = 1.0 / (1.0 + (-f64::from(tokens.b[at])).exp());
            [decay as f32, beta as f32]
        };
        (0..count * heads).map(place).collect()
    }

    /// The norm of each head's result, times the activation of `z`.
    fn gate(&self, z: &[f32], results: &mut [f32]) {
        let (dim, span) = (self.shape.value_dim, TASK_TOKENS * self.shape.width());
        let (len, results) = (results.len(), Shared::new(results));
        pool().run(len.div_ceil(span), &|task| {
            let first = task * span;
            // SAFETY: each task has tokens of its own, and the results outlive the region.
            let rows = unsafe { results.part(first, span.min(len - first)) };
            for (row, z) in rows.chunks_exact_mut(dim).zip(z[first..].chunks_exact(dim)) {
                gated_norm(row, z, self.norm, self.eps);
            }
        });
    }
}

/// The last inputs of the convolution, after those of `qkv`.
fn remember(before: &mut [f32], qkv: &[f32]) {
    let len = before.len();
    if qkv.len() >= len {
        before.copy_from_slice(&qkv[qkv.len() - len..]);
    } else {
        before.copy_within(qkv.len().., 0);
        before[len - qkv.len()..].copy_from_slice(qkv);
    }
}

dispatch! {
    /// `sums += taps ⊙ x`
    fn add_products(taps: &[f32], x: &[f32], sums: &mut [f32]) => add_products_by
}

#[inline(always)]
fn add_products_by<S: Simd>(s: S, taps: &[f32], x: &[f32], sums: &mut [f32]) {
    for ((taps, x), sums) in taps.chunks(LANES).zip(x.chunks(LANES)).zip(sums.chunks_mut(LANES)) {
        let sum = s.fma(s.load_part(taps, 0.0), s.load_part(x, 0.0), s.load_part(sums, 0.0));
        s.store_part(sums, sum);
    }
}

dispatch! {
    /// `x · sigmoid(x)`
    fn silu(x: &mut [f32]) => silu_by
}

#[inline(always)]
fn silu_by<S: Simd>(s: S, x: &mut [f32]) {
    for part in x.chunks_mut(LANES) {
        let x = s.load_part(part, 0.0);
        s.store_part(part, activated(s, x));
    }
}

#[inline(always)]
fn activated<S: Simd>(s: S, x: S::V) -> S::V {
    let one = s.splat(1.0);
    s.div(x, s.add(one, s.exp(s.sub(s.zero(), x))))
}

dispatch! {
    /// Gives a query or key the length of `scale`.
    fn to_length(x: &mut [f32], eps: f32, scale: f32) => to_length_by
}

#[inline(always)]
fn to_length_by<S: Simd>(s: S, x: &mut [f32], eps: f32, scale: f32) {
    let factor = factor_by(s, x, eps);
    x.iter_mut().for_each(|x| *x = scale * (*x * factor));
}

dispatch! {
    /// The norm of `row`, times the activation of `z`.
    fn gated_norm(row: &mut [f32], z: &[f32], weight: &[f32], eps: f32) => gated_norm_by
}

#[inline(always)]
fn gated_norm_by<S: Simd>(s: S, row: &mut [f32], z: &[f32], weight: &[f32], eps: f32) {
    let factor = s.splat(factor_by(s, row, eps));
    let parts = row.chunks_mut(LANES).zip(z.chunks(LANES)).zip(weight.chunks(LANES));
    for ((part, z), weight) in parts {
        let normal = s.mul(s.mul(s.load_part(part, 0.0), factor), s.load_part(weight, 0.0));
        s.store_part(part, s.mul(activated(s, s.load_part(z, 0.0)), normal));
    }
}

#[cfg(test)]
mod tests;
