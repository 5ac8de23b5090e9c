//! How a job wants its tokens drawn: the settings, and which values they may have.

use std::sync::Arc;

use crate::{
    guard::Guard,
    job::{SubmitError, TokenId},
    token_set::TokenSet,
};

/// The most tokens that a [`crate::Step`] lists.
pub const TOP_LEN_MAX: u32 = 64;
/// How many tokens a step lists where the job does not say.
const TOP_LEN: u32 = 8;

/// How a token is drawn: the model's logits get the bias, then the penalties, then the job's constraint; then the stages of
/// [`Sampling::order`] leave some of the tokens, and one of these is drawn. Every setting has a value that switches it off, and
/// [`Sampling::GREEDY`] has them all off.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// 0 takes the likeliest token; 1 draws from the model's distribution.
    pub temperature: f32,
    /// Only the k likeliest tokens take part; 0 means all.
    pub top_k: u32,
    /// Only the likeliest tokens that together reach this probability take part; 1 means all.
    pub top_p: f32,
    /// Only tokens at least this fraction as likely as the likeliest take part; 0 means all.
    pub min_p: f32,
    /// Only the tokens whose surprise is nearest to the expected one and that together reach this probability take part; 1 means
    /// all (locally typical sampling, arXiv 2202.00666).
    pub typical_p: f32,
    /// Now and then leaves out the obvious.
    pub xtc: Xtc,
    /// Divides positive logits of tokens that were there, multiplies negative ones; 1 is off (arXiv 1909.05858).
    pub repetition: Penalty,
    /// Taken from the logit of every token that was there; 0 is off.
    pub presence: Penalty,
    /// Taken from the logit of a token for every time that it was there; 0 is off.
    pub frequency: Penalty,
    /// Makes it costly to go on with a repetition.
    pub dry: Dry,
    /// Added to the logits of these tokens. Negative infinity bans.
    pub bias: Vec<(TokenId, f32)>,
    /// Tokens that penalties, DRY and XTC leave alone: marks of tool calls, punctuation of JSON, whitespace.
    pub exempt: Option<Arc<TokenSet>>,
    /// In which order the tokens are narrowed down.
    pub order: Order,
    /// How many of the likeliest tokens each step lists, at most [`TOP_LEN_MAX`].
    pub top_len: u32,
    /// Whether loops are looked for, and taken back.
    pub guard: Guard,
    /// The draw at tape position `i` depends on the logits, the seed, on `i`, and on how often the sequence was rewound since it
    /// was seeded, be it by the caller or by the guard.
    pub seed: u64,
}

/// A penalty for tokens that were there before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Penalty {
    /// How much.
    pub amount: f32,
    /// How many of the latest tokens are looked at; 0 means all.
    pub window: u32,
    /// Whether the window reaches into the prompt.
    pub with_prompt: bool,
}

/// Leaves out the obvious (XTC): where several tokens reach the threshold, all of them but the least likely one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Xtc {
    /// How often; 0 is off.
    pub probability: f32,
    /// From which probability on a token is obvious.
    pub threshold: f32,
}

/// Don't repeat yourself: a token that would make the repetition of an earlier passage `n` tokens long loses
/// `multiplier · base^(n − allowed_len)` from its logit, where `n` is the length before it.
#[derive(Debug, Clone, PartialEq)]
pub struct Dry {
    /// 0 is off.
    pub multiplier: f32,
    /// How fast it grows with the length.
    pub base: f32,
    /// Repetitions shorter than this are free.
    pub allowed_len: u32,
    /// How many of the latest tokens are looked at; 0 means all.
    pub window: u32,
    /// Whether the window reaches into the prompt.
    pub with_prompt: bool,
    /// The most that a token loses.
    pub cap: f32,
    /// A repetition does not reach across these tokens.
    pub breakers: Vec<TokenId>,
}

/// What narrows the tokens down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Flattens or sharpens the distribution that later stages see.
    Temperature,
    /// See [`Sampling::top_k`].
    TopK,
    /// See [`Sampling::top_p`].
    TopP,
    /// See [`Sampling::min_p`].
    MinP,
    /// See [`Sampling::typical_p`].
    Typical,
    /// See [`Sampling::xtc`].
    Xtc,
}

/// An order of the stages: each of them once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize)]
pub struct Order(pub [Stage; 6]);

impl Order {
    /// The order that Hugging Face, vLLM and the OpenAI API have.
    pub const USUAL: Order = Order([
        Stage::Temperature,
        Stage::TopK,
        Stage::TopP,
        Stage::MinP,
        Stage::Typical,
        Stage::Xtc,
    ]);
    /// The order of mlx-lm: the temperature comes last.
    pub const MLX_LM: Order = Order([
        Stage::TopP,
        Stage::MinP,
        Stage::Typical,
        Stage::Xtc,
        Stage::TopK,
        Stage::Temperature,
    ]);
}

impl Penalty {
    /// The window that mlx-lm has.
    const WINDOW: u32 = 20;
    /// No penalty of those that are subtracted.
    pub const NONE: Penalty = Penalty { amount: 0.0, window: Penalty::WINDOW, with_prompt: true };
    /// No repetition penalty.
    pub const ONE: Penalty = Penalty { amount: 1.0, ..Penalty::NONE };
}

impl Dry {
    /// Off; the rest is what its inventors recommend, with a cap that a model's certainty can still overcome.
    pub const OFF: Dry = Dry {
        multiplier: 0.0,
        base: 1.75,
        allowed_len: 2,
        window: 4096,
        with_prompt: false,
        cap: 6.0,
        breakers: Vec::new(),
    };
}

impl Sampling {
    /// Always the likeliest token.
    pub const GREEDY: Sampling = Sampling {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        typical_p: 1.0,
        xtc: Xtc { probability: 0.0, threshold: 0.1 },
        repetition: Penalty::ONE,
        presence: Penalty::NONE,
        frequency: Penalty::NONE,
        dry: Dry::OFF,
        bias: Vec::new(),
        exempt: None,
        order: Order::USUAL,
        top_len: TOP_LEN,
        guard: Guard::ByClass,
        seed: 0,
    };

    /// Whether logits are changed before the constraint sees them.
    pub(crate) fn adjusts(&self) -> bool {
        !self.bias.is_empty()
            || self.repetition.amount != 1.0
            || self.presence.amount != 0.0
            || self.frequency.amount != 0.0
            || self.dry.multiplier > 0.0
    }

    /// Refuses what cannot be drawn with, naming the setting, its value and what it may be.
    pub(crate) fn check(&self, vocabulary: usize) -> Result<(), SubmitError> {
        let numbers = [
            ("temperature", self.temperature, 0.0, f32::MAX),
            ("top_p", self.top_p, 0.0, 1.0),
            ("min_p", self.min_p, 0.0, 1.0),
            ("typical_p", self.typical_p, 0.0, 1.0),
            ("xtc.probability", self.xtc.probability, 0.0, 1.0),
            ("xtc.threshold", self.xtc.threshold, 0.0, 1.0),
            ("repetition", self.repetition.amount, f32::MIN_POSITIVE, f32::MAX),
            // These two may reward as well.
            ("presence", self.presence.amount, f32::MIN, f32::MAX),
            ("frequency", self.frequency.amount, f32::MIN, f32::MAX),
            ("dry.multiplier", self.dry.multiplier, 0.0, f32::MAX),
            ("dry.base", self.dry.base, 1.0, f32::MAX),
            ("dry.cap", self.dry.cap, 0.0, f32::MAX),
        ];
        for (name, value, least, most) in numbers {
            if !(least..=most).contains(&value) {
                return Err(refused(
                    name,
                    format!("is {value}, and may be {}", range(least, most)),
                ));
            }
        }
        if self.top_len > TOP_LEN_MAX {
            let wrong = format!("is {}, and may be 0 to {TOP_LEN_MAX}", self.top_len);
            return Err(refused("top_len", wrong));
        }
        if self.order.0.iter().enumerate().any(|(at, stage)| self.order.0[..at].contains(stage)) {
            return Err(refused("order", "names a stage twice".to_owned()));
        }
        for &(token, bias) in &self.bias {
            if token as usize >= vocabulary {
                return Err(SubmitError::Vocabulary { token, vocabulary });
            }
            if bias.is_nan() || bias == f32::INFINITY {
                let wrong = format!("of token {token} is {bias}, and may be any number");
                return Err(refused("bias", wrong));
            }
        }
        Ok(())
    }
}

fn range(least: f32, most: f32) -> String {
    match (least, most) {
        (f32::MIN, _) => "any number".to_owned(),
        (least, f32::MAX) if least == f32::MIN_POSITIVE => "any number above 0".to_owned(),
        (least, f32::MAX) => format!("any number from {least} on"),
        (least, most) => format!("{least} to {most}"),
    }
}

fn refused(setting: &'static str, wrong: String) -> SubmitError {
    SubmitError::Sampling { setting, wrong }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(sampling: &Sampling) -> String {
        sampling.check(100).map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn values_that_mean_nothing_are_refused_by_name() {
        let plain = || Sampling::GREEDY;
        assert_eq!(wrong(&plain()), "");
        let cases = [
            (
                Sampling { temperature: f32::NAN, ..plain() },
                "the sampling's temperature is NaN, and may be any number from 0 on",
            ),
            (
                Sampling { temperature: f32::INFINITY, ..plain() },
                "the sampling's temperature is inf, and may be any number from 0 on",
            ),
            (
                Sampling { top_p: -0.1, ..plain() },
                "the sampling's top_p is -0.1, and may be 0 to 1",
            ),
            (Sampling { min_p: 1.5, ..plain() }, "the sampling's min_p is 1.5, and may be 0 to 1"),
            (
                Sampling { repetition: Penalty { amount: 0.0, ..Penalty::ONE }, ..plain() },
                "the sampling's repetition is 0, and may be any number above 0",
            ),
            (
                Sampling { presence: Penalty { amount: f32::NAN, ..Penalty::NONE }, ..plain() },
                "the sampling's presence is NaN, and may be any number",
            ),
            (
                Sampling { dry: Dry { base: 0.5, ..Dry::OFF }, ..plain() },
                "the sampling's dry.base is 0.5, and may be any number from 1 on",
            ),
            (
                Sampling { top_len: 1000, ..plain() },
                "the sampling's top_len is 1000, and may be 0 to 64",
            ),
            (
                Sampling { bias: vec![(3, f32::NAN)], ..plain() },
                "the sampling's bias of token 3 is NaN, and may be any number",
            ),
            (
                Sampling { bias: vec![(100, 1.0)], ..plain() },
                "token 100 is outside the vocabulary of 100",
            ),
            (
                Sampling { order: Order([Stage::TopK; 6]), ..plain() },
                "the sampling's order names a stage twice",
            ),
        ];
        for (sampling, expected) in cases {
            assert_eq!(wrong(&sampling), expected);
        }
    }
}
