//! A job's drafts: what it supposes, and what comes of it.

use super::{Decode, Turn, caught, guarded};
use crate::{
    backend::Rows,
    job::{EngineError, TokenId},
    mixture::Supposed,
    speculate::{DRAFT_LEN_MAX, Draft, Experience, Outcome, Reach, forced, model::Draws},
    thread::Facts,
};

/// What a sequence is fed in a pass.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// What the cache has not seen yet.
    pub(crate) tokens: Vec<TokenId>,
    /// What is supposed to come behind them, and is fed with them.
    pub(crate) draft: Draft,
    /// The tape's last token is among them, and something is drawn.
    pub(crate) is_last: bool,
}

impl Plan {
    /// The rows of logits that are looked at.
    pub(crate) fn rows(&self) -> Rows {
        match (self.is_last, self.draft.tokens.len()) {
            (false, _) => Rows::None,
            (true, 0) => Rows::Last,
            (true, drafted) => Rows::Tail(1 + drafted),
        }
    }
}

impl Decode {
    /// What to feed next to a cache that has seen `fed` tokens; `rows_max` is the most that a pass may have, `room` the most steps that
    /// the caller has room for.
    pub(crate) fn plan(
        &mut self,
        fed: usize,
        rows_max: usize,
        room: usize,
        reach: impl FnOnce(usize, usize) -> Reach,
        facts: &Facts,
        experience: &Experience,
    ) -> Plan {
        let len = self.len();
        // Plain decoding feeds token by token, also what was cut off.
        let end = if self.speculator.is_some() { len.min(fed + rows_max) } else { fed + 1 };
        let tokens = self.slice(fed, end);
        if end < len {
            return Plan { tokens, ..Plan::default() };
        }
        let pending = tokens.len();
        let left = (self.limits.tokens_max as usize).saturating_sub(self.tape.len());
        let left = left.min(facts.context_max.saturating_sub(len)).min(room);
        let reach = reach(left.saturating_sub(1).min(rows_max - pending), pending);
        let draft = self.suppose(reach, facts.vocabulary, experience);
        Plan { tokens, draft, is_last: true }
    }

    fn suppose(&mut self, reach: Reach, vocabulary: usize, experience: &Experience) -> Draft {
        let forced = self.constraint.as_mut().map_or(Ok(Vec::new()), |constraint| {
            forced::tokens(&mut **constraint, &self.tape, reach.len)
        });
        let forced = forced.unwrap_or_else(|error| {
            self.prepared = Err(error);
            Vec::new()
        });
        let known = |tokens: &[TokenId]| {
            tokens.iter().take_while(|&&token| (token as usize) < vocabulary).count()
        };
        // A bias may forbid what the constraint forces: then it is drawn like any other, and fails like any other.
        let is_forbidden =
            |token: &TokenId| self.sampling.bias.contains(&(*token, f32::NEG_INFINITY));
        let forced = match forced.iter().position(is_forbidden) {
            None if known(&forced) == forced.len() => forced,
            _ => Vec::new(),
        };
        let Some(speculator) = &mut self.speculator else {
            let certain = forced.len();
            return Draft { tokens: forced, forced: certain, choice: None };
        };
        let beside = match &mut self.mixture {
            Some(mixture) if speculator.may_suppose(forced.len(), reach) => {
                let len = (reach.len - forced.len()).min(DRAFT_LEN_MAX);
                let tape = [&self.tape[..], &forced].concat();
                guarded(|| mixture.draft(&tape, len)).unwrap_or_else(|panic| {
                    self.prepared = Err(EngineError::Mixture(panic));
                    Supposed::default()
                })
            }
            _ => Supposed::default(),
        };
        let mut draft = speculator.plan(&self.tape, forced, beside, reach, experience);
        draft.keep(known(&draft.tokens));
        draft
    }

    /// What a draft model has to know to say what comes behind the tape and the forced tokens.
    pub(crate) fn draws(&self, draft: &Draft) -> (Vec<TokenId>, Draws<'_>) {
        let mut tokens = self.slice(0, self.len());
        tokens.extend_from_slice(&draft.tokens);
        let position = self.tape.len() + draft.tokens.len();
        (tokens, Draws { sampling: &self.sampling, position, retry: self.retry })
    }

    /// What can be done for the next draw while its logits are computed.
    pub(crate) fn prepare(&mut self, draft: &Draft) {
        if let Some(constraint) = &mut self.constraint
            && draft.forced == 0
            && self.prepared.is_ok()
        {
            let tape = &self.tape;
            self.prepared = caught(|| constraint.prepare(tape));
        }
        self.prepare_mixture();
        self.index();
    }

    /// The mixture is asked of forced tokens too: how likely they were.
    fn prepare_mixture(&mut self) {
        if let Some(mixture) = &mut self.mixture
            && self.prepared.is_ok()
        {
            let tape = &self.tape;
            self.prepared = guarded(|| mixture.prepare(tape)).map_err(EngineError::Mixture);
        }
    }

    /// Gets ahead with looking texts up.
    pub(crate) fn index(&mut self) {
        if let Some(speculator) = &mut self.speculator {
            speculator.index();
        }
    }

    /// Draws from the rows behind the tape's last token and each token of its draft, as long as the draft is right and somebody wants
    /// more. Hands back what came of it, and how many tokens of the draft were right.
    pub(crate) fn steps(
        &mut self,
        logits: Vec<f32>,
        draft: &Draft,
        facts: &Facts,
        is_wanted: impl Fn() -> bool,
    ) -> (Vec<Turn>, usize) {
        if draft.tokens.is_empty() {
            return (vec![self.step(logits, None, facts).unwrap_or_else(Turn::Failed)], 0);
        }
        let vocabulary = logits.len() / (1 + draft.tokens.len());
        let mut turns = Vec::new();
        for (index, row) in logits.chunks_exact(vocabulary.max(1)).enumerate() {
            let supposed = draft.tokens.get(index).copied();
            let forced = supposed.filter(|_| index < draft.forced);
            match forced {
                _ if index == 0 => {} // While the model computed.
                None => self.prepare(&Draft::default()),
                Some(_) => self.prepare_mixture(),
            }
            let turn = self.step(row.to_vec(), forced, facts).unwrap_or_else(Turn::Failed);
            let goes_on = matches!(&turn, Turn::Step(step)
                if step.finish.is_none() && Some(step.token) == supposed);
            let is_right = matches!(&turn, Turn::Step(step) if Some(step.token) == supposed);
            turns.push(turn);
            if !goes_on || !is_wanted() {
                return (turns, index + usize::from(is_right));
            }
        }
        (turns, draft.tokens.len())
    }

    /// Learns from a pass that no other sequence shared.
    pub(crate) fn learn(&mut self, outcome: Outcome, experience: &mut Experience) {
        if let Some(speculator) = &mut self.speculator {
            speculator.learn(outcome, experience);
        }
    }

    /// Learns what a token of the draft model takes.
    pub(crate) fn learn_drafting(&mut self, seconds: f64, experience: &mut Experience) {
        if let Some(speculator) = &mut self.speculator {
            speculator.learn_drafting(seconds, experience);
        }
    }

    /// What was asked for this draft has failed after so many seconds: it is not asked again.
    pub(crate) fn fails_to_draft(
        &mut self,
        draft: &Draft,
        seconds: f64,
        experience: &mut Experience,
    ) {
        if let (Some(speculator), Some(choice)) = (&mut self.speculator, draft.choice) {
            speculator.fails(choice, seconds, experience);
        }
    }

    /// Its cache could not be cut to where its draft went wrong.
    pub(crate) fn refeeds(&mut self) {
        if let Some(speculator) = &mut self.speculator {
            speculator.refeeds();
        }
    }
}
