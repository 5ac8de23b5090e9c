//! The arms of the ablation: the same model writes in the same hole with the same seed, and what it costs is counted in forward tokens.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use decode::{
    Budget, Checked, CompleteRequest, Completion, Critic, NoCritic, OnFindings, Trigger, Unknown,
    Verdict, loops,
};
use engine::Engine;
use lang::Language;
use text::{Diagnostic, Severity};

use super::cases::Case;
use super::parse::ParseCritic;
use crate::bench::nano::projects::Projects;

/// No completion is cut off by time: what is right depends on nothing but the model and the checker.
const DEADLINE: Duration = Duration::from_secs(120);
/// What one suggestion may take.
const LINES_MAX: u32 = 8;
const TOKENS_MAX: u32 = 160;
const CHECKS_MAX: u32 = 40;
/// The sampler's temperature, so that seeds differ.
const TEMPERATURE: f32 = 0.3;
/// How often another seed is tried at most, however few tokens that takes.
const RETRIES_MAX: u64 = 24;
/// How far apart the seeds of retries are from each other, and from those of other cases.
const SEED_STRIDE: u64 = 1000;
/// How many diagnostics a repair is shown.
const SHOWN_MAX: usize = 3;

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Arm {
    /// As the model has it.
    Unsteered,
    /// Again with other seeds until it compiles, up to as many tokens as steering took.
    Retry,
    /// Again with what the checker said in the prompt, up to as many tokens as steering took.
    Repair,
    /// Steered.
    Steered,
    /// Steered by the syntax alone.
    Parsed,
}

impl Arm {
    pub(super) const ALL: [Arm; 5] =
        [Arm::Unsteered, Arm::Retry, Arm::Repair, Arm::Steered, Arm::Parsed];

    /// As rows name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Arm::Unsteered => "unsteered",
            Arm::Retry => "retry",
            Arm::Repair => "repair",
            Arm::Steered => "steered",
            Arm::Parsed => "parsed",
        }
    }
}

/// What an arm wrote in a hole.
#[derive(Debug, Clone)]
pub(super) struct Tried {
    pub(super) arm: Arm,
    pub(super) written: String,
    /// Whether it brings no error into the file; `None`: the server does not say.
    pub(super) compiles: Option<bool>,
    /// What the suggestion was offered as.
    pub(super) verdict: &'static str,
    pub(super) tokens: u32,
    pub(super) rewinds: u32,
    pub(super) checks: u32,
    pub(super) ms: f64,
    /// It ends in a loop.
    pub(super) loops: bool,
}

/// Codes and places of what was wrong with the hole left empty: all before it, so that places stay.
pub(super) type Before = HashSet<(Option<String>, usize)>;

/// Where one package is written in.
pub(super) struct Place<'p> {
    pub(super) engine: &'p Engine,
    pub(super) projects: &'p Projects,
    pub(super) language: &'static Language,
    pub(super) critic: &'p dyn Critic,
    /// What was wrong with the hole left empty.
    pub(super) before: Before,
}

impl Place<'_> {
    /// What every arm writes in one hole.
    ///
    /// # Errors
    /// The engine fails: one sentence.
    pub(super) async fn all(&self, case: &Case, seed: u64) -> Result<Vec<Tried>, String> {
        let nobody = NoCritic(Unknown::NoServer);
        let syntax = ParseCritic::new(self.language, &case.program.path);
        let unsteered = self.write(Arm::Unsteered, case, seed, &nobody, None).await?;
        let steered = self.write(Arm::Steered, case, seed, self.critic, None).await?;
        let parsed = self.write(Arm::Parsed, case, seed, &syntax, None).await?;
        let budget = steered.tokens;
        let retry = self.again(Arm::Retry, case, seed, &unsteered, budget).await?;
        let repair = self.again(Arm::Repair, case, seed, &unsteered, budget).await?;
        Ok(vec![unsteered, retry, repair, steered, parsed])
    }

    /// Writes anew until it compiles or as many tokens are spent as steering took; else what was written first.
    async fn again(
        &self,
        arm: Arm,
        case: &Case,
        seed: u64,
        first: &Tried,
        budget: u32,
    ) -> Result<Tried, String> {
        let nobody = NoCritic(Unknown::NoServer);
        let mut best = Tried { arm, ..first.clone() };
        let mut spent = (first.tokens, first.ms);
        let mut last = first.clone();
        for number in 1..=RETRIES_MAX {
            if best.compiles == Some(true) || spent.0 >= budget {
                break;
            }
            let said =
                if arm == Arm::Repair { self.errors(case, &last.written).await } else { None };
            let other = seed + number * SEED_STRIDE;
            last = self.write(arm, case, other, &nobody, said.as_deref()).await?;
            spent = (spent.0 + last.tokens, spent.1 + last.ms);
            // What ends beyond the budget was not paid for.
            if spent.0 <= budget && last.compiles == Some(true) {
                best = last.clone();
            }
        }
        (best.tokens, best.ms) = spent;
        Ok(best)
    }

    async fn write(
        &self,
        arm: Arm,
        case: &Case,
        seed: u64,
        critic: &dyn Critic,
        said: Option<&[Diagnostic]>,
    ) -> Result<Tried, String> {
        let started = Instant::now();
        let request = self.request(case, seed, said);
        let completion = decode::complete(self.engine, critic, request)
            .await
            .map_err(|error| format!("{}: {error}", case.file.path))?;
        let ms = started.elapsed().as_secs_f64() * 1e3;
        let written =
            completion.suggestions.first().map(|one| one.text.clone()).unwrap_or_default();
        let compiles = self.compiles(case, &written).await;
        let tokens = self.engine.tokenizer().encode(&written);
        Ok(Tried {
            arm,
            compiles,
            verdict: verdict(&completion),
            tokens: completion.timings.tokens,
            rewinds: completion.timings.rewinds,
            checks: completion.timings.check_count,
            ms,
            loops: loops::tail_loop(&tokens).is_some(),
            written,
        })
    }

    fn request(&self, case: &Case, seed: u64, said: Option<&[Diagnostic]>) -> CompleteRequest {
        let (text, offset) = match said {
            Some(said) => noted(self.language, case, said),
            None => (case.document(), case.hole.start),
        };
        let mut request = self.projects.request(self.engine, &case.file, text, offset);
        request.path = PathBuf::from(&case.file.path);
        request.language = Some(self.language);
        request.trigger = Trigger::Invoked;
        request.on_findings = OnFindings::Show;
        request.temperature = TEMPERATURE;
        request.seed = seed;
        request.budget = Budget {
            deadline: DEADLINE,
            checks_max: CHECKS_MAX,
            lines_max: LINES_MAX,
            tokens_max: TOKENS_MAX,
            candidates: 1,
        };
        request
    }

    /// Whether this in the hole brings in no error.
    async fn compiles(&self, case: &Case, written: &str) -> Option<bool> {
        Some(self.errors(case, written).await?.is_empty())
    }

    /// The errors that this in the hole brings in; `None`: the server does not say.
    async fn errors(&self, case: &Case, written: &str) -> Option<Vec<Diagnostic>> {
        let text = case.with(written);
        match self.critic.check(text.clone()).await {
            Checked::Diagnostics(found) => {
                let is_new = |one: &Diagnostic| {
                    let known = (one.code.clone(), one.range.start);
                    one.severity == Severity::Error && !self.before.contains(&known)
                };
                Some(found.into_iter().filter(is_new).collect())
            }
            Checked::Unknown(_) => None,
        }
    }
}

/// The document with what the checker said of the last attempt in comments above the cursor's line, and the cursor there.
fn noted(language: &Language, case: &Case, said: &[Diagnostic]) -> (Arc<str>, usize) {
    let text = case.document();
    let line = text[..case.hole.start].rfind('\n').map_or(0, |newline| newline + 1);
    let indent = &text[line..case.hole.start];
    let sign = &language.comment().line;
    let notes: String = said
        .iter()
        .take(SHOWN_MAX)
        .map(|one| format!("{indent}{sign} error: {}\n", one.message.replace('\n', " ")))
        .collect();
    let noted = [&text[..line], &notes, &text[line..]].concat();
    (noted.into(), case.hole.start + notes.len())
}

fn verdict(completion: &Completion) -> &'static str {
    match completion.suggestions.first().map(|one| &one.verdict) {
        Some(Verdict::Clean) => "clean",
        Some(Verdict::Findings(_)) => "findings",
        Some(Verdict::Unknown(_)) => "unknown",
        None => "nothing",
    }
}
