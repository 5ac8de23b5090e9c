//! One tick: at most one batch of decoded tokens, and at most one chunk of a prompt.
//!
//! A tick belongs to one class ([`Fairness`](crate::fair::Fairness) says which). Its runs that write are fed one token each (or some
//! more, on supposition: `write`), all in one pass as far as they share an adapter; then one of its runs that read is fed a chunk. The board is looked at in between, and
//! a more urgent class ends the tick there.
//!
//! The last token of a prompt is fed like a generated one. So after a rewind exactly the passes are repeated that it undid: with
//! the same company the logits are the same to the last bit, and in other company up to the rounding of sums. A cache that cannot
//! be cut back to the mark is fed what it lost in the same way, token by token, beside the others of its batch; or at once, where the
//! job speculates anyway.

use super::Runner;
use crate::{
    backend::{Backend, Feed, Rows},
    fair::{CLASSES, Phase},
    job::{EngineError, TokenId},
    run::{Run, Turn, Work},
};

/// How many sequences one pass decodes at most. It bounds the work of a tick.
pub(crate) const BATCH_LEN_MAX: usize = 16;
/// A checkpoint for caches that cannot be cut back is made after so many tokens of a prompt, beside the one at its end.
const CHECKPOINT_EVERY: usize = 256;

impl<B: Backend> Runner<B> {
    pub(super) fn tick(&mut self) {
        let Some(class) = self.fairness.class(self.wanting()) else {
            return;
        };
        let urgent = self.most_urgent();
        self.begin_next(class);
        let batch = self.next_batch(class);
        if !batch.is_empty() {
            self.decode(&batch);
        }
        let goes_on = batch.is_empty() || (self.look_again() && self.most_urgent() >= urgent);
        if goes_on && let Some(index) = self.next_reader(class) {
            self.begin(index);
            self.read(index);
        }
        self.give_back();
        self.stats.ticks += 1;
        self.shared.lock().stats = self.stats;
    }

    /// Gives kept caches up where the system runs short of memory.
    fn give_back(&mut self) {
        let shortage = self.backend.shortage();
        if shortage > 0 && (self.prefixes.bytes() > 0 || self.has_evicted()) {
            tracing::info!(
                bytes = shortage,
                "kept caches are given up: the system runs short of memory"
            );
            self.give_up(self.prefixes.bytes().saturating_sub(shortage));
        }
    }

    fn wanting(&self) -> [bool; CLASSES] {
        let mut wanting = [false; CLASSES];
        for run in self.runs.iter().filter(|run| run.wants) {
            wanting[run.class as usize] = true;
        }
        wanting
    }

    fn most_urgent(&self) -> usize {
        self.wanting().iter().position(|&wants| wants).unwrap_or(CLASSES)
    }

    /// The runs of a class that want a turn in this phase.
    fn waiting(&self, class: usize, phase: Phase) -> impl Iterator<Item = (usize, &Run<B::State>)> {
        let runs = self.runs.iter().enumerate();
        runs.filter(move |(_, run)| {
            run.wants && run.class as usize == class && run.phase() == phase
        })
    }

    /// Gives the next reader its cache, and if there is nothing left to read, the one after it: they can write in this very tick.
    fn begin_next(&mut self, class: usize) {
        // One-token prompts have nothing to read.
        let fresh = self.waiting(class, Phase::Write).filter(|(_, run)| run.state.is_none());
        let fresh: Vec<usize> = fresh.map(|(index, _)| index).collect();
        fresh.into_iter().for_each(|index| self.begin(index));
        while let Some(index) = self.next_reader(class) {
            if self.runs[index].has_begun() {
                return;
            }
            self.begin(index);
            if self.runs[index].phase() == Phase::Read {
                return;
            }
        }
    }

    /// The run that was served least of those that read.
    fn next_reader(&self, class: usize) -> Option<usize> {
        let mut readers: Vec<(u64, u64, usize)> = self
            .waiting(class, Phase::Read)
            .map(|(index, run)| (run.shares.tag(Phase::Read), run.arrival, index))
            .collect();
        readers.sort_unstable();
        readers.into_iter().map(|(.., index)| index).find(|&index| !self.follows(index))
    }

    /// The runs that write, least served first: as many as share the first one's adapter and fit into a pass.
    fn next_batch(&self, class: usize) -> Vec<usize> {
        let begun = self.waiting(class, Phase::Write).filter(|(_, run)| run.state.is_some());
        let mut writers: Vec<(u64, u64, usize)> =
            begun.map(|(index, run)| (run.shares.tag(Phase::Write), run.arrival, index)).collect();
        writers.sort_unstable();
        let Some(&(.., first)) = writers.first() else {
            return Vec::new();
        };
        if self.runs[first].solo {
            return vec![first];
        }
        let soul = self.runs[first].soul;
        let alike = |run: &Run<B::State>| run.soul == soul && !run.solo;
        let batch = writers.into_iter().map(|(.., index)| index);
        batch.filter(|&index| alike(&self.runs[index])).take(BATCH_LEN_MAX).collect()
    }

    /// Feeds a run a chunk of its prompt, or does the next piece of a question.
    fn read(&mut self, index: usize) {
        let run = &mut self.runs[index];
        self.stats.served(run);
        if run.restoring {
            self.fairness.serve(&mut run.shares, run.class, Phase::Read, 1);
            return self.restore_piece(index);
        }
        let Some(state) = &mut run.state else { unreachable!("begin() gave it one") };
        let fed = run.fed;
        let (turn, tokens) = match &mut run.work {
            Work::Decode(decode) => {
                let end = decode.read_len().min(fed + self.backend.chunk_len_max(run.soul, fed));
                let chunk: Vec<TokenId> = decode.slice(fed, end);
                if chunk.is_empty() {
                    return; // A kept cache had it all: it writes in the next tick.
                }
                let mut feeds = [Feed { state, tokens: &chunk, rows: Rows::None }];
                let mut meanwhile = || decode.index();
                let fed_now = self.backend.forward(run.soul, &mut feeds, &mut meanwhile);
                let turn = fed_now.map(|_| {
                    let is_over = end == decode.read_len();
                    if is_over || fed / CHECKPOINT_EVERY != end / CHECKPOINT_EVERY {
                        self.backend.checkpoint(state);
                    }
                    run.fed = end;
                    Turn::More
                });
                (turn, chunk.len())
            }
            Work::Question(question) => question.turn(&mut self.backend, state, &mut run.fed),
        };
        self.stats.tokens_prefilled += tokens as u64;
        self.fairness.serve(&mut run.shares, run.class, Phase::Read, tokens.max(1));
        self.deliver(vec![(index, turn.unwrap_or_else(Turn::Failed))]);
    }

    /// Tells the callers what came of their runs' turns.
    pub(super) fn deliver(&mut self, turns: Vec<(usize, Turn)>) {
        let shared = self.shared.clone();
        let mut board = shared.lock();
        board.stats = self.stats;
        let (mut wakers, mut answered) = (Vec::new(), Vec::new());
        for (index, turn) in turns {
            let run = &mut self.runs[index];
            if let Turn::Failed(EngineError::Backend(_) | EngineError::NotANumber { .. }) = turn {
                // Nobody knows what the cache holds now, or what is no number may be in it.
                (run.state, run.fed) = (None, 0);
            }
            match &mut run.work {
                Work::Decode(decode) => {
                    if let (Turn::Back(_), Some(state)) = (&turn, &mut run.state) {
                        self.backend.truncate(state, decode.len() - 1);
                        run.fed = self.backend.len(state);
                    }
                    let Some(mailbox) = board.mailboxes.get_mut(&decode.id) else { continue };
                    if let Turn::Back(len) = turn {
                        mailbox.cut(len);
                        continue;
                    }
                    // Where it was steered meanwhile, the step is void, and the course cuts the tape before the next turn.
                    if mailbox.course.is_some() {
                        continue;
                    }
                    match turn {
                        Turn::Step(step) => {
                            mailbox.ended = step.finish.is_some();
                            mailbox.steps.push_back(step);
                        }
                        Turn::Failed(error) => {
                            mailbox.ended = true;
                            mailbox.failed = Some(error);
                        }
                        Turn::More | Turn::Back(_) | Turn::Answered => continue,
                    }
                    wakers.extend(mailbox.waiter.take());
                }
                Work::Question(question) => {
                    if question.answer(turn) {
                        answered.push(index);
                    }
                }
            }
        }
        drop(board);
        wakers.into_iter().for_each(std::task::Waker::wake);
        for index in answered {
            let run = self.runs.remove(index);
            self.keep(run);
        }
    }
}
