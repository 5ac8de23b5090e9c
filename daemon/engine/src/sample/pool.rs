//! The tokens that may still be drawn, narrowed down stage by stage.
//!
//! Nothing is sorted: a stage finds the level at which enough tokens are in, and keeps what reaches it. The tokens stay in the order
//! of the vocabulary, so that logits which differ in their last bits give the same draw.

use super::exp;
use crate::{
    job::TokenId,
    sampling::{Sampling, Stage},
};

/// Tokens e⁻³² times as likely as the likeliest are never drawn: all of a vocabulary's together have less than 10⁻⁸.
const NEVER: f32 = 32.0;
/// Tokens e⁻¹⁶ times as likely as the likeliest are looked at only where the others do not decide.
const NEAR: f32 = 16.0;
/// Lower temperatures draw as this one does, so that no difference of logits divided by them is infinite.
const COLDEST: f32 = 1e-6;
/// Logits that are looked at together.
const BLOCK: usize = 64;
/// Levels that [`Pool::keep_best`] sorts the tokens into.
const LEVELS: usize = 2048;

/// What is left, with logits.
#[derive(Debug, Default)]
pub(super) struct Pool {
    tokens: Vec<TokenId>,
    /// Relative to the likeliest token of the whole row, divided by the temperature once that stage has come.
    logits: Vec<f32>,
    weights: Vec<f32>,
    keys: Vec<f32>,
}

impl Pool {
    /// Fills the pool with what `sampling` leaves of `logits`. `chance` is a number in [0, 1) that decides whether XTC comes in.
    /// `None` when every token is banned.
    pub(super) fn fill(&mut self, logits: &[f32], sampling: &Sampling, chance: f64) -> Option<()> {
        // A constraint may have written anything: what is not a number is banned.
        let max = exp::greatest(logits);
        if max == f32::NEG_INFINITY {
            return None;
        }
        if max == f32::INFINITY {
            let first = logits.iter().position(|&logit| logit == f32::INFINITY)?;
            (self.tokens, self.logits) = (vec![first as TokenId], vec![0.0]);
            self.weigh();
            return Some(());
        }
        let stages: Vec<Stage> =
            sampling.order.0.into_iter().filter(|stage| works(*stage, sampling, chance)).collect();
        let warmth = sampling.temperature.max(1.0);
        if !self.narrow(logits, max, &stages, sampling) {
            self.gather(logits, max - NEVER * warmth, max);
            for &stage in &stages {
                self.pass(stage, sampling);
            }
        }
        self.weigh();
        Some(())
    }

    /// The same with the likely tokens alone, where the first stage that leaves tokens out needs no others: `false` where it does.
    fn narrow(&mut self, logits: &[f32], max: f32, stages: &[Stage], sampling: &Sampling) -> bool {
        let cut = stages.iter().find(|stage| **stage != Stage::Temperature);
        let Some(cut @ (Stage::TopK | Stage::TopP | Stage::MinP)) = cut.copied() else {
            return false;
        };
        let least = max - NEAR * sampling.temperature.max(1.0);
        self.gather(logits, least, max);
        let mut is_cut = false;
        for &stage in stages {
            if stage == cut {
                is_cut = true;
                let suffices = match stage {
                    Stage::TopK => self.tokens.len() >= sampling.top_k as usize,
                    Stage::MinP => -sampling.min_p.ln() <= NEAR,
                    _ => {
                        let is_warm = stages.iter().take_while(|stage| **stage != cut).count() > 0;
                        let scale =
                            if is_warm { 1.0 / sampling.temperature.max(COLDEST) } else { 1.0 };
                        self.top_p(sampling.top_p, exp::tail(logits, least, max, scale))
                    }
                };
                if !suffices {
                    return false;
                }
                if stage == Stage::TopP {
                    continue;
                }
            }
            self.pass(stage, sampling);
        }
        is_cut
    }

    fn pass(&mut self, stage: Stage, sampling: &Sampling) {
        match stage {
            Stage::Temperature => self.temper(sampling.temperature),
            Stage::TopK => self.top_k(sampling.top_k as usize),
            Stage::TopP => {
                self.top_p(sampling.top_p, 0.0);
            }
            Stage::MinP => self.min_p(sampling.min_p),
            Stage::Typical => self.typical(sampling.typical_p),
            Stage::Xtc => self.xtc(sampling),
        }
    }

    /// What may be drawn and how likely each is; the probabilities sum to one.
    #[cfg(test)]
    pub(super) fn distribution(&self) -> Vec<(TokenId, f64)> {
        let total: f64 = self.weights.iter().map(|&weight| f64::from(weight)).sum();
        let shares = self.weights.iter().map(|&weight| f64::from(weight) / total);
        self.tokens.iter().copied().zip(shares).collect()
    }

    /// The token at the place `at` of the distribution, from 0 to 1.
    pub(super) fn pick(&self, at: f64) -> Option<TokenId> {
        let total: f64 = self.weights.iter().map(|&weight| f64::from(weight)).sum();
        let mut left = at * total;
        for (&token, &weight) in self.tokens.iter().zip(&self.weights) {
            left -= f64::from(weight);
            if left < 0.0 {
                return Some(token);
            }
        }
        self.tokens.last().copied()
    }

    /// The tokens from `least` on, with their logits less `max`.
    fn gather(&mut self, logits: &[f32], least: f32, max: f32) {
        self.tokens.clear();
        self.logits.clear();
        for (block, numbers) in logits.chunks(BLOCK).enumerate() {
            // Most blocks hold none: one look at all of it.
            if !numbers.iter().fold(false, |any, &logit| any | (logit >= least)) {
                continue;
            }
            for (index, &logit) in numbers.iter().enumerate() {
                if logit >= least && logit > f32::NEG_INFINITY {
                    self.tokens.push((block * BLOCK + index) as TokenId);
                    self.logits.push(logit - max);
                }
            }
        }
    }

    fn temper(&mut self, temperature: f32) {
        let warmth = temperature.max(COLDEST);
        self.logits.iter_mut().for_each(|logit| *logit /= warmth);
    }

    fn top_k(&mut self, count: usize) {
        if count >= self.tokens.len() {
            return;
        }
        self.weights.clear();
        self.weights.resize(self.tokens.len(), 1.0);
        self.key_by_logit();
        self.keep_best(count as f64);
        if self.tokens.len() > count {
            // Equals at the edge: the first ones of the vocabulary stay.
            let edge = self.logits.iter().copied().fold(f32::INFINITY, f32::min);
            let mut room = count - self.logits.iter().filter(|&&logit| logit > edge).count();
            self.retain(|_, logit| {
                logit > edge || {
                    let stays = room > 0;
                    room = room.saturating_sub(1);
                    stays
                }
            });
        }
    }

    /// `tail` is the weight of what is not in the pool. `false` when the tokens in it do not reach the share.
    fn top_p(&mut self, share: f32, tail: f64) -> bool {
        self.weigh();
        self.key_by_logit();
        let total: f64 = self.weights.iter().map(|&weight| f64::from(weight)).sum();
        let enough = f64::from(share) * (total + tail);
        let suffices = tail == 0.0 || enough < total;
        if suffices {
            self.keep_best(enough);
        }
        suffices
    }

    fn min_p(&mut self, share: f32) {
        let least = self.best() + share.ln();
        self.retain(|_, logit| logit >= least);
    }

    fn typical(&mut self, share: f32) {
        self.weigh();
        let best = self.best();
        let total: f64 = self.weights.iter().map(|&weight| f64::from(weight)).sum();
        let of_weights = self.logits.iter().zip(&self.weights);
        let mean: f64 = of_weights
            .map(|(&logit, &weight)| f64::from(logit - best) * f64::from(weight) / total)
            .sum();
        // The surprise less its expectation; the logarithm of the total is in both.
        self.keys.clear();
        let surprises = self.logits.iter().map(|&logit| ((logit - best) - mean as f32).abs());
        self.keys.extend(surprises);
        self.keep_best(f64::from(share) * total);
    }

    fn xtc(&mut self, sampling: &Sampling) {
        self.weigh();
        let total: f64 = self.weights.iter().map(|&weight| f64::from(weight)).sum();
        let enough = (f64::from(sampling.xtc.threshold) * total) as f32;
        let obvious = self.weights.iter().zip(&self.logits).filter(|&(&weight, _)| weight > enough);
        let least = obvious.map(|(_, &logit)| logit).fold(f32::INFINITY, f32::min);
        let exempt = sampling.exempt.as_deref();
        self.retain(|token, logit| {
            logit <= least || exempt.is_some_and(|exempt| exempt.contains(token))
        });
    }

    fn best(&self) -> f32 {
        self.logits.iter().copied().fold(f32::NEG_INFINITY, f32::max)
    }

    /// The weights of what is left: 1 for the likeliest.
    fn weigh(&mut self) {
        let best = self.best();
        self.weights.clear();
        self.weights.extend(self.logits.iter().map(|&logit| exp::exp((logit - best).max(-87.0))));
    }

    fn key_by_logit(&mut self) {
        let best = self.best();
        self.keys.clear();
        self.keys.extend(self.logits.iter().map(|&logit| best - logit));
    }

    /// Keeps the tokens with the smallest keys whose weights reach `enough`, and their equals; at least one.
    fn keep_best(&mut self, enough: f64) {
        let greatest = self.keys.iter().copied().fold(0.0, f32::max);
        let scale = (LEVELS - 1) as f32 / greatest.max(f32::MIN_POSITIVE);
        let level = |key: f32| ((key * scale) as usize).min(LEVELS - 1);
        let mut masses = [0.0f64; LEVELS];
        for (&key, &weight) in self.keys.iter().zip(&self.weights) {
            masses[level(key)] += f64::from(weight);
        }
        let mut reached = 0.0;
        let edge = masses.iter().position(|mass| {
            let is_edge = reached + mass >= enough;
            if !is_edge {
                reached += mass;
            }
            is_edge
        });
        // Rounding may leave the sum short of the whole.
        let Some(edge) = edge else { return };
        let of_edge = self.keys.iter().zip(&self.weights).filter(|&(&key, _)| level(key) == edge);
        let mut within: Vec<(f32, f32)> = of_edge.map(|(&key, &weight)| (key, weight)).collect();
        within.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let last = within.iter().find(|&&(_, weight)| {
            reached += f64::from(weight);
            reached >= enough
        });
        let Some(&(most, _)) = last.or(within.last()) else { return };
        let mut index = 0;
        let keys = std::mem::take(&mut self.keys);
        self.retain(|_, _| {
            index += 1;
            keys[index - 1] <= most
        });
        self.keys = keys;
    }

    fn retain(&mut self, mut stays: impl FnMut(TokenId, f32) -> bool) {
        let mut kept = 0;
        for index in 0..self.tokens.len() {
            let (token, logit) = (self.tokens[index], self.logits[index]);
            if stays(token, logit) {
                self.tokens[kept] = token;
                self.logits[kept] = logit;
                kept += 1;
            }
        }
        self.tokens.truncate(kept);
        self.logits.truncate(kept);
    }
}

/// Whether a stage does anything.
fn works(stage: Stage, sampling: &Sampling, chance: f64) -> bool {
    match stage {
        Stage::Temperature => sampling.temperature != 1.0,
        Stage::TopK => sampling.top_k > 0,
        Stage::TopP => sampling.top_p < 1.0,
        Stage::MinP => sampling.min_p > 0.0,
        Stage::Typical => sampling.typical_p < 1.0,
        Stage::Xtc => chance < f64::from(sampling.xtc.probability),
    }
}
