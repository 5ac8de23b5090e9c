//! Which clients share a language server (rules 4.30, 4.32).
//!
//! A server is keyed by its command, the place and the environment in which it was started, and by what its clients said in
//! `initialize`: the roots, the capabilities, the options. As that is known only when it arrives, an instance is settled
//! then. Where nothing runs that could be shared, the process is started before, so that nobody waits for it.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proxy::{BackOff, ClientId, Link, LinkOptions, Reads, ServerState};
use wire::Envelope;

use super::lease::Leased;
use super::watch::Watch;
use super::wrap::{client_peer, instance};
use super::{life, verdicts};
use crate::state::{Instance, InstanceId, LinkId, Seat, State};

/// How long a client that does not read may hold a server that others share; then its link is closed, and its shim comes
/// back when its editor reads on.
pub const SUSPENDED_PATIENCE: Duration = Duration::from_secs(3);
/// Variables that tell one window or terminal from another, and do not shape what a server does. A name that ends in `*`
/// is the beginning of names.
const PER_WINDOW: &[&str] = &[
    "_",
    "ALACRITTY_*",
    "COLORTERM",
    "COLUMNS",
    "DBUS_SESSION_BUS_ADDRESS",
    "DESKTOP_STARTUP_ID",
    "DIRENV_*",
    "DISPLAY",
    "ELECTRON_*",
    "GHOSTTY_*",
    "GNOME_TERMINAL_*",
    "GPG_TTY",
    "INVOCATION_ID",
    "ITERM_*",
    "JOURNAL_STREAM",
    "KITTY_*",
    "KONSOLE_*",
    "LC_TERMINAL*",
    "LINES",
    "MYVIMRC",
    "NVIM",
    "NVIM_*",
    "OLDPWD",
    "PWD",
    "SHLVL",
    "SSH_*",
    "STY",
    "TERM",
    "TERM_*",
    "TMUX*",
    "VIM",
    "VIMRUNTIME",
    "VSCODE_*",
    "VTE_VERSION",
    "WAYLAND_DISPLAY",
    "WEZTERM_*",
    "WINDOW",
    "WINDOWID",
    "XDG_ACTIVATION_TOKEN",
    "XDG_SESSION_*",
    "ZELLIJ*",
];

/// Where a client comes from, and what it wants.
pub(crate) struct Origin {
    /// Its connection.
    pub(crate) link: LinkId,
    /// The server and its arguments.
    pub(crate) command: Arc<[String]>,
    /// Where the editor started the shim.
    pub(crate) cwd: PathBuf,
    /// Its environment.
    pub(crate) env: Arc<BTreeMap<String, String>>,
    /// Whether its server has worked at a daemon before this one.
    pub(crate) resumed: bool,
}

/// Gives a client a seat in an instance of the server that it wants.
pub(crate) fn seat(state: &mut State, origin: Origin) -> ClientId {
    state.last_client += 1;
    let client = ClientId(state.last_client);
    let mut link = Link::new(link_options(state, &origin.command));
    link.join(client);
    let waits = state.options.share
        && state.instances.values().any(|other| is_like(other, &origin) && is_there(other));
    let id = add(state, Instance { waits, ..fresh(link, &origin) });
    state.seats.insert(client, Seat { instance: id, link: origin.link });
    if !waits {
        life::start(state, id);
    }
    client
}

/// The first message of a client whose instance waits: with `initialize` it may join another, otherwise the process is
/// started now.
pub(super) fn settle(state: &mut State, client: ClientId, envelope: &Envelope) {
    let Some(&Seat { instance: id, link }) = state.seats.get(&client) else { return };
    let Some(waiting) = instance(state, id).filter(|instance| instance.waits) else { return };
    waiting.waits = false;
    let origin = origin(waiting, link);
    let params = (envelope.method() == Some("initialize")).then(|| envelope.params());
    let welcomes = |other: &Instance| {
        let greeted = params.is_some_and(|params| other.link.welcomes(params));
        greeted && other.closing.is_none() && is_like(other, &origin)
    };
    let found = state.instances.iter().find(|(other, it)| **other != id && welcomes(it));
    let Some((other, _)) = found else { return life::start(state, id) };
    let other = *other;
    tracing::info!(client = client.0, instance = other.0, "shares a server");
    state.instances.remove(&id);
    state.seats.insert(client, Seat { instance: other, link });
    if let Some(other) = instance(state, other) {
        other.lingers_until = None;
        other.link.join(client);
    }
}

/// A client was split off: it goes on with an instance of its own.
pub(super) fn split(state: &mut State, id: InstanceId, client: ClientId, now: Instant) {
    let Some(&Seat { link, .. }) = state.seats.get(&client) else { return };
    let Some(from) = instance(state, id) else { return };
    let Some(parted) = from.link.take_parted(client) else { return };
    let origin = origin(from, link);
    let options = link_options(state, &origin.command);
    let why = parted.why().to_owned();
    let own = fresh(Link::of_parted(options, parted, now), &origin);
    let own = add(state, Instance { apart: Some(why.clone()), ..own });
    tracing::warn!(
        client = client.0, instance = id.0, own = own.0, command = ?origin.command, why,
        "a client is split off and gets a server of its own"
    );
    state.seats.insert(client, Seat { instance: own, link });
    life::start(state, own);
}

/// The client that keeps a shared server waiting because it does not read.
pub(super) fn suspended(state: &State, id: InstanceId) -> Option<LinkId> {
    let instance = state.instances.get(&id)?;
    if instance.link.clients().count() < 2 {
        return None;
    }
    instance.link.clients().find_map(|client| {
        let queue = client_peer(state, client)?.sender();
        let late = queue.is_holding() && queue.stalled_for() > SUSPENDED_PATIENCE;
        late.then(|| state.seats.get(&client).map(|seat| seat.link)).flatten()
    })
}

/// When [`suspended`] is to be asked again: only if somebody is held.
pub(super) fn next_look(state: &State, instance: &Instance, now: Instant) -> Option<Instant> {
    let shared = instance.link.clients().count() > 1;
    let holds = |client| client_peer(state, client).is_some_and(|peer| peer.sender().is_holding());
    (shared && instance.link.clients().any(holds)).then(|| now + Duration::from_secs(1))
}

fn add(state: &mut State, instance: Instance) -> InstanceId {
    state.last_instance += 1;
    let id = InstanceId(state.last_instance);
    state.instances.insert(id, instance);
    id
}

fn fresh(link: Link, origin: &Origin) -> Instance {
    Instance {
        link,
        leased: Leased::default(),
        command: Arc::clone(&origin.command),
        cwd: origin.cwd.clone(),
        env: Arc::clone(&origin.env),
        proven: origin.resumed,
        server: None,
        life: 0,
        back_off: BackOff::default(),
        restart_at: None,
        waits: false,
        lingers_until: None,
        apart: None,
        closing: None,
        malformed: VecDeque::new(),
        malformed_total: 0,
        watch: Watch::default(),
        last_words: Vec::new(),
    }
}

fn origin(instance: &Instance, link: LinkId) -> Origin {
    Origin {
        link,
        command: Arc::clone(&instance.command),
        cwd: instance.cwd.clone(),
        env: Arc::clone(&instance.env),
        resumed: instance.proven,
    }
}

fn link_options(state: &State, command: &[String]) -> LinkOptions {
    let server = command.first().cloned().unwrap_or_default();
    LinkOptions {
        process_id: Some(std::process::id()),
        keep: !state.options.linger.is_zero(),
        habits: verdicts::habits(command),
        ..LinkOptions::new(server, Reads::Fail)
    }
}

/// Whether an instance has, or will have, a process that somebody could share.
fn is_there(instance: &Instance) -> bool {
    !instance.waits
        && instance.closing.is_none()
        && !matches!(instance.link.state(), ServerState::Stopped(_))
}

/// Whether an instance was started as `origin` would start one.
fn is_like(instance: &Instance, origin: &Origin) -> bool {
    instance.command == origin.command
        && instance.cwd == origin.cwd
        && shaping(&instance.env).eq(shaping(&origin.env))
}

/// The variables that shape what a server does.
fn shaping(env: &BTreeMap<String, String>) -> impl Iterator<Item = (&String, &String)> {
    let per_window = |name: &str| {
        PER_WINDOW.iter().any(|known| match known.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == *known,
        })
    };
    env.iter().filter(move |(name, _)| !per_window(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(one: &[(&str, &str)], other: &[(&str, &str)], same: bool) {
        let env = |list: &[(&str, &str)]| -> BTreeMap<String, String> {
            list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        assert_eq!(shaping(&env(one)).eq(shaping(&env(other))), same, "{one:?} {other:?}");
    }

    #[test]
    fn rule_4_32_what_tells_windows_apart_does_not_keep_them_apart() {
        check(&[("PATH", "/a"), ("TMUX_PANE", "%1")], &[("PATH", "/a"), ("SHLVL", "2")], true);
        check(&[("NVIM_LOG_FILE", "x"), ("VSCODE_PID", "1")], &[], true);
        check(&[("PATH", "/a")], &[("PATH", "/b")], false);
        check(&[("VIRTUAL_ENV", "/a")], &[], false);
        check(&[("TERMINFO", "/a")], &[], false);
    }
}
