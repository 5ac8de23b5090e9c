//! The object that every benchmark prints.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::machine::Machine;

/// What one benchmark measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Its name.
    pub bench: String,
    /// When, in UTC (RFC 3339).
    pub date: String,
    /// On what.
    pub machine: Machine,
    /// Of which commit; `unknown` outside of a checkout.
    pub commit: String,
    /// The numbers.
    pub rows: Vec<Row>,
    /// What there is to say about all of it, such as what was not measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// One number.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    /// What was measured.
    pub metric: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: String,
    /// What it is compared with, in the same run.
    pub against: Option<String>,
    /// The measured value divided by that of the comparison.
    pub ratio: Option<f64>,
    /// What it should be: `<= 100`, `= 0`.
    pub goal: Option<String>,
    /// Whether it is.
    pub holds: Option<bool>,
    /// What there is to say about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Row {
    /// A number without goal or comparison.
    #[must_use]
    pub fn new(metric: &str, value: f64, unit: &str) -> Row {
        Row {
            metric: metric.to_owned(),
            value: rounded(value),
            unit: unit.to_owned(),
            against: None,
            ratio: None,
            goal: None,
            holds: None,
            note: None,
        }
    }

    /// The number must not be larger than `limit`.
    #[must_use]
    pub fn at_most(mut self, limit: f64) -> Row {
        self.goal = Some(format!("<= {limit}"));
        self.holds = Some(self.value <= limit);
        self
    }

    /// The number must not be smaller than `limit`.
    #[must_use]
    pub fn at_least(mut self, limit: f64) -> Row {
        self.goal = Some(format!(">= {limit}"));
        self.holds = Some(self.value >= limit);
        self
    }

    /// The number must be `exact`.
    #[must_use]
    pub fn exactly(mut self, exact: f64) -> Row {
        self.goal = Some(format!("= {exact}"));
        self.holds = Some((self.value - exact).abs() < f64::EPSILON);
        self
    }

    /// What there is to say about it.
    #[must_use]
    pub fn noted(mut self, note: &str) -> Row {
        self.note = Some(note.to_owned());
        self
    }

    /// What the number is compared with: its name and `ratio`.
    #[must_use]
    pub fn against(mut self, what: &str, ratio: f64) -> Row {
        self.against = Some(what.to_owned());
        self.ratio = Some(rounded(ratio));
        self
    }
}

/// Three significant digits are more than any of these measurements deserves.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let digits = 3.0 - value.abs().log10().ceil();
    let scale = 10f64.powf(digits.max(0.0));
    (value * scale).round() / scale
}

impl Report {
    /// A report of now and here.
    #[must_use]
    pub fn new(bench: &str, rows: Vec<Row>) -> Report {
        Report {
            bench: bench.to_owned(),
            date: super::machine::utc_now(),
            machine: Machine::this(),
            commit: super::machine::commit(),
            rows,
            notes: Vec::new(),
        }
    }

    /// With notes about all of it.
    #[must_use]
    pub fn noted(mut self, notes: Vec<String>) -> Report {
        self.notes = notes;
        self
    }

    /// Whether every goal is reached.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.rows.iter().all(|row| row.holds != Some(false))
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let machine = &self.machine;
        let mut text = format!(
            "{} on {} ({} cores, {} GiB), {}, commit {}\n",
            self.bench, machine.cpu, machine.cores, machine.memory_gib, self.date, self.commit
        );
        let width = self.rows.iter().map(|row| row.metric.len()).max().unwrap_or(0);
        for row in &self.rows {
            let _ = write!(text, "  {:width$}  {} {}", row.metric, row.value, row.unit);
            if let (Some(against), Some(ratio)) = (&row.against, row.ratio) {
                let _ = write!(text, "  ({ratio} x {against})");
            }
            if let (Some(goal), Some(holds)) = (&row.goal, row.holds) {
                let _ = write!(text, "  goal {goal}: {}", if holds { "holds" } else { "MISSED" });
            }
            text.push('\n');
        }
        for note in &self.notes {
            let _ = writeln!(text, "  {note}");
        }
        text
    }
}

/// Measured durations, or other numbers, of which a share is asked for.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<f64>);

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Samples {
        Samples(values.into_iter().collect())
    }
}

impl Samples {
    /// Adds one.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// All of them, as they came.
    #[must_use]
    pub fn into_vec(self) -> Vec<f64> {
        self.0
    }

    /// Adds all of another's.
    pub fn join(&mut self, other: &Samples) {
        self.0.extend_from_slice(&other.0);
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value that `share` of the samples do not exceed (nearest rank); 0 without samples.
    #[must_use]
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "the number of samples is far below 2^52"
    )]
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
    }

    /// The mean; 0 without samples.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "the number of samples is far below 2^52")]
    pub fn mean(&self) -> f64 {
        if self.0.is_empty() { 0.0 } else { self.0.iter().sum::<f64>() / self.0.len() as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_by_nearest_rank() {
        let mut samples = Samples::default();
        (1..=100).rev().for_each(|value| samples.push(f64::from(value)));
        assert_eq!(
            (samples.quantile(0.5), samples.quantile(0.99), samples.quantile(1.0)),
            (50.0, 99.0, 100.0)
        );
        assert_eq!(Samples::default().quantile(0.5), 0.0);
    }

    #[test]
    fn goals_are_judged() {
        let row = Row::new("x", 12.3456, "us").at_most(12.3);
        assert_eq!((row.value, row.holds), (12.3, Some(true)));
        assert_eq!(Row::new("share", 0.7, "").at_least(0.7).holds, Some(true));
        assert_eq!(Row::new("lost", 1.0, "").exactly(0.0).holds, Some(false));
    }
}
