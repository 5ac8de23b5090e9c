//! Speculation: several tokens are computed in one pass on the supposition that they will be drawn.
//!
//! A draft is never trusted. Its tokens are fed behind the last one, every row of logits is drawn from as if its token had been fed
//! alone, and the first draw that differs ends it; what the cache saw beyond is cut off again. A draw depends on the logits, the seed,
//! the position and the number of rewinds alone, so the text is that of plain decoding as far as a row of logits does not depend on the
//! other rows of its pass.
//!
//! Drafts come from what a constraint forces ([`forced`]), from texts ([`lookup`]), from a job's mixture, and from a small model or a layer of the model itself
//! that is made for it ([`model`]); `control` says which, and how long. `run::drafted` checks them.

mod control;
mod costs;
pub(crate) mod forced;
pub(crate) mod lookup;
pub(crate) mod model;
mod suffixes;

use std::sync::Arc;

pub(crate) use self::{
    control::{Choice, Outcome},
    costs::Experience,
    lookup::Texts,
};
use self::{
    control::{Control, Offer},
    lookup::Lookup,
};
use crate::{job::TokenId, mixture::Supposed};

/// Whether several tokens may be computed at once on the supposition that they will be drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Speculation {
    /// Where it has been measured to pay and the steps stay what they are to the bit, or no machine of that kind keeps them so: not
    /// where the rows of a pass change each other's last bits on a processor that otherwise repeats itself.
    #[default]
    Auto,
    /// Where it has been measured to pay.
    On,
    /// Never: every token in a pass of its own, but for tokens that a constraint forces.
    Off,
    /// Wherever there is something to suppose, whatever that costs; for tests and measurements.
    Always,
}

impl Speculation {
    /// What holds where an engine and a job each say something.
    pub(crate) fn and(self, other: Speculation) -> Speculation {
        match (self, other) {
            (Speculation::Off, _) | (_, Speculation::Off) => Speculation::Off,
            (Speculation::Always, _) | (_, Speculation::Always) => Speculation::Always,
            (Speculation::On, _) | (_, Speculation::On) => Speculation::On,
            (Speculation::Auto, Speculation::Auto) => Speculation::Auto,
        }
    }
}

/// The most tokens that are supposed at once.
pub(crate) const DRAFT_LEN_MAX: usize = 32;
/// How many sources there are.
pub(crate) const SOURCES: usize = 5;
/// How many classes of depth.
const DEPTHS: usize = 4;

/// The sources of drafts, as [`Stats::drafted`](crate::Stats::drafted) counts them.
pub const DRAFT_SOURCES: [&str; SOURCES] = ["forced", "text", "model", "mtp", "workspace"];

/// Where a draft comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// A constraint allows nothing else.
    Forced,
    /// It came next the last time.
    Text,
    /// A small model would write it.
    Model,
    /// The model's own layer for that says so.
    Mtp,
    /// The job's mixture has seen it there.
    Workspace,
}

/// What speaks for a draft: its source, and how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Guess {
    pub(crate) source: Source,
    /// The class of the match's length; 0 where there is none.
    depth: usize,
}

impl Guess {
    /// It takes computing to know it.
    fn is_asked_for(self) -> bool {
        matches!(self.source, Source::Model | Source::Mtp)
    }

    /// As many tokens were the same before it.
    fn of_match(source: Source, len: usize) -> Guess {
        let depth = match len {
            0..4 => 0,
            4..8 => 1,
            8..16 => 2,
            _ => 3,
        };
        Guess { source, depth }
    }
}

/// Tokens that are fed on supposition.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Draft {
    pub(crate) tokens: Vec<TokenId>,
    /// The first ones are certain.
    pub(crate) forced: usize,
    /// What was chosen for the others.
    pub(crate) choice: Option<Choice>,
}

impl Draft {
    /// Keeps the first `len` tokens.
    pub(crate) fn keep(&mut self, len: usize) {
        self.tokens.truncate(len);
        if let Some(choice) = &mut self.choice
            && !choice.guess.is_asked_for()
        {
            choice.len = len - self.forced;
        }
    }

    /// A model has still to say its part of it: which one, and how much.
    pub(crate) fn asks(&self) -> Option<(Source, usize)> {
        let is_open = self.tokens.len() == self.forced;
        let choice = self.choice.filter(|choice| choice.guess.is_asked_for() && is_open);
        choice.map(|choice| (choice.guess.source, choice.len))
    }

    /// What that model has said.
    pub(crate) fn take_from_model(&mut self, tokens: &[TokenId], vocabulary: usize) {
        let known = tokens.iter().copied().take_while(|&token| (token as usize) < vocabulary);
        self.tokens.extend(known);
        let len = self.tokens.len() - self.forced;
        self.choice = self.choice.filter(|_| len > 0);
        if let Some(choice) = &mut self.choice {
            choice.len = len;
        }
    }
}

/// How far a pass may go, and what it may ask.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reach {
    /// The most tokens to suppose.
    pub(crate) len: usize,
    /// Rows that are fed anyway.
    pub(crate) pending: usize,
    /// No other sequence shares the pass. Others' rows are a surer gain than supposed ones.
    pub(crate) is_alone: bool,
    /// There is a draft model, or the model itself drafts.
    pub(crate) model: Option<Source>,
}

/// What a job speculates with.
pub(crate) struct Speculator {
    mode: Speculation,
    lookup: Lookup,
    control: Control,
    /// What drafts by computing has failed.
    is_deserted: bool,
}

impl Speculator {
    /// `None`: it does not speculate.
    pub(crate) fn new(
        mode: Speculation,
        prompt: &Arc<[TokenId]>,
        lists: Vec<Arc<[TokenId]>>,
        texts: &mut Texts,
        experience: &Experience,
    ) -> Option<Box<Speculator>> {
        let speculator = || Speculator {
            mode,
            lookup: Lookup::new(prompt, lists, texts),
            control: Control::new(experience),
            is_deserted: false,
        };
        (mode != Speculation::Off).then(|| Box::new(speculator()))
    }

    /// For another line of the same prompt.
    pub(crate) fn fork(&self) -> Box<Speculator> {
        let (lookup, control) = (self.lookup.fork(), self.control.fork());
        Box::new(Speculator { lookup, control, ..*self })
    }

    /// Does some of what can be done while the machine computes.
    pub(crate) fn index(&mut self) {
        self.lookup.index();
    }

    /// The tape was cut to `len` tokens.
    pub(crate) fn cut(&mut self, len: usize) {
        self.lookup.cut(len);
    }

    /// The cache cannot be cut to every length.
    pub(crate) fn refeeds(&mut self) {
        self.control.refeeds = true;
    }

    /// What to suppose behind `tape` and the forced tokens.
    pub(crate) fn plan(
        &mut self,
        tape: &[TokenId],
        forced: Vec<TokenId>,
        beside: Supposed,
        reach: Reach,
        experience: &Experience,
    ) -> Draft {
        let certain = forced.len();
        let mut draft = Draft { tokens: forced, forced: certain, choice: None };
        if !self.may_suppose(certain, reach) {
            return draft;
        }
        let is_always = self.mode == Speculation::Always;
        let len = reach.len.saturating_sub(certain).min(DRAFT_LEN_MAX);
        let found = self.lookup.find(tape, &draft.tokens);
        let of_match = |source, depth, len| Offer { guess: Guess::of_match(source, depth), len };
        let text = found.map(|found| of_match(Source::Text, found.depth(), len));
        let Supposed { tokens: workspace, depth } = beside;
        let seen = (!workspace.is_empty())
            .then(|| of_match(Source::Workspace, depth, len.min(workspace.len())));
        // The model itself goes on from what it made of the last token: nothing may lie between.
        let is_next =
            |source: &Source| *source == Source::Model || certain == 0 && reach.pending == 1;
        let model = reach.model.filter(|_| reach.is_alone && !self.is_deserted).filter(is_next);
        let model = model.map(|source| Offer {
            guess: Guess { source, depth: 0 },
            len: len.min(model::MODEL_DRAFT_LEN_MAX),
        });
        let offers: Vec<Offer> = seen.into_iter().chain(text).chain(model).collect();
        let choice = if is_always {
            offers.first().map(|offer| Choice { guess: offer.guess, len: offer.len })
        } else {
            self.control.choose(reach.pending + certain, &offers, experience)
        };
        draft.choice = choice;
        if let (Some(Choice { guess: Guess { source: Source::Text, .. }, len }), Some(found)) =
            (choice, found)
        {
            let guessed = self.lookup.draft(found, len);
            draft.choice = choice.map(|choice| Choice { len: guessed.len(), ..choice });
            draft.tokens.extend(guessed);
        }
        if let Some(Choice { guess: Guess { source: Source::Workspace, .. }, len }) = choice {
            draft.tokens.extend_from_slice(&workspace[..len]);
        }
        draft
    }

    /// Whether it would suppose anything behind so many forced tokens.
    pub(crate) fn may_suppose(&self, forced: usize, reach: Reach) -> bool {
        reach.len > forced && (reach.is_alone || self.mode == Speculation::Always)
    }

    /// Learns from a pass that no other sequence shared.
    pub(crate) fn learn(&mut self, outcome: Outcome, experience: &mut Experience) {
        self.control.learn(outcome, experience);
    }

    /// What was asked for a draft has failed after so many seconds. It is not asked again, here or for lines that are forked from here.
    pub(crate) fn fails(&mut self, choice: Choice, seconds: f64, experience: &mut Experience) {
        self.is_deserted = true;
        self.control.fails(choice, seconds, experience);
    }

    /// Learns what a token of the draft model takes.
    pub(crate) fn learn_drafting(&mut self, seconds: f64, experience: &mut Experience) {
        if let Some(plain) = self.control.plain_seconds() {
            experience.learn_draft_token(seconds / plain);
        }
    }
}
