//! A connection says what it is for.

use std::time::{Duration, Instant};

use proxy::Mirror;
use tokio::net::UnixStream;
use wire::ext::{Hello, HelloParams, HelloResult, Mode, PROTOCOL};
use wire::lsp::request::Request as _;
use wire::peer::Peer;
use wire::{Envelope, Kind, ResponseError, codes, ends};

use super::merge;
use super::send;
use super::share::{self, Origin};
use crate::main_loop::Event;
use crate::state::{LinkId, LinkState, Outlet, OwnLink, Role, State};

/// How long a connection may take to say what it is for.
pub const GREETING_PATIENCE: Duration = Duration::from_secs(5);
/// How many connections there may be; further ones are closed at once, and their shims run the server themselves.
pub const LINKS_MAX: usize = 256;

/// A connection to the socket.
pub fn accepted(state: &mut State, stream: UnixStream, now: Instant) {
    if state.links.len() >= LINKS_MAX {
        tracing::error!("too many links: a connection is refused");
        return;
    }
    state.last_link += 1;
    let id = LinkId(state.last_link);
    let (reader, writer) = match ends::of_socket(stream) {
        Ok(both) => both,
        Err(error) => return tracing::error!(%error, "a connection that cannot be polled"),
    };
    let inbox = state.inbox.clone();
    let client = Peer::start(reader, writer, move |event| {
        let inbox = inbox.clone();
        async move {
            let _ = inbox.send(Event::Client(id, event)).await;
        }
    });
    let role = Role::Greeting(now + GREETING_PATIENCE);
    state.links.insert(id, LinkState { hello: None, client, role, malformed: 0 });
    state.idle_since = None;
}

/// The first message of a connection.
pub fn first(state: &mut State, id: LinkId, envelope: &Envelope, now: Instant) {
    let Some(link) = state.links.get_mut(&id) else { return };
    let Kind::Request { id: request, method } = &envelope.kind else {
        return super::remove(state, id, now);
    };
    let hello = match envelope.params_as::<HelloParams>() {
        Ok(hello) if *method == Hello::METHOD => hello,
        _ => {
            let error = ResponseError::new(codes::INVALID_REQUEST, "demolish/hello comes first");
            send(&link.client, Envelope::error(request.clone(), &error));
            return super::finish(state, id, now);
        }
    };
    if hello.protocol != PROTOCOL || hello.version != state.options.version {
        let words = format!("this daemon is version {}", state.options.version);
        tracing::warn!(theirs = hello.version, "another version; refused");
        let error = ResponseError::new(codes::INVALID_REQUEST, words);
        send(&link.client, Envelope::error(request.clone(), &error));
        super::finish(state, id, now);
        // An idle daemon gives way, so that the next shim starts one of its own version.
        state.over = state.links.is_empty();
        return;
    }
    let result =
        HelloResult { version: state.options.version.clone(), pid: std::process::id(), link: id.0 };
    send(&link.client, Envelope::response(request.clone(), &result));
    tracing::info!(link = id.0, mode = ?hello.mode, shim = hello.pid, "connected");
    let role = match &hello.mode {
        Mode::Wrap { command } => {
            let origin = Origin {
                link: id,
                command: command.as_slice().into(),
                cwd: hello.cwd.clone().into(),
                env: hello.env.clone().into(),
                resumed: hello.resumed,
            };
            Role::Wrap(share::seat(state, origin))
        }
        Mode::Merge { servers, owners } => merge::start(state, id, servers, owners, &hello),
        Mode::Own => {
            let own = state.features.own(Outlet::new(id, state.inbox.clone()));
            Role::Own(Box::new(OwnLink { mirror: Mirror::default(), own }))
        }
        Mode::Control => Role::Control,
    };
    if let Some(link) = state.links.get_mut(&id) {
        link.role = role;
        link.hello = Some(hello);
    }
}
