//! How much a prediction of the cache weighs beside the model's: a table that was fitted on text that neither had seen.
//!
//! The blend is `p = (1 − w) · p_model + w · p_cache`, where what the cache leaves of one goes to the model's own distribution. `w`
//! depends on the match (how long, how often, how sure, how near) and on the model (how sure, and whether of the same token). For each
//! cell of that table expectation maximisation finds the weight under which the text is likeliest (Jelinek and Mercer 1980); cells
//! with few samples stay near what coarser ones say.

use std::sync::OnceLock;

use serde::Deserialize;

use super::{Level, Prediction};

/// Lengths of matches from which on a class begins.
const LENS: [u8; 6] = [0, 3, 4, 6, 9, 16];
/// Classes of what came behind the longest match.
const KINDS: usize = 6;
/// Levels.
const LEVELS: usize = 3;
/// Probabilities of the model's likeliest token from which on a class begins.
const CERTAINTIES: [f32; 6] = [0.0, 0.15, 0.35, 0.6, 0.85, 0.97];
/// Rows of the table.
const ROWS: usize = LENS.len() * KINDS;
/// Cells of a row: by level, certainty and agreement.
const COLUMNS: usize = LEVELS * CERTAINTIES.len() * 2;
/// What coarser cells say counts as so many samples.
const PRIOR_SAMPLES: f64 = 24.0;
/// Rounds of expectation maximisation.
const ROUNDS: usize = 40;
/// The weight before anything was fitted.
const FIRST: f64 = 0.2;

/// The fitted table.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// A row for each class of length and kind, in that order; in it a thousandth part for each level, certainty and agreement.
    rows: Vec<Vec<u16>>,
}

/// What the model thinks of the position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Opinion {
    /// Its likeliest token.
    pub top: u32,
    /// The probability of that.
    pub certainty: f32,
}

/// A position of a text: what both say of the token that really came.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// The cell of the table.
    cell: Cell,
    /// What the model gives the token.
    model: f32,
    /// What the cache gives it, with what the model gives it of the rest.
    cache: f32,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Cell {
    row: usize,
    column: usize,
}

impl Sample {
    /// Of the token that came, to which the model gave `model`. `None` where the cache says nothing.
    pub fn of(prediction: &Prediction, opinion: Opinion, token: u32, model: f32) -> Option<Sample> {
        let cell = cell(prediction, opinion)?;
        let cache = prediction.of(token) + (1.0 - prediction.mass()) * model;
        Some(Sample { cell, model, cache })
    }

    /// What the blend gives the token, with a weight.
    fn blended(&self, weight: f64) -> f64 {
        (1.0 - weight) * f64::from(self.model) + weight * f64::from(self.cache)
    }
}

impl Weights {
    /// The table that this program was built with.
    pub fn built_in() -> Option<&'static Weights> {
        static TABLE: OnceLock<Option<Weights>> = OnceLock::new();
        let table = || Weights::parse(include_str!("../../data/mixture.toml")).ok();
        TABLE.get_or_init(table).as_ref()
    }

    /// Reads a table as [`Weights::written`] writes it.
    pub fn parse(text: &str) -> Result<Weights, String> {
        let weights: Weights = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        let has_form = weights.rows.len() == ROWS
            && weights.rows.iter().all(|row| row.len() == COLUMNS)
            && weights.rows.iter().flatten().all(|thousandths| *thousandths <= 1000);
        if has_form {
            Ok(weights)
        } else {
            Err(format!("a table has {ROWS} rows of {COLUMNS} thousandths"))
        }
    }

    /// The table as a file.
    pub fn written(&self) -> String {
        let mut text = String::from("rows = [\n");
        for row in &self.rows {
            text += &format!("    {row:?},\n");
        }
        text + "]\n"
    }

    /// The weight of a prediction; 0 where it says nothing.
    pub fn weight(&self, prediction: &Prediction, opinion: Opinion) -> f32 {
        let weight = |cell: Cell| f32::from(self.rows[cell.row][cell.column]) / 1000.0;
        cell(prediction, opinion).map_or(0.0, weight)
    }

    /// The table under which the samples are likeliest.
    pub fn fit(samples: &[Sample]) -> Weights {
        let all = fitted(samples.iter(), FIRST, 0.0);
        let mut rows = vec![vec![0; COLUMNS]; ROWS];
        for (row, cells) in rows.iter_mut().enumerate() {
            let of_row: Vec<&Sample> = samples.iter().filter(|one| one.cell.row == row).collect();
            let prior = fitted(of_row.iter().copied(), all, PRIOR_SAMPLES);
            for (index, pair) in cells.chunks_mut(2).enumerate() {
                for (agrees, thousandths) in pair.iter_mut().enumerate() {
                    // The certainty and the agreement say more than the level.
                    let alike = |one: &&&Sample| {
                        let column = one.cell.column;
                        column % 2 == agrees
                            && (column / 2) % CERTAINTIES.len() == index % CERTAINTIES.len()
                    };
                    let near: Vec<&Sample> = of_row.iter().filter(alike).copied().collect();
                    let prior = fitted(near.iter().copied(), prior, PRIOR_SAMPLES);
                    let column = 2 * index + agrees;
                    let own = near.iter().copied().filter(|one| one.cell.column == column);
                    *thousandths = (fitted(own, prior, PRIOR_SAMPLES) * 1000.0).round() as u16;
                }
            }
        }
        Weights { rows }
    }

    /// The mean of what a token costs in nats: under the model alone, and under the blend.
    pub fn nats(&self, samples: &[Sample]) -> (f64, f64) {
        let count = samples.len().max(1) as f64;
        let weight = |one: &Sample| f64::from(self.rows[one.cell.row][one.cell.column]) / 1000.0;
        let alone: f64 = samples.iter().map(|one| -f64::from(one.model).ln()).sum();
        let blended: f64 = samples.iter().map(|one| -one.blended(weight(one)).ln()).sum();
        (alone / count, blended / count)
    }
}

/// The weight under which these samples are likeliest, where `prior` counts as so many of them.
fn fitted<'a>(samples: impl Iterator<Item = &'a Sample> + Clone, prior: f64, strength: f64) -> f64 {
    let mut weight = prior.clamp(0.01, 0.99);
    for _ in 0..ROUNDS {
        let (mut total, mut count) = (strength * prior, strength);
        for one in samples.clone() {
            total += weight * f64::from(one.cache) / one.blended(weight).max(f64::MIN_POSITIVE);
            count += 1.0;
        }
        if count == 0.0 {
            return prior;
        }
        weight = (total / count).clamp(0.0, 0.999);
    }
    weight
}

fn cell(prediction: &Prediction, opinion: Opinion) -> Option<Cell> {
    let level = prediction.level?;
    let (top, _) = prediction.top()?;
    let class = |begins: usize| begins.saturating_sub(1);
    let len = class(LENS.partition_point(|from| *from <= prediction.len));
    let certainty = class(CERTAINTIES.partition_point(|from| *from <= opinion.certainty));
    let kind = match (prediction.count, prediction.share) {
        (0 | 1, _) => 0,
        (2 | 3, share) if share > 0.99 => 1,
        (_, share) if share > 0.99 => 2,
        (_, share) if share > 0.66 => 3,
        (_, share) if share > 0.33 => 4,
        _ => 5,
    };
    let level = match level {
        Level::Project => 0,
        Level::Directory => 1,
        Level::File => 2,
    };
    let agrees = usize::from(top == opinion.top);
    Some(Cell {
        row: len * KINDS + kind,
        column: (level * CERTAINTIES.len() + certainty) * 2 + agrees,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prediction(tokens: &[(u32, f32)], len: u8, count: u16, share: f32) -> Prediction {
        Prediction { tokens: tokens.to_vec(), len, level: Some(Level::File), count, share }
    }

    /// Positions where the cache is right `right` times of a hundred, and says so with 0.9; the model gives every token 0.1.
    fn samples(right: usize, len: u8) -> Vec<Sample> {
        let prediction = prediction(&[(1, 0.9)], len, 2, 1.0);
        let opinion = Opinion { top: 2, certainty: 0.1 };
        (0..2000)
            .map(|index| u32::from(index % 100 < right))
            .filter_map(|token| Sample::of(&prediction, opinion, token, 0.1))
            .collect()
    }

    fn fitted_weight(right: usize) -> f32 {
        let weights = Weights::fit(&samples(right, 4));
        let prediction = prediction(&[(1, 0.9)], 5, 2, 1.0);
        weights.weight(&prediction, Opinion { top: 2, certainty: 0.12 })
    }

    #[test]
    fn the_weight_is_that_of_the_greatest_likelihood() {
        // Of a token that the cache names, the blend gives 0.1 + 0.81 w, of another one 0.1 − 0.09 w: by the derivative.
        let best = |right: f64| {
            let slope =
                |w: f64| right * 0.81 / (0.1 + 0.81 * w) - (1.0 - right) * 0.09 / (0.1 - 0.09 * w);
            (0..1000)
                .map(|w| f64::from(w) / 1000.0)
                .take_while(|w| slope(*w) > 0.0)
                .last()
                .unwrap_or(0.0)
        };
        for right in [20, 50, 80] {
            let (found, best) = (f64::from(fitted_weight(right)), best(right as f64 / 100.0));
            assert!((found - best).abs() < 0.02, "{right}: {found} {best}");
        }
        assert!(fitted_weight(5) < 0.01);
    }

    #[test]
    fn few_samples_stay_near_what_coarser_cells_say() {
        let mut all = samples(80, 4);
        all.extend(samples(0, 10).into_iter().take(3));
        let weights = Weights::fit(&all);
        let of = |len| {
            weights
                .weight(&prediction(&[(1, 0.9)], len, 2, 1.0), Opinion { top: 2, certainty: 0.1 })
        };
        assert!(of(4) > 0.6 && of(10) > 0.4, "{} {}", of(4), of(10));
        all.extend(samples(0, 10));
        assert!(
            Weights::fit(&all)
                .weight(&prediction(&[(1, 0.9)], 10, 2, 1.0), Opinion { top: 2, certainty: 0.1 })
                < 0.1
        );
    }

    #[test]
    fn fitting_gains_and_a_table_is_read_as_it_was_written() {
        let all = [samples(70, 4), samples(10, 16)].concat();
        let weights = Weights::fit(&all);
        let (alone, blended) = weights.nats(&all);
        assert!(blended < 0.8 * alone, "{alone} {blended}");
        assert_eq!(Weights::parse(&weights.written()), Ok(weights));
    }

    #[test]
    fn what_says_nothing_weighs_nothing() {
        let weights = Weights::built_in().unwrap();
        let opinion = Opinion { top: 2, certainty: 0.1 };
        assert_eq!(weights.weight(&Prediction::default(), opinion), 0.0);
        assert_eq!(Sample::of(&Prediction::default(), opinion, 1, 0.5), None);
        let long = prediction(&[(1, 0.9)], 20, 5, 1.0);
        let short = prediction(&[(1, 0.3)], 2, 5, 0.3);
        assert!(weights.weight(&long, opinion) > weights.weight(&short, opinion));
    }

    #[test]
    fn a_table_of_another_form_is_refused() {
        for text in ["", "rows = []", "rows = [[1]]", "rows = 3", "other = 1"] {
            assert!(Weights::parse(text).is_err(), "{text}");
        }
        let whole = Weights::fit(&[]).written();
        assert!(Weights::parse(&whole).is_ok());
        assert!(Weights::parse(&whole.replacen("[", "[[1001],", 1)).is_err());
        assert!(Weights::parse(&whole.replacen("    [200", "    [1001", 1)).is_err());
    }
}
