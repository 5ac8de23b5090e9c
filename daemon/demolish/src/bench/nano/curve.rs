//! What is shown and what is withheld: how often a suggestion is right, by how sure the model is of it.

use crate::bench::report::Row;

use super::fill::Filled;
use super::rows::{percent, share};

/// Of what is shown, so much is to be what the author wrote.
const SHOWN_PRECISION: f64 = 35.0;
/// Points of the curve.
const POINTS: usize = 10;

/// One point: of the suggestions, the share that is shown, and the share of those that is right.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    pub(super) shown: f64,
    pub(super) precision: f64,
    /// From which confidence on.
    pub(super) from: f32,
}

/// The curve, from the surest tenth to all. Suggestions without a confidence, and places without a suggestion, are not in it.
pub(super) fn curve(filled: &[&Filled<'_>]) -> Vec<Point> {
    let mut sure: Vec<(f32, bool)> = filled
        .iter()
        .filter(|one| !one.written.is_empty())
        .filter_map(|one| one.confidence.map(|confidence| (confidence, one.is_right())))
        .collect();
    sure.sort_by(|one, other| other.0.total_cmp(&one.0));
    (1..=POINTS)
        .filter_map(|point| {
            let count = sure.len() * point / POINTS;
            let shown = sure.get(..count).filter(|shown| !shown.is_empty())?;
            let right = shown.iter().filter(|(_, right)| *right).count();
            Some(Point {
                shown: share(count, sure.len()),
                precision: share(right, count),
                from: shown.last().map_or(0.0, |(confidence, _)| *confidence),
            })
        })
        .collect()
}

/// The rows of all places, and of one language where it is named.
pub(super) fn rows(filled: &[&Filled<'_>], ending: &str) -> Vec<Row> {
    let shown: Vec<_> =
        filled.iter().filter(|one| one.is_shown && !one.written.is_empty()).collect();
    let right = shown.iter().filter(|one| one.is_right()).count();
    let chars = |text: &str| text.trim_end().chars().count();
    let saved: usize =
        shown.iter().filter(|one| one.is_right()).map(|one| chars(&one.written)).sum();
    let all: usize = filled.iter().map(|one| chars(one.case.truth())).sum();
    let named = |metric: &str| format!("{metric}{ending}");
    let mut rows = vec![
        percent(&named("shown_precision"), right, shown.len())
            .at_least(SHOWN_PRECISION)
            .noted("whole suggestions that are what the author wrote, of those that are shown"),
        percent(&named("shown_share"), shown.len(), filled.len()),
    ];
    if ending.is_empty() {
        let without: Vec<_> = filled.iter().filter(|one| !one.written.is_empty()).collect();
        let right = without.iter().filter(|one| one.is_right()).count();
        rows.push(percent("unfiltered_precision", right, without.len()));
        rows.push(
            percent("acceptance_proxy", saved, all)
                .noted("characters of shown and right suggestions, of those that the author wrote"),
        );
        for point in curve(filled) {
            let name = format!("precision_at_{:.0}", 100.0 * point.shown);
            rows.push(
                Row::new(&name, 100.0 * point.precision, "%")
                    .noted(&format!("confidence from {:.3} on", point.from)),
            );
        }
    }
    rows
}
