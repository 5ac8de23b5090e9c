//! Deadlines: when the loop must wake by itself, and what it does then.

use std::time::{Duration, Instant};

use super::{lease, life, routes, share, verdicts, wrap};
use crate::state::{InstanceId, LinkId, Role, State};

/// The loop looks around at least this often; nothing depends on it.
const LOOK_AROUND: Duration = Duration::from_secs(30);

/// When something is due.
pub fn next(state: &State) -> Instant {
    let now = Instant::now();
    let idle = state.idle_since.map(|since| since + state.options.idle_exit);
    let links = state.links.values().filter_map(|link| match &link.role {
        Role::Greeting(until) => Some(*until),
        Role::Merge(merged) => merged.merge.next_deadline(),
        Role::Wrap(_) | Role::Own(_) | Role::Control => None,
    });
    let instances = state.instances.values().filter_map(|instance| {
        let server = instance.server.as_ref().map(|server| &server.peer);
        let look = routes::next_look(server, now);
        let suspended = share::next_look(state, instance, now);
        let leased = lease::next_deadline(instance);
        let own = [instance.link.next_deadline(), life::next_deadline(instance)];
        let due = own.into_iter().chain([look, leased, suspended]);
        due.flatten().min()
    });
    let polls = state.polls.next_deadline();
    let watch = super::watch::next_deadline(state);
    let due = links.chain(instances).chain(idle).chain(polls).chain(watch);
    due.chain([now + LOOK_AROUND]).min().unwrap_or(now)
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
    let ids: Vec<InstanceId> = state.instances.keys().copied().collect();
    for id in ids {
        of_instance(state, id, now);
    }
    verdicts::tick(state, now);
    super::watch::tick(state, now);
}

fn of_link(state: &mut State, id: LinkId, now: Instant) {
    let Some(link) = state.links.get(&id) else { return };
    match link.role {
        Role::Greeting(until) if until <= now => super::remove(state, id, now),
        Role::Merge(_) => super::merge::tick(state, id, now),
        Role::Greeting(_) | Role::Wrap(_) | Role::Own(_) | Role::Control => {}
    }
}

fn of_instance(state: &mut State, id: InstanceId, now: Instant) {
    let Some(instance) = wrap::instance(state, id) else { return };
    let answers = instance.link.expire(now);
    let stalled = wrap::is_stalled(state, id);
    wrap::pass(state, id, answers, now);
    if stalled {
        wrap::unwedge(state, id, now);
    }
    if let Some(link) = share::suspended(state, id) {
        tracing::warn!(
            link = link.0,
            "the client does not read, and others wait: its link is closed"
        );
        super::remove(state, link, now);
    }
    lease::look(state, id, now);
    life::tick(state, id, now);
}
