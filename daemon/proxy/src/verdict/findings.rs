//! What is read from a server's answers: its diagnostics, whether they count, and which of them are new.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use text::{Baseline, Diagnostic, Document, Encoding, Severity};
use wire::Bytes;

use super::State;
use super::ways::{AskForm, Form};

/// The diagnostics in an answer, each as the server gave it; an error says why it is none.
pub(super) fn read(form: Form, result: &[u8]) -> Result<Vec<Box<RawValue>>, String> {
    match form {
        Form::Report => report(result),
        Form::Own(AskForm::Tsserver) => tsserver(result),
    }
}

/// What a list of diagnostics says.
pub(super) fn judged(items: &[Box<RawValue>]) -> State {
    #[derive(Deserialize)]
    struct Weight {
        severity: Option<u64>,
    }
    let counts = |item: &RawValue| {
        let weight: Result<Weight, _> = serde_json::from_str(item.get());
        // What cannot be read is no reason to call a document clean.
        weight.map_or(true, |weight| weight.severity.is_none_or(|severity| severity <= 2))
    };
    if !items.iter().any(|item| counts(item)) {
        return State::Clean;
    }
    State::Findings(serde_json::to_vec(items).unwrap_or_default().into())
}

/// The diagnostics of a published list.
pub(super) fn published(list: &Bytes) -> Vec<Box<RawValue>> {
    wire::parse(list).unwrap_or_default()
}

fn report(result: &[u8]) -> Result<Vec<Box<RawValue>>, String> {
    #[derive(Deserialize)]
    struct Report {
        items: Option<Vec<Box<RawValue>>>,
        kind: Option<String>,
    }
    // Some servers leave `kind` empty: the items are what counts.
    let report: Report = wire::parse(result).map_err(|error| error.to_string())?;
    report.items.ok_or_else(|| format!("a report of kind {:?}", report.kind.unwrap_or_default()))
}

fn tsserver(result: &[u8]) -> Result<Vec<Box<RawValue>>, String> {
    let answer: Value = wire::parse(result).map_err(|error| error.to_string())?;
    let Some(body) = answer["body"].as_array() else {
        return Err(answer["message"].as_str().unwrap_or("an answer without a body").to_owned());
    };
    let place = |place: &Value| {
        let from_0 = |name: &str| place[name].as_u64().unwrap_or(1).saturating_sub(1);
        json!({ "line": from_0("line"), "character": from_0("offset") })
    };
    let item = |found: &Value| {
        let severity = match found["category"].as_str() {
            Some("warning") => 2,
            Some("message") => 3,
            Some("suggestion") => 4,
            _ => 1,
        };
        let mut item = json!({
            "range": { "start": place(&found["start"]), "end": place(&found["end"]) },
            "severity": severity,
            "source": "typescript",
            "message": found["text"],
        });
        if !found["code"].is_null() {
            item["code"] = found["code"].clone();
        }
        serde_json::value::to_raw_value(&item).map_err(|error| error.to_string())
    };
    body.iter().map(item).collect()
}

/// Reads one diagnostic of `document`; `None` if it is not one.
pub fn diagnostic(raw: &Value, document: &Document, encoding: Encoding) -> Option<Diagnostic> {
    let place = |place: &Value| {
        let number = |name: &str| place[name].as_u64().and_then(|n| u32::try_from(n).ok());
        Some(text::Position { line: number("line")?, character: number("character")? })
    };
    let range =
        text::Range { start: place(&raw["range"]["start"])?, end: place(&raw["range"]["end"])? };
    let code = match &raw["code"] {
        Value::String(code) => Some(code.clone()),
        Value::Number(code) => Some(code.to_string()),
        _ => None,
    };
    Some(Diagnostic {
        range: document.byte_range(range, encoding),
        severity: severity(raw),
        code,
        source: raw["source"].as_str().map(str::to_owned),
        message: raw["message"].as_str()?.to_owned(),
    })
}

fn severity(raw: &Value) -> Severity {
    match raw["severity"].as_u64() {
        Some(2) => Severity::Warning,
        Some(3) => Severity::Information,
        Some(4) => Severity::Hint,
        _ => Severity::Error,
    }
}

/// Which findings of a document were not there before, as indices. Both lists hold a diagnostic of the protocol and the
/// text of the line on which it starts: that is all that tells whether two are the same although the text moved.
pub fn introduced(before: &[(Value, String)], now: &[(Value, String)]) -> Vec<usize> {
    let (text, diagnostics) = lines(before);
    let baseline = Baseline::new(&text, &diagnostics);
    let (text, diagnostics) = lines(now);
    let new = baseline.introduced(&text, &diagnostics);
    let is_new = |diagnostic: &Diagnostic| new.iter().any(|other| std::ptr::eq(*other, diagnostic));
    diagnostics.iter().enumerate().filter(|(_, found)| is_new(found)).map(|(at, _)| at).collect()
}

/// The lines of the findings as a text of their own, and the findings at the starts of theirs.
fn lines(findings: &[(Value, String)]) -> (String, Vec<Diagnostic>) {
    let mut text = String::new();
    let mut diagnostics = Vec::new();
    for (raw, line) in findings {
        let start = text.len();
        text.push_str(line.lines().next().unwrap_or_default());
        text.push('\n');
        diagnostics.push(Diagnostic {
            range: start..start,
            severity: severity(raw),
            code: match &raw["code"] {
                Value::Null => None,
                Value::String(code) => Some(code.clone()),
                other => Some(other.to_string()),
            },
            source: raw["source"].as_str().map(str::to_owned),
            message: raw["message"].as_str().unwrap_or_default().to_owned(),
        });
    }
    (text, diagnostics)
}
