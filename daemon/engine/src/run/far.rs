//! What a job looks like to an engine that is far away: a text so far, and how it is to be drawn on.

use super::{Decode, Turn};
use crate::{
    grammar::Grammar,
    job::{EngineError, TokenId},
    sampling::Sampling,
    speculate::Draft,
    thread::Facts,
};

impl Decode {
    /// The number of generated tokens.
    pub(crate) fn tape_len(&self) -> usize {
        self.tape.len()
    }

    /// How its tokens are to be drawn.
    pub(crate) fn sampling(&self) -> &Sampling {
        &self.sampling
    }

    pub(crate) fn is_constrained(&self) -> bool {
        self.constraint.is_some()
    }

    /// Whether the constraint, where it cannot be asked about a token that ends the text, lets it end: it leaves nothing to go on with.
    pub(crate) fn may_end(&mut self, facts: &Facts) -> Result<bool, EngineError> {
        let Some(constraint) = &mut self.constraint else { return Ok(true) };
        let mut logits = vec![0.0; facts.vocabulary];
        super::caught(|| {
            constraint.prepare(&self.tape);
            constraint.apply(&self.tape, &mut logits);
        })?;
        Ok(logits.iter().all(|logit| *logit == f32::NEG_INFINITY))
    }

    /// What the answer is to keep to, while none of it is there.
    pub(crate) fn grammar(&self) -> Option<Grammar> {
        let constraint = self.constraint.as_ref().filter(|_| self.tape.is_empty())?;
        constraint.grammar()
    }

    /// A number that is another one for every seed, place and try.
    pub(crate) fn request_seed(&self, redraws: u32) -> u32 {
        let parts = [self.sampling.seed, self.retry, self.tape.len() as u64, u64::from(redraws)];
        // splitmix64 over the parts (Steele, Lea and Flood 2014).
        let mixed = parts.into_iter().fold(0x9e37_79b9_7f4a_7c15_u64, |state, part| {
            let mixed = (state ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        });
        // Some servers take the greatest number for "any", and others none above 2³¹.
        (mixed >> 34) as u32
    }

    /// Judges what a server has drawn: `logits` knows of the token, or of the likeliest ones, alone.
    pub(crate) fn judge(&mut self, logits: Vec<f32>, facts: &Facts) -> Result<Turn, EngineError> {
        self.prepare(&Draft::default());
        self.step(logits, None, facts)
    }

    /// The tokens of prompt and tape.
    pub(crate) fn all(&self) -> Vec<TokenId> {
        self.slice(0, self.len())
    }
}
