//! Deadlines: when the loop must wake by itself, and what it does then.

use std::time::{Duration, Instant};

use super::{life, routes, wrap};
use crate::state::{LinkId, Role, State};

/// The loop looks around at least this often; nothing depends on it.
const LOOK_AROUND: Duration = Duration::from_secs(30);

/// When something is due.
pub fn next(state: &State) -> Instant {
    let now = Instant::now();
    let idle = state.idle_since.map(|since| since + state.options.idle_exit);
    let links = state.links.values().filter_map(|link| match &link.role {
        Role::Greeting(until) => Some(*until),
        Role::Wrap(wrap) => {
            let server = wrap.server.as_ref().map(|server| &server.peer);
            let look = routes::next_look(server, now);
            let due = [wrap.link.next_deadline(), life::next_deadline(wrap), look];
            due.into_iter().flatten().min()
        }
        Role::Own(_) | Role::Control => None,
    });
    links.chain(idle).chain([now + LOOK_AROUND]).min().unwrap_or(now)
}

/// Does what is due.
pub fn tick(state: &mut State, now: Instant) {
    if state.idle_since.is_some_and(|since| now >= since + state.options.idle_exit) {
        tracing::info!("nobody is here: the daemon ends");
        state.over = true;
    }
    let ids: Vec<LinkId> = state.links.keys().copied().collect();
    for id in ids {
        of_link(state, id, now);
    }
}

fn of_link(state: &mut State, id: LinkId, now: Instant) {
    let Some(link) = state.links.get_mut(&id) else { return };
    match &mut link.role {
        Role::Greeting(until) if *until <= now => super::remove(state, id, now),
        Role::Wrap(wrapped) => {
            let answers = wrapped.link.expire(now);
            let server = wrapped.server.as_ref().map(|server| &server.peer);
            let stalled = routes::stalled(&link.client, server, routes::WEDGED_AFTER);
            wrap::pass(state, id, answers, now);
            wrap::unwedge(state, id, stalled, now);
            life::tick(state, id, now);
        }
        Role::Greeting(_) | Role::Own(_) | Role::Control => {}
    }
}
