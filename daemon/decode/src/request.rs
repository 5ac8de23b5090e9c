//! What the caller asks, and what it gets back.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use engine::TokenId;
use lang::Language;
use text::{Diagnostic, Edit};

use crate::beside::Mixing;
use crate::confidence::{Evidence, Withhold};
use crate::prompt::Healing;
use crate::style::Indent;
use crate::{Timings, Unknown, Verdict};

/// A wish for inline completion. [`CompleteRequest::typing`] fills in what most callers want.
#[derive(Debug, Clone)]
pub struct CompleteRequest {
    /// The document's path as the prompt shows it: relative to the project where it can be.
    pub path: PathBuf,
    /// The document as it stands.
    pub text: Arc<str>,
    /// The cursor, in bytes of `text`; inside a character it moves to that character's start.
    pub offset: usize,
    /// The document's language; `None` makes every verdict unknown.
    pub language: Option<&'static Language>,
    /// What it may cost.
    pub budget: Budget,
    /// What becomes of a suggestion that has findings when the budget is spent.
    pub on_findings: OnFindings,
    /// 0 takes the likeliest token; retries after a refusal warm up from here.
    pub temperature: f32,
    /// Makes a run repeatable where `temperature` is above 0.
    pub seed: u64,
    /// How the editor indents this document; `None` lets the document tell.
    pub indent: Option<Indent>,
    /// Who wants it.
    pub trigger: Trigger,
    /// From which confidence on a suggestion that nobody has asked for is shown.
    pub withhold: Withhold,
    /// Whether half a word before the cursor is given back to the model.
    pub healing: Healing,
    /// Texts that the suggestion may repeat, beside the prompt ([`Around`](crate::Around)). They make it faster where it does, and
    /// change nothing else.
    pub lookup: Vec<Arc<[TokenId]>>,
    /// What the workspace says beside the model; `None`: the model alone.
    pub mixing: Option<Mixing>,
    /// What other files of the workspace say that may help, the most relevant last. As long as they stay the same, the model has read
    /// them already.
    pub context: Vec<Snippet>,
}

/// Some whole lines of another file, or of a far place of this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snippet {
    /// The file, as the prompt shows it.
    pub path: PathBuf,
    /// The lines.
    pub text: Arc<str>,
}

/// What one completion may cost. The first limit that is reached ends the search; the best so far stands with its honest verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// From the call to the answer.
    pub deadline: Duration,
    /// Checks of candidates; the baseline is not counted.
    pub checks_max: u32,
    /// Lines of one suggestion, before the lines that close what it opened. 0 lets the place decide: one line in the middle of
    /// a line, up to four at the start of a block.
    pub lines_max: u32,
    /// Tokens of one suggestion, those taken back not counted.
    pub tokens_max: u32,
    /// How many suggestions are wished for, the best one included.
    pub candidates: u32,
}

/// Who wants a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// Somebody types, and has not asked for anything: what is doubtful is not shown.
    Automatic,
    /// Somebody asks, and is shown what there is.
    Invoked,
}

/// What becomes of a suggestion that has findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFindings {
    /// It is reported among the refused ones.
    Withhold,
    /// It is suggested, with its findings.
    Show,
}

/// The answer to a [`CompleteRequest`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Completion {
    /// The best first; may be empty.
    pub suggestions: Vec<Suggestion>,
    /// What was found too, and not shown, because the model was not sure enough ([`Withhold`]), or because it does not lead
    /// over to what follows on its line.
    pub withheld: Vec<Suggestion>,
    /// What the checker refused on the way, with the diagnostic that decided, in the order it happened.
    pub refused: Vec<Refused>,
    /// Where the time went.
    pub timings: Timings,
}

/// Text to be put into the document.
#[derive(Debug, Clone, PartialEq)]
pub struct Suggestion {
    /// What to insert, with the document's own line ends.
    pub text: String,
    /// What it replaces, in bytes of the document: empty at the cursor, or from the cursor over closing signs that the text repeats.
    pub range: Range<usize>,
    /// What the critic says of exactly this text in place.
    pub verdict: Verdict,
    /// What the server says now and what should go away as the user writes on (a function that does not return yet). It is no reason
    /// to withhold the suggestion; errors among it are in the verdict, which is not *clean* until they are gone.
    pub deferred: Vec<Diagnostic>,
    /// The model's mean log-probability per token.
    pub mean_logprob: f32,
    /// What speaks for it and against it; `None` where the model's server tells no probabilities.
    pub evidence: Option<Evidence>,
    /// The probability that it is what the author would write; `None` where nothing was learned of the model, or nothing is known.
    pub confidence: Option<f32>,
}

/// Text that the checker refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// The candidate as it was checked, without what closed it.
    pub text: String,
    /// What decided.
    pub diagnostic: Diagnostic,
}

/// Why there is no answer at all. What merely limits an answer (no critic, no time) is in its verdict instead.
#[derive(Debug, thiserror::Error)]
pub enum CompleteError {
    /// The model has no fill-in-the-middle tokens.
    #[error("the model {0} has no fill-in-the-middle tokens, so it cannot complete in place")]
    NoFim(String),
    /// The engine has too much to do; a keystroke drops its wish, others may ask again.
    #[error("the engine is busy: {0}")]
    Busy(String),
    /// The engine refused the work or failed in the middle of it.
    #[error("the engine failed: {0}")]
    Engine(String),
}

/// A wish to have one diagnostic fixed.
#[derive(Debug, Clone)]
pub struct FixRequest {
    /// The document's path as the prompt shows it.
    pub path: PathBuf,
    /// The document as it stands.
    pub text: Arc<str>,
    /// The document's language; `None` leaves the server's quick fixes alone.
    pub language: Option<&'static Language>,
    /// Where the diagnostic to fix is looked for, in bytes of `text`; `None` takes the first error of the document.
    pub range: Option<Range<usize>>,
    /// What it may cost.
    pub budget: FixBudget,
    /// Makes a run repeatable.
    pub seed: u64,
}

/// What one fix may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FixBudget {
    /// From the call to the answer.
    pub deadline: Duration,
    /// Checks of candidates; the check of what stands is not counted.
    pub checks_max: u32,
    /// How often the model rewrites the offending lines.
    pub regenerations: u32,
}

/// The answer to a [`FixRequest`].
#[derive(Debug, Clone, PartialEq)]
pub struct Fix {
    /// The best change that was checked clean; `None` when there is none.
    pub proposal: Option<Proposal>,
    /// The diagnostic that was to be fixed; `None` when there is nothing to fix.
    pub target: Option<Diagnostic>,
    /// The diagnostics of the document as it stands.
    pub before: Vec<Diagnostic>,
    /// The diagnostics of the document with the proposal in place; those of `before` when there is none.
    pub after: Vec<Diagnostic>,
    /// How many candidates were checked.
    pub candidates: u32,
    /// Candidates that the checker refused, with what they left or brought in.
    pub refused: Vec<Refused>,
    /// Why there is no proposal, in one sentence; `None` when there is one.
    pub reason: Option<String>,
    /// Where the time went.
    pub timings: Timings,
}

/// A change that was checked in place: it removes the diagnostic and brings in nothing that counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// Disjoint edits of the document.
    pub edits: Vec<Edit>,
    /// Who had the idea.
    pub origin: Origin,
    /// The model's mean log-probability per token of the changed lines; `None` without a model.
    pub mean_logprob: Option<f32>,
}

/// Who had the idea for a fix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// The language server's own quick fix.
    QuickFix,
    /// A name from the server's completion list in the place of the offending one.
    Replacement,
    /// A small repair of the language's data (`str(…)` around the offending expression).
    Repair,
    /// The model wrote the lines anew.
    Regenerated,
}

impl Origin {
    /// A stable word for programs (`quick_fix`).
    pub fn code(self) -> &'static str {
        match self {
            Origin::QuickFix => "quick_fix",
            Origin::Replacement => "replacement",
            Origin::Repair => "repair",
            Origin::Regenerated => "regenerated",
        }
    }
}

/// Why a fix could not be looked for at all.
#[derive(Debug, thiserror::Error)]
pub enum FixError {
    /// The document's own diagnostics are not known, so nothing could be called fixed.
    #[error("cannot tell what is wrong here: {0}")]
    Unchecked(Unknown),
    /// The engine refused the work or failed in the middle of it.
    #[error("the engine failed: {0}")]
    Engine(String),
}

impl Budget {
    /// For ghost text while the user types.
    pub const TYPING: Budget = Budget {
        deadline: Duration::from_millis(1500),
        checks_max: 6,
        lines_max: 0,
        tokens_max: 96,
        candidates: 1,
    };
    /// For an explicit request, which may take longer and offers a choice.
    pub const ASKED: Budget = Budget {
        deadline: Duration::from_millis(5000),
        checks_max: 24,
        lines_max: 0,
        tokens_max: 192,
        candidates: 3,
    };
}

impl CompleteRequest {
    /// The wish of somebody who types: the likeliest text, findings withheld.
    pub fn typing(path: PathBuf, text: Arc<str>, offset: usize) -> CompleteRequest {
        let language = lang::detect(&path).or_else(|| lang::detect_shebang(&text));
        let (on_findings, healing) = (OnFindings::Withhold, Healing::default());
        CompleteRequest {
            path,
            text,
            offset,
            language,
            budget: Budget::TYPING,
            on_findings,
            temperature: 0.0,
            seed: 0,
            indent: None,
            trigger: Trigger::Automatic,
            withhold: Withhold::default(),
            healing,
            lookup: Vec::new(),
            mixing: None,
            context: Vec::new(),
        }
    }
}

impl FixBudget {
    /// For a code action or a command.
    pub const ASKED: FixBudget =
        FixBudget { deadline: Duration::from_secs(10), checks_max: 48, regenerations: 6 };
}

impl Suggestion {
    /// What remains of the suggestion after the user has typed `typed` at the cursor; `None` when they went another way, or
    /// typed it out. The text that results in the document is the same, so the verdict stays.
    pub fn typed_through(&self, typed: &str) -> Option<Suggestion> {
        let rest = self.text.strip_prefix(typed)?;
        if rest.is_empty() || typed.is_empty() {
            return (typed.is_empty()).then(|| self.clone());
        }
        let range = self.range.start + typed.len()..self.range.end + typed.len();
        Some(Suggestion { text: rest.to_owned(), range, ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_along_keeps_the_rest_and_its_verdict() {
        let text = "é = 1".to_owned();
        let (verdict, deferred) = (Verdict::Clean, Vec::new());
        let (mean_logprob, evidence, confidence) = (-1.0, None, Some(0.5));
        let whole =
            Suggestion { text, range: 3..4, verdict, deferred, mean_logprob, evidence, confidence };
        let rest = whole.typed_through("é =");
        assert_eq!(rest, Some(Suggestion { text: " 1".to_owned(), range: 7..8, ..whole.clone() }));
        assert_eq!(whole.typed_through(""), Some(whole.clone()));
        assert_eq!(whole.typed_through("e"), None);
        assert_eq!(whole.typed_through("é = 1"), None);
    }
}
