//! A language server that says what the scenario wrote down.

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use decode::{BoxFuture, Checked, Critic, Unknown};
use lang::Grammar;
use sql::{Piece, Source, Sqlite};
use text::{Diagnostic, Edit};

use crate::parse::{Says, Scenario};

pub(crate) struct Scripted<'s> {
    pub(crate) scenario: &'s Scenario,
    /// Every text that was answered with diagnostics.
    pub(crate) seen: Mutex<Vec<Arc<str>>>,
    /// Who is asked instead, where the scenario has a schema.
    sqlite: Option<Mutex<Sqlite>>,
}

impl<'s> Scripted<'s> {
    pub(crate) fn new(scenario: &'s Scenario) -> Scripted<'s> {
        let sqlite = scenario.schema.as_ref().map(|schema| {
            let source = Source { path: "schema.sql".into(), text: schema.as_str().into() };
            Mutex::new(Sqlite::new(&[source], split).expect("the scenario's schema holds"))
        });
        Scripted { scenario, seen: Mutex::default(), sqlite }
    }
}

fn split(text: &str) -> Vec<Piece> {
    let path = Path::new("a.sql");
    let grammar = Grammar::new(lang::detect(path).expect("SQL is known"), path);
    let statements = grammar.statements(text).expect("its statements have ends");
    let piece = |one: lang::Statement| Piece { range: one.range, restart: one.restart };
    statements.into_iter().map(piece).collect()
}

impl Critic for Scripted<'_> {
    fn check(&self, text: Arc<str>) -> BoxFuture<'_, Checked> {
        Box::pin(async move {
            if let Some(delay) = self.scenario.number("delay") {
                tokio::time::sleep(Duration::from_millis(u64::from(delay))).await;
            }
            let said = self.say(&text);
            if matches!(said, Checked::Diagnostics(_)) {
                self.seen.lock().expect("no test panics while it holds the lock").push(text);
            }
            said
        })
    }

    fn completions(&self, _: Arc<str>, _: usize) -> BoxFuture<'_, Option<Vec<String>>> {
        let names = self.scenario.completions.clone();
        Box::pin(std::future::ready((!names.is_empty()).then_some(names)))
    }

    fn quick_fixes(
        &self,
        text: Arc<str>,
        diagnostic: &Diagnostic,
    ) -> BoxFuture<'_, Vec<Vec<Edit>>> {
        let around = |range: &Range<usize>| {
            range.start <= diagnostic.range.end && diagnostic.range.start <= range.end
        };
        let fixes = self.scenario.quick_fixes.iter().flat_map(|(pattern, with)| {
            let places = occurrences(&text, pattern).into_iter().filter(around);
            places.map(|range| vec![Edit { range, text: with.clone() }]).collect::<Vec<_>>()
        });
        Box::pin(std::future::ready(fixes.collect()))
    }

    fn server(&self) -> &str {
        self.scenario.setting("server").unwrap_or(match self.scenario.path.rsplit('.').next() {
            Some("ts") => "tsc",
            Some("sql") => "sqlite",
            _ => "ty",
        })
    }
}

impl Scripted<'_> {
    fn say(&self, text: &str) -> Checked {
        if let Some(sqlite) = &self.sqlite {
            let mut sqlite = sqlite.lock().expect("no test panics while it holds the lock");
            return match sqlite.check(text, &split(text)) {
                Ok(found) => Checked::Diagnostics(found),
                Err(fault) => Checked::Unknown(Unknown::NoSchema(fault.to_string())),
            };
        }
        let rules = &self.scenario.rules;
        let holds = |pattern: &str| pattern == "*" || text.contains(pattern);
        let silent = rules.iter().find_map(|rule| match &rule.says {
            Says::Unknown(why) if holds(&rule.pattern) => Some(why.as_str()),
            _ => None,
        });
        if let Some(why) = silent {
            return Checked::Unknown(unknown(why));
        }
        let clean: Vec<Range<usize>> = rules
            .iter()
            .filter(|rule| matches!(rule.says, Says::Clean))
            .flat_map(|rule| occurrences(text, &rule.pattern))
            .collect();
        let mut found = Vec::new();
        for rule in rules {
            let Says::Diagnostic { severity, code, message } = &rule.says else { continue };
            for range in occurrences(text, &rule.pattern) {
                if clean.iter().any(|clean| clean.start <= range.start && range.end <= clean.end) {
                    continue;
                }
                let part = text[range.clone()]
                    .find(&rule.part)
                    .map(|at| range.start + at..range.start + at + rule.part.len());
                let range = part.filter(|_| !rule.part.is_empty()).unwrap_or(range);
                let source = Some("scripted".to_owned());
                found.push(Diagnostic {
                    range,
                    severity: *severity,
                    code: Some(code.clone()),
                    source,
                    message: message.clone(),
                });
            }
        }
        found.sort_by_key(|diagnostic| diagnostic.range.start);
        Checked::Diagnostics(found)
    }
}

fn occurrences(text: &str, pattern: &str) -> Vec<Range<usize>> {
    text.match_indices(pattern).map(|(at, found)| at..at + found.len()).collect()
}

fn unknown(why: &str) -> Unknown {
    match why {
        "timeout" => Unknown::Timeout,
        "stale" => Unknown::Stale,
        "starting" => Unknown::Starting,
        "crashed" => Unknown::Crashed,
        other => Unknown::Failed(other.to_owned()),
    }
}
