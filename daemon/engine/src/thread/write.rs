//! One pass over the runs of a batch that write: each is fed its last token, and what is supposed to come behind it.

use std::time::{Duration, Instant};

use super::Runner;
use crate::{
    backend::{Backend, Feed},
    fair::Phase,
    job::{EngineError, SoulId},
    line::Shared,
    run::{Decode, Plan, Run, Turn, Work},
    speculate::{
        Experience, Outcome, Reach, Source,
        model::{Said, guess},
    },
    stats::Stats,
    thread::Facts,
};

/// The most rows that the sequences of a pass that writes have together: their last tokens, what is supposed to come behind them, and
/// what has to be fed again. Each row may get logits of the whole vocabulary, and a more urgent job waits for all of them. Each sequence
/// has a row in any case.
pub(crate) const PASS_ROWS_MAX: usize = 64;

/// A run in a batch, in its parts.
struct Writer<'a, S> {
    index: usize,
    decode: &'a mut Decode,
    state: &'a mut S,
    fed: &'a mut usize,
    soul: Option<SoulId>,
    plan: Plan,
}

impl<B: Backend> Runner<B> {
    /// Feeds each of these runs what it has to be fed.
    pub(super) fn decode(&mut self, batch: &[usize]) {
        let (mut plans, drafting) = self.plans(batch);
        let started = Instant::now();
        let mut writers: Vec<Writer<'_, B::State>> = Vec::with_capacity(batch.len());
        for (index, run) in self.runs.iter_mut().enumerate() {
            let Some(at) = plans.iter().position(|&(planned, _)| planned == index) else {
                continue;
            };
            let (_, plan) = plans.swap_remove(at);
            let rows = plan.tokens.len() + plan.draft.tokens.len();
            self.fairness.serve(&mut run.shares, run.class, Phase::Write, rows);
            self.stats.served(run);
            if let Run { work: Work::Decode(decode), state: Some(state), fed, soul, .. } = run {
                writers.push(Writer { index, decode, state, fed, soul: *soul, plan });
            }
        }
        let soul = writers.first().and_then(|writer| writer.soul);
        let inputs: Vec<Vec<_>> = writers
            .iter()
            .map(|Writer { plan, .. }| [&plan.tokens[..], &plan.draft.tokens].concat())
            .collect();
        let fed = {
            let mut decodes = Vec::with_capacity(writers.len());
            let mut feeds = Vec::with_capacity(writers.len());
            for (Writer { decode, state, plan, .. }, tokens) in writers.iter_mut().zip(&inputs) {
                feeds.push(Feed { state: &mut **state, tokens, rows: plan.rows() });
                decodes.push((&mut **decode, &*plan));
            }
            let mut meanwhile = || {
                for (decode, plan) in decodes.iter_mut().filter(|(_, plan)| plan.is_last) {
                    decode.prepare(&plan.draft);
                }
            };
            self.backend.forward(soul, &mut feeds, &mut meanwhile)
        };
        self.stats.batch_len_max = self.stats.batch_len_max.max(writers.len());
        let mut turns = Vec::with_capacity(batch.len());
        match fed {
            Ok(rows) => {
                let took = (batch.len() == 1).then(|| started.elapsed() + drafting);
                let Self { shared, backend, facts, experience, stats, .. } = self;
                let mut desk = Desk { shared, backend, facts, experience, stats, took };
                for (writer, logits) in writers.into_iter().zip(rows) {
                    let index = writer.index;
                    let told = writer.take(logits, &mut desk);
                    turns.extend(told.into_iter().map(|turn| (index, turn)));
                }
            }
            Err(error) if batch.len() > 1 => {
                // Nobody knows whose fault it is, nor what the caches hold now. Each goes on alone, and one of them will fail.
                tracing::warn!("a pass over {} sequences failed: {error}", batch.len());
                drop(writers);
                for &index in batch {
                    let run = &mut self.runs[index];
                    (run.state, run.fed, run.solo) = (None, 0, true);
                }
            }
            Err(error) => {
                drop(writers);
                turns.extend(batch.first().map(|&index| (index, Turn::Failed(error))));
            }
        }
        for &(index, ref turn) in &turns {
            let failed = matches!(turn, Turn::Failed(EngineError::Backend(_)));
            self.runs[index].solo &= failed;
        }
        self.deliver(turns);
    }

    /// What to feed each of them, and how long it took to draft that.
    fn plans(&mut self, batch: &[usize]) -> (Vec<(usize, Plan)>, Duration) {
        let mut drafting = Duration::ZERO;
        let mut plans = Vec::with_capacity(batch.len());
        let mut rows_left = PASS_ROWS_MAX;
        for (place, &index) in batch.iter().enumerate() {
            let run = &mut self.runs[index];
            let Run { work: Work::Decode(decode), fed, room, follower, state, soul, .. } = run
            else {
                continue;
            };
            let share = (rows_left / (batch.len() - place)).max(1);
            let rows_max = self.backend.chunk_len_max(*soul, *fed).min(share);
            let guesses = self.backend.has_guesses().then_some(Source::Mtp);
            let model = self.drafter.as_ref().map(|_| Source::Model).or(guesses);
            let is_alone = batch.len() == 1;
            let reach = |len, pending| Reach { len, pending, is_alone, model };
            let (facts, experience) = (&self.facts, &self.experience);
            let mut plan = decode.plan(*fed, rows_max, *room, reach, facts, experience);
            if let Some((source, len)) = plan.draft.asks() {
                let (tokens, draws) = decode.draws(&plan.draft);
                let asked = Instant::now();
                let said = match (source, &mut self.drafter, state, tokens.last()) {
                    (Source::Model, Some(drafter), ..) => {
                        drafter.draft(follower, tokens, len, draws)
                    }
                    (Source::Mtp, _, Some(state), Some(&last)) => {
                        guess(&mut self.backend, (state, *soul), last, len, draws)
                    }
                    _ => Ok(Said::default()),
                };
                let said = said.unwrap_or_else(|error| {
                    tracing::warn!(
                        "what drafts has failed, and is not asked again by this job: {error}"
                    );
                    *follower = None;
                    let seconds = asked.elapsed().as_secs_f64();
                    decode.fails_to_draft(&plan.draft, seconds, &mut self.experience);
                    Said::default()
                });
                plan.draft.take_from_model(&said.tokens, facts.vocabulary);
                drafting += said.took;
                if !said.tokens.is_empty() {
                    let each = said.took.as_secs_f64() / said.tokens.len() as f64;
                    decode.learn_drafting(each, &mut self.experience);
                }
            }
            rows_left = rows_left.saturating_sub(plan.tokens.len() + plan.draft.tokens.len());
            plans.push((index, plan));
        }
        (plans, drafting)
    }
}

/// What a pass's results are worked through with.
struct Desk<'a, B: Backend> {
    shared: &'a Shared,
    backend: &'a mut B,
    facts: &'a Facts,
    experience: &'a mut Experience,
    stats: &'a mut Stats,
    /// What the pass took, if one sequence had it for itself.
    took: Option<Duration>,
}

impl<S> Writer<'_, S> {
    /// Draws what can be drawn from its logits, and cuts from the cache what was supposed in vain.
    fn take<B: Backend<State = S>>(self, logits: Vec<f32>, desk: &mut Desk<'_, B>) -> Vec<Turn> {
        let Writer { decode, state, fed, plan: Plan { tokens, draft, is_last }, .. } = self;
        let Desk { shared, backend, facts, experience, stats, took } = desk;
        *fed = backend.len(state);
        stats.tokens_replayed += (tokens.len() - usize::from(is_last)) as u64;
        if !is_last {
            backend.checkpoint(state);
            return vec![Turn::More];
        }
        let id = decode.id;
        let is_wanted = || {
            let board = shared.lock();
            board.mailboxes.get(&id).is_some_and(|mailbox| mailbox.course.is_none())
        };
        let (turns, right) = decode.steps(logits, &draft, facts, is_wanted);
        let told = turns.iter().filter(|turn| matches!(turn, Turn::Step(_))).count();
        stats.tokens_decoded += turns.len() as u64;
        let kept = stats.supposed(&draft, right);
        let keep = decode.len() - 1;
        if *fed > keep {
            backend.truncate(state, keep);
            *fed = backend.len(state);
        }
        if *fed < keep {
            decode.refeeds();
        } else {
            backend.checkpoint(state);
        }
        if let Some(took) = took {
            let outcome = Outcome {
                rows: tokens.len() + draft.tokens.len(),
                seconds: took.as_secs_f64(),
                draft: draft.choice.map(|choice| (choice, kept)),
                forced: draft.forced,
                tokens: told,
            };
            decode.learn(outcome, experience);
        }
        turns
    }
}
