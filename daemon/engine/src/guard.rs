//! The collapse guard: notices that a model has fallen into a loop, takes the sequence back to where it began, and has it go on
//! differently.
//!
//! `detect` finds loops, `kinds` tells words from data, and [`Watch`] decides what is done: the first time the token that began the
//! repetition is banned and the draw is warmer for a while, the second time repetition becomes costly too, the third time the sequence
//! ends with [`Finish::Collapse`](crate::Finish::Collapse). After [`CALM`] tokens without a loop it begins anew.
//!
//! Clients that stream text cannot take text back. So every step says how far the tape is settled
//! ([`Step::settled`](crate::Step::settled)): what comes before is never taken back by the guard. The tape settles [`HOLD`] tokens behind its
//! end, and not while it repeats itself.

mod detect;
mod kinds;

use std::sync::Arc;

pub use detect::{Collapse, Detector};
pub use kinds::TokenKinds;

use crate::{
    job::TokenId,
    sampling::{Dry, Sampling},
};

/// How far the settled tape lies behind its end. A repetition is known as one this many tokens after it began.
pub(crate) const HOLD: usize = 8;
/// Without a loop for this many tokens, the next one is taken as the first.
const CALM: usize = 512;
/// How much warmer it gets, and for how many tokens.
const WARMTH: f32 = 0.3;
const WARM_LEN: usize = 32;
/// For how many tokens repetition is costly.
const COSTLY_LEN: usize = 256;
/// How costly.
const COSTLY: Dry = Dry {
    multiplier: 0.8,
    base: 1.75,
    allowed_len: 4,
    window: 1024,
    with_prompt: false,
    cap: 24.0,
    breakers: Vec::new(),
};

/// Whether a sequence is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Guard {
    /// Where the agent or a door's client waits for it, but not where somebody types: suggestions are short, and whoever makes them
    /// looks for shorter loops.
    #[default]
    ByClass,
    /// It is.
    On,
    /// It is not.
    Off,
}

/// What the guard wants done after a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing.
    GoOn,
    /// Cut the tape to this length and go on from there.
    Back(usize),
    /// End the sequence.
    End,
}

/// How a token is drawn after a loop was taken back.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Remedy {
    pub(crate) sampling: Sampling,
    /// The token that began the repetition: not drawn again here, unless nothing else is allowed.
    pub(crate) banned: Option<TokenId>,
}

/// The guard of one sequence.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    detector: Detector,
    settled: usize,
    /// How many loops were taken back, less those that are forgiven.
    rung: u32,
    /// Where the last loop was taken back to, and the token that began it.
    cut: Option<(usize, TokenId)>,
}

impl Watch {
    pub(crate) fn new(kinds: Arc<TokenKinds>) -> Watch {
        Watch { detector: Detector::new(kinds), settled: 0, rung: 0, cut: None }
    }

    /// What comes before this position stays.
    pub(crate) fn settled(&self) -> usize {
        self.settled
    }

    /// Looks at the tape after each token.
    pub(crate) fn look(&mut self, tape: &[TokenId]) -> Verdict {
        let found = self.detector.push(tape);
        let quiet = tape.len().saturating_sub(self.detector.repeating().max(HOLD));
        let Some(found) = found else {
            self.settled = self.settled.max(quiet);
            if self.cut.is_some_and(|(at, _)| tape.len() > at + CALM) {
                (self.rung, self.cut) = (0, None);
            }
            return Verdict::GoOn;
        };
        self.rung += 1;
        self.settled = self.settled.max(found.second.min(quiet));
        tracing::info!(
            "the text repeats itself every {} tokens since position {} ({} before)",
            found.period,
            found.second,
            self.rung - 1
        );
        if self.rung > 2 {
            return Verdict::End;
        }
        self.cut = tape.get(self.settled).map(|&token| (self.settled, token));
        Verdict::Back(self.settled)
    }

    /// The tape was cut, by the guard or by its owner.
    pub(crate) fn rewound(&mut self, tape: &[TokenId]) {
        self.settled = self.settled.min(tape.len());
        self.cut = self.cut.filter(|&(at, _)| at <= tape.len());
        self.detector.rewind(tape);
    }

    /// How the next token is drawn because of what was taken back; `None` where that is as the job says.
    pub(crate) fn remedy(&self, sampling: &Sampling, position: usize) -> Option<Remedy> {
        let (at, token) = self.cut?;
        let since = position.checked_sub(at)?;
        let (is_warm, is_costly) = (since < WARM_LEN, self.rung > 1 && since < COSTLY_LEN);
        if !is_warm && !is_costly {
            return None;
        }
        let mut remedy = sampling.clone();
        if is_warm {
            remedy.temperature = remedy.temperature.max(0.0) + WARMTH;
        }
        if is_costly {
            remedy.dry = costlier(&sampling.dry);
        }
        Some(Remedy { sampling: remedy, banned: (since == 0).then_some(token) })
    }
}

/// The job's own DRY, nowhere less costly than [`COSTLY`].
fn costlier(own: &Dry) -> Dry {
    let breakers = own.breakers.clone();
    if own.multiplier <= 0.0 {
        return Dry { breakers, ..COSTLY };
    }
    Dry {
        multiplier: own.multiplier.max(COSTLY.multiplier),
        base: own.base.max(COSTLY.base),
        allowed_len: own.allowed_len.min(COSTLY.allowed_len),
        // 0 means all.
        window: if own.window == 0 { 0 } else { own.window.max(COSTLY.window) },
        with_prompt: own.with_prompt || COSTLY.with_prompt,
        cap: own.cap.max(COSTLY.cap),
        breakers,
    }
}

#[cfg(test)]
mod tests;
