//! Learning which suggestions are right: logistic regression by Newton's method, with a ridge.

use std::collections::BTreeMap;

use super::{CutOff, Evidence, FEATURES, FEATURES_LEN, Learned};

/// Fewer samples than this teach nothing that holds.
pub const SAMPLES_MIN: usize = 500;
/// The precision that [`Withhold::Low`](super::Withhold::Low) is set for: what is promised, 35 %, and some more, since other code is other.
const PRECISION_LOW: f32 = 0.45;
/// The precision that [`Withhold::High`](super::Withhold::High) is set for.
const PRECISION_HIGH: f32 = 0.60;
/// The least share that tells a precision. Where no cut-off reaches its own, the surest ones are shown, and no more than this.
const SHOWN_MIN: f32 = 0.02;
/// How much large weights cost, per sample, in standard deviations of their features.
const RIDGE: f64 = 1e-3;
/// Newton's method is there after a handful of steps.
const STEPS_MAX: usize = 30;
/// Where a step moves no weight by more than this, it is over.
const STEP_MIN: f64 = 1e-7;
/// Parts of the samples, each judged by what the others have taught.
const FOLDS: usize = 5;

/// A suggestion, and whether it was what the author wrote.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// What spoke for it.
    pub evidence: Evidence,
    /// It was.
    pub right: bool,
}

/// Why nothing could be learned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FitError {
    /// There is too little to learn from.
    #[error("{0} suggestions are too few to learn from: at least {SAMPLES_MIN} are needed")]
    TooFew(usize),
    /// There is nothing to tell apart.
    #[error("all {0} suggestions are right, or all are wrong")]
    Alike(usize),
    /// The equations have no solution.
    #[error("the features of {0} suggestions depend on each other, and no weights come of them")]
    Singular(usize),
}

const WIDTH: usize = FEATURES_LEN + 1;
type Row = [f64; WIDTH];

/// Learns from `samples` of the model of this name; samples of one file come one after the other.
pub fn fit(model: &str, samples: &[Sample]) -> Result<Learned, FitError> {
    let right = samples.iter().filter(|sample| sample.right).count();
    if samples.len() < SAMPLES_MIN {
        return Err(FitError::TooFew(samples.len()));
    }
    if right == 0 || right == samples.len() {
        return Err(FitError::Alike(samples.len()));
    }
    let weights = solve(samples.iter()).ok_or(FitError::Singular(samples.len()))?;
    let judged = cross_judged(samples).ok_or(FitError::Singular(samples.len()))?;
    let names = FEATURES.iter().zip(&weights[1..]);
    Ok(Learned {
        model: model.to_owned(),
        samples: samples.len(),
        right: right as f32 / samples.len() as f32,
        low: cut_off(&judged, PRECISION_LOW),
        high: cut_off(&judged, PRECISION_HIGH),
        bias: weights[0] as f32,
        weights: names
            .map(|(name, weight)| ((*name).to_owned(), *weight as f32))
            .collect::<BTreeMap<_, _>>(),
    })
}

/// The probability that each sample gets from what the others have taught, and whether it was right; the likeliest first.
fn cross_judged(samples: &[Sample]) -> Option<Vec<(f32, bool)>> {
    let fold = |index: usize| index * FOLDS / samples.len();
    let mut judged = Vec::with_capacity(samples.len());
    for held_out in 0..FOLDS {
        let others = samples.iter().enumerate().filter(|(index, _)| fold(*index) != held_out);
        let weights = solve(others.map(|(_, sample)| sample))?;
        let own = samples.iter().enumerate().filter(|(index, _)| fold(*index) == held_out);
        judged.extend(own.map(|(_, sample)| {
            (probability(&weights, &row(&sample.evidence)) as f32, sample.right)
        }));
    }
    judged.sort_by(|a, b| b.0.total_cmp(&a.0));
    Some(judged)
}

/// The least probability from which on so many are right, where the likeliest come first.
fn cut_off(judged: &[(f32, bool)], precision: f32) -> CutOff {
    let mut right = 0;
    let mut surest: Option<CutOff> = None;
    let mut reached: Option<CutOff> = None;
    for (index, &(probability, is_right)) in judged.iter().enumerate() {
        right += usize::from(is_right);
        let (count, total) = ((index + 1) as f32, judged.len() as f32);
        let here = CutOff { probability, precision: right as f32 / count, shown: count / total };
        if here.shown < SHOWN_MIN {
            continue;
        }
        if here.precision >= precision {
            reached = Some(here);
        }
        surest.get_or_insert(here);
    }
    let nothing = CutOff { probability: 1.0, precision: 0.0, shown: 0.0 };
    reached.or(surest).unwrap_or(nothing)
}

fn row(evidence: &Evidence) -> Row {
    let mut row = [1.0; WIDTH];
    for (to, from) in row[1..].iter_mut().zip(evidence.features()) {
        *to = f64::from(*from);
    }
    row
}

fn probability(weights: &Row, row: &Row) -> f64 {
    let sum: f64 = weights.iter().zip(row).map(|(weight, x)| weight * x).sum();
    1.0 / (1.0 + (-sum).exp())
}

/// The weights that make the samples likeliest, the bias first.
fn solve<'s>(samples: impl Iterator<Item = &'s Sample>) -> Option<Row> {
    let samples: Vec<(Row, f64)> =
        samples.map(|sample| (row(&sample.evidence), f64::from(u8::from(sample.right)))).collect();
    let count = samples.len() as f64;
    let mut spread = [0.0; WIDTH];
    for at in 1..WIDTH {
        let mean = samples.iter().map(|(row, _)| row[at]).sum::<f64>() / count;
        spread[at] = samples.iter().map(|(row, _)| (row[at] - mean).powi(2)).sum::<f64>() / count;
    }
    let mut weights = [0.0; WIDTH];
    for _ in 0..STEPS_MAX {
        let mut gradient = [0.0; WIDTH];
        let mut curvature = [[0.0; WIDTH]; WIDTH];
        for (row, right) in &samples {
            let expected = probability(&weights, row);
            let weight = expected * (1.0 - expected);
            for (at, x) in row.iter().enumerate() {
                gradient[at] += (right - expected) * x;
                for (to, other) in curvature[at][..=at].iter_mut().zip(row) {
                    *to += weight * x * other;
                }
            }
        }
        for at in 0..WIDTH {
            // A feature that is always the same has no weight.
            let ridge = count * RIDGE * if at == 0 { 0.0 } else { spread[at].max(1e-6) };
            gradient[at] -= ridge * weights[at];
            curvature[at][at] += ridge;
        }
        let step = cholesky(curvature, gradient)?;
        let mut largest = 0.0f64;
        for (weight, step) in weights.iter_mut().zip(step) {
            *weight += step;
            largest = largest.max(step.abs());
        }
        if largest < STEP_MIN {
            break;
        }
    }
    weights.iter().all(|weight| weight.is_finite()).then_some(weights)
}

/// The solution of `matrix · x = right` for a symmetric, positive definite matrix, of which the lower half is given.
fn cholesky(mut matrix: [[f64; WIDTH]; WIDTH], mut right: Row) -> Option<Row> {
    for at in 0..WIDTH {
        for below in at..WIDTH {
            let known: f64 = (0..at).map(|k| matrix[below][k] * matrix[at][k]).sum();
            let rest = matrix[below][at] - known;
            if below == at {
                if rest <= 0.0 || !rest.is_finite() {
                    return None;
                }
                matrix[at][at] = rest.sqrt();
            } else {
                matrix[below][at] = rest / matrix[at][at];
            }
        }
        let known: f64 = (0..at).map(|k| matrix[at][k] * right[k]).sum();
        right[at] = (right[at] - known) / matrix[at][at];
    }
    for at in (0..WIDTH).rev() {
        let known: f64 = (at + 1..WIDTH).map(|k| matrix[k][at] * right[k]).sum();
        right[at] = (right[at] - known) / matrix[at][at];
    }
    Some(right)
}

#[cfg(test)]
mod tests {
    use super::super::{Look, Withhold};
    use super::*;

    /// Numbers in [0, 1), the same every time (a linear congruence of Knuth's).
    fn numbers(mut state: u64) -> impl FnMut() -> f64 {
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 11) as f64 / (1u64 << 53) as f64
        }
    }

    /// Suggestions that are right as often as their model says.
    fn samples(count: usize) -> Vec<Sample> {
        let mut next = numbers(1);
        let sample = |_| {
            let logprob = (next() * 0.98 + 0.01).ln() as f32;
            let evidence = Evidence::of(&Look {
                logprobs: &[logprob],
                end: Some(0.0),
                text: "x",
                line: if next() < 0.5 { "a." } else { "" },
                inside: false,
                whole: next() < 0.5,
                turned: false,
                language: "rust",
            });
            Sample { evidence, right: next() < f64::from(logprob.exp()) }
        };
        (0..count).map(sample).collect()
    }

    #[test]
    fn what_the_samples_hold_is_learned_and_the_precision_is_kept_on_others() {
        let learned = fit("some", &samples(4000)).unwrap();
        let others = &samples(8000)[4000..];
        for (withhold, precision) in [(Withhold::Low, 0.45), (Withhold::High, 0.6)] {
            let shown: Vec<&Sample> = others
                .iter()
                .filter(|one| learned.shows(withhold, learned.probability(&one.evidence)))
                .collect();
            let right = shown.iter().filter(|one| one.right).count() as f32 / shown.len() as f32;
            assert!(right > precision - 0.04, "{withhold:?}: {right}");
            assert!(shown.len() > others.len() / 2, "{withhold:?}: {}", shown.len());
        }
        let off = |weight: f32, one: f32| (weight - one).abs();
        let error: f32 = others
            .iter()
            .map(|one| off(learned.probability(&one.evidence), one.evidence.features()[1].exp()))
            .sum::<f32>()
            / others.len() as f32;
        assert!(error < 0.05, "calibrated: {error}");
        assert!(
            others.iter().all(|one| learned.shows(Withhold::Off, 0.0 * one.evidence.features()[0]))
        );
    }

    #[test]
    fn where_nothing_tells_right_from_wrong_the_cut_off_says_what_it_reached() {
        let mut next = numbers(2);
        let blind: Vec<Sample> =
            samples(2000).into_iter().map(|one| Sample { right: next() < 0.1, ..one }).collect();
        let learned = fit("some", &blind).unwrap();
        assert!(learned.low.precision < 0.45 && (learned.low.shown - SHOWN_MIN).abs() < 1e-3);
        assert!((learned.right - 0.1).abs() < 0.03);
    }

    #[test]
    fn what_cannot_be_learned_from_is_refused() {
        assert_eq!(fit("some", &samples(10)), Err(FitError::TooFew(10)));
        let right: Vec<Sample> =
            samples(600).into_iter().map(|one| Sample { right: true, ..one }).collect();
        assert_eq!(fit("some", &right), Err(FitError::Alike(600)));
    }

    #[test]
    fn equations_are_solved() {
        let mut next = numbers(3);
        let half: Vec<Row> = (0..WIDTH).map(|_| std::array::from_fn(|_| next() - 0.5)).collect();
        let mut matrix = [[0.0; WIDTH]; WIDTH];
        for row in 0..WIDTH {
            for column in 0..WIDTH {
                let product: f64 = (0..WIDTH).map(|k| half[row][k] * half[column][k]).sum();
                matrix[row][column] = product + f64::from(u8::from(row == column));
            }
        }
        let expected: Row = std::array::from_fn(|at| at as f64 - 3.0);
        let right = std::array::from_fn(|row| {
            (0..WIDTH).map(|column| matrix[row][column] * expected[column]).sum()
        });
        let found = cholesky(matrix, right).unwrap();
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-8), "{found:?}");
        assert_eq!(cholesky([[0.0; WIDTH]; WIDTH], right), None);
    }
}
