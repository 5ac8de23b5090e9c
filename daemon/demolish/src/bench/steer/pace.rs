//! What checking adds at the pace of a big model: a scripted model says what authors wrote at 14 tokens per second, with and without the
//! real server looking on. The text is right, so nothing is sent back: what is measured is waiting.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use decode::{CompleteRequest, Critic, NoCritic, Trigger, Unknown};
use engine::{Engine, Script};
use lang::Language;

use super::cases::{self, Case};
use super::{LANGUAGES, tell};
use crate::bench::replay::{self, started};
use crate::bench::report::Row;
use crate::bench::sandbox::Sandbox;
use crate::twin::plan::uri_of;
use crate::twin::{Environment, Subject, Twins};

/// The pace, in tokens per second.
const PACE: f64 = 14.0;
/// A token has so many letters at most, and no letter behind a sign.
const TOKEN_CHARS: usize = 4;
/// Holes of each language that are filled, and lines that each has at least.
const HOLES: usize = 6;
const LINES_MIN: usize = 2;
/// Goals: in percent, and in milliseconds.
const THROUGHPUT: f64 = 95.0;
const ADDED: f64 = 0.3;

/// What the lines of one language took, in seconds.
#[derive(Debug, Clone, Copy, Default)]
struct Took {
    alone: f64,
    watched: f64,
    lines: usize,
}

/// The rows of it.
///
/// # Errors
/// There are no projects, or the model fails: one sentence.
pub(super) async fn rows(folder: Option<&Path>) -> Result<Vec<Row>, String> {
    let folder = replay::folder(folder)?;
    let sandbox = Sandbox::new("pace", "")?;
    let mut all = Vec::new();
    for name in LANGUAGES {
        let language = lang::by_id(name).ok_or_else(|| format!("no language is called {name}"))?;
        let took = of_language(language, &folder, sandbox.env()).await?;
        tell(&format!("{name} at {PACE} tokens per second: {took:?}"));
        all.push((name, took));
    }
    #[allow(clippy::cast_precision_loss, reason = "some dozens")]
    let added = |took: &Took| 1e3 * (took.watched - took.alone) / took.lines.max(1) as f64;
    let sum = |of: fn(&Took) -> f64| all.iter().map(|(_, took)| of(took)).sum::<f64>();
    let throughput = 100.0 * sum(|took| took.alone) / sum(|took| took.watched).max(f64::EPSILON);
    let worst = all.iter().map(|(_, took)| added(took)).fold(f64::NEG_INFINITY, f64::max);
    let mut rows = vec![
        Row::new("throughput_at_14tps", throughput, "% of unsteered").at_least(THROUGHPUT),
        Row::new("added_per_line_at_14tps", worst, "ms").at_most(ADDED),
    ];
    rows.extend(all.iter().map(|(name, took)| {
        Row::new(&format!("added_per_line_at_14tps_{name}"), added(took), "ms").at_most(ADDED)
    }));
    Ok(rows)
}

async fn of_language(
    language: &'static Language,
    folder: &Path,
    env: &Environment,
) -> Result<Took, String> {
    let mut took = Took::default();
    let mut left = HOLES;
    for package in cases::packages(folder, language)? {
        let twins = Twins::default();
        let fits = |case: &&Case| case.truth().lines().count() >= LINES_MIN;
        for case in package.cases.iter().filter(fits).take(1 + HOLES / LANGUAGES.len()) {
            let path = &case.program.path;
            let (uri, others) = (uri_of(path), Arc::default());
            let subject = Subject {
                path,
                uri: &uri,
                language: Some(language),
                others: &others,
                users: &[],
                env: Some(env),
            };
            let critic = twins.critic(subject, &replay::config());
            // The server has read the project, and knows the file as it stands.
            let is_right = started(&critic, &case.program.text).await;
            if left == 0 || is_right.is_none_or(|errors| !errors.is_empty()) {
                continue;
            }
            left -= 1;
            let nobody = NoCritic(Unknown::NoServer);
            took.alone += seconds(language, case, &nobody).await?;
            took.watched += seconds(language, case, &critic).await?;
            took.lines += case.truth().lines().count();
        }
    }
    Ok(took)
}

/// How long the text takes after its first token.
async fn seconds(
    language: &'static Language,
    case: &Case,
    critic: &dyn Critic,
) -> Result<f64, String> {
    let said = format!("{}\n", case.truth());
    let words = words(&said);
    let script = Script::new()
        .words(&words.iter().map(String::as_str).collect::<Vec<_>>())
        .line("<|fim_middle|>", &said, 10.0)
        .delay(Duration::from_secs_f64(1.0 / PACE));
    let engine = Engine::scripted(script);
    let mut request =
        CompleteRequest::typing(case.file.path.as_str().into(), case.document(), case.hole.start);
    request.language = Some(language);
    request.trigger = Trigger::Invoked;
    request.budget.deadline = Duration::from_secs(120);
    request.budget.lines_max = 8;
    request.budget.tokens_max = 512;
    request.budget.checks_max = 40;
    let done = decode::complete(&engine, critic, request)
        .await
        .map_err(|error| format!("{}: {error}", case.file.path))?;
    Ok((done.timings.total - done.timings.prefill).as_secs_f64())
}

/// The text in pieces as a tokenizer might cut it.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for letter in text.chars() {
        let joins = words.last().is_some_and(|word| {
            let same = word.chars().all(|one| one.is_alphanumeric() || one == ' ');
            same && letter.is_alphanumeric() && word.chars().count() < TOKEN_CHARS
        });
        match words.last_mut() {
            Some(word) if joins => word.push(letter),
            _ => words.push(letter.to_string()),
        }
    }
    words.retain(|word| word.len() > 1);
    words.sort();
    words.dedup();
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_as_a_tokenizer_might() {
        assert_eq!(words("return values[0]\n"), [" val", "retu", "rn", "ues"]);
    }
}
