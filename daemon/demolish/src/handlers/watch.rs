//! The watch over servers: one that never answers `initialize`, one that says nothing while requests wait, one that keeps
//! dying, one whose memory explodes. The user is told which command it is, and may have it restarted.

use std::time::{Duration, Instant};

use proxy::{Route, ServerState};
use rustix::process::{Pid, Signal, kill_process_group};
use wire::Envelope;
use wire::ext::RestartResult;
use wire::lsp::MessageType;

use super::{life, wrap};
use crate::main_loop::Event;
use crate::memory;
use crate::state::{Instance, InstanceId, ServerId, State};

/// How often servers are looked at while there are any.
pub const LOOK_EVERY: Duration = Duration::from_secs(3);
/// The same while one of them has more than half of the memory that it may have.
const LOOK_CLOSELY_EVERY: Duration = Duration::from_millis(300);
/// How long a server may take to answer `initialize` before the user is told (rule 4.10).
pub const MUTE_AFTER: Duration = Duration::from_secs(20);
/// How long it may take before it is given up (rules 4.10, 4.18).
pub const INITIALIZE_PATIENCE: Duration = Duration::from_secs(120);
/// How long a server may say nothing while requests wait that it should have answered, before the user is asked (4.18).
pub const SILENT_AFTER: Duration = Duration::from_secs(30);
/// What the user may choose.
const RESTART: &str = "Restart";
const WAIT: &str = "Wait";
const MIB: u64 = 1 << 20;

/// What is known of one server for the watch.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// When its process was started.
    up: Option<Instant>,
    /// When it last said something.
    heard: Option<Instant>,
    /// Whether the user was told that it does not answer `initialize`.
    told_mute: bool,
    /// Whether the user was told that it is silent; until it says something.
    told_silent: bool,
    /// Whether the user was told that it takes too much memory.
    told_memory: bool,
    /// The question that the user was asked last.
    question: Option<u32>,
    /// The memory of its process and its children, when that was last looked at.
    pub(crate) rss_bytes: u64,
}

impl Watch {
    /// Its process was started.
    pub(crate) fn started(&mut self, now: Instant) {
        self.up = Some(now);
        self.heard = None;
        self.told_silent = false;
        self.rss_bytes = 0;
    }

    /// It has said something.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.heard = Some(now);
        self.told_silent = false;
    }
}

/// When the next look is due.
pub(crate) fn next_deadline(state: &State) -> Option<Instant> {
    (!state.instances.is_empty()).then_some(state.watch_at)
}

/// Looks at every server, if it is time.
pub(crate) fn tick(state: &mut State, now: Instant) {
    if state.instances.is_empty() || now < state.watch_at {
        return;
    }
    state.watch_at = now + LOOK_EVERY;
    let ids: Vec<InstanceId> = state.instances.keys().copied().collect();
    for id in ids {
        mute(state, id, now);
        silent(state, id, now);
    }
    sample(state);
}

/// A server that does not answer `initialize`: the user is told, and later it is given up.
fn mute(state: &mut State, id: InstanceId, now: Instant) {
    let Some(instance) = wrap::instance(state, id).filter(|i| i.server.is_some()) else { return };
    let greeting = *instance.link.state() == ServerState::Greeting;
    let since = instance.link.initialize_since().or(instance.watch.up.filter(|_| greeting));
    let Some(waited) = since.map(|since| now.saturating_duration_since(since)) else { return };
    if waited >= INITIALIZE_PATIENCE {
        let how = format!(
            "it gave no answer to `initialize` within {} s and was ended",
            INITIALIZE_PATIENCE.as_secs()
        );
        return life::lost(state, id, &how, now);
    }
    if waited >= MUTE_AFTER && !std::mem::replace(&mut instance.watch.told_mute, true) {
        let message = format!(
            "Demolish: the language server `{}` has not answered `initialize` for {} s; it is waited for until {} s have \
             passed. Run this command in a terminal to see why, or look at `{}`",
            instance.command.join(" "),
            waited.as_secs(),
            INITIALIZE_PATIENCE.as_secs(),
            log_verb(instance),
        );
        tracing::warn!(instance = id.0, command = ?instance.command, "no answer to initialize");
        let routes = instance.link.say(MessageType::WARNING, &message);
        wrap::pass(state, id, routes, now);
    }
}

/// A server that says nothing while requests wait: the user is asked, once until it speaks again.
fn silent(state: &mut State, id: InstanceId, now: Instant) {
    if wrap::is_held(state, id) {
        // Nobody reads what it says; that is not its fault.
        return;
    }
    // A server that is still starting is a matter of `mute`.
    let up = |i: &&mut Instance| {
        *i.link.state() == ServerState::Running && i.link.initialize_since().is_none()
    };
    let Some(instance) = wrap::instance(state, id).filter(up) else { return };
    let Some(due) = instance.link.due_since().filter(|_| instance.server.is_some()) else { return };
    let quiet = due.max(instance.watch.heard.unwrap_or(due));
    let waited = now.saturating_duration_since(quiet);
    if instance.watch.told_silent || waited < SILENT_AFTER {
        return;
    }
    instance.watch.told_silent = true;
    tracing::warn!(instance = id.0, command = ?instance.command, "silent while requests wait");
    let command = instance.command.join(" ");
    let message = format!(
        "Demolish: the language server `{command}` has said nothing for {} s while requests wait",
        waited.as_secs()
    );
    let routes = match instance.link.ask_user(MessageType::WARNING, &message, &[RESTART, WAIT]) {
        Some((question, route)) => {
            instance.watch.question = Some(question);
            vec![route]
        }
        None => {
            let message =
                format!("{message}; `demolish restart {}` starts it anew", name(instance));
            instance.link.say(MessageType::WARNING, &message)
        }
    };
    wrap::pass(state, id, routes, now);
}

/// Has the memory of all servers looked at, off the loop; it comes as [`Event::Sampled`].
fn sample(state: &mut State) {
    if std::mem::replace(&mut state.sampling, true) {
        return;
    }
    let servers: Vec<(ServerId, u32)> = state
        .instances
        .iter()
        .filter_map(|(id, instance)| {
            let pid = instance.server.as_ref().and_then(|server| server.pid)?;
            Some((ServerId { instance: *id, life: instance.life }, pid))
        })
        .collect();
    let inbox = state.inbox.clone();
    tokio::task::spawn_blocking(move || {
        let sample = |(id, pid)| Some((id, memory::of_tree(pid)?));
        let samples = servers.into_iter().filter_map(sample).collect();
        let _ = inbox.blocking_send(Event::Sampled(samples));
    });
}

/// The memory of servers: one that has more than it may have is ended at once, and restarted.
pub(crate) fn sampled(state: &mut State, samples: Vec<(ServerId, u64)>, now: Instant) {
    state.sampling = false;
    let max = state.options.memory_max.unwrap_or(u64::MAX);
    for (server, bytes) in samples {
        let current = |instance: &&mut Instance| instance.life == server.life;
        let Some(instance) = wrap::instance(state, server.instance).filter(current) else {
            continue;
        };
        instance.watch.rss_bytes = bytes;
        if bytes > max {
            too_much(state, server.instance, bytes, max, now);
        } else if bytes > max / 2 {
            state.watch_at = state.watch_at.min(now + LOOK_CLOSELY_EVERY);
        }
    }
}

fn too_much(state: &mut State, id: InstanceId, bytes: u64, max: u64, now: Instant) {
    let Some(instance) = wrap::instance(state, id) else { return };
    let pid = instance.server.as_ref().and_then(|server| server.pid);
    if let Some(group) = pid.and_then(|pid| Pid::from_raw(pid.cast_signed())) {
        // Not asked first: it may take all there is while it thinks about it.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let how = format!(
        "it took {} MiB of memory, of {} that `servers.memory_max_mib` allows",
        bytes / MIB,
        max / MIB
    );
    let told = std::mem::replace(&mut instance.watch.told_memory, true);
    let message =
        format!("Demolish: the language server `{}` was ended: {how}", instance.command.join(" "));
    let say = if told { Vec::new() } else { instance.link.say(MessageType::WARNING, &message) };
    wrap::pass(state, id, say, now);
    life::lost(state, id, &how, now);
}

/// A server that has had its chances is given up; the user may have it restarted.
pub(crate) fn give_up(instance: &mut Instance, reason: &str) -> Vec<Route> {
    let (question, routes) = instance.link.give_up_asking(reason, &[RESTART]);
    instance.watch.question = question;
    routes
}

/// The user has chosen.
pub(crate) fn chosen(
    state: &mut State,
    id: InstanceId,
    ours: u32,
    answer: &Envelope,
    now: Instant,
) {
    #[derive(serde::Deserialize)]
    struct Choice {
        title: String,
    }
    let Some(instance) = wrap::instance(state, id) else { return };
    if instance.watch.question.take_if(|question| *question == ours).is_none() {
        return;
    }
    let choice = answer.outcome().ok().and_then(|raw| wire::parse::<Choice>(raw).ok());
    if choice.is_some_and(|choice| choice.title == RESTART) {
        restart(state, id, now);
    }
}

/// Starts a server anew because the user wants it, whatever happened before.
pub(crate) fn restart(state: &mut State, id: InstanceId, now: Instant) {
    let Some(instance) = wrap::instance(state, id) else { return };
    tracing::info!(instance = id.0, command = ?instance.command, "restarted by the user");
    instance.back_off.forgive();
    if instance.link.revive() {
        return life::start(state, id);
    }
    life::lost(state, id, "the user restarts it", now);
}

/// Restarts the servers that `which` names: by the number of a link, the name of the program, or a part of the command.
pub(crate) fn restart_all(state: &mut State, which: &str, now: Instant) -> RestartResult {
    let of_link = |id: InstanceId| {
        let number = which.parse::<u32>().ok();
        state.seats.values().any(|seat| seat.instance == id && Some(seat.link.0) == number)
    };
    let mut meant: Vec<(InstanceId, String)> = Vec::new();
    let mut known = Vec::new();
    for (id, instance) in &state.instances {
        let command = instance.command.join(" ");
        let named = !which.is_empty() && (name(instance) == which || command.contains(which));
        if of_link(*id) || named {
            meant.push((*id, command.clone()));
        }
        known.push(command);
    }
    for (id, _) in &meant {
        restart(state, *id, now);
    }
    RestartResult { restarted: meant.into_iter().map(|(_, command)| command).collect(), known }
}

/// What a server is called by `demolish restart` and `demolish logs --server`.
pub(crate) fn name(instance: &Instance) -> String {
    let program = instance.command.first().map(String::as_str).unwrap_or_default();
    program.rsplit('/').next().unwrap_or_default().to_owned()
}

fn log_verb(instance: &Instance) -> String {
    format!("demolish logs --server {}", name(instance))
}
