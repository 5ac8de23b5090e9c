//! Runs a scenario and prints what came of it.

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use decode::{CompleteRequest, Completion, FixBudget, FixRequest, OnFindings, Refused, Verdict};
use engine::{Engine, Script};

use crate::critic::Scripted;
use crate::parse::{Scenario, escape};

pub(crate) async fn run(scenario: &Scenario, engine: &Engine) -> String {
    let critic = Scripted::new(scenario);
    let Some((before, after)) = scenario.document.split_once("$0") else {
        return fix(scenario, &critic, engine).await;
    };
    let request = complete_request(scenario, before, after);
    let text = request.text.clone();
    let completion =
        decode::complete(engine, &critic, request).await.expect("the engine is scripted");
    for suggestion in
        completion.suggestions.iter().filter(|suggestion| suggestion.verdict == Verdict::Clean)
    {
        let edit = text::Edit { range: suggestion.range.clone(), text: suggestion.text.clone() };
        vouched_for(&critic, &text, &[edit]);
    }
    completed(&completion, &text)
}

/// The invariant: what is called clean was seen by the server, byte for byte, as it would stand.
fn vouched_for(critic: &Scripted<'_>, text: &str, edits: &[text::Edit]) {
    let placed = text::apply_edits(text, edits).expect("what is suggested applies");
    let seen = critic.seen.lock().expect("no test panics while it holds the lock");
    assert!(seen.iter().any(|seen| **seen == *placed), "called clean and never seen: {placed:?}");
}

async fn fix(scenario: &Scenario, critic: &Scripted<'_>, engine: &Engine) -> String {
    let path = PathBuf::from(&scenario.path);
    let language = lang::detect(&path);
    let text: Arc<str> = scenario.document.as_str().into();
    let range = scenario.setting("at").map(|at| {
        let start = text.find(at).expect("the place is in the document");
        start..start + at.len()
    });
    let budget =
        FixBudget { checks_max: scenario.number("checks").unwrap_or(48), ..FixBudget::ASKED };
    let request = FixRequest { path, text: text.clone(), language, range, budget, seed: 0 };
    let engine = scenario.setting("no").is_none().then_some(engine);
    let fixed = match decode::fix(engine, critic, request).await {
        Ok(fixed) => fixed,
        Err(error) => return format!("{error}\n"),
    };
    let mut out = String::new();
    if let Some(proposal) = &fixed.proposal {
        vouched_for(critic, &text, &proposal.edits);
        let _ = writeln!(out, "proposal: {}", proposal.origin.code());
        let new = text::apply_edits(&text, &proposal.edits).expect("a proposal applies");
        text.lines()
            .filter(|line| !new.lines().any(|other| other == *line))
            .for_each(|line| out.push_str(&format!("- {line}\n")));
        new.lines()
            .filter(|line| !text.lines().any(|other| other == *line))
            .for_each(|line| out.push_str(&format!("+ {line}\n")));
    }
    if let Some(reason) = &fixed.reason {
        let _ = writeln!(out, "no proposal: {reason}");
    }
    let _ =
        writeln!(out, "diagnostics: {} before, {} after", fixed.before.len(), fixed.after.len());
    refused(&mut out, &fixed.refused);
    out
}

/// Identifiers are tokens, everything else is spelled in bytes.
pub(crate) fn script(scenario: &Scenario) -> Script {
    let texts = || scenario.model.iter().map(|said| said.text.as_str());
    let words: Vec<&str> = texts()
        .flat_map(|text| {
            text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'))
        })
        .collect();
    let words: Vec<&str> = words.into_iter().filter(|word| word.len() > 1).collect();
    let mut script = Script::new().words(&words);
    for (rank, said) in scenario.model.iter().enumerate() {
        script = script.line(&said.cue, &said.text, 10.0 - 0.7 * rank as f32);
    }
    script
}

fn complete_request(scenario: &Scenario, before: &str, after: &str) -> CompleteRequest {
    let text: Arc<str> = [before, after].concat().into();
    let mut request = CompleteRequest::typing(PathBuf::from(&scenario.path), text, before.len());
    let budget = &mut request.budget;
    budget.checks_max = scenario.number("checks").unwrap_or(budget.checks_max);
    budget.candidates = scenario.number("candidates").unwrap_or(budget.candidates);
    budget.lines_max = scenario.number("lines").unwrap_or(budget.lines_max);
    budget.tokens_max = scenario.number("tokens").unwrap_or(400);
    budget.deadline = Duration::from_millis(scenario.number("deadline").map_or(10_000, u64::from));
    if scenario.setting("findings") == Some("show") {
        request.on_findings = OnFindings::Show;
    }
    request
}

fn completed(completion: &Completion, text: &str) -> String {
    let mut out = String::new();
    for suggestion in &completion.suggestions {
        let _ = writeln!(out, "insert: {}", escape(&suggestion.text));
        if !suggestion.range.is_empty() {
            let _ = writeln!(out, "instead of: {}", escape(&text[suggestion.range.clone()]));
        }
        let _ = writeln!(out, "verdict: {}", verdict(&suggestion.verdict));
        for diagnostic in &suggestion.deferred {
            let _ = writeln!(out, "deferred: {}", diagnostic.code.as_deref().unwrap_or(""));
        }
    }
    if completion.suggestions.is_empty() {
        out.push_str("nothing\n");
    }
    refused(&mut out, &completion.refused);
    let _ = writeln!(
        out,
        "checks: {}, rewinds: {}",
        completion.timings.check_count, completion.timings.rewinds
    );
    out
}

fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Clean => "clean".to_owned(),
        Verdict::Unknown(reason) => format!("unknown: {reason}"),
        Verdict::Findings(found) => {
            let codes: Vec<&str> =
                found.iter().filter_map(|diagnostic| diagnostic.code.as_deref()).collect();
            format!("findings: {}", codes.join(", "))
        }
    }
}

fn refused(out: &mut String, refused: &[Refused]) {
    for refused in refused {
        let _ = writeln!(
            out,
            "refused: {}  [{}]",
            escape(&refused.text),
            refused.diagnostic.code.as_deref().unwrap_or("")
        );
    }
}
