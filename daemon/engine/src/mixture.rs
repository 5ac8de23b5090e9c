//! A second opinion on the next token, plugged in by a caller that knows what the model does not: which tokens a workspace writes
//! after these.
//!
//! The opinion is sparse: a few tokens with a share of the whole each. What is drawn from is `p = (1 − Σ share) · p_model + share`, a
//! distribution again, so greedy and sampled drawing, penalties, masks and the stages of sampling see nothing but other logits. A share
//! depends on the tape and on the model's own row alone, so that a step is the same whether its token was supposed or not.

use crate::{
    job::TokenId,
    sample::{Outlook, likeliest_few},
};

/// The most that all shares have together. The model's part is never nothing, so that no logit is.
pub const MIXED_MAX: f32 = 0.999;

/// Says what else may come next. All of it runs on the engine thread, so it must be quick.
pub trait Mixture: Send {
    /// Looks at `tape`, what the sequence generated so far (without the prompt), while the model computes. Called before
    /// [`Mixture::shares`] with the same tape.
    fn prepare(&mut self, tape: &[TokenId]) {
        let _ = tape;
    }

    /// The tokens that it speaks for behind `tape`, each with its share of the whole. `opinion` is what the model thinks. What is
    /// negative, no number, no token or mentioned twice is left out, and what is more than [`MIXED_MAX`] together is made that.
    fn shares(&mut self, tape: &[TokenId], opinion: Opinion) -> Vec<(TokenId, f32)>;

    /// Up to `len` tokens that may come behind `tape`: a draft, that is checked before it is believed. Called before a pass, of which
    /// the rows cost less together than one after the other.
    fn draft(&mut self, tape: &[TokenId], len: usize) -> Supposed {
        let _ = (tape, len);
        Supposed::default()
    }

    /// The tape was cut back to `len` tokens.
    fn rewound(&mut self, len: usize) {
        let _ = len;
    }

    /// For another line of the same prompt; `None`: that one has the model alone.
    fn fork(&self) -> Option<Box<dyn Mixture>> {
        None
    }
}

/// What the model thinks of a position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Opinion {
    /// Its likeliest token.
    pub top: TokenId,
    /// The probability of that.
    pub certainty: f32,
}

/// A draft and what speaks for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Supposed {
    /// The tokens.
    pub tokens: Vec<TokenId>,
    /// How many tokens before them are the same as where they are from.
    pub depth: usize,
}

impl Outlook {
    /// What the model thinks most likely.
    pub(crate) fn opinion(&self) -> Option<Opinion> {
        self.top.first().map(|&(top, logprob)| Opinion { top, certainty: logprob.exp() })
    }

    /// Gives tokens their shares of the distribution of `logits`, of which this is the outlook; both are those of the blend from then
    /// on. Logits of other tokens stay what they are: all of them are less likely because the sum is greater.
    pub(crate) fn blend(&mut self, logits: &mut [f32], shares: &[(TokenId, f32)], top_len: usize) {
        let shares = sound(shares, logits.len());
        let mixed: f64 = shares.iter().map(|&(_, share)| f64::from(share)).sum();
        if mixed <= 0.0 {
            self.top.truncate(top_len);
            return;
        }
        let kept = 1.0 - mixed;
        let normaliser = f64::from(self.normaliser);
        // Σ p · logit, of which the entropy is made.
        let mut weighted = normaliser - f64::from(self.entropy);
        let mut gained = 0.0;
        for &(token, share) in &shares {
            let logit = &mut logits[token as usize];
            let own = (f64::from(*logit) - normaliser).exp();
            if own > 0.0 {
                weighted -= own * f64::from(*logit);
            }
            let blended = kept * own + f64::from(share);
            *logit = ((blended / kept).ln() + normaliser) as f32;
            gained += blended * f64::from(*logit);
        }
        let normaliser = normaliser - kept.ln();
        self.entropy = (normaliser - (kept * weighted + gained)).max(0.0) as f32;
        self.normaliser = normaliser as f32;
        self.top = likeliest_few(logits, top_len);
        self.top.iter_mut().for_each(|(_, logit)| *logit -= self.normaliser);
    }
}

/// What means something of the shares, in the vocabulary's bounds.
fn sound(shares: &[(TokenId, f32)], vocabulary: usize) -> Vec<(TokenId, f32)> {
    let mut sound: Vec<(TokenId, f32)> = Vec::with_capacity(shares.len());
    for &(token, share) in shares {
        let is_new = sound.iter().all(|&(other, _)| other != token);
        if (token as usize) < vocabulary && share > 0.0 && share.is_finite() && is_new {
            sound.push((token, share));
        }
    }
    let total: f32 = sound.iter().map(|&(_, share)| share).sum();
    if total > MIXED_MAX {
        sound.iter_mut().for_each(|(_, share)| *share *= MIXED_MAX / total);
    }
    sound
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chances(logits: &[f32]) -> Vec<f64> {
        let weights: Vec<f64> = logits.iter().map(|&logit| f64::from(logit).exp()).collect();
        let total: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / total).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Against the definition, token by token.
        #[test]
        fn a_blend_is_the_models_part_and_the_shares(
            logits in prop::collection::vec(prop_oneof![9 => -9.0f32..9.0, 1 => Just(f32::NEG_INFINITY)], 2..90),
            shares in prop::collection::vec((0u32..100, -0.1f32..0.4), 0..8),
            top_len in 0usize..6,
        ) {
            prop_assume!(logits.iter().any(|logit| logit.is_finite()));
            let own = chances(&logits);
            let sound = sound(&shares, logits.len());
            let mixed: f64 = sound.iter().map(|&(_, share)| f64::from(share)).sum();
            prop_assert!(mixed <= f64::from(MIXED_MAX) + 1e-5);
            let expected: Vec<f64> = (0..logits.len())
                .map(|token| {
                    let share = sound.iter().find(|&&(other, _)| other as usize == token);
                    (1.0 - mixed) * own[token] + share.map_or(0.0, |&(_, share)| f64::from(share))
                })
                .collect();
            let mut outlook = Outlook::of(&logits, top_len as u32).unwrap();
            let mut blended = logits.clone();
            outlook.blend(&mut blended, &shares, top_len);
            let told = chances(&blended);
            for (token, expected) in expected.iter().enumerate() {
                prop_assert!((told[token] - expected).abs() < 1e-5, "{token}: {} {expected}", told[token]);
            }
            let fresh = Outlook::of(&blended, top_len as u32).unwrap();
            prop_assert!((outlook.normaliser - fresh.normaliser).abs() < 1e-3);
            prop_assert!((outlook.entropy - fresh.entropy).abs() < 1e-3, "{} {}", outlook.entropy, fresh.entropy);
            let tokens = |outlook: &Outlook| outlook.top.iter().map(|top| top.0).collect::<Vec<_>>();
            prop_assert_eq!(tokens(&outlook), tokens(&fresh));
            let near = outlook.top.iter().zip(&fresh.top).all(|(a, b)| (a.1 - b.1).abs() < 1e-3);
            prop_assert!(near);
        }
    }

    #[test]
    fn what_means_nothing_is_left_out_and_too_much_is_made_less() {
        let odd = [(1, f32::NAN), (2, -1.0), (3, f32::INFINITY), (9, 0.5), (0, 0.25), (0, 0.5)];
        assert_eq!(sound(&odd, 5), [(0, 0.25)]);
        let much = sound(&[(0, 3.0), (1, 1.0)], 5);
        assert!(
            (much[0].1 - 0.75 * MIXED_MAX).abs() < 1e-6
                && (much[1].1 - 0.25 * MIXED_MAX).abs() < 1e-6
        );
    }
}
