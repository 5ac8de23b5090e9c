//! Figures as rows: overall, and per language with the language's name at the end.

use crate::bench::report::Row;

use super::baseline::Baseline;
use super::cases::Kind;
use super::corpus::LANGUAGES;
use super::fill::Filled;
use super::mixed::Mixed;
use super::score::Cost;

/// Goals, in percent.
const VERSUS_NGRAM: f64 = 25.0;
const IDENTIFIERS: f64 = 45.0;
const LINES: f64 = 20.0;
const MIXTURE: f64 = 10.0;

/// What the bits of one language are.
#[derive(Debug, Clone)]
pub(super) struct Bits {
    pub(super) language: &'static str,
    pub(super) cost: Cost,
    /// Of another edition on the same windows.
    pub(super) other: Option<Cost>,
    pub(super) baseline: Option<Baseline>,
    pub(super) mixed: Mixed,
}

/// A share of one.
#[allow(clippy::cast_precision_loss, reason = "some thousands")]
pub(super) fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// A row in percent, which says of how many.
pub(super) fn percent(metric: &str, part: usize, whole: usize) -> Row {
    Row::new(metric, 100.0 * share(part, whole), &format!("% of {whole}"))
}

/// The rows of bits per byte.
pub(super) fn bits(all: &[Bits]) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut worst: Option<f64> = None;
    for bits in all {
        let Bits { language, cost, .. } = bits;
        let own = cost.per_byte(cost.model);
        let mut row = Row::new(&format!("bits_per_byte_{language}"), own, "bits/byte");
        if let Some(other) = &bits.other {
            row = row.against("the other edition", own / other.per_byte(other.model));
        }
        rows.push(row);
        let Some(baseline) = &bits.baseline else { continue };
        let better = 100.0 * (1.0 - own / baseline.tokens5);
        worst = Some(worst.map_or(better, |worst| worst.min(better)));
        rows.push(
            Row::new(&format!("bits_per_byte_vs_ngram_{language}"), better, "% better")
                .against(
                    &format!("order-5 tokens, {:.3} bits/byte", baseline.tokens5),
                    own / baseline.tokens5,
                )
                .at_least(VERSUS_NGRAM),
        );
        rows.push(Row::new(
            &format!("bits_per_byte_ngram_bytes_{language}"),
            baseline.bytes5,
            "bits/byte",
        ));
    }
    if let Some(worst) = worst {
        let row = Row::new("bits_per_byte_vs_ngram", worst, "% better in the worst language");
        rows.insert(0, row.at_least(VERSUS_NGRAM));
    }
    rows
}

/// The rows of what the workspace adds.
#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(super) fn mixtures(all: &[Bits]) -> Vec<Row> {
    let total = all.iter().fold(Mixed::default(), |total, one| total.and(one.mixed));
    let row = |name: &str, mixed: &Mixed| {
        Row::new(name, 100.0 * mixed.gain(), "% of the bits").at_least(MIXTURE)
    };
    let mut rows = vec![row("mixture_gain", &total)];
    for Bits { language, mixed, .. } in all {
        rows.push(row(&format!("mixture_gain_{language}"), mixed));
        for (metric, bits) in
            [("alone", mixed.alone), ("mixed", mixed.mixed), ("cache_alone", mixed.cache)]
        {
            let metric = format!("bits_per_byte_{metric}_{language}");
            rows.push(Row::new(&metric, bits / mixed.bytes.max(1) as f64, "bits/byte"));
        }
    }
    rows
}

/// How often a file parses with what was suggested, where something was, and a grammar is at hand.
pub(super) fn parses(filled: &[Filled<'_>]) -> Row {
    let judged: Vec<bool> =
        filled.iter().filter(|one| !one.written.is_empty()).filter_map(Filled::parses).collect();
    percent("parses", judged.iter().filter(|parses| **parses).count(), judged.len())
}

/// The rows of completions; `ending` names how they were made.
pub(super) fn completions(filled: &[Filled<'_>], ending: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    for kind in Kind::ALL {
        let of_kind: Vec<&Filled<'_>> = filled.iter().filter(|one| one.case.kind == kind).collect();
        if of_kind.is_empty() {
            continue;
        }
        rows.extend(kind_rows(&of_kind, kind, ending, ending.is_empty()));
        for language in LANGUAGES {
            let of_language: Vec<&Filled<'_>> =
                of_kind.iter().filter(|one| one.case.language == language).copied().collect();
            if !of_language.is_empty() && ending.is_empty() {
                rows.extend(kind_rows(&of_language, kind, &format!("_{language}"), false));
            }
        }
    }
    rows
}

#[allow(clippy::cast_precision_loss, reason = "some thousands")]
fn kind_rows(filled: &[&Filled<'_>], kind: Kind, ending: &str, is_judged: bool) -> Vec<Row> {
    let exact = |of: &[&Filled<'_>]| of.iter().filter(|one| one.is_exact()).count();
    let name = kind.name();
    let mut row = percent(&format!("{name}_exact_match{ending}"), exact(filled), filled.len());
    let is_goal = is_judged || LANGUAGES.iter().any(|language| ending == format!("_{language}"));
    if is_goal && kind == Kind::Identifier {
        row = row.at_least(IDENTIFIERS);
    }
    if is_goal && kind == Kind::Line {
        row = row.at_least(LINES);
    }
    let mut rows = vec![row];
    if kind == Kind::Line {
        let lettered: Vec<&Filled<'_>> =
            filled.iter().filter(|one| one.has_letters()).copied().collect();
        let metric = format!("line_with_letters_exact_match{ending}");
        rows.push(percent(&metric, exact(&lettered), lettered.len()));
    }
    let similar: f64 = filled.iter().map(|one| one.similarity()).sum();
    let metric = format!("{name}_edit_similarity{ending}");
    rows.push(Row::new(&metric, 100.0 * similar / filled.len().max(1) as f64, "%"));
    rows
}
