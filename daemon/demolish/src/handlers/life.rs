//! A language server starts, dies and returns.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proxy::ServerState;
use tokio::sync::{mpsc, oneshot};
use wire::child::{Child, ChildOptions, SpawnError};
use wire::ends::{Reader, Writer};
use wire::peer::Peer;

use super::wrap::{instance, pass};
use crate::main_loop::Event;
use crate::state::{Dying, Instance, InstanceId, Server, ServerId, State};

/// How long the second sign of a server's death is waited for.
pub const SIGNS_PATIENCE: Duration = Duration::from_millis(300);
/// How long the end of a dead server's stderr is waited for.
const LAST_WORDS_PATIENCE: Duration = Duration::from_millis(100);
/// How many of its last lines are shown to the user when it does not start.
const LAST_WORDS_SHOWN: usize = 3;

/// A server that was started.
#[derive(Debug)]
pub struct Started {
    child: Child,
    stdin: Writer,
    stdout: Reader,
}

/// Starts the server of an instance; its beginning comes as [`Event::Started`].
pub fn start(state: &mut State, id: InstanceId) {
    let log_dir = state.options.servers_log_dir.clone();
    let inbox = state.inbox.clone();
    let Some(instance) = instance(state, id) else { return };
    instance.life += 1;
    instance.restart_at = None;
    let server = ServerId { instance: id, life: instance.life };
    let options = ChildOptions {
        command: instance.command.iter().map(Into::into).collect(),
        cwd: Some(instance.cwd.clone()),
        env: Some(instance.env.iter().map(|(name, value)| (name.into(), value.into())).collect()),
        log: log_dir.and_then(|dir| log_file(&dir, &instance.command, id)),
    };
    tokio::spawn(async move {
        let outcome = Child::spawn(options).await;
        let outcome = outcome.map(|(child, stdin, stdout)| Started { child, stdin, stdout });
        let _ = inbox.send(Event::Started(server, Box::new(outcome))).await;
    });
}

/// A server was started, or could not be.
pub fn started(
    state: &mut State,
    server: ServerId,
    outcome: Result<Started, SpawnError>,
    now: Instant,
) {
    let inbox = state.inbox.clone();
    let current = |instance: &&mut Instance| instance.life == server.life;
    let Some(instance) = instance(state, server.instance).filter(current) else { return };
    let routes = match outcome {
        Ok(Started { child, stdin, stdout }) => {
            tracing::info!(instance = server.instance.0, command = ?instance.command, pid = child.id(), "started");
            let (stop, stopped) = oneshot::channel();
            let (pid, log) = (child.id(), child.log().clone());
            let events = inbox.clone();
            let peer = Peer::start(stdout, stdin, move |event| {
                let events = events.clone();
                async move {
                    let _ = events.send(Event::Server(server, event)).await;
                }
            });
            tokio::spawn(watch(child, stopped, server, inbox));
            instance.watch.started(now);
            instance.server = Some(Server { peer, pid, log, _stop: stop, dying: None });
            instance.link.on_server_up(now)
        }
        Err(error) => {
            let remedy = "install it, or correct the command in the editor's configuration";
            let reason =
                format!("Demolish: the language server cannot be started: {error}; {remedy}");
            tracing::error!(instance = server.instance.0, %error, "not started");
            instance.link.give_up(&reason)
        }
    };
    pass(state, server.instance, routes, now);
}

/// The server's stdout is closed: the first sign, or the second.
pub fn silent(state: &mut State, server: ServerId, now: Instant) {
    sign(state, server, None, now);
}

/// The server's process has ended: the first sign, or the second.
pub fn ended(state: &mut State, server: ServerId, how: String, now: Instant) {
    sign(state, server, Some(how), now);
}

/// The second sign was not seen in time.
pub fn overdue(state: &mut State, id: InstanceId, now: Instant) {
    let Some(instance) = instance(state, id) else { return };
    let how =
        instance.server.as_mut().and_then(|server| server.dying.take()).and_then(|dying| dying.how);
    lost(state, id, &how.unwrap_or_else(|| "it closed its output".to_owned()), now);
}

fn sign(state: &mut State, server: ServerId, how: Option<String>, now: Instant) {
    let current = |instance: &&mut Instance| instance.life == server.life;
    let Some(instance) = instance(state, server.instance).filter(current) else { return };
    let Some(running) = &mut instance.server else { return };
    match running.dying.take() {
        None => running.dying = Some(Dying { until: now + SIGNS_PATIENCE, how }),
        Some(Dying { how: earlier, .. }) if how.is_some() || earlier.is_some() => {
            let how = how.or(earlier).unwrap_or_default();
            lost(state, server.instance, &how, now);
        }
        // A closed output may be reported by the writer and by the reader.
        Some(dying) => running.dying = Some(dying),
    }
}

/// The server is gone, or is given up: it is started again if it may be.
pub fn lost(state: &mut State, id: InstanceId, how: &str, now: Instant) {
    let Some(instance) = instance(state, id) else { return };
    let Some(server) = instance.server.take() else { return };
    super::lease::died(instance, now);
    instance.last_words = server.log.tail();
    // From here on nothing counts that this life still says.
    instance.life += 1;
    drop(server);
    if instance.lingers_until.is_some() {
        state.instances.remove(&id);
        return;
    }
    super::merge::died(state, id);
    let Some(instance) = self::instance(state, id) else { return };
    if instance.closing.is_some() {
        let routes = instance.link.on_server_death();
        pass(state, id, routes, now);
        return super::wrap::over(state, id, now);
    }
    tracing::warn!(instance = id.0, command = ?instance.command, how, "the server is gone");
    let greeted = instance.link.is_initialized() || instance.proven;
    let routes = if instance.link.is_shutdown() {
        instance.link.on_server_death()
    } else if !greeted {
        let reason = never_answered(instance, how);
        instance.link.give_up(&reason)
    } else if let Some(wait) = instance.back_off.died(now) {
        instance.restart_at = Some(now + wait);
        instance.link.on_server_death()
    } else {
        let reason = gave_up(instance, how);
        super::watch::give_up(instance, &reason)
    };
    pass(state, id, routes, now);
}

/// A server whose link was given up while its process runs (it came back another) is let go.
pub fn end_given_up(state: &mut State, id: InstanceId, now: Instant) {
    let given_up =
        |instance: &&mut Instance| matches!(instance.link.state(), ServerState::Stopped(_));
    if let Some(instance) = instance(state, id).filter(given_up)
        && let Some(server) = instance.server.take()
    {
        instance.last_words = server.log.tail();
        instance.life += 1;
        super::lease::died(instance, now);
    }
}

/// Waits for the end of a child, or brings it about when its instance lets go of it.
async fn watch(
    mut child: Child,
    stopped: oneshot::Receiver<()>,
    server: ServerId,
    inbox: mpsc::Sender<Event>,
) {
    let status = tokio::select! {
        status = child.wait() => status.ok(),
        _ = stopped => child.terminate().await,
    };
    child.log().drained(LAST_WORDS_PATIENCE).await;
    let how = status.map_or_else(|| "it was killed".to_owned(), |status| status.to_string());
    let _ = inbox.send(Event::Ended(server, how)).await;
}

fn never_answered(instance: &Instance, how: &str) -> String {
    format!(
        "Demolish: the language server `{}` ended before it was ready ({how}){}; run this command in a terminal to see \
         why, or correct it in the editor's configuration",
        instance.command.join(" "),
        quoted(&instance.last_words),
    )
}

fn gave_up(instance: &Instance, how: &str) -> String {
    format!(
        "Demolish: the language server `{}` keeps ending ({how}){}; it was restarted {} times in {} minutes and is now \
         left alone until the editor starts it again",
        instance.command.join(" "),
        quoted(&instance.last_words),
        proxy::RESTARTS_MAX,
        proxy::RESTARTS_WINDOW.as_secs() / 60,
    )
}

fn quoted(last_words: &[String]) -> String {
    let spoken: Vec<&str> =
        last_words.iter().map(|line| line.trim()).filter(|line| !line.is_empty()).collect();
    let shown = &spoken[spoken.len().saturating_sub(LAST_WORDS_SHOWN)..];
    if shown.is_empty() { String::new() } else { format!(", and said: {}", shown.join(" / ")) }
}

/// The log of a server: named after its program, and after its instance because two may have the same.
fn log_file(dir: &Path, command: &[String], id: InstanceId) -> Option<PathBuf> {
    std::fs::create_dir_all(dir).ok()?;
    let program = Path::new(command.first()?).file_name()?.to_string_lossy().into_owned();
    // Numbers of instances begin anew with every daemon, so that the number of files stays small.
    Some(dir.join(format!("{program}-{}.log", id.0)))
}

/// When something is due in the life of a server.
pub(crate) fn next_deadline(instance: &Instance) -> Option<Instant> {
    let dying = instance.server.as_ref().and_then(|server| server.dying.as_ref()).map(|d| d.until);
    let closing = instance.closing.filter(|_| instance.server.is_some());
    [dying, closing, instance.restart_at, instance.lingers_until].into_iter().flatten().min()
}

/// Does what is due.
pub fn tick(state: &mut State, id: InstanceId, now: Instant) {
    let Some(instance) = instance(state, id) else { return };
    let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
    if due(instance.lingers_until) {
        tracing::info!(instance = id.0, command = ?instance.command, "nobody has come: it is let go");
        state.instances.remove(&id);
        return;
    }
    if due(instance.restart_at) {
        return start(state, id);
    }
    let dying = instance.server.as_ref().and_then(|server| server.dying.as_ref()).map(|d| d.until);
    if due(dying) {
        return overdue(state, id, now);
    }
    if due(instance.closing.filter(|_| instance.server.is_some())) {
        lost(state, id, "it did not exit", now);
    }
}
