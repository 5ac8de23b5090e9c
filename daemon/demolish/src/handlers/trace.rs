//! The trace: what passes, for `demolish trace` and for reports.
//!
//! A ring of the latest messages is always kept, without bodies: one copy of a few bytes for each. Everything else is
//! done only while somebody follows, and never waits for whoever that is: what does not fit is counted.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::value::RawValue;
use wire::ext::{TraceLine, TraceParams, Traced};
use wire::lsp::notification::Notification as _;
use wire::peer::Lane;
use wire::{Bytes, Envelope, Id, Kind};

use crate::glob::fits;
use crate::state::{InstanceId, LinkId, Role, State};

/// How many of the latest messages are kept, for reports.
pub const RECENT_MAX: usize = 512;
/// How many connections may follow at once.
pub const FOLLOWERS_MAX: usize = 8;
/// How many messages may wait for a follower; further ones are counted and not sent.
pub const FOLLOWED_MESSAGES_MAX: usize = 2048;
/// The longest body that a follower is sent.
pub const BODY_BYTES_MAX: usize = 256 * 1024;
/// How many requests to our own features are remembered to be matched with their answers, while somebody follows.
const OWN_ASKED_MAX: usize = 256;
/// How much of a method's name the ring keeps.
const NAME_BYTES_MAX: usize = 40;

/// Who sends a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Editor,
    Server,
    Demolish,
}

/// Everything about the trace.
#[derive(Debug)]
pub(crate) struct Trace {
    /// The time of day when the clock of the loop stood at `started`.
    wall_ms: u64,
    started: Instant,
    recent: VecDeque<Recent>,
    followers: Vec<Follower>,
    /// Requests to our own features.
    own_asked: BTreeMap<(LinkId, Id), (String, Instant)>,
}

/// A message in the ring.
#[derive(Clone, Copy, Debug)]
struct Recent {
    at: Instant,
    link: LinkId,
    from: From,
    kind: &'static str,
    bytes: u32,
    name: [u8; NAME_BYTES_MAX],
    name_len: u8,
}

/// Somebody who follows.
#[derive(Debug)]
struct Follower {
    link: LinkId,
    wants: TraceParams,
    dropped: u64,
}

impl Trace {
    /// An empty trace that begins now.
    pub(crate) fn new(started: Instant) -> Trace {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Trace {
            wall_ms: u64::try_from(wall.as_millis()).unwrap_or_default(),
            started,
            recent: VecDeque::with_capacity(RECENT_MAX),
            followers: Vec::new(),
            own_asked: BTreeMap::new(),
        }
    }

    /// The messages that passed last.
    pub(crate) fn recent(&self) -> Vec<TraceLine> {
        let line = |recent: &Recent| TraceLine {
            at_ms: self.at_ms(recent.at),
            link: Some(recent.link.0),
            from: recent.from.name().to_owned(),
            kind: recent.kind.to_owned(),
            method: String::from_utf8_lossy(&recent.name[..usize::from(recent.name_len)])
                .into_owned(),
            bytes: recent.bytes as usize,
            ..TraceLine::default()
        };
        self.recent.iter().map(line).collect()
    }

    fn note(&mut self, link: LinkId, from: From, envelope: &Envelope, now: Instant) {
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        let method = envelope.method().unwrap_or_default().as_bytes();
        let len = method.len().min(NAME_BYTES_MAX);
        let mut name = [0; NAME_BYTES_MAX];
        name[..len].copy_from_slice(&method[..len]);
        #[allow(
            clippy::cast_possible_truncation,
            reason = "bounded above, and by the frame's limit"
        )]
        self.recent.push_back(Recent {
            at: now,
            link,
            from,
            kind: kind(envelope),
            bytes: envelope.body.len() as u32,
            name,
            name_len: len as u8,
        });
    }

    fn at_ms(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.started).as_millis();
        self.wall_ms + u64::try_from(since).unwrap_or_default()
    }
}

/// A connection follows from now on. `false`: too many do already.
pub(crate) fn follow(state: &mut State, link: LinkId, wants: TraceParams) -> bool {
    let trace = &mut state.trace;
    trace.followers.retain(|follower| state.links.contains_key(&follower.link));
    let room = trace.followers.len() < FOLLOWERS_MAX;
    if room {
        trace.followers.push(Follower { link, wants, dropped: 0 });
    }
    room
}

/// A message of an editor has arrived.
pub(crate) fn from_editor(state: &mut State, link: LinkId, envelope: &Envelope, now: Instant) {
    state.trace.note(link, From::Editor, envelope, now);
    if state.trace.followers.is_empty() {
        return;
    }
    let mut line = line(state, Some(link), From::Editor, envelope, now);
    match state.links.get(&link).map(|link| &link.role) {
        Some(Role::Wrap(client)) => {
            let instance =
                state.seats.get(client).and_then(|seat| state.instances.get(&seat.instance));
            let Some(instance) = instance else { return };
            line.server = super::watch::name(instance);
            if let Kind::Response { id } = &envelope.kind
                && let Some(pending) = instance.link.question(false, id)
            {
                line.method = pending.method.to_string();
                line.id = pending.original.as_ref().map(|id| id.raw().to_owned());
            }
        }
        // For which of its servers it is, is not decided yet.
        Some(Role::Merge(_)) => line.server = "merged".to_owned(),
        Some(Role::Own(_)) => {
            line.server = "demolish".to_owned();
            if let Kind::Request { id, method } = &envelope.kind
                && state.trace.own_asked.len() < OWN_ASKED_MAX
            {
                state.trace.own_asked.insert((link, id.clone()), (method.to_string(), now));
            }
        }
        _ => return,
    }
    tell(state, line, &envelope.body);
}

/// A message of a server has arrived; its link has not heard of it yet.
pub(crate) fn from_server(state: &mut State, id: InstanceId, envelope: &Envelope, now: Instant) {
    let seat = state.seats.values().find(|seat| seat.instance == id);
    let first = seat.map_or(LinkId(0), |seat| seat.link);
    state.trace.note(first, From::Server, envelope, now);
    if state.trace.followers.is_empty() {
        return;
    }
    let Some(instance) = state.instances.get(&id) else { return };
    let mut line = line(state, Some(first), From::Server, envelope, now);
    line.server = super::watch::name(instance);
    if let Kind::Response { id } = &envelope.kind
        && let Some(pending) = instance.link.question(true, id)
    {
        line.method = pending.method.to_string();
        line.id = pending.original.as_ref().map(|id| id.raw().to_owned());
        line.ms = pending.since.map(|since| ms(now, since));
        let asker = state.seats.get(&pending.asker).map(|seat| seat.link.0);
        line.link = asker.or(line.link);
    }
    tell(state, line, &envelope.body);
}

/// A message of our own features is about to leave.
pub(crate) fn from_own(state: &mut State, link: LinkId, body: &Bytes) {
    if state.trace.followers.is_empty() {
        return;
    }
    let Ok(envelope) = Envelope::read(body.clone()) else { return };
    let now = Instant::now();
    let mut line = line(state, Some(link), From::Demolish, &envelope, now);
    line.server = "demolish".to_owned();
    if let Kind::Response { id } = &envelope.kind
        && let Some((method, since)) = state.trace.own_asked.remove(&(link, id.clone()))
    {
        line.method = method;
        line.ms = Some(ms(now, since));
    }
    tell(state, line, body);
}

fn line(
    state: &State,
    link: Option<LinkId>,
    from: From,
    envelope: &Envelope,
    now: Instant,
) -> TraceLine {
    let id = match &envelope.kind {
        Kind::Request { id, .. } | Kind::Response { id } => Some(id.raw().to_owned()),
        Kind::Notification { .. } => None,
    };
    let failed = matches!(envelope.kind, Kind::Response { .. }) && envelope.outcome().is_err();
    TraceLine {
        at_ms: state.trace.at_ms(now),
        link: link.map(|link| link.0),
        from: from.name().to_owned(),
        kind: if failed { "error" } else { kind(envelope) }.to_owned(),
        method: envelope.method().unwrap_or_default().to_owned(),
        id,
        bytes: envelope.body.len(),
        ..TraceLine::default()
    }
}

/// Queues a line for everybody who wants it and has room.
fn tell(state: &mut State, mut line: TraceLine, body: &Bytes) {
    let links = &state.links;
    state.trace.followers.retain_mut(|follower| {
        let Some(link) = links.get(&follower.link) else { return false };
        if !wants(&follower.wants, &line) {
            return true;
        }
        let sender = link.client.sender();
        if sender.load().messages >= FOLLOWED_MESSAGES_MAX {
            follower.dropped += 1;
            return true;
        }
        line.dropped = std::mem::take(&mut follower.dropped);
        line.body = follower.wants.bodies.then(|| raw(body)).flatten();
        let message = Envelope::notification(Traced::METHOD, &line);
        let _ = sender.send(message.body, Lane::Keep, None);
        true
    });
}

fn wants(wants: &TraceParams, line: &TraceLine) -> bool {
    wants.link.is_none_or(|link| line.link == Some(link))
        && wants.from.as_deref().is_none_or(|from| line.from == from)
        && wants.server.as_deref().is_none_or(|server| line.server.contains(server))
        && wants.method.as_deref().is_none_or(|glob| fits(glob, &line.method))
}

fn raw(body: &Bytes) -> Option<Box<RawValue>> {
    let text = std::str::from_utf8(body).ok().filter(|text| text.len() <= BODY_BYTES_MAX)?;
    RawValue::from_string(text.to_owned()).ok()
}

fn kind(envelope: &Envelope) -> &'static str {
    match envelope.kind {
        Kind::Request { .. } => "request",
        Kind::Notification { .. } => "notification",
        Kind::Response { .. } => "response",
    }
}

fn ms(now: Instant, since: Instant) -> f64 {
    now.saturating_duration_since(since).as_secs_f64() * 1000.0
}

impl From {
    fn name(self) -> &'static str {
        match self {
            From::Editor => "editor",
            From::Server => "server",
            From::Demolish => "demolish",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_keeps_the_latest() {
        let start = Instant::now();
        let mut trace = Trace::new(start);
        let long = format!("x/{}", "y".repeat(100));
        for number in 0..RECENT_MAX + 3 {
            let method = if number == RECENT_MAX + 2 { &long } else { "a/b" };
            trace.note(LinkId(7), From::Server, &Envelope::notification(method, &number), start);
        }
        let recent = trace.recent();
        assert_eq!(recent.len(), RECENT_MAX);
        assert_eq!(
            (&*recent[0].method, recent[0].link, &*recent[0].from),
            ("a/b", Some(7), "server")
        );
        assert_eq!(recent.last().unwrap().method.len(), NAME_BYTES_MAX);
    }
}
