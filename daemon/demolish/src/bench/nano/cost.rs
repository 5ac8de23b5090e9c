//! What a suggestion costs and what the checker is worth, through shim and daemon, as an editor has it.
//!
//! The samples are written for this (`samples/shop.py`, `samples/shop.ts`): held-out packages come without what they import, so that their
//! servers would object to everything.

use std::path::Path;

use crate::bench::report::Row;
use crate::bench::steer::keystroke::{self, Outcome};

/// Milliseconds from the keystroke to the checked suggestion, at most.
const P50_MS: f64 = 250.0;
const P95_MS: f64 = 600.0;
/// MiB of memory with model, index and cache.
const RESIDENT_MIB: f64 = 300.0;
/// Every suggestion is shown with what the server says of its first draft.
const UNCHECKED: &str = "[complete]\nshow_findings = true\nchecks_max = 1\nwithhold = \"off\"\n";
const CHECKED: &str = "[complete]\nwithhold = \"off\"\n";

/// The rows.
///
/// # Errors
/// The daemon or a server does not start: one sentence.
pub(super) async fn rows(model: &Path) -> Result<Vec<Row>, String> {
    let path = model.canonicalize().map_err(|error| format!("{}: {error}", model.display()))?;
    let settings = |more: &str| format!("[model]\npath = {:?}\n{more}", path.display().to_string());
    let (checked, resident) = keystroke::of_settings("nano", &settings(CHECKED)).await?;
    let (unchecked, _) = keystroke::of_settings("nano-unchecked", &settings(UNCHECKED)).await?;
    let mut rows = vec![
        Row::new("suggestion_p50", checked.latencies.quantile(0.5), "ms").at_most(P50_MS),
        Row::new("suggestion_p95", checked.latencies.quantile(0.95), "ms").at_most(P95_MS),
        Row::new("suggestion_max", checked.latencies.quantile(1.0), "ms"),
        Row::new("resident_mib", resident, "MiB").at_most(RESIDENT_MIB),
    ];
    rows.extend(clean(&checked, "with_checker"));
    rows.extend(clean(&unchecked, "without_checker"));
    Ok(rows)
}

/// Of what was suggested and judged, the share without findings; and the share of places with a suggestion.
#[allow(clippy::cast_precision_loss, reason = "some dozens")]
fn clean(outcome: &Outcome, ending: &str) -> Vec<Row> {
    let judged = outcome.clean + outcome.findings;
    let suggested = judged + outcome.unknown;
    let percent = |metric: &str, part: usize, whole: usize| {
        let share = 100.0 * part as f64 / whole.max(1) as f64;
        Row::new(&format!("{metric}_{ending}"), share, &format!("% of {whole}"))
    };
    vec![
        percent("compiles", outcome.clean, judged),
        percent("suggests", suggested, outcome.latencies.len()),
    ]
}
