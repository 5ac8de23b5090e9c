//! What is added to and taken from logits before the tokens are narrowed down.

use std::collections::HashMap;

use crate::{
    job::TokenId,
    sampling::{Dry, Penalty, Sampling},
};

/// What came before the token to be drawn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct History<'a> {
    pub(crate) prompt: &'a [TokenId],
    pub(crate) tape: &'a [TokenId],
}

impl History<'_> {
    /// The latest tokens, the newest first: at most `window` of them, all where that is 0.
    fn latest(&self, window: u32, with_prompt: bool) -> impl Iterator<Item = TokenId> {
        let prompt = if with_prompt { self.prompt } else { &[] };
        let window = if window == 0 { usize::MAX } else { window as usize };
        self.tape.iter().rev().chain(prompt.iter().rev()).copied().take(window)
    }
}

/// Changes `logits` as bias and penalties say.
pub(super) fn apply(logits: &mut [f32], sampling: &Sampling, history: History<'_>) {
    for &(token, bias) in &sampling.bias {
        if let Some(logit) = logits.get_mut(token as usize) {
            *logit += bias;
        }
    }
    let exempt = sampling.exempt.as_deref();
    let mut change = |token: TokenId, change: &dyn Fn(f32) -> f32| {
        if exempt.is_none_or(|exempt| !exempt.contains(token))
            && let Some(logit) = logits.get_mut(token as usize)
        {
            *logit = change(*logit);
        }
    };
    let Sampling { repetition, presence, frequency, dry, .. } = sampling;
    if repetition.amount != 1.0 {
        let amount = repetition.amount;
        let punished = |logit: f32| if logit < 0.0 { logit * amount } else { logit / amount };
        counts(history, repetition).for_each(|(token, _)| change(token, &punished));
    }
    if presence.amount != 0.0 {
        counts(history, presence)
            .for_each(|(token, _)| change(token, &|logit| logit - presence.amount));
    }
    if frequency.amount != 0.0 {
        counts(history, frequency).for_each(|(token, count)| {
            change(token, &|logit| logit - frequency.amount * count as f32);
        });
    }
    if dry.multiplier > 0.0 {
        repeats(history, dry)
            .into_iter()
            .for_each(|(token, len)| change(token, &|logit| logit - cost(dry, len)));
    }
}

fn counts(history: History<'_>, penalty: &Penalty) -> impl Iterator<Item = (TokenId, u32)> {
    let mut counts: HashMap<TokenId, u32> = HashMap::new();
    for token in history.latest(penalty.window, penalty.with_prompt) {
        *counts.entry(token).or_default() += 1;
    }
    counts.into_iter()
}

fn cost(dry: &Dry, len: u32) -> f32 {
    let beyond = (len - dry.allowed_len).min(1000) as i32;
    (dry.multiplier * dry.base.powi(beyond)).min(dry.cap)
}

/// The tokens that would make a repetition longer which is long enough to be charged for, with its length so far.
fn repeats(history: History<'_>, dry: &Dry) -> HashMap<TokenId, u32> {
    // Newest first, so a repetition of what came last is a common beginning with what came earlier.
    let latest: Vec<TokenId> = history.latest(dry.window, dry.with_prompt).collect();
    let free = latest.iter().position(|token| dry.breakers.contains(token));
    let longest = free.unwrap_or(latest.len());
    let mut found = HashMap::new();
    for (start, len) in beginnings(&latest).into_iter().enumerate().skip(1) {
        let len = len.min(longest) as u32;
        if len >= dry.allowed_len.max(1) {
            let slot = found.entry(latest[start - 1]).or_insert(0);
            *slot = len.max(*slot);
        }
    }
    found
}

/// How long the beginning of `tokens` is that stands at each place again (the Z function).
fn beginnings(tokens: &[TokenId]) -> Vec<usize> {
    let mut lens = vec![0; tokens.len()];
    let (mut left, mut right) = (0, 0);
    for start in 1..tokens.len() {
        let mut len = if start < right { lens[start - left].min(right - start) } else { 0 };
        while start + len < tokens.len() && tokens[len] == tokens[start + len] {
            len += 1;
        }
        if start + len > right {
            (left, right) = (start, start + len);
        }
        lens[start] = len;
    }
    lens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(sampling: &Sampling, prompt: &[TokenId], tape: &[TokenId]) -> Vec<f32> {
        let mut logits = vec![2.0, -2.0, 1.0, 0.0, 4.0];
        apply(&mut logits, sampling, History { prompt, tape });
        logits
    }

    #[test]
    fn penalties_count_what_their_window_holds() {
        let presence = Penalty { amount: 0.5, window: 3, with_prompt: true };
        let plain = Sampling::GREEDY;
        assert_eq!(
            after(&Sampling { presence, ..plain.clone() }, &[4, 0, 0], &[1, 1]),
            [1.5, -2.5, 1.0, 0.0, 4.0]
        );
        let alone = Penalty { with_prompt: false, ..presence };
        assert_eq!(
            after(&Sampling { frequency: alone, ..plain.clone() }, &[4, 0, 0], &[1, 1]),
            [2.0, -3.0, 1.0, 0.0, 4.0]
        );
        let repetition = Penalty { amount: 2.0, window: 0, with_prompt: true };
        assert_eq!(
            after(&Sampling { repetition, ..plain.clone() }, &[4, 0, 0], &[1, 1]),
            [1.0, -4.0, 1.0, 0.0, 2.0]
        );
        let exempt = Some(std::sync::Arc::new([0, 1].into_iter().collect()));
        assert_eq!(
            after(&Sampling { repetition, exempt, ..plain }, &[4, 0, 0], &[1, 1]),
            [2.0, -2.0, 1.0, 0.0, 2.0]
        );
    }

    #[test]
    fn what_would_go_on_with_a_repetition_costs_more_the_longer_it_is() {
        let dry = Dry { multiplier: 1.0, base: 2.0, cap: 100.0, window: 0, ..Dry::OFF };
        let lens = |tape: &[TokenId], dry: &Dry| {
            let mut found: Vec<_> =
                repeats(History { prompt: &[], tape }, dry).into_iter().collect();
            found.sort_unstable();
            found
        };
        // "0 1 2 3" came before, "0 1 2" is there again: 3 would make it four long.
        assert_eq!(lens(&[0, 1, 2, 3, 4, 0, 1, 2], &dry), [(3, 3)]);
        assert_eq!(lens(&[0, 1, 2, 3, 4, 0], &dry), []);
        assert_eq!(lens(&[1, 1, 1, 1], &dry), [(1, 3)]);
        let broken = Dry { breakers: vec![1], ..dry.clone() };
        assert_eq!(lens(&[0, 1, 2, 3, 4, 0, 1, 2], &broken), []);
        assert_eq!(lens(&[1, 2, 0, 2, 3, 1, 2, 0, 2], &broken), [(3, 3)]);
        let short = Dry { window: 5, ..dry.clone() };
        assert_eq!(lens(&[0, 1, 2, 3, 4, 0, 1, 2], &short), []);
        let sampling = Sampling { dry: dry.clone(), ..Sampling::GREEDY };
        let logits = after(&sampling, &[], &[0, 1, 2, 3, 4, 0, 1, 2]);
        assert_eq!(logits, [2.0, -2.0, 1.0, -2.0, 4.0]);
        let capped = Sampling { dry: Dry { cap: 0.5, ..dry }, ..Sampling::GREEDY };
        assert_eq!(after(&capped, &[], &[0, 1, 2, 3, 4, 0, 1, 2])[3], -0.5);
    }
}
