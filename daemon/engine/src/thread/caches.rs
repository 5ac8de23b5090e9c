//! Where a run's cache comes from, and where it goes.

use super::Runner;
use crate::{
    backend::Backend,
    job::TokenId,
    prefix::{Kept, PREFIX_LEN_MIN},
    run::Run,
};

/// A kept cache is taken over, not shared, by a job that leaves no more of its tokens behind. What is taken over is written to
/// without a copy.
const LEFT_BEHIND_MAX: usize = 1024;
/// A job waits for another one to read their common beginning where it is at least so long; shorter ones are read twice.
const FOLLOWED_LEN_MIN: usize = 64;

impl<B: Backend> Runner<B> {
    /// Gives a run its cache, from another one with the same beginning where there is one.
    pub(super) fn begin(&mut self, index: usize) {
        if self.runs[index].has_begun() {
            return;
        }
        let state = self.shared_state(index);
        if self.runs[index].restoring {
            return;
        }
        let state = state.unwrap_or_else(|| self.backend.fresh());
        let fed = self.backend.len(&state);
        let run = &mut self.runs[index];
        (run.state, run.fed) = (Some(state), fed);
        self.stats.tokens_reused += fed as u64;
    }

    /// A cache that has seen as much as possible of the run's tokens but the last, which is fed for its logits.
    fn shared_state(&mut self, index: usize) -> Option<B::State> {
        let run = &self.runs[index];
        if !run.shares_prefix() {
            return None;
        }
        let soul = run.soul;
        let mut tokens = run.tokens();
        tokens.pop();
        let mut best: Option<(usize, B::State, Option<u64>)> = None;
        let mut candidates: Vec<(usize, Source)> = self
            .prefixes
            .sharing(soul, &tokens)
            .into_iter()
            .map(|(len, id)| (len, Source::Kept(id)))
            .chain(self.living(index, &tokens))
            .collect();
        candidates.sort_by_key(|&(len, _)| std::cmp::Reverse(len));
        let in_memory = candidates.first().map_or(0, |&(len, _)| len);
        if self.begin_restoring(index, &tokens, in_memory) {
            return None;
        }
        for (len, source) in candidates {
            // A cache that cannot be cut back to the common beginning is worth less than its length.
            if best.as_ref().is_some_and(|&(reached, ..)| reached >= len) {
                break;
            }
            let is_fork = self.runs[index].is_fork;
            let (state, entry) = match source {
                Source::Kept(id) => {
                    let kept = self.prefixes.get(id);
                    (kept.map(|kept| self.backend.fork(&kept.state, len)), Some(id))
                }
                Source::Living(other) => {
                    let state = self.runs[other].state.as_mut();
                    let fork = state.map(|state| match is_fork {
                        true => self.backend.branch(state, len),
                        false => self.backend.fork(state, len),
                    });
                    (fork, None)
                }
            };
            let Some(state) = state else { continue };
            let reached = self.backend.len(&state);
            if reached >= PREFIX_LEN_MIN
                && best.as_ref().is_none_or(|&(before, ..)| before < reached)
            {
                best = Some((reached, state, entry));
            }
        }
        let (reached, state, entry) = best?;
        if let Some(id) = entry {
            let left_behind =
                self.prefixes.get(id).map_or(0, |kept| kept.tokens.len().saturating_sub(reached));
            if left_behind <= LEFT_BEHIND_MAX {
                drop(self.prefixes.take(id));
                self.stop_writing_stale();
            } else {
                self.prefixes.touch(id);
            }
        }
        Some(state)
    }

    /// Other runs whose caches begin like `tokens`, and how long they are the same.
    fn living(&self, index: usize, tokens: &[TokenId]) -> Vec<(usize, Source)> {
        let soul = self.runs[index].soul;
        let others = self.runs.iter().enumerate().filter(|&(other, run)| {
            other != index && run.state.is_some() && run.soul == soul && run.shares_prefix()
        });
        let shared =
            others.map(|(other, run)| (run.common_len(tokens).min(run.fed), Source::Living(other)));
        shared.filter(|&(len, _)| len >= PREFIX_LEN_MIN).collect()
    }

    /// Whether a run that has not begun should wait, because an earlier one of its class is reading the same beginning.
    pub(super) fn follows(&self, index: usize) -> bool {
        let run = &self.runs[index];
        if run.has_begun() || !run.shares_prefix() {
            return false;
        }
        let tokens = run.prompt();
        self.runs.iter().enumerate().any(|(other, leader)| {
            other != index
                && leader.wants
                && leader.shares_prefix()
                && (leader.class, leader.soul) == (run.class, run.soul)
                && leader.arrival < run.arrival
                && leader.fed < leader.read_len()
                && leader.common_len(tokens).min(leader.read_len()) >= leader.fed + FOLLOWED_LEN_MIN
        })
    }

    /// Keeps the cache of a run that is over.
    pub(super) fn keep(&mut self, run: Run<B::State>) {
        self.stop_restoring(&run);
        if !run.shares_prefix() {
            return;
        }
        let mut tokens = run.tokens();
        if let Some(mut state) = run.state {
            // A question that was given up within a continuation has fed more than its prompt.
            self.backend.truncate(&mut state, run.fed.min(tokens.len()));
            tokens.truncate(self.backend.len(&state));
            self.backend.rest(&mut state);
            let bytes = self.backend.bytes(&[&state]);
            let kept = Kept { soul: run.soul, tokens, state, bytes };
            let Self { prefixes, backend, .. } = self;
            let reach = |state: &B::State, len: usize| {
                let fork = backend.fork(state, len);
                backend.len(&fork)
            };
            let away = prefixes.keep(kept, reach);
            self.evict(away);
        }
    }

    /// Bytes of all caches, shared ones counted once.
    pub(super) fn cache_bytes(&self) -> u64 {
        let running = self.runs.iter().filter_map(|run| run.state.as_ref());
        let states: Vec<&B::State> =
            running.chain(self.prefixes.states()).chain(self.evicted()).collect();
        let followers = self.runs.iter().filter_map(|run| Some(run.follower.as_ref()?.state()));
        let drafting = self.drafter.as_ref();
        self.backend.bytes(&states)
            + drafting.map_or(0, |drafter| drafter.backend.bytes(&followers.collect::<Vec<_>>()))
    }
}

/// Where a beginning may come from.
enum Source {
    Kept(u64),
    /// The run with this index.
    Living(usize),
}
