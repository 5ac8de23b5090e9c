//! `demolish bench speculate`: how long each language server takes to judge a candidate, as a twin and as a lease of the user's
//! own instance, and what a twin takes.
//!
//! Every server that is installed gets a small project with one file of about 200 lines; candidates change its last function, in
//! turn wrongly and rightly, one after the other as a decoder asks. A verdict that is not the expected one is counted. SQL, which is checked
//! in process, is measured beside the bare database.

mod sql;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use decode::{Checked, Critic as _};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Value as Json, json};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use wire::client::{Client, Quiet};
use wire::{Bytes, Envelope, Kind};

use super::report::{Report, Row, Samples};
use super::sandbox::Sandbox;
use crate::config::Config;
use crate::env_vars;
use crate::main_loop::{self, Event, INBOX_EVENTS_MAX};
use crate::state::{DaemonOptions, Features, Outlet, Own, Snapshot, State};
use crate::twin::plan::{uri_of, which};
use crate::twin::{Environment, Subject, Twins};

/// How many candidates each backend judges.
const ROUNDS: usize = 60;
/// How many functions the file has.
const FUNCTIONS: usize = 50;
/// How long a server may take to read the project.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a server that has not read it yet is asked again.
const AGAIN: Duration = Duration::from_millis(250);

/// A server and how a function looks in its language: `N` is its number, `V` what it gives back.
struct Sample {
    command: &'static [&'static str],
    language: &'static str,
    file: &'static str,
    others: &'static [(&'static str, &'static str)],
    head: &'static str,
    function: &'static str,
    right: &'static str,
    wrong: &'static str,
}

const PYTHON: Sample = Sample {
    command: &["ty", "server"],
    language: "python",
    file: "a.py",
    others: &[("pyproject.toml", "[project]\nname = \"a\"\nversion = \"1\"\n")],
    head: "",
    function: "def fN(x: int) -> int:\n    y = x + N\n    return V\n\n",
    right: "y",
    wrong: "'text'",
};
const TYPESCRIPT: Sample = Sample {
    command: &["tsc", "--lsp", "--stdio"],
    language: "typescript",
    file: "a.ts",
    others: &[("tsconfig.json", "{\"compilerOptions\": {\"strict\": true}}")],
    head: "",
    function: "export function fN(x: number): number {\n  const y = x + N;\n  return V;\n}\n",
    right: "y",
    wrong: "'text'",
};
const SAMPLES: &[Sample] = &[
    PYTHON,
    Sample { command: &["basedpyright-langserver", "--stdio"], ..PYTHON },
    TYPESCRIPT,
    Sample {
        command: &["rust-analyzer"],
        language: "rust",
        file: "src/lib.rs",
        others: &[(
            "Cargo.toml",
            "[package]\nname = \"a\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
        )],
        head: "",
        function: "pub fn fN(x: i32) -> i32 {\n    let y = x + N;\n    V\n}\n",
        right: "y",
        wrong: "\"text\"",
    },
    Sample {
        command: &["gopls"],
        language: "go",
        file: "a.go",
        others: &[("go.mod", "module a\n\ngo 1.22\n")],
        head: "package a\n\n",
        function: "func FN(x int) int {\n\ty := x + N\n\treturn V\n}\n",
        right: "y",
        wrong: "\"text\"",
    },
    Sample {
        command: &["clangd"],
        language: "c",
        file: "a.c",
        others: &[],
        head: "",
        function: "int fN(int x) {\n  int y = x + N;\n  return V;\n}\n",
        right: "y",
        wrong: "z",
    },
];

/// What one backend did.
#[derive(Default)]
struct Outcome {
    times: Samples,
    /// Answers that were not the expected ones, and none at all.
    astray: u32,
    mib: Option<f64>,
}

impl Sample {
    fn text(&self, value: &str, more: usize) -> Arc<str> {
        let function = |number: usize, value: &str| {
            self.function.replace('N', &number.to_string()).replace('V', value)
        };
        let mut text = self.head.to_owned();
        text.extend((0..FUNCTIONS).map(|number| function(number, self.right)));
        // Another number every time: no server may know the answer from before.
        text.push_str(&function(1000 + more, value));
        text.into()
    }

    fn name(&self) -> &'static str {
        self.command[0]
    }
}

/// Runs it.
///
/// # Errors
/// A project cannot be written, or SQL cannot be checked: one sentence.
pub(crate) async fn run() -> Result<Report, String> {
    let mut rows = Vec::new();
    for sample in SAMPLES {
        let sandbox = Sandbox::new(&format!("speculate-{}", sample.name()), "")?;
        if which(sample.name(), Some(sandbox.env())).is_none() {
            continue;
        }
        let root = sandbox.folder().join("project");
        project(sample, &root)?;
        let twin = as_twin(sample, &root, sandbox.env()).await;
        rows.extend(told(sample, "twin", twin));
        let leases = lang::by_id(sample.language)
            .and_then(|language| {
                let mut servers = language.servers().iter();
                servers
                    .find(|server| server.command().first().is_some_and(|one| one == sample.name()))
            })
            .is_some_and(lang::Server::leases);
        if leases {
            rows.extend(told(sample, "lease", as_lease(sample, &root, sandbox.env()).await));
        }
    }
    rows.extend(sql::rows().await?);
    let mut notes = Vec::new();
    if env_vars::bench_postgres().is_none() {
        notes.push(format!(
            "PostgreSQL was not asked: {} is not set",
            env_vars::DEMOLISH_BENCH_POSTGRES
        ));
    }
    Ok(Report::new("speculate", rows).noted(notes))
}

fn told(sample: &Sample, backend: &str, outcome: Result<Outcome, String>) -> Vec<Row> {
    let name = sample.name().trim_end_matches("-langserver").replace('-', "_");
    let metric = |what: &str| format!("{name}_{backend}_{what}");
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(why) => {
            let row = Row::new(&metric("failed"), 1.0, "").exactly(0.0);
            return vec![Row { note: Some(why), ..row }];
        }
    };
    let mut rows = vec![
        Row::new(&metric("p50"), outcome.times.quantile(0.5), "ms"),
        Row::new(&metric("p95"), outcome.times.quantile(0.95), "ms"),
        Row::new(&metric("astray"), f64::from(outcome.astray), "verdicts").exactly(0.0),
    ];
    rows.extend(outcome.mib.map(|mib| Row::new(&metric("rss"), mib, "MiB")));
    rows
}

#[allow(clippy::disallowed_methods, reason = "the project is the measurement's own")]
fn project(sample: &Sample, root: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("a project cannot be written ({error})");
    std::fs::create_dir_all(root.join("src")).map_err(failed)?;
    let text = sample.text(sample.right, 0);
    for (file, text) in sample.others.iter().chain([&(sample.file, &*text)]) {
        std::fs::write(root.join(file), text).map_err(failed)?;
    }
    Ok(())
}

async fn as_twin(sample: &Sample, root: &Path, env: &Environment) -> Result<Outcome, String> {
    let twins = Twins::default();
    let mut config = Config::default();
    let command = sample.command.iter().map(ToString::to_string).collect();
    config.servers.command.insert(sample.language.to_owned(), command);
    config.twin.check_deadline_ms = 20_000;
    config.twin.memory_max_mib = 0;
    let path = root.join(sample.file);
    let subject = Subject {
        path: &path,
        uri: &uri_of(&path),
        language: lang::detect(&path),
        others: &Arc::default(),
        users: &[],
        env: Some(env),
    };
    let critic = twins.critic(subject, &config);
    if let Some(lack) = critic.lack() {
        return Err(lack.hint.clone().unwrap_or_else(|| lack.reason.to_string()));
    }
    let mut outcome = measure(sample, async |text: Arc<str>| {
        let started = Instant::now();
        match critic.check(text).await {
            Checked::Diagnostics(found) => {
                let errors = |found: &&text::Diagnostic| found.severity == text::Severity::Error;
                Ok((found.iter().filter(errors).count(), started.elapsed()))
            }
            Checked::Unknown(reason) => Err(reason.to_string()),
        }
    })
    .await?;
    let pid = twins.facts().first().and_then(|facts| facts.pid);
    outcome.mib = pid.map(mib_of_group);
    Ok(outcome)
}

/// Asks until a wrong candidate is found out, which is when the project was read; then measures.
async fn measure(
    sample: &Sample,
    check: impl AsyncFn(Arc<str>) -> Result<(usize, Duration), String>,
) -> Result<Outcome, String> {
    let end = Instant::now() + PATIENCE;
    loop {
        let found = check(sample.text(sample.wrong, 0)).await;
        if found.as_ref().is_ok_and(|(found, _)| *found > 0) {
            break;
        }
        if Instant::now() > end {
            return Err(found.err().unwrap_or_else(|| "it finds nothing wrong".to_owned()));
        }
        tokio::time::sleep(AGAIN).await;
    }
    let mut outcome = Outcome::default();
    for round in 1..=ROUNDS {
        let wrong = round % 2 == 1;
        let value = if wrong { sample.wrong } else { sample.right };
        match check(sample.text(value, round)).await {
            Ok((found, took)) => {
                outcome.times.push(took.as_secs_f64() * 1000.0);
                outcome.astray += u32::from((found > 0) != wrong);
            }
            Err(_) => outcome.astray += 1,
        }
    }
    Ok(outcome)
}

#[allow(clippy::cast_precision_loss, reason = "megabytes")]
fn mib_of_group(pid: u32) -> f64 {
    crate::twin::memory_of(pid).unwrap_or_default() as f64 / f64::from(1 << 20)
}

async fn as_lease(sample: &Sample, root: &Path, env: &Environment) -> Result<Outcome, String> {
    let (inbox, mut events) = mpsc::channel(INBOX_EVENTS_MAX);
    let options = DaemonOptions {
        socket: "/nowhere".into(),
        idle_exit: PATIENCE * 10,
        servers_log_dir: None,
        share: false,
        linger: Duration::ZERO,
        version: String::new(),
        memory_max: None,
    };
    let mut ends = Vec::new();
    for _ in 0..2 {
        let (near, far) = UnixStream::pair().map_err(|error| error.to_string())?;
        let _ = inbox.send(Event::Accepted(far)).await;
        let (reader, writer) = near.into_split();
        ends.push(Client::start(reader, writer, Quiet));
    }
    let stop = inbox.clone();
    let running = tokio::spawn(async move {
        let mut state = State::new(options, Arc::new(Lender), inbox);
        main_loop::run(&mut state, &mut events).await;
    });
    let (own, editor) = (ends.remove(1), ends.remove(0));
    let outcome = lend(sample, root, env, &editor, &own).await;
    let _ = stop.send(Event::Stop).await;
    let _ = running.await;
    outcome
}

async fn lend(
    sample: &Sample,
    root: &Path,
    env: &Environment,
    editor: &Client,
    own: &Client,
) -> Result<Outcome, String> {
    let program = which(sample.name(), Some(env)).ok_or("it is not installed")?;
    let mut command = vec![program.to_string_lossy().into_owned()];
    command.extend(sample.command[1..].iter().map(ToString::to_string));
    let env: serde_json::Map<String, Json> = env
        .iter()
        .filter_map(|(name, value)| Some((name.to_str()?.to_owned(), value.to_str()?.into())))
        .collect();
    let hello = |mode: &str| {
        json!({
            "protocol": wire::ext::PROTOCOL, "version": "", "mode": mode, "command": command,
            "cwd": root, "pid": 1, "editorPid": 1, "env": env,
        })
    };
    let failed = |error: wire::client::RequestError| error.to_string();
    editor.request("demolish/hello", &hello("wrap"), PATIENCE).await.map_err(failed)?;
    own.request("demolish/hello", &hello("own"), PATIENCE).await.map_err(failed)?;
    let capabilities = json!({
        "workspace": {"configuration": true},
        "window": {"workDoneProgress": true},
        "textDocument": {
            "publishDiagnostics": {"versionSupport": true},
            "diagnostic": {"dynamicRegistration": true},
        },
    });
    let uri = uri_of(root);
    let params = json!({
        "processId": std::process::id(), "rootUri": uri, "capabilities": capabilities,
        "workspaceFolders": [{"uri": uri, "name": "a"}],
        "initializationOptions": {"checkOnSave": false},
    });
    editor.initialize(&params, PATIENCE).await.map_err(failed)?;
    let uri = uri_of(&root.join(sample.file));
    let text = sample.text(sample.right, 0);
    let item = json!({"uri": uri, "languageId": sample.language, "version": 1, "text": &*text});
    editor.notify("textDocument/didOpen", &json!({"textDocument": item})).map_err(failed)?;
    measure(sample, async |text: Arc<str>| {
        let asked = json!({"uri": uri, "text": &*text});
        let reply = own.request("candidate", &asked, PATIENCE).await.map_err(failed)?;
        let reply: Json = reply.parse().map_err(|error| error.to_string())?;
        let found = reply["found"].as_array().ok_or_else(|| reply["refused"].to_string())?;
        let errors = found.iter().filter(|found| found["severity"].as_u64().unwrap_or(1) == 1);
        let took = Duration::from_secs_f64(reply["took"].as_f64().unwrap_or_default());
        Ok((errors.count(), took))
    })
    .await
}

/// Features that show candidates to the editor's server.
struct Lender;

struct LenderOwn;

impl Features for Lender {
    fn own(&self, _: Outlet) -> Box<dyn Own> {
        Box::new(LenderOwn)
    }

    fn control(&self, _: Snapshot, _: Envelope) -> BoxFuture<'static, Option<Bytes>> {
        std::future::ready(None).boxed()
    }

    fn status(&self, _: &mut wire::ext::Status) {}
}

impl Own for LenderOwn {
    fn call(
        &mut self,
        snapshot: Snapshot,
        envelope: Envelope,
    ) -> BoxFuture<'static, Option<Bytes>> {
        let Kind::Request { id, .. } = envelope.kind.clone() else {
            return std::future::ready(None).boxed();
        };
        let params: Json = envelope.params_as().unwrap_or_default();
        let leaser = snapshot.servers.first().map(|server| server.leaser.clone());
        async move {
            let (uri, text) = (params["uri"].as_str()?, params["text"].as_str()?);
            let answer = match leaser?.ask(uri, text.into(), PATIENCE / 4).await {
                Ok((said, _)) => {
                    let found: Json = wire::parse(&said.diagnostics).ok()?;
                    json!({"found": found, "took": said.took.as_secs_f64()})
                }
                Err(refusal) => json!({"refused": format!("{refusal:?}")}),
            };
            Some(Envelope::response(id, &answer).body)
        }
        .boxed()
    }
}
