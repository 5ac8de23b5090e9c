//! `demolish bench verdicts`: how long the editors' own servers take to say something provable of a revision, and whether
//! it is right, with the real servers behind the real shim and daemon.
//!
//! An editor has one document open, whose odd versions are good and whose even ones are bad. So every verdict can be
//! checked, whichever revision it turns out to be about.

use std::ffi::{OsStr, OsString};
use std::time::{Duration, Instant};

use wire::child::Child;
use wire::client::{Client, Quiet};
use wire::ext::{
    DocumentVerdict, GetStatus, GetVerdicts, Hello, HelloParams, Mode, PROTOCOL, VerdictsParams,
};

use super::peers::{self, RealPeer, is_good};
use super::report::{Report, Row, Samples};
use super::sandbox::{Sandbox, program};

/// Changes after each of which a verdict is waited for.
const CALM_EDITS: i32 = 60;
/// Changes that come faster than any server answers.
const QUICK_EDITS: i32 = 30;
/// How long after one of those the next comes.
const QUICK_PAUSE: Duration = Duration::from_millis(8);
/// How long a server may take to read its project.
const START_PATIENCE: Duration = Duration::from_secs(90);
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is looked whether a killed server is missed.
const LOOK: Duration = Duration::from_millis(50);

/// What came of one server.
#[derive(Default)]
struct Outcome {
    first_ms: f64,
    calm: Samples,
    asked: u32,
    unknown: u32,
    wrong: u32,
    missed: bool,
    back_ms: f64,
}

/// Runs it for every server that is installed, or for one. `plain`: the editor accepts nothing experimental.
///
/// # Errors
/// A part of it could not be started or broke off: one sentence.
pub(crate) async fn run(only: Option<&str>, plain: bool) -> Result<Report, String> {
    let peers = peers::all()?;
    if let Some(name) = only.filter(|name| peers.iter().all(|peer| peer.name != *name)) {
        let names: Vec<_> = peers.iter().map(|peer| peer.name.as_str()).collect();
        return Err(format!("no server is called `{name}`; there are {}", names.join(", ")));
    }
    let mut rows = Vec::new();
    for peer in peers.iter().filter(|peer| only.is_none_or(|name| peer.name == name)) {
        let Some(command) = peer.located() else { continue };
        let sandbox = Sandbox::new(&format!("verdicts-{}", peer.name), "")?;
        let measured = measure(&sandbox, peer, &command, plain).await;
        sandbox.stop_daemon().await;
        let outcome = measured.map_err(|error| format!("{}: {error}", peer.name))?;
        rows.extend(of_peer(&peer.name, &outcome));
    }
    if rows.is_empty() {
        return Err("none of the servers is installed; `make setup` brings them".to_owned());
    }
    Ok(Report::new("verdicts", rows))
}

fn of_peer(name: &str, outcome: &Outcome) -> Vec<Row> {
    let metric = |what: &str| format!("{name}_verdict_{what}");
    let share = 100.0 * f64::from(outcome.unknown) / f64::from(outcome.asked.max(1));
    vec![
        Row::new(&metric("p50"), outcome.calm.quantile(0.5), "ms"),
        Row::new(&metric("p95"), outcome.calm.quantile(0.95), "ms"),
        Row::new(&metric("first"), outcome.first_ms, "ms"),
        Row::new(&metric("asked"), f64::from(outcome.asked), "verdicts"),
        Row::new(&metric("unknown"), share, "%"),
        Row::new(&metric("wrong"), f64::from(outcome.wrong), "verdicts").exactly(0.0),
        Row::new(&metric("unknown_after_kill"), f64::from(u8::from(outcome.missed)), "")
            .exactly(1.0),
        Row::new(&metric("back_after_kill"), outcome.back_ms, "ms"),
    ]
}

async fn measure(
    sandbox: &Sandbox,
    peer: &RealPeer,
    command: &[String],
    plain: bool,
) -> Result<Outcome, String> {
    let mut outcome = Outcome::default();
    let mut desk = Desk::start(sandbox, peer, command, plain).await?;
    let started = Instant::now();
    // A bad text, here and after the kill: a server that has read nothing yet finds nothing wrong with anything.
    let version = desk.edit_to(false)?;
    desk.settled(version, START_PATIENCE, &mut outcome).await?;
    outcome.first_ms = started.elapsed().as_secs_f64() * 1e3;
    for _ in 0..CALM_EDITS {
        let version = desk.edit()?;
        let asked = Instant::now();
        if desk.settled(version, PATIENCE, &mut outcome).await? {
            outcome.calm.push(asked.elapsed().as_secs_f64() * 1e3);
        }
    }
    desk.edit_quickly(&mut outcome).await?;
    let version = desk.edit_to(false)?;
    desk.settled(version, PATIENCE, &mut outcome).await?;
    desk.kill(&mut outcome).await?;
    Ok(outcome)
}

/// An editor with the document, and a verb's connection to the daemon.
struct Desk<'p> {
    peer: &'p RealPeer,
    editor: Client,
    control: Client,
    uri: String,
    version: i32,
    _shim: Child,
}

impl<'p> Desk<'p> {
    async fn start(
        sandbox: &Sandbox,
        peer: &'p RealPeer,
        command: &[String],
        plain: bool,
    ) -> Result<Desk<'p>, String> {
        let project = sandbox.folder().join("project");
        peer.write(&project)?;
        let project = project.canonicalize().map_err(|error| error.to_string())?;
        let program = program();
        let sets: Vec<OsString> =
            peer.env.iter().map(|(name, value)| format!("{name}={value}").into()).collect();
        let mut line: Vec<&OsStr> = vec![OsStr::new("env")];
        line.extend(sets.iter().map(OsString::as_os_str));
        line.extend([program.as_os_str(), OsStr::new("lsp"), OsStr::new("--")]);
        line.extend(command.iter().map(OsStr::new));
        let (editor, shim) = sandbox.start(&line, Quiet).await?;
        let text = |error: wire::client::RequestError| error.to_string();
        let mut initialize = peer.initialize(&project);
        if plain {
            initialize["capabilities"]["experimental"].take();
        }
        editor.initialize(&initialize, START_PATIENCE).await.map_err(text)?;
        let uri = peer.uri(&project);
        editor.notify("textDocument/didOpen", &peer.open(&uri)).map_err(text)?;
        let control = control(sandbox).await?;
        Ok(Desk { peer, editor, control, uri, version: 1, _shim: shim })
    }

    fn edit(&mut self) -> Result<i32, String> {
        self.version += 1;
        let params = self.peer.change(&self.uri, self.version);
        let sent = self.editor.notify("textDocument/didChange", &params);
        sent.map_err(|error| error.to_string())?;
        Ok(self.version)
    }

    /// Changes to a text that is good or bad.
    fn edit_to(&mut self, good: bool) -> Result<i32, String> {
        while self.version == 1 || is_good(self.version) != good {
            self.edit()?;
        }
        Ok(self.version)
    }

    /// Waits for a verdict about `version` or a later one, which counts for the outcome; the two connections are not in
    /// step, so that the daemon may not have heard of the change when it is asked. Whether something is known.
    async fn settled(
        &self,
        version: i32,
        wait: Duration,
        outcome: &mut Outcome,
    ) -> Result<bool, String> {
        let until = Instant::now() + wait;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let verdict = ask(&self.control, &self.uri, left).await?;
            let late = left.is_zero();
            if late || verdict.as_ref().is_some_and(|v| v.revision >= Some(version)) {
                return Ok(outcome.count(verdict.as_ref()));
            }
        }
    }

    /// Changes come faster than answers, and after each of them somebody asks.
    async fn edit_quickly(&mut self, outcome: &mut Outcome) -> Result<(), String> {
        let mut asking = Vec::new();
        for _ in 0..QUICK_EDITS {
            self.edit()?;
            let (control, uri) = (self.control.clone(), self.uri.clone());
            asking.push(tokio::spawn(async move { ask(&control, &uri, PATIENCE).await }));
            tokio::time::sleep(QUICK_PAUSE).await;
        }
        for asked in asking {
            let verdict = asked.await.map_err(|error| error.to_string())??;
            outcome.count(verdict.as_ref());
        }
        Ok(())
    }

    /// The server is killed: until another is there, nothing is known; then the same as before.
    async fn kill(&self, outcome: &mut Outcome) -> Result<(), String> {
        let status = self.control.call::<GetStatus>((), PATIENCE).await;
        let status = status.map_err(|error| error.to_string())?;
        let server = status.links.iter().find_map(|link| link.server.as_ref()?.pid);
        let pid = server.and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.and_then(rustix::process::Pid::from_raw).ok_or("no server runs")?;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)
            .map_err(|error| error.to_string())?;
        let killed = Instant::now();
        while !outcome.missed && killed.elapsed() < PATIENCE {
            let verdict = ask(&self.control, &self.uri, LOOK).await?;
            outcome.missed = verdict.as_ref().is_some_and(|verdict| verdict.state == "unknown");
            outcome.judge(verdict.as_ref());
        }
        self.settled(self.version, START_PATIENCE, outcome).await?;
        outcome.back_ms = killed.elapsed().as_secs_f64() * 1e3;
        Ok(())
    }
}

impl Outcome {
    /// Takes a verdict into account; whether something is known.
    fn count(&mut self, verdict: Option<&DocumentVerdict>) -> bool {
        self.asked += 1;
        let known = verdict.is_some_and(|verdict| verdict.state != "unknown");
        self.unknown += u32::from(!known);
        self.judge(verdict);
        known
    }

    /// Whether a verdict is right about the revision that it names.
    fn judge(&mut self, verdict: Option<&DocumentVerdict>) {
        let Some(verdict) = verdict else { return };
        let good = verdict.revision.is_some_and(is_good);
        let right = match verdict.state.as_str() {
            "clean" => good,
            "findings" => !good,
            _ => true,
        };
        self.wrong += u32::from(!right);
    }
}

/// What the one server says of the one document; `None`: the daemon has not heard of it yet.
async fn ask(
    control: &Client,
    uri: &str,
    wait: Duration,
) -> Result<Option<DocumentVerdict>, String> {
    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    let params = VerdictsParams { documents: vec![uri.to_owned()], wait_ms };
    let answer = control.call::<GetVerdicts>(params, wait + PATIENCE).await;
    let mut verdicts = answer.map_err(|error| error.to_string())?.verdicts;
    Ok(verdicts.pop())
}

/// A connection to the sandbox's daemon as a verb has it.
async fn control(sandbox: &Sandbox) -> Result<Client, String> {
    let stream =
        wire::socket::connect(&sandbox.socket()).await.map_err(|error| error.to_string())?;
    let (reader, writer) = stream.into_split();
    let control = Client::start(reader, writer, Quiet);
    let hello = HelloParams {
        protocol: PROTOCOL,
        version: crate::VERSION.to_owned(),
        mode: Mode::Control,
        cwd: "/".to_owned(),
        pid: std::process::id(),
        env: std::collections::BTreeMap::default(),
        editor_pid: 0,
        resumed: false,
    };
    let greeted = control.call::<Hello>(hello, PATIENCE).await;
    greeted.map(|_| control).map_err(|error| error.to_string())
}
