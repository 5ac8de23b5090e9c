//! A critic that knows the grammar alone: what steering is worth without a language server.

use std::path::Path;
use std::sync::Arc;

use decode::{BoxFuture, Checked, Critic};
use lang::{Grammar, Language};
use text::{Diagnostic, Edit, Severity};

/// Objects to what does not parse.
pub(super) struct ParseCritic {
    grammar: Grammar,
    server: &'static str,
}

impl ParseCritic {
    /// For a file; it goes by the name of a server whose policy takes syntax errors for what they are.
    pub(super) fn new(language: &'static Language, path: &Path) -> ParseCritic {
        let steering = language.servers().iter().find(|server| server.steers());
        ParseCritic {
            grammar: Grammar::new(language, path),
            server: steering.map_or("", lang::Server::name),
        }
    }

    fn errors(&self, text: &str) -> Vec<Diagnostic> {
        let Some(syntax) = self.grammar.parse(text) else { return Vec::new() };
        let of = |range: std::ops::Range<usize>| Diagnostic {
            range,
            severity: Severity::Error,
            code: None,
            source: Some("parse".to_owned()),
            message: "this does not parse".to_owned(),
        };
        syntax.error_ranges(0..text.len()).into_iter().map(of).collect()
    }
}

impl Critic for ParseCritic {
    fn check(&self, text: Arc<str>) -> BoxFuture<'_, Checked> {
        Box::pin(std::future::ready(Checked::Diagnostics(self.errors(&text))))
    }

    fn completions(&self, _: Arc<str>, _: usize) -> BoxFuture<'_, Option<Vec<String>>> {
        Box::pin(std::future::ready(None))
    }

    fn quick_fixes(&self, _: Arc<str>, _: &Diagnostic) -> BoxFuture<'_, Vec<Vec<Edit>>> {
        Box::pin(std::future::ready(Vec::new()))
    }

    fn server(&self) -> &str {
        self.server
    }
}
