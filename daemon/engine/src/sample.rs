//! From one row of logits to one token, on the host.
//!
//! The draw is a pure function of the logits, the [`Sampling`], what was generated, the tape position and the number of rewinds, so
//! the same job gives the same tokens whatever else the engine does meanwhile.

mod exp;
mod penalty;
mod pool;

pub(crate) use penalty::History;

use crate::{job::TokenId, sampling::Sampling};

/// What the model thinks of a position, with its mixture if the job has one, before any bias, penalty or constraint.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outlook {
    /// log of the sum of exponentials of the logits.
    pub(crate) normaliser: f32,
    /// Entropy in nats.
    pub(crate) entropy: f32,
    /// The likeliest tokens and their log probabilities.
    pub(crate) top: Vec<(TokenId, f32)>,
}

impl Outlook {
    /// With the `top_len` likeliest tokens. `None` when the row has no finite maximum (it holds NaN, or nothing but infinities).
    pub(crate) fn of(logits: &[f32], top_len: u32) -> Option<Outlook> {
        let sums = exp::sums(logits)?;
        let log_total = sums.total.ln();
        let normaliser = sums.max + log_total as f32;
        let entropy = log_total - sums.weighted / sums.total;
        let mut top = likeliest_few(logits, top_len as usize);
        top.iter_mut().for_each(|(_, logit)| *logit -= normaliser);
        Some(Outlook { normaliser, entropy: entropy.max(0.0) as f32, top })
    }
}

/// `ln Σ exp(x)`; `None` when that is no finite number.
pub(crate) fn log_sum_exp(logits: &[f32]) -> Option<f32> {
    exp::sums(logits).map(|sums| sums.max + sums.total.ln() as f32)
}

/// The tokens with the greatest logits, the greatest first, the first one of equals.
pub(crate) fn likeliest_few(logits: &[f32], count: usize) -> Vec<(TokenId, f32)> {
    const BLOCK: usize = 64;
    let mut top: Vec<(TokenId, f32)> = Vec::with_capacity(count + 1);
    if count == 0 {
        return top;
    }
    for (block, numbers) in logits.chunks(BLOCK).enumerate() {
        let least = if top.len() < count { f32::NEG_INFINITY } else { top[count - 1].1 };
        // Most blocks hold none: one look at all of it.
        if !numbers.iter().fold(false, |any, &logit| any | (logit > least)) {
            continue;
        }
        for (index, &logit) in numbers.iter().enumerate() {
            if logit > f32::NEG_INFINITY && (top.len() < count || logit > top[top.len() - 1].1) {
                let place = top.partition_point(|&(_, other)| other >= logit);
                top.insert(place, ((block * BLOCK + index) as TokenId, logit));
                top.truncate(count);
            }
        }
    }
    top
}

/// Draws tokens, and keeps the buffers for it.
#[derive(Debug, Default)]
pub(crate) struct Sampler {
    pool: pool::Pool,
    /// The model's own logits, where they are changed.
    raw: Vec<f32>,
}

impl Sampler {
    /// Remembers the model's own logits, before they are changed.
    pub(crate) fn remember(&mut self, logits: &[f32]) {
        self.raw.clear();
        self.raw.extend_from_slice(logits);
    }

    /// The remembered logit of a token.
    pub(crate) fn raw(&self, token: TokenId) -> Option<f32> {
        self.raw.get(token as usize).copied()
    }

    /// The normaliser of `logits`, which the remembered ones, whose normaliser is `own`, were changed into. Where nothing has changed
    /// there is nothing to sum.
    pub(crate) fn normaliser(&self, logits: &[f32], own: f32) -> f32 {
        const BLOCK: usize = 64;
        // One look at all of a block.
        let is_same = |(raw, changed): (&[f32], &[f32])| {
            raw.iter().zip(changed).fold(true, |same, (raw, changed)| same & (raw == changed))
        };
        let mut blocks = self.raw.chunks(BLOCK).zip(logits.chunks(BLOCK));
        if blocks.all(is_same) { own } else { log_sum_exp(logits).unwrap_or(own) }
    }

    /// Draws from constrained logits; `None` when every token is banned.
    pub(crate) fn draw(
        &mut self,
        logits: &[f32],
        sampling: &Sampling,
        position: usize,
        retry: u64,
    ) -> Option<TokenId> {
        // Also where it is not a number: a reseed is not checked.
        if sampling.temperature.is_nan() || sampling.temperature <= 0.0 {
            return likeliest(logits);
        }
        let chance = uniform(sampling.seed, position, retry, Purpose::Xtc);
        self.pool.fill(logits, sampling, chance)?;
        self.pool.pick(uniform(sampling.seed, position, retry, Purpose::Draw))
    }
}

/// Changes logits as bias and penalties say.
pub(crate) fn adjust(logits: &mut [f32], sampling: &Sampling, history: History<'_>) {
    penalty::apply(logits, sampling, history);
}

/// The token with the greatest logit, the first one of equals.
fn likeliest(logits: &[f32]) -> Option<TokenId> {
    const BLOCK: usize = 64;
    let greatest = exp::greatest(logits);
    if greatest == f32::NEG_INFINITY {
        return None;
    }
    // One look at all of a block.
    let is_in =
        |numbers: &[f32]| numbers.iter().fold(false, |any, &logit| any | (logit == greatest));
    let block = logits.chunks(BLOCK).position(is_in)?;
    let place = logits[block * BLOCK..].iter().position(|&logit| logit == greatest)?;
    Some((block * BLOCK + place) as TokenId)
}

/// What a random number is for: numbers for different purposes are independent.
#[derive(Debug, Clone, Copy)]
enum Purpose {
    Draw = 0,
    Xtc = 1,
}

/// A number in [0, 1) that depends on the arguments alone (SplitMix64 over their mix).
fn uniform(seed: u64, position: usize, retry: u64, purpose: Purpose) -> f64 {
    let mut bits = seed;
    for word in [position as u64, retry, purpose as u64] {
        bits = bits.wrapping_add(word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
    }
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests;
