//! The caller's end of a running job.

use std::{future::poll_fn, sync::Arc};

use crate::{
    engine::Inner,
    job::{Constraint, EngineError, Step, SubmitError},
};

/// A job's tokens. Dropping it cancels the job at the next token and gives its cache back.
///
/// The engine decodes up to `ahead_max` steps beyond those taken; a rewind throws them away, so that `next` never yields a step
/// that was decoded before it. Where the collapse guard goes back, the next step says so ([`Step::rewound_to`]), and so does the next one of
/// a sequence that was rewound or forked before that was known.
pub struct Sequence {
    inner: Arc<Inner>,
    id: u64,
    /// Length of the tape as the caller sees it: the number of steps taken.
    taken: usize,
}

/// A place on a sequence's tape that it can be rewound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    len: usize,
}

impl Mark {
    /// The number of tokens before this place.
    pub fn position(self) -> usize {
        self.len
    }
}

/// What one of several candidate lines has for itself; everything else it has from the sequence that it comes from.
#[derive(Default)]
pub struct Fork {
    /// The seed of its draws.
    pub seed: u64,
    /// Looks at its logits. It is told of the tape from the beginning, also of what came before the fork.
    pub constraint: Option<Box<dyn Constraint>>,
}

impl Sequence {
    pub(crate) fn new(inner: Arc<Inner>, id: u64) -> Self {
        Self { inner, id, taken: 0 }
    }

    /// Candidate lines that go on from the last step taken, one for each of `forks`: sequences of their own, that share the cache of
    /// this one for as long as they write nothing. All of them or none are accepted.
    pub fn fork(&self, forks: Vec<Fork>) -> Result<Vec<Sequence>, SubmitError> {
        let ids = self.inner.line.fork(self.id, self.taken, forks)?;
        let sequence = |id| Sequence { inner: self.inner.clone(), id, taken: self.taken };
        Ok(ids.map(sequence).collect())
    }

    /// The next step, or `None` after the one that finished the sequence. An error stays until the sequence is rewound.
    pub async fn next(&mut self) -> Result<Option<Step>, EngineError> {
        let mut step = poll_fn(|context| self.inner.line.poll_step(self.id, context)).await?;
        if let Some(step) = &mut step {
            step.rewound_to = (step.position < self.taken).then_some(step.position);
            self.taken = step.position + 1;
        }
        Ok(step)
    }

    /// The place after the last step taken.
    pub fn mark(&self) -> Mark {
        Mark { len: self.taken }
    }

    /// The place after `position` steps; positions that are not taken yet count as the end.
    pub fn mark_at(&self, position: usize) -> Mark {
        Mark { len: position.min(self.taken) }
    }

    /// Goes back to `to`, a mark of this sequence. Steps after it are forgotten, also those decoded but not taken; the prompt is
    /// not paid again. A finished sequence goes on from there.
    pub fn rewind(&mut self, to: Mark) {
        self.taken = self.taken.min(to.len);
        self.inner.line.rewind(self.id, self.taken);
    }

    /// Draws from here on with another seed and temperature (a temperature that is negative or not a number counts as 0). Steps
    /// decoded but not taken are forgotten.
    pub fn reseed(&mut self, seed: u64, temperature: f32) {
        self.inner.line.reseed(self.id, self.taken, seed, temperature);
    }
}

impl Drop for Sequence {
    fn drop(&mut self) {
        self.inner.line.release(self.id);
    }
}
