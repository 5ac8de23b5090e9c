//! Fits what is learned behind the training on validation packages: how much the workspace weighs beside the model, and from which
//! confidence on a suggestion is shown. Both are data of the program, so the second is fitted once the first is built in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use decode::CompleteRequest;
use decode::confidence::{Sample, fit};
use decode::score::samples;
use engine::Engine;
use recall::cache::weights::Weights;

use super::cases::{self, Case, Kind};
use super::corpus::Held;
use super::fill;
use super::projects::Projects;
use super::tell;

/// Holes of each kind and language.
const HOLES: usize = 160;
/// Where the data lies.
const MIXTURE: &str = "../recall/data/mixture.toml";
const CONFIDENCE: &str = "../decode/data/confidence.toml";

/// What is fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Fitted {
    /// The weights of the workspace.
    Mixture,
    /// The odds that a suggestion is right, and from which on it is shown.
    Confidence,
}

/// Fits it, writes it, and says what came of it.
///
/// # Errors
/// The engine fails, or there is too little to learn from: one sentence.
pub(super) async fn run(engine: &Engine, all: &[Held], what: Fitted) -> Result<String, String> {
    let kinds: &[Kind] = match what {
        Fitted::Mixture => &[Kind::Line, Kind::Rest, Kind::Block],
        Fitted::Confidence => &[Kind::Name, Kind::Line, Kind::Rest],
    };
    let cases: Vec<Case<'_>> = all
        .iter()
        .flat_map(|held| kinds.iter().flat_map(|kind| cases::cases(held, *kind, HOLES)))
        .collect();
    tell(&format!("fits on {} holes", cases.len()));
    let projects = Projects::of(engine, all, cases.iter().map(|case| case.file));
    match what {
        Fitted::Mixture => mixture(engine, &cases, &projects).await,
        Fitted::Confidence => confidence(engine, &cases, &projects).await,
    }
}

async fn mixture(
    engine: &Engine,
    cases: &[Case<'_>],
    projects: &Projects,
) -> Result<String, String> {
    let mut found = Vec::new();
    for case in cases {
        let text: Arc<str> = case.document().into();
        let mut request =
            CompleteRequest::typing(PathBuf::from(&case.file.path), text.clone(), case.begin);
        request.mixing = Some(projects.mixing(case.file));
        request.lookup = projects.around(engine, &text, case.begin);
        let scored = samples(engine, request, case.truth()).await;
        let scored = scored.map_err(|error| error.to_string())?;
        found.extend(scored.into_iter().filter_map(|(_, sample)| sample));
    }
    let weights = Weights::fit(&found);
    write(MIXTURE, &weights.written())?;
    let (alone, mixed) = weights.nats(&found);
    let count = found.len();
    Ok(format!(
        "{count} tokens that the workspace had a say in: {alone:.4} nats alone, {mixed:.4} mixed"
    ))
}

async fn confidence(
    engine: &Engine,
    cases: &[Case<'_>],
    projects: &Projects,
) -> Result<String, String> {
    let filled = fill::fill(engine, cases, Some(projects)).await?;
    let known = filled
        .iter()
        .filter_map(|one| one.evidence.map(|evidence| Sample { evidence, right: one.is_right() }));
    let learned =
        fit(&engine.info().name, &known.collect::<Vec<_>>()).map_err(|error| error.to_string())?;
    write(CONFIDENCE, &learned.to_toml())?;
    Ok(format!(
        "{} suggestions, {:.1} % right; shown {:.1} % with a precision of {:.1} %",
        learned.samples,
        100.0 * learned.right,
        100.0 * learned.low.shown,
        100.0 * learned.low.precision
    ))
}

#[allow(clippy::disallowed_methods, reason = "the data that was asked for")]
fn write(place: &str, text: &str) -> Result<(), String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(place);
    std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
}
