//! From one row of logits to one token, on the host.
//!
//! The draw is a pure function of the logits, the [`Sampling`], the tape position and the number of rewinds, so the same job
//! gives the same tokens whatever else the engine does meanwhile.

use crate::job::{Sampling, TOP_LEN_MAX, TokenId};

/// What the model thinks of a position, before any constraint.
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
    /// `None` when the row has no finite maximum (it holds NaN, or nothing but infinities).
    pub(crate) fn of(logits: &[f32]) -> Option<Outlook> {
        let normaliser = log_sum_exp(logits)?;
        let mut top: Vec<(TokenId, f32)> = Vec::with_capacity(TOP_LEN_MAX + 1);
        let mut surprise = 0.0f64;
        for (token, &logit) in logits.iter().enumerate() {
            let logprob = logit - normaliser;
            if logprob > f32::NEG_INFINITY {
                surprise -= f64::from(logprob.exp()) * f64::from(logprob);
            }
            if top.len() < TOP_LEN_MAX || top.last().is_some_and(|&(_, least)| logprob > least) {
                let place = top.partition_point(|&(_, other)| other >= logprob);
                top.insert(place, (token as TokenId, logprob));
                top.truncate(TOP_LEN_MAX);
            }
        }
        Some(Outlook { normaliser, entropy: surprise.max(0.0) as f32, top })
    }
}

/// `ln Σ exp(x)`; `None` when that is no finite number.
pub(crate) fn log_sum_exp(logits: &[f32]) -> Option<f32> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if !max.is_finite() || logits.iter().any(|logit| logit.is_nan()) {
        return None;
    }
    let sum: f64 = logits.iter().map(|&logit| f64::from((logit - max).exp())).sum();
    Some(max + sum.ln() as f32)
}

/// Draws from (constrained) logits; `None` when every token is banned.
pub(crate) fn draw(
    logits: &[f32],
    sampling: &Sampling,
    position: usize,
    retry: u64,
) -> Option<TokenId> {
    if sampling.temperature <= 0.0 {
        return likeliest(logits);
    }
    let mut ranked = candidates(logits, sampling);
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    if sampling.top_k > 0 {
        ranked.truncate(sampling.top_k as usize);
    }
    let best = ranked.first()?.1;
    let mut total = 0.0f64;
    let mut weights: Vec<f64> = Vec::with_capacity(ranked.len());
    for &(_, logit) in &ranked {
        let weight = (f64::from(logit - best) / f64::from(sampling.temperature)).exp();
        total += weight;
        weights.push(weight);
    }
    let kept = nucleus(&weights, total, sampling);
    let total: f64 = weights[..kept].iter().sum();
    let mut left = uniform(sampling.seed, position, retry) * total;
    for (index, weight) in weights[..kept].iter().enumerate() {
        left -= weight;
        if left < 0.0 {
            return Some(ranked[index].0);
        }
    }
    Some(ranked[kept - 1].0)
}

/// The tokens that are not banned and can still matter. Ones that are e⁻⁶⁰ times as likely as the best never get drawn; leaving
/// them out keeps the sort short.
fn candidates(logits: &[f32], sampling: &Sampling) -> Vec<(TokenId, f32)> {
    const NEVER: f32 = 60.0;
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut least = max - NEVER * sampling.temperature.max(f32::MIN_POSITIVE);
    if sampling.min_p > 0.0 {
        least = least.max(max + sampling.min_p.min(1.0).ln() * sampling.temperature);
    }
    let tokens = logits
        .iter()
        .enumerate()
        .filter(|&(_, &logit)| logit >= least && logit > f32::NEG_INFINITY);
    tokens.map(|(token, &logit)| (token as TokenId, logit)).collect()
}

/// How many of the ranked tokens top-p and min-p leave; at least one.
fn nucleus(weights: &[f64], total: f64, sampling: &Sampling) -> usize {
    let mut kept = weights.len();
    if sampling.top_p < 1.0 {
        let mut reached = 0.0;
        let enough = f64::from(sampling.top_p.max(0.0)) * total;
        let last = weights.iter().position(|weight| {
            reached += weight;
            reached >= enough
        });
        kept = last.map_or(weights.len(), |index| index + 1);
    }
    if sampling.min_p > 0.0 {
        let least = f64::from(sampling.min_p) * weights[0];
        kept = kept.min(weights.partition_point(|&weight| weight >= least));
    }
    kept.max(1)
}

/// The token with the greatest logit, the first one of equals.
fn likeliest(logits: &[f32]) -> Option<TokenId> {
    let mut best = (None, f32::NEG_INFINITY);
    for (token, &logit) in logits.iter().enumerate() {
        if logit > best.1 {
            best = (Some(token as TokenId), logit);
        }
    }
    best.0
}

/// A number in [0, 1) that depends on the arguments alone (SplitMix64 over their mix).
fn uniform(seed: u64, position: usize, retry: u64) -> f64 {
    let mut bits = seed;
    for word in [position as u64, retry, 0] {
        bits = bits.wrapping_add(word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
    }
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests;
