//! Completions of holes, as the daemon makes them, and how near they come to what the author wrote.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use decode::confidence::{Evidence, Withhold};
use decode::{Budget, CompleteRequest, Completion, NoCritic, Suggestion, Trigger, Unknown};
use engine::Engine;
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::cases::{Case, Kind, leading_word};
use super::projects::Projects;
use super::tell;

/// Completions that the engine works on at a time. What each comes to does not depend on it.
const TOGETHER: usize = 4;
/// No completion is cut off by time: what is right depends on nothing but the model.
const DEADLINE: Duration = Duration::from_secs(120);
/// What a block may take.
const BLOCK_LINES_MAX: u32 = 6;
const BLOCK_TOKENS_MAX: u32 = 192;

/// After so many completions it is said how far it is.
pub(super) const TOLD_EVERY: usize = 200;

/// With what holes are filled.
#[derive(Clone, Copy)]
pub(super) struct Manner<'p> {
    /// What the workspaces say; `None`: they are not open.
    pub(super) projects: Option<&'p Projects>,
    /// Whether their tokens are mixed in.
    pub(super) mixes: bool,
    /// From which confidence on a suggestion is shown.
    pub(super) withhold: Withhold,
}

/// What came of one hole.
#[derive(Debug, Clone)]
pub(super) struct Filled<'h> {
    pub(super) case: Case<'h>,
    /// What was suggested in its place; empty if nothing was.
    pub(super) written: String,
    /// It would have been shown to somebody who types.
    pub(super) is_shown: bool,
    pub(super) confidence: Option<f32>,
    /// What that is learned from.
    pub(super) evidence: Option<Evidence>,
}

/// Fills all holes, in order.
///
/// # Errors
/// The engine fails: one sentence.
pub(super) async fn fill<'h>(
    engine: &Engine,
    cases: &[Case<'h>],
    manner: Manner<'_>,
) -> Result<Vec<Filled<'h>>, String> {
    let critic = NoCritic(Unknown::NoServer);
    let jobs = cases.iter().map(|case| {
        let critic = &critic;
        async move {
            let completion = decode::complete(engine, critic, request(engine, case, manner))
                .await
                .map_err(|error| format!("{}: {error}", case.file.path))?;
            Ok::<_, String>(Filled::of(*case, &completion))
        }
    });
    let done = futures_util::stream::iter(jobs).buffered(TOGETHER).enumerate();
    done.map(|(count, filled)| {
        if count > 0 && count.is_multiple_of(TOLD_EVERY) {
            tell(&format!("{count} of {}", cases.len()));
        }
        filled
    })
    .try_collect()
    .await
}

/// As an editor's wish while somebody types, without its deadline.
fn request(engine: &Engine, case: &Case<'_>, manner: Manner<'_>) -> CompleteRequest {
    let text: Arc<str> = case.document().into();
    let mut request = match manner.projects {
        Some(projects) => projects.request(engine, case.file, text, case.begin),
        None => CompleteRequest::typing(PathBuf::from(&case.file.path), text, case.begin),
    };
    if !manner.mixes {
        request.mixing = None;
    }
    request.withhold = manner.withhold;
    request.trigger = Trigger::Automatic;
    request.budget.deadline = DEADLINE;
    if case.kind == Kind::Block {
        request.budget =
            Budget { lines_max: BLOCK_LINES_MAX, tokens_max: BLOCK_TOKENS_MAX, ..request.budget };
    }
    request
}

impl<'h> Filled<'h> {
    pub(super) fn of(case: Case<'h>, completion: &Completion) -> Filled<'h> {
        let first = completion.suggestions.first();
        let any = first.or_else(|| completion.withheld.first());
        Filled {
            case,
            written: any.map(|one| written(&case, one)).unwrap_or_default(),
            is_shown: first.is_some_and(|one| !one.text.is_empty()),
            confidence: any.and_then(|one| one.confidence),
            evidence: any.and_then(|one| one.evidence),
        }
    }

    /// Whether the identifier, the line or the block is what the author wrote.
    pub(super) fn is_exact(&self) -> bool {
        let truth = self.case.truth();
        match self.case.kind {
            Kind::Identifier | Kind::Name => leading_word(&self.written) == leading_word(truth),
            Kind::Line | Kind::Rest => first_line(&self.written) == truth.trim_end(),
            Kind::Block => self.written.trim_end() == truth.trim_end(),
        }
    }

    /// Whether all of the suggestion is what the author wrote, and ends where a line of theirs ends, or where the hole does.
    pub(super) fn is_right(&self) -> bool {
        let (written, rest) = (self.written.trim_end(), &self.case.file.text[self.case.begin..]);
        let fills = written == self.case.truth().trim_end();
        let goes_on = rest.strip_prefix(written).is_some_and(|behind| {
            let line = behind.split('\n').next().unwrap_or("");
            line.trim().is_empty()
        });
        !written.is_empty() && (fills || goes_on)
    }

    /// Whether the file parses as well with the suggestion as with what the author wrote; `None` where no grammar is linked.
    pub(super) fn parses(&self) -> Option<bool> {
        let path = Path::new(&self.case.file.path);
        let grammar = lang::Grammar::new(lang::detect(path)?, path);
        let errors = |text: &str| grammar.parse(text).map(|tree| tree.errors(0..text.len()));
        let text = [self.case.before(), &self.written, self.case.after()].concat();
        Some(errors(&text)? <= errors(&self.case.file.text)?)
    }

    /// How alike they are, from 0 to 1: one less the Levenshtein distance, in shares of the longer one.
    pub(super) fn similarity(&self) -> f64 {
        let truth = self.case.truth().trim_end();
        match self.case.kind {
            Kind::Identifier | Kind::Name => {
                strsim::normalized_levenshtein(leading_word(&self.written), leading_word(truth))
            }
            Kind::Line | Kind::Rest => {
                strsim::normalized_levenshtein(first_line(&self.written), truth)
            }
            Kind::Block => strsim::normalized_levenshtein(self.written.trim_end(), truth),
        }
    }

    /// Whether the author wrote more than brackets and signs.
    pub(super) fn has_letters(&self) -> bool {
        self.case.truth().chars().any(char::is_alphabetic)
    }
}

/// What stands in the hole once the suggestion is in its place. Signs behind the cursor that it replaces by the same are not part of it.
fn written(case: &Case<'_>, suggestion: &Suggestion) -> String {
    let after = case.after();
    let replaced = suggestion.range.end.saturating_sub(case.begin);
    let kept = after.get(replaced..).unwrap_or(after);
    let whole = [suggestion.text.as_str(), kept].concat();
    whole.strip_suffix(after).map_or_else(|| suggestion.text.clone(), str::to_owned)
}

fn first_line(text: &str) -> &str {
    text.split('\n').next().unwrap_or("").trim_end()
}
