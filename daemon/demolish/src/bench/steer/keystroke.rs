//! From a keystroke to the answered completion, through shim and daemon, with the real model and the real language servers, as an editor
//! does it.
//!
//! The editor has the sample open and types one character: the document changes, and a completion is asked for at once.
//! The user's own servers run through the same daemon, so they work beside the twins as they do in life.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use wire::child::Child;
use wire::client::{Client, Quiet};

use crate::bench::engine;
use crate::bench::proxy::{daemon, rss_mib};
use crate::bench::report::{Row, Samples};
use crate::bench::sandbox::{Sandbox, program};
use crate::twin::plan::uri_of;

/// The samples: file, language, the server's command.
const SAMPLES: &[(&str, &str, &str, &[&str])] = &[
    ("shop.py", "python", include_str!("../samples/shop.py"), &["ty", "server"]),
    ("shop.ts", "typescript", include_str!("../samples/shop.ts"), &["tsc", "--lsp", "--stdio"]),
];
/// Places in each sample.
const PLACES_MAX: usize = 24;
/// How long the typist pauses between two places, so that what was dropped is over.
const PAUSE: Duration = Duration::from_millis(60);
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came of all places.
#[derive(Default)]
pub(in crate::bench) struct Outcome {
    pub(in crate::bench) latencies: Samples,
    first: Vec<f64>,
    checks: Samples,
    tokens: Samples,
    rewinds: Samples,
    pub(in crate::bench) clean: usize,
    pub(in crate::bench) unknown: usize,
    pub(in crate::bench) findings: usize,
    refused: usize,
    nothing: usize,
}

/// The rows of it.
///
/// # Errors
/// A part of it could not be started or broke off: one sentence.
pub(super) async fn measured() -> Result<Vec<Row>, String> {
    let sandbox = Sandbox::new("steer", "")?;
    let measured = measure(&sandbox).await;
    sandbox.stop_daemon().await;
    let outcome = measured?;
    let cancelled = engine::tokens_after_cancel().await?;
    Ok(rows(&outcome, &cancelled))
}

/// What comes of all places with a daemon of these settings, and its resident memory at the end, in MiB.
///
/// # Errors
/// A part of it could not be started or broke off: one sentence.
pub(in crate::bench) async fn of_settings(
    name: &str,
    settings: &str,
) -> Result<(Outcome, f64), String> {
    let sandbox = Sandbox::new(name, settings)?;
    let (_client, daemon) = daemon(&sandbox, &program()).await?;
    let measured = measure(&sandbox).await;
    let resident = daemon.id().and_then(rss_mib);
    sandbox.stop_daemon().await;
    Ok((measured?, resident.ok_or("the daemon is gone")?))
}

async fn measure(sandbox: &Sandbox) -> Result<Outcome, String> {
    let mut outcome = Outcome::default();
    for (file, language, text, server) in SAMPLES {
        let editor = Editor::start(sandbox, file, language, text, server).await?;
        outcome
            .first
            .push(editor.complete_at(text, first_place(text), &mut Outcome::default()).await?);
        for place in places(text) {
            let ms = editor.complete_at(text, place, &mut outcome).await?;
            outcome.latencies.push(ms);
        }
        editor.leave().await;
    }
    Ok(outcome)
}

#[allow(clippy::cast_precision_loss, reason = "some dozens")]
fn rows(outcome: &Outcome, cancelled: &Samples) -> Vec<Row> {
    let all = outcome.latencies.len().max(1) as f64;
    let share = |metric: &str, count: usize| Row::new(metric, 100.0 * count as f64 / all, "%");
    vec![
        Row::new("suggestion_p50", outcome.latencies.quantile(0.5), "ms").at_most(400.0),
        Row::new("suggestion_p95", outcome.latencies.quantile(0.95), "ms"),
        Row::new("suggestion_max", outcome.latencies.quantile(1.0), "ms"),
        Row::new("suggestions", outcome.latencies.len() as f64, "places"),
        Row::new("first_suggestion_python", outcome.first.first().copied().unwrap_or(0.0), "ms"),
        Row::new("first_suggestion_typescript", outcome.first.get(1).copied().unwrap_or(0.0), "ms"),
        Row::new("checks_per_suggestion", outcome.checks.mean(), "checks"),
        Row::new("tokens_per_suggestion", outcome.tokens.mean(), "tokens"),
        Row::new("rewinds_per_suggestion", outcome.rewinds.mean(), "rewinds"),
        share("share_clean", outcome.clean),
        share("share_unknown", outcome.unknown),
        share("share_findings_shown", outcome.findings),
        share("share_all_refused", outcome.refused),
        share("share_nothing", outcome.nothing),
        Row::new("tokens_after_cancel_max", cancelled.quantile(1.0), "tokens").at_most(1.0),
    ]
}

/// An editor with one document: its connection to our features, and the one to its language server.
struct Editor {
    own: Client,
    wrapped: Client,
    children: [Child; 2],
    uri: String,
    version: std::cell::Cell<i32>,
}

impl Editor {
    #[allow(clippy::disallowed_methods, reason = "the project is the measurement's own")]
    async fn start(
        sandbox: &Sandbox,
        file: &str,
        language: &str,
        text: &str,
        server: &[&str],
    ) -> Result<Editor, String> {
        let project = sandbox.folder().join(language);
        let failed =
            |error: std::io::Error| format!("{} cannot be written ({error})", project.display());
        std::fs::create_dir_all(&project).map_err(failed)?;
        std::fs::write(
            project.join("pyproject.toml"),
            "[project]\nname = \"shop\"\nversion = \"1\"\n",
        )
        .map_err(failed)?;
        std::fs::write(project.join("tsconfig.json"), TSCONFIG).map_err(failed)?;
        std::fs::write(project.join(file), text).map_err(failed)?;
        let program = program();
        let lsp = OsStr::new("lsp");
        let mut wrap: Vec<&OsStr> = vec![&program, lsp, OsStr::new("--")];
        wrap.extend(server.iter().map(OsStr::new));
        let wrapped = open(sandbox, &wrap, &project, file, language, text).await?;
        let own = open(sandbox, &[&program, lsp], &project, file, language, text).await?;
        Ok(Editor {
            own: own.0,
            wrapped: wrapped.0,
            children: [own.1, wrapped.1],
            uri: uri_of(&project.join(file)),
            version: std::cell::Cell::new(1),
        })
    }

    /// Types the last character before `place` and asks; the milliseconds until the answer.
    async fn complete_at(
        &self,
        text: &str,
        place: Place,
        outcome: &mut Outcome,
    ) -> Result<f64, String> {
        let (before, rest) = text.split_at(place.cursor);
        let rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
        let last = before.char_indices().next_back().map_or(0, |(at, _)| at);
        self.change(&json!([{"text": format!("{}{rest}", &before[..last])}]))?;
        tokio::time::sleep(PAUSE).await;
        let line = before.matches('\n').count();
        let column = |offset: usize| {
            before[before.rfind('\n').map_or(0, |at| at + 1)..offset].encode_utf16().count()
        };
        let at = json!({"line": line, "character": column(last)});
        let started = Instant::now();
        self.change(&json!([{"range": {"start": at, "end": at}, "text": &before[last..]}]))?;
        let params = json!({
            "textDocument": {"uri": self.uri},
            "position": {"line": line, "character": column(before.len())},
            "context": {"triggerKind": 2},
        });
        let reply = self.own.request("textDocument/inlineCompletion", &params, PATIENCE).await;
        let ms = started.elapsed().as_secs_f64() * 1e3;
        let list: Json =
            reply.map_err(|error| error.to_string())?.parse().map_err(|error| error.to_string())?;
        outcome.count(&list)?;
        Ok(ms)
    }

    fn change(&self, changes: &Json) -> Result<(), String> {
        self.version.set(self.version.get() + 1);
        let params = json!({"textDocument": {"uri": self.uri, "version": self.version.get()}, "contentChanges": changes});
        for client in [&self.wrapped, &self.own] {
            client.notify("textDocument/didChange", &params).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    async fn leave(self) {
        for client in [&self.own, &self.wrapped] {
            let _ = client.shutdown(Duration::from_secs(2)).await;
        }
        drop(self.children);
    }
}

const TSCONFIG: &str = r#"{"compilerOptions": {"strict": true, "target": "es2022", "module": "esnext", "moduleResolution": "bundler"}}"#;

async fn open(
    sandbox: &Sandbox,
    command: &[&OsStr],
    project: &Path,
    file: &str,
    language: &str,
    text: &str,
) -> Result<(Client, Child), String> {
    let (client, child) = sandbox.start(command, Quiet).await?;
    let root = uri_of(project);
    let params = json!({
        "processId": std::process::id(),
        "rootUri": root,
        "workspaceFolders": [{"uri": root, "name": "shop"}],
        "capabilities": {"workspace": {"configuration": true}, "textDocument": {"diagnostic": {"dynamicRegistration": true}}},
    });
    client.initialize(&params, PATIENCE).await.map_err(|error| {
        let command: Vec<OsString> = command.iter().map(OsString::from).collect();
        format!("{command:?} does not start: {error}")
    })?;
    let document = json!({"uri": uri_of(&project.join(file)), "languageId": language, "version": 1, "text": text});
    client
        .notify("textDocument/didOpen", &json!({"textDocument": document}))
        .map_err(|error| error.to_string())?;
    Ok((client, child))
}

impl Outcome {
    fn count(&mut self, list: &Json) -> Result<(), String> {
        let item = &list["items"][0];
        let data = if item.is_object() { &item["data"]["demolish"] } else { &list["demolish"] };
        if let Some(error) = data["error"].as_str() {
            return Err(error.to_owned());
        }
        for (samples, name) in [
            (&mut self.checks, "checks"),
            (&mut self.tokens, "tokens"),
            (&mut self.rewinds, "rewinds"),
        ] {
            samples.push(data["work"][name].as_f64().unwrap_or(0.0));
        }
        let refused = data["refused"].as_array().is_some_and(|refused| !refused.is_empty());
        match data["verdict"]["kind"].as_str() {
            Some("clean") => self.clean += 1,
            Some("findings") => self.findings += 1,
            Some(_) => self.unknown += 1,
            None if refused => self.refused += 1,
            None => self.nothing += 1,
        }
        Ok(())
    }
}

/// A cursor; what stands behind it on its line is taken away.
#[derive(Clone, Copy)]
struct Place {
    cursor: usize,
}

/// Where a sample is completed: within statements, and at the start of blocks. Spread evenly over the file.
fn places(text: &str) -> Vec<Place> {
    let mut all = Vec::new();
    let mut start = 0;
    let mut opens_block = false;
    for line in text.split_inclusive('\n') {
        let indent = line.len() - line.trim_start().len();
        let code = line.trim();
        let prose = code.starts_with(['#', '/', '*', '"', '@'])
            || code.contains("\"\"\"")
            || code.starts_with("import")
            || code.starts_with("from");
        if !prose && code.len() >= 8 {
            if opens_block && indent > 0 {
                all.push(Place { cursor: start + indent });
            } else if let Some(within) = cut(&line[indent..line.trim_end().len()]) {
                all.push(Place { cursor: start + indent + within });
            }
        }
        opens_block = code.ends_with([':', '{']);
        start += line.len();
    }
    let step = all.len().div_ceil(PLACES_MAX).max(1);
    all.into_iter().step_by(step).collect()
}

/// Behind the first sign in the middle of a statement after which people wait for a suggestion.
fn cut(code: &str) -> Option<usize> {
    let signs = [" = ", "(", ".", "return ", " in ", ": "];
    let ends =
        signs.iter().flat_map(|sign| code.match_indices(sign).map(|(at, sign)| at + sign.len()));
    ends.filter(|end| *end >= code.len() / 3 && end + 3 < code.len()).min()
}

fn first_place(text: &str) -> Place {
    places(text).last().copied().unwrap_or(Place { cursor: text.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_spread_over_the_samples() {
        for (file, _, text, _) in SAMPLES {
            let places = places(text);
            assert!((15..=PLACES_MAX).contains(&places.len()), "{file}: {}", places.len());
            assert!(places.iter().all(|place| text.is_char_boundary(place.cursor)));
        }
        assert_eq!(cut("price = round(self.price)"), Some(8));
        assert_eq!(cut("x = 1"), None);
    }
}
