//! What the engine thread has done so far, counted.

use std::time::Instant;

use crate::{
    fair::CLASSES,
    run::Run,
    speculate::{Draft, SOURCES, Source},
};

/// Counters since the model was loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Turns of the thread: at most one batch of decoded tokens and one chunk of a prompt each.
    pub ticks: u64,
    /// Tokens that were fed to fill a cache: prompts, but for the last token of each, and questions.
    pub tokens_prefilled: u64,
    /// Tokens that were fed for the logits after them.
    pub tokens_decoded: u64,
    /// Generated tokens that were fed again, because a cache could not be cut back exactly to where it was needed.
    pub tokens_replayed: u64,
    /// Tokens that a cache of other work had seen already, so that they were not fed.
    pub tokens_reused: u64,
    /// Of those, the ones whose cache was read from the disk.
    pub tokens_restored: u64,
    /// The most sequences that one pass decoded.
    pub batch_len_max: usize,
    /// The longest that cutting back or forking one cache took, in microseconds.
    pub cut_us_max: u64,
    /// The most ticks that passed between a job's arrival and its first turn, by class in the order of [`Class`](crate::Class).
    pub waited_ticks_max: [u64; CLASSES],
    /// Caches that are kept for later jobs.
    pub prefixes: usize,
    /// Their bytes.
    pub prefix_bytes: u64,
    /// Caches that were written to the disk.
    pub spilled: u64,
    /// Bytes that were written to the disk.
    pub spilled_bytes: u64,
    /// Tokens that were computed on supposition, by source in the order of [`DRAFT_SOURCES`](crate::DRAFT_SOURCES).
    pub drafted: [u64; SOURCES],
    /// Those of them that were drawn.
    pub accepted: [u64; SOURCES],
}

impl Stats {
    /// A cache was cut back or forked; that began at `started`.
    pub(crate) fn cut(&mut self, started: Instant) {
        self.cut_us_max = self.cut_us_max.max(started.elapsed().as_micros() as u64);
    }

    /// Of a draft the first `right` tokens were right. Hands back how many of them were supposed, not forced.
    pub(crate) fn supposed(&mut self, draft: &Draft, right: usize) -> usize {
        let kept = right.saturating_sub(draft.forced);
        self.drafted[Source::Forced as usize] += draft.forced as u64;
        self.accepted[Source::Forced as usize] += (right - kept) as u64;
        if let Some(choice) = draft.choice {
            let source = choice.guess.source as usize;
            self.drafted[source] += (draft.tokens.len() - draft.forced) as u64;
            self.accepted[source] += kept as u64;
        }
        kept
    }

    /// A run is having a turn.
    pub(crate) fn served<S>(&mut self, run: &mut Run<S>) {
        if let Some(submitted) = run.submitted.take() {
            let longest = &mut self.waited_ticks_max[run.class as usize];
            *longest = (self.ticks - submitted).max(*longest);
        }
    }
}
