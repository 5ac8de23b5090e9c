//! The shapes of answers: the same objects for editors and for the command line's `--json`.
//!
//! Positions are those of the protocol, from zero, in UTF-16 units.

use std::ops::Range;
use std::time::Duration;

use decode::{Refused, Timings, Verdict};
use serde_json::{Map, Value as Json, json};
use text::{Change, Diagnostic, Document, Edit, Encoding, Revision, Severity};

/// The unit of every position that is answered.
pub const ENCODING: Encoding = Encoding::Utf16;
/// The most refused candidates that an answer carries.
const REFUSED_MAX: usize = 20;

/// Writes ranges of one text as the protocol's.
pub struct Ranges(Document);

impl Ranges {
    /// For this text.
    #[must_use]
    pub fn of(text: &str) -> Ranges {
        Ranges(Document::new(Revision(0), text))
    }

    /// For this text with the bytes `range` replaced by `candidate`: what a diagnostic of a candidate speaks of.
    #[must_use]
    pub fn with(&self, range: Range<usize>, candidate: &str) -> Ranges {
        let mut document = self.0.clone();
        let range = Some(document.range(range, ENCODING));
        let change = Change { range, text: candidate.to_owned() };
        // A text that would become too large stays as it is; then the positions are those of the text without it.
        let _ = document.apply(Revision(1), &[change], ENCODING);
        Ranges(document)
    }

    /// A range of bytes.
    #[must_use]
    pub fn range(&self, bytes: Range<usize>) -> Json {
        let range = self.0.range(bytes, ENCODING);
        let place = |position: text::Position| json!({"line": position.line, "character": position.character});
        json!({"start": place(range.start), "end": place(range.end)})
    }

    /// A diagnostic of this text.
    #[must_use]
    pub fn diagnostic(&self, diagnostic: &Diagnostic) -> Json {
        let severity = match diagnostic.severity {
            Severity::Error => 1,
            Severity::Warning => 2,
            Severity::Information => 3,
            Severity::Hint => 4,
        };
        let mut object = json!({
            "range": self.range(diagnostic.range.clone()),
            "severity": severity,
            "message": diagnostic.message,
        });
        if let Some(code) = &diagnostic.code {
            object["code"] = Json::from(code.clone());
        }
        if let Some(source) = &diagnostic.source {
            object["source"] = Json::from(source.clone());
        }
        object
    }

    /// Edits of this text.
    #[must_use]
    pub fn edits(&self, edits: &[Edit]) -> Json {
        edits
            .iter()
            .map(|edit| json!({"range": self.range(edit.range.clone()), "newText": edit.text}))
            .collect()
    }
}

/// A verdict. `server` is who gave it, `hint` what would give one where it is unknown; the findings are of `text`.
#[must_use]
pub fn verdict(verdict: &Verdict, server: &str, hint: Option<&str>, ranges: &Ranges) -> Json {
    let (kind, reason, findings) = match verdict {
        Verdict::Clean => ("clean", Json::Null, &[][..]),
        Verdict::Findings(findings) => ("findings", Json::Null, findings.as_slice()),
        Verdict::Unknown(unknown) => (
            "unknown",
            Json::from(
                hint.map_or_else(|| unknown.to_string(), |hint| format!("{unknown}: {hint}")),
            ),
            &[][..],
        ),
    };
    let code = if let Verdict::Unknown(unknown) = verdict {
        Json::from(unknown.code())
    } else {
        Json::Null
    };
    json!({
        "kind": kind,
        "reason": reason,
        "code": code,
        "server": if server.is_empty() { Json::Null } else { Json::from(server) },
        "findings": findings.iter().map(|finding| ranges.diagnostic(finding)).collect::<Vec<_>>(),
    })
}

/// What the checker refused. A diagnostic's range is that of the text with the candidate in place of `at`.
#[must_use]
pub fn refused(list: &[Refused], ranges: &Ranges, at: &Range<usize>) -> Json {
    let row = |refused: &Refused| {
        let placed = ranges.with(at.clone(), &refused.text);
        json!({"text": refused.text, "diagnostic": placed.diagnostic(&refused.diagnostic)})
    };
    list.iter().take(REFUSED_MAX).map(row).collect()
}

/// Where the time went, in milliseconds.
#[must_use]
pub fn timings_ms(timings: &Timings) -> Json {
    let parts = [
        ("total", timings.total),
        ("prompt", timings.prompt),
        ("prefill", timings.prefill),
        ("decode", timings.decode),
        ("baseline", timings.baseline),
        ("checks", timings.checks),
        ("score", timings.score),
    ];
    parts.into_iter().map(|(name, time)| (name.to_owned(), ms(time))).collect::<Map<_, _>>().into()
}

/// How much was done.
#[must_use]
pub fn work(timings: &Timings) -> Json {
    json!({"checks": timings.check_count, "rewinds": timings.rewinds, "tokens": timings.tokens})
}

/// Milliseconds with two digits behind the point.
#[must_use]
pub fn ms(time: Duration) -> Json {
    Json::from((time.as_secs_f64() * 100_000.0).round() / 100.0)
}
