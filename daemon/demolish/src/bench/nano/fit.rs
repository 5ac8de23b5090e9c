//! Fits what is learned behind the training on validation packages: how much the workspace weighs beside the model, and from which
//! confidence on a suggestion is shown. Both are data of the program, so the second is fitted once the first is built in.

use std::path::Path;

use decode::confidence::{Sample, Withhold, fit};
use decode::score::samples;
use engine::Engine;
use recall::cache::weights::Weights;

use super::cases::{self, Case, Kind};
use super::corpus::Held;
use super::fill::{self, Manner};
use super::projects::Projects;
use super::{Options, tell};
use crate::bench::draw::hash;

/// Holes of each kind and language.
const HOLES: usize = 160;
/// The same where it is only to be seen whether it works: enough for something to be learned at all.
const HOLES_QUICK: usize = 40;
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
pub(super) async fn run(
    engine: &Engine,
    all: &[Held],
    what: Fitted,
    options: &Options,
) -> Result<String, String> {
    let holes = if options.is_quick { HOLES_QUICK } else { HOLES };
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join(match what {
        Fitted::Mixture => MIXTURE,
        Fitted::Confidence => CONFIDENCE,
    });
    let to = options.to.as_deref().unwrap_or(&place);
    let kinds: &[Kind] = match what {
        Fitted::Mixture => &[Kind::Line, Kind::Rest, Kind::Block],
        Fitted::Confidence => &[Kind::Name, Kind::Line, Kind::Rest],
    };
    let cases: Vec<Case<'_>> = all
        .iter()
        .flat_map(|held| kinds.iter().flat_map(|kind| cases::cases(held, *kind, holes)))
        .collect();
    tell(&format!("fits on {} holes", cases.len()));
    let projects = Projects::of(engine, all, cases.iter().map(|case| case.file));
    let (text, said) = match what {
        Fitted::Mixture => mixture(engine, &cases, &projects).await?,
        Fitted::Confidence => confidence(engine, &cases, &projects).await?,
    };
    write(to, &text)?;
    Ok(format!("{said}\nwritten to {}", to.display()))
}

async fn mixture(
    engine: &Engine,
    cases: &[Case<'_>],
    projects: &Projects,
) -> Result<(String, String), String> {
    let mut found = Vec::new();
    for (count, case) in cases.iter().enumerate() {
        if count > 0 && count.is_multiple_of(fill::TOLD_EVERY) {
            tell(&format!("{count} of {}", cases.len()));
        }
        let request = projects.request(engine, case.file, case.document().into(), case.begin);
        let scored = samples(engine, request, case.truth()).await;
        let scored = scored.map_err(|error| error.to_string())?;
        found.extend(scored.into_iter().filter_map(|(_, sample)| sample));
    }
    let weights = Weights::fit(&found);
    let (alone, mixed) = weights.nats(&found);
    let count = found.len();
    let said = format!(
        "{count} tokens that the workspace had a say in: {alone:.4} nats alone, {mixed:.4} mixed"
    );
    Ok((weights.written(), said))
}

async fn confidence(
    engine: &Engine,
    cases: &[Case<'_>],
    projects: &Projects,
) -> Result<(String, String), String> {
    // What was learned before has no say in it.
    let manner = Manner { projects: Some(projects), mixes: true, withhold: Withhold::Off };
    let mut filled = fill::fill(engine, cases, manner).await?;
    // The samples are parted where they are judged: a package stays together, and no part has one language alone.
    filled.sort_by_cached_key(|one| hash(&[&one.case.file.package]));
    let known = filled
        .iter()
        .filter_map(|one| one.evidence.map(|evidence| Sample { evidence, right: one.is_right() }));
    let learned =
        fit(&engine.info().name, &known.collect::<Vec<_>>()).map_err(|error| error.to_string())?;
    let said = format!(
        "{} suggestions of the model {}, {:.1} % right; shown {:.1} % with a precision of {:.1} %",
        learned.samples,
        learned.model,
        100.0 * learned.right,
        100.0 * learned.low.shown,
        100.0 * learned.low.precision
    );
    Ok((learned.to_toml(), said))
}

#[allow(clippy::disallowed_methods, reason = "the data that was asked for")]
fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
