//! `demolish bench nano`: how good a model is at what typing needs, on packages that its training never saw.
//!
//! Everything goes through the real engine and the real [`decode`]: bits per byte of what authors wrote ([`score`]) against n-grams
//! ([`ngram`], [`baseline`]), another edition and the workspace's own tokens ([`mixed`], [`projects`]); completions of holes ([`cases`],
//! [`fill`]) and whether they are what the author wrote; what the confidence is worth ([`curve`]); and what all that costs ([`cost`]). The code is fetched and cleaned by the recipe in `daemon/nano` ([`corpus`]).

pub(in crate::bench) mod corpus;
mod score;
mod ngram;
mod baseline;
mod cases;
pub(in crate::bench) mod projects;
mod mixed;
mod fill;
mod curve;
mod cost;
mod examples;
pub(crate) mod fit;
mod rows;
#[cfg(test)]
mod tests;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use cases::{Case, Kind};
use corpus::{Held, LANGUAGES, Split};
use decode::confidence::Withhold;
use engine::{DRAFT_SOURCES, Engine};
use fill::{Filled, Manner};
use projects::Projects;
use rows::Bits;
use score::Window;

use super::report::{Report, Row};
use crate::config::read::{self, Layers};
use crate::model;

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// Few windows and holes: whether it works, not how good the model is.
    pub(crate) is_quick: bool,
    /// The model's folder; `None`: that of the settings.
    pub(crate) model: Option<PathBuf>,
    /// Another edition, whose bits per byte are put beside.
    pub(crate) compare: Option<PathBuf>,
    /// The folder of the corpus; `None`: where the recipe writes it.
    pub(crate) corpus: Option<PathBuf>,
    /// Where a table of examples is written.
    pub(crate) examples: Option<PathBuf>,
    /// Where what is fitted is written; `None`: into the source tree.
    pub(crate) to: Option<PathBuf>,
}

/// How much is measured, per language.
#[derive(Debug, Clone, Copy)]
struct Extent {
    windows: usize,
    /// Holes of each kind.
    holes: usize,
    /// Rounds of the measurement of speed.
    rounds: usize,
}

const FULL: Extent = Extent { windows: 60, holes: 80, rounds: 5 };
const QUICK: Extent = Extent { windows: 6, holes: 3, rounds: 1 };
/// Of so many lines one is also completed alone, for its drafts.
const DRAFTED_OF: usize = 3;

/// Decoding is to be at least this fast, in tokens per second on four cores.
const DECODE: f64 = 100.0;

/// Runs it.
///
/// # Errors
/// There is no model or no corpus, or the model fails: one sentence.
pub(crate) async fn run(options: &Options) -> Result<Report, String> {
    let folder = options.corpus.clone().unwrap_or_else(corpus::folder);
    let all = read_all(&folder, Split::HeldOut)?;
    let extent = if options.is_quick { QUICK } else { FULL };
    let dir = directory(options)?;
    let engine = load(&dir)?;
    tell("speed");
    let speed = super::engine::decode_rate(&engine, extent.rounds).await?;
    let mut rows = vec![Row::new("decode_tokens_per_s", speed, "tokens/s").at_least(DECODE)];
    let bits = measure_bits(&engine, &all, &folder, options, extent).await?;
    rows.extend(rows::bits(&bits));
    rows.extend(rows::mixtures(&bits));
    let mut notes = notes(&engine.info().name, &all, &bits);
    if engine.tokenizer().fim().is_none() {
        notes.push("The model was not trained to fill in: nothing was completed".to_owned());
        return Ok(Report::new("nano", rows).noted(notes));
    }
    rows.extend(completions(&engine, &all, options, extent).await?);
    tell("latency");
    drop(engine);
    rows.extend(cost::rows(&dir).await?);
    Ok(Report::new("nano", rows).noted(notes))
}

/// Completions with the workspace, and what is lost without it.
async fn completions(
    engine: &Engine,
    all: &[Held],
    options: &Options,
    extent: Extent,
) -> Result<Vec<Row>, String> {
    let cases: Vec<Case<'_>> = all
        .iter()
        .flat_map(|held| Kind::ALL.map(|kind| cases::cases(held, kind, extent.holes)))
        .flatten()
        .collect();
    tell(&format!("{} completions", cases.len()));
    let projects = Projects::of(engine, all, cases.iter().map(|case| case.file));
    // As the settings have it where nobody has changed them.
    let manner = Manner { projects: Some(&projects), mixes: true, withhold: Withhold::default() };
    let filled = fill::fill(engine, &cases, manner).await?;
    let mut rows = rows::completions(&filled, "");
    rows.extend(shown(&filled));
    rows.push(rows::parses(&filled));
    if let Some(path) = &options.examples {
        write(path, &examples::table(&filled))?;
    }
    let is_compared = |case: &&Case<'_>| matches!(case.kind, Kind::Identifier | Kind::Line);
    let compared: Vec<Case<'_>> = cases.iter().filter(is_compared).copied().collect();
    tell(&format!("{} completions without the mixture", compared.len()));
    let alone = fill::fill(engine, &compared, Manner { mixes: false, ..manner }).await?;
    rows.extend(rows::completions(&alone, "_without_mixture"));
    tell("drafts");
    let lines: Vec<Case<'_>> = all
        .iter()
        .flat_map(|held| cases::cases(held, Kind::Line, extent.holes / DRAFTED_OF))
        .collect();
    rows.push(drafts(engine, &lines, manner).await?);
    Ok(rows)
}

fn whole(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Of the tokens that the workspace supposes, those that are then drawn. Drafts are made for one completion at a time.
async fn drafts(engine: &Engine, lines: &[Case<'_>], manner: Manner<'_>) -> Result<Row, String> {
    let counted = || {
        let stats = engine.stats();
        let source = DRAFT_SOURCES.iter().position(|&name| name == "workspace");
        let of = |counts: &[u64]| source.map_or(0, |source| whole(counts[source]));
        (of(&stats.accepted), of(&stats.drafted))
    };
    let (accepted, drafted) = counted();
    for line in lines {
        fill::fill(engine, std::slice::from_ref(line), manner).await?;
    }
    let now = counted();
    Ok(rows::percent("workspace_drafts_accepted", now.0 - accepted, now.1 - drafted))
}

#[allow(clippy::disallowed_methods, reason = "the file that was asked for")]
fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Counts the n-grams on the training text, and keeps their figures in the source tree.
///
/// # Errors
/// There is no model, no corpus or no training text: one sentence.
pub(crate) fn keep_baseline(options: &Options) -> Result<String, String> {
    let folder = options.corpus.clone().unwrap_or_else(corpus::folder);
    let engine = load(&directory(options)?)?;
    let (mut kept, mut said) = (baseline::Kept::new(), String::new());
    for held in read_all(&folder, Split::HeldOut)? {
        tell(&format!("the n-grams of {}", held.language));
        let windows = score::windows(&held, FULL.windows);
        let found = baseline::of(&engine, &folder, held.language, &windows, &mut kept)?;
        let found = found.ok_or_else(|| format!("{} has no training text", folder.display()))?;
        let (tokens, bytes) = (found.tokens5, found.bytes5);
        said += &format!(
            "{}: {tokens:.3} bits per byte over tokens, {bytes:.3} over bytes\n",
            held.language
        );
        baseline::keep(&kept)?;
    }
    Ok(said)
}

/// Fits what is learned behind the training, and says what came of it.
///
/// # Errors
/// There is no model or no corpus, or the model fails: one sentence.
pub(crate) async fn fit(options: &Options, what: fit::Fitted) -> Result<String, String> {
    let folder = options.corpus.clone().unwrap_or_else(corpus::folder);
    let all = read_all(&folder, Split::Validation)?;
    fit::run(&load(&directory(options)?)?, &all, what, options).await
}

fn directory(options: &Options) -> Result<PathBuf, String> {
    match &options.model {
        Some(dir) => Ok(dir.clone()),
        None => model::find(&read::load(&Layers::of_process(None)).config.model),
    }
}

fn load(dir: &Path) -> Result<Engine, String> {
    if !score::is_model(dir) {
        return Err(format!("{} is no model: it has no config.json", dir.display()));
    }
    let settings = read::load(&Layers::default()).config.model;
    model::load(dir, model::options(&settings))
}

fn read_all(folder: &Path, split: Split) -> Result<Vec<Held>, String> {
    let mut all = Vec::new();
    for language in LANGUAGES {
        all.extend(corpus::read(folder, language, split)?);
    }
    if all.is_empty() {
        return Err(format!(
            "{} has no packages to measure on; `daemon/nano/build.sh heldout` fetches them",
            folder.display()
        ));
    }
    Ok(all)
}

async fn measure_bits(
    engine: &Engine,
    all: &[Held],
    folder: &Path,
    options: &Options,
    extent: Extent,
) -> Result<Vec<Bits>, String> {
    let other = options.compare.as_deref().map(load).transpose()?;
    let mut kept = baseline::kept();
    let mut bits = Vec::new();
    for held in all {
        tell(&format!("bits per byte of {}", held.language));
        let windows = score::windows(held, extent.windows);
        let cost = score::cost(engine, &windows).await?;
        let projects = Projects::of(engine, all, windows.iter().map(|window| window.file));
        let every_other: Vec<Window<'_>> = windows.iter().step_by(2).copied().collect();
        let mixed = mixed::mixed(engine, held, &every_other, &projects).await?;
        let other = match &other {
            Some(other) => Some(score::cost(other, &windows).await?),
            None => None,
        };
        // What few windows say of an n-gram is not worth its counting.
        let baseline = if options.is_quick {
            None
        } else {
            baseline::of(engine, folder, held.language, &windows, &mut kept)?
        };
        bits.push(Bits { language: held.language, cost, other, baseline, mixed });
    }
    Ok(bits)
}

/// Where people wait for suggestions: at the start of a line, and in the middle of one.
fn shown(filled: &[Filled<'_>]) -> Vec<Row> {
    let wanted = |one: &&Filled<'_>| matches!(one.case.kind, Kind::Name | Kind::Line | Kind::Rest);
    let places: Vec<&Filled<'_>> = filled.iter().filter(wanted).collect();
    let mut rows = curve::rows(&places, "");
    for language in LANGUAGES {
        let of_language: Vec<&Filled<'_>> =
            places.iter().filter(|one| one.case.language == language).copied().collect();
        if !of_language.is_empty() {
            rows.extend(curve::rows(&of_language, &format!("_{language}")));
        }
    }
    rows
}

fn notes(name: &str, all: &[Held], bits: &[Bits]) -> Vec<String> {
    let mut notes = vec![format!("The model is {name}")];
    for language in LANGUAGES {
        if !all.iter().any(|held| held.language == language) {
            notes.push(format!("Nothing of {language} is held out here, so it was not measured"));
        }
    }
    let without: Vec<&str> =
        bits.iter().filter(|one| one.baseline.is_none()).map(|one| one.language).collect();
    if !without.is_empty() {
        notes.push(format!(
            "No n-gram was compared with in {}: of these windows no figures are kept, and it is not counted anew for few windows or \
             without the training text",
            without.join(", ")
        ));
    }
    notes
}

/// Says on stderr what is done now: all of it takes minutes.
fn tell(what: &str) {
    static STARTED: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let since = STARTED.get_or_init(Instant::now).elapsed().as_secs();
    let _ = writeln!(std::io::stderr(), "bench nano: {since} s: {what}"); // Nobody may be listening.
}
