//! `demolish bench conformance`: the rules of docs/proxy-rules.md that can be seen from outside, against any stdio
//! language-server proxy.
//!
//! The suite plays the editor on the proxy's stdin and stdout and, through a scripted process, the server behind it, so it
//! knows which bytes went in and which came out at both ends. Every check has a fresh proxy and a limit of its own, so a
//! proxy that hangs or crashes costs only that check.

mod port;
mod rules;
mod stage;
mod subject;
mod suite;
mod table;
mod talk;

use std::io::Write as _;

use super::report::Report;
pub(crate) use subject::Subject;
pub(crate) use suite::{Outcome, RULES_MAX, State};

/// The document that the editor has open.
const MAIN: &str = "x = 1\ny = x\n";

/// What is asked for on the command line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// The rule's number behind the dot; all, if none.
    pub(crate) rule: Option<u8>,
    /// Checks that run at the same time.
    pub(crate) jobs: usize,
    /// How long an answer may take.
    pub(crate) patience: std::time::Duration,
    /// Say on stderr how each check ends.
    pub(crate) talks: bool,
}

/// The rules and what is checked of each.
pub(crate) fn list(rule: Option<u8>) -> String {
    table::list(&suite::checks(rule))
}

/// What was found: the report, and a table for people.
pub(crate) struct Found {
    pub(crate) report: Report,
    pub(crate) text: String,
}

/// Runs the suite against each of these in turn.
pub(crate) async fn run(subjects: &[Subject], wanted: &Wanted) -> Found {
    let checks = suite::checks(wanted.rule);
    let mut columns = Vec::new();
    for subject in subjects {
        let done = |outcome: &Outcome| {
            if wanted.talks {
                say(&subject.name, outcome);
            }
        };
        let outcomes = suite::run(subject, &checks, wanted, done).await;
        columns.push(table::Column { name: subject.name.clone(), outcomes });
    }
    let report = Report::new("conformance", table::rows(&columns));
    Found { text: table::text(&columns), report }
}

fn say(name: &str, outcome: &Outcome) {
    let (sign, why) = match &outcome.state {
        State::Holds => ("holds", ""),
        State::Broken(why) => ("BROKEN", why.as_str()),
        State::Apart(why) => ("apart", why.as_str()),
    };
    let line = format!("{name} 4.{} {sign}: {}  {why}\n", outcome.rule, outcome.says);
    let _ = std::io::stderr().write_all(line.as_bytes());
}
