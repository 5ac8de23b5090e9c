//! What a pass costs by the number of its rows, in passes of one row; and how often drafts have been right, as far as that outlives a
//! job.
//!
//! Rows share the reading of weights, so a second one costs less than the first; in a mixture of experts every row reads some of its
//! own, and costs more than in a dense model. That is measured, pass by pass.

use super::{DEPTHS, SOURCES};

/// What a row more costs before anything was measured.
const ROW_COST: f64 = 0.5;
/// So many rows have a measurement of their own.
pub(crate) const ROWS_MAX: usize = 64;
/// The weight of a new measurement.
const NEW_WEIGHT: f64 = 0.2;
/// A measurement counts as at most so many times what was expected: a pass that was held up says nothing about its rows.
const OUTLIER: f64 = 2.0;
/// A source's record is remembered as if it were so many drafts.
const RECORD_LEN_MAX: f64 = 24.0;

/// The expectation before the first draft, by depth: how likely the next token of a draft is right.
const FIRST_YIELDS: [f64; DEPTHS] = [0.3, 0.55, 0.75, 0.9];
/// The same of a draft model, and of a layer that drafts.
const FIRST_YIELD_MODEL: f64 = 0.6;
/// The weight of that, in tokens.
const FIRST_WEIGHT: f64 = 2.0;

/// How often the tokens of drafts were right.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Yield {
    tried: f64,
    kept: f64,
}

impl Yield {
    /// The chance that the next token of a draft is right, if those before it were.
    pub(crate) fn chance(&self) -> f64 {
        (self.kept / self.tried).clamp(0.0, 0.995)
    }

    /// A draft of `len` tokens of which `kept` were right.
    pub(crate) fn learn(&mut self, len: usize, kept: usize) {
        let forget = 1.0 - 1.0 / RECORD_LEN_MAX;
        // What comes behind a wrong token was not tried.
        self.tried = self.tried * forget + (kept + usize::from(kept < len)) as f64;
        self.kept = self.kept * forget + kept as f64;
    }

    /// As a first expectation, that is given up as soon as there is more to go by.
    pub(crate) fn as_prior(self) -> Yield {
        let weight = (FIRST_WEIGHT / self.tried).min(1.0);
        Yield { tried: self.tried * weight, kept: self.kept * weight }
    }
}

/// What all jobs of a model have shown together.
#[derive(Debug, Clone)]
pub(crate) struct Experience {
    /// The cost of a pass by its rows (index 0: one row), in passes of one row; `None`: not measured.
    rows: [Option<f64>; ROWS_MAX],
    /// The cost of a token of the draft model or of the layer that drafts, in passes of one row: an engine uses one of them.
    pub(crate) draft_token: f64,
    pub(crate) yields: [[Yield; DEPTHS]; SOURCES],
    /// Passes of one row that jobs may lose before they have gained any.
    pub(crate) spare: f64,
}

/// A draft model's token costs so much before it was measured.
const DRAFT_TOKEN_COST: f64 = 0.25;

impl Default for Experience {
    fn default() -> Self {
        let first = |chance: f64| Yield { tried: FIRST_WEIGHT, kept: FIRST_WEIGHT * chance };
        Self {
            rows: [None; ROWS_MAX],
            draft_token: DRAFT_TOKEN_COST,
            yields: [
                [first(1.0); DEPTHS],
                FIRST_YIELDS.map(first),
                [first(FIRST_YIELD_MODEL); DEPTHS],
                [first(FIRST_YIELD_MODEL); DEPTHS],
                FIRST_YIELDS.map(first),
            ],
            spare: 1.0,
        }
    }
}

impl Experience {
    /// The cost of a pass of so many rows, in passes of one row: at least 1. What was not measured lies on the line between its
    /// neighbours, or on that through one row and the last measurement.
    pub(crate) fn cost(&self, rows: usize) -> f64 {
        if rows <= 1 {
            return 1.0;
        }
        let measured = |rows: usize| self.rows.get(rows - 1).copied().flatten();
        let known = |rows: usize| Some((rows as f64, measured(rows)?));
        let below = (2..=rows.min(ROWS_MAX)).rev().find_map(known);
        let above = (rows + 1..=ROWS_MAX).find_map(known);
        let (from, cost) = below.unwrap_or((1.0, 1.0));
        let slope = match (below, above) {
            (_, Some((to, dearer))) => (dearer - cost) / (to - from),
            (Some((at, cost)), None) => (cost - 1.0) / (at - 1.0),
            (None, None) => ROW_COST,
        };
        (cost + slope.max(0.0) * (rows as f64 - from)).max(1.0)
    }

    /// A pass of so many rows has cost `cost`.
    pub(crate) fn learn(&mut self, rows: usize, cost: f64) {
        if !(2..=ROWS_MAX).contains(&rows) || !cost.is_finite() {
            return;
        }
        let expected = self.cost(rows);
        let cost = cost.clamp(1.0, expected * OUTLIER);
        let cell = &mut self.rows[rows - 1];
        // The first one counts no more than what its neighbours say.
        let weight = if cell.is_some() { NEW_WEIGHT } else { 0.5 };
        *cell = Some(expected + (cost - expected) * weight);
    }

    /// A token of the draft model has cost `cost`.
    pub(crate) fn learn_draft_token(&mut self, cost: f64) {
        if cost.is_finite() {
            let expected = self.draft_token;
            self.draft_token += (cost.min(expected * OUTLIER) - expected) * NEW_WEIGHT;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_that_were_not_measured_lie_between_those_that_were() {
        let mut experience = Experience::default();
        assert_eq!([1, 2, 3].map(|rows| experience.cost(rows)), [1.0, 1.5, 2.0]);
        for _ in 0..50 {
            experience.learn(3, 1.4);
            experience.learn(9, 2.6);
        }
        let near = |rows: usize, cost: f64| (experience.cost(rows) - cost).abs() < 1e-3;
        assert!(near(2, 1.2) && near(3, 1.4) && near(6, 2.0) && near(17, 4.2), "{experience:?}");
    }

    #[test]
    fn a_pass_that_was_held_up_is_soon_forgotten() {
        let mut experience = Experience::default();
        experience.learn(2, 1000.0);
        assert!(experience.cost(2) <= 2.25);
        (0..20).for_each(|_| experience.learn(2, 1.2));
        assert!((experience.cost(2) - 1.2).abs() < 0.05);
        experience.learn(2, f64::NAN);
        assert!(experience.cost(2).is_finite());
    }

    #[test]
    fn what_comes_behind_a_wrong_token_was_not_tried() {
        let mut yields = Yield { tried: 0.0, kept: 0.0 };
        yields.learn(8, 3);
        assert_eq!(yields, Yield { tried: 4.0, kept: 3.0 });
        yields = Yield { tried: 0.0, kept: 0.0 };
        yields.learn(8, 8);
        assert_eq!(yields, Yield { tried: 8.0, kept: 8.0 });
        assert_eq!(yields.as_prior(), Yield { tried: 2.0, kept: 2.0 });
    }
}
