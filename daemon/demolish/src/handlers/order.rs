//! Which event of a batch comes first: cancels, so that a request that is still in a queue never leaves it.

use wire::codec::Incoming;
use wire::peer::PeerEvent;
use wire::{Envelope, Id, Kind};

use crate::main_loop::Event;

/// Moves every `$/cancelRequest` of a client ahead of the other events, but never ahead of the request that it cancels.
/// The order of everything else stays.
pub fn cancels_first(batch: &mut Vec<Event>) {
    if !batch.iter().any(|event| cancel(event).is_some()) {
        return;
    }
    let mut out: Vec<Event> = Vec::with_capacity(batch.len());
    let mut front = 0;
    for event in batch.drain(..) {
        let target = cancel(&event)
            .and_then(|(link, id)| out.iter().position(|earlier| is_request(earlier, link, &id)));
        match (cancel(&event).is_some(), target) {
            (true, Some(at)) => out.insert(at + 1, event),
            (true, None) => {
                out.insert(front, event);
                front += 1;
            }
            (false, _) => out.push(event),
        }
    }
    *batch = out;
}

fn message(event: &Event) -> Option<(crate::state::LinkId, &Envelope)> {
    match event {
        Event::Client(link, PeerEvent::Incoming(Incoming::Message(envelope))) => {
            Some((*link, envelope))
        }
        _ => None,
    }
}

fn cancel(event: &Event) -> Option<(crate::state::LinkId, Id)> {
    #[derive(serde::Deserialize)]
    struct Cancel {
        id: Box<serde_json::value::RawValue>,
    }
    let (link, envelope) = message(event)?;
    if envelope.method() != Some("$/cancelRequest") {
        return None;
    }
    let cancel: Cancel = envelope.params_as().ok()?;
    Some((link, Id::from_raw(cancel.id.get().as_bytes())?))
}

fn is_request(event: &Event, of: crate::state::LinkId, wanted: &Id) -> bool {
    message(event).is_some_and(|(link, envelope)| {
        link == of && matches!(&envelope.kind, Kind::Request { id, .. } if id == wanted)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::LinkId;

    fn event(link: u32, json: &str) -> Event {
        let envelope = Envelope::read(json.to_owned().into()).unwrap();
        Event::Client(LinkId(link), PeerEvent::Incoming(Incoming::Message(envelope)))
    }

    fn check(before: &[(u32, &str)], after: &[usize]) {
        let mut batch: Vec<Event> = before.iter().map(|(link, json)| event(*link, json)).collect();
        cancels_first(&mut batch);
        let bodies: Vec<_> =
            batch.iter().map(|event| message(event).unwrap().1.body.clone()).collect();
        let expected: Vec<_> = after.iter().map(|at| before[*at].1.as_bytes()).collect();
        assert_eq!(bodies, expected);
    }

    const CANCEL: &str = r#"{"method":"$/cancelRequest","params":{"id":7}}"#;

    #[test]
    fn rule_4_17_a_cancel_jumps_but_not_ahead_of_its_request() {
        check(&[(1, r#"{"method":"a"}"#), (1, CANCEL)], &[1, 0]);
        let request = r#"{"id":7,"method":"m"}"#;
        let batch = [(1, r#"{"method":"a"}"#), (1, request), (1, r#"{"method":"b"}"#), (1, CANCEL)];
        check(&batch, &[0, 1, 3, 2]);
        check(&[(2, request), (1, r#"{"method":"b"}"#), (1, CANCEL)], &[2, 0, 1]);
    }

    #[test]
    fn rule_4_8_without_a_cancel_nothing_moves() {
        check(
            &[(1, r#"{"method":"a"}"#), (1, r#"{"id":1,"method":"b"}"#), (2, r#"{"method":"c"}"#)],
            &[0, 1, 2],
        );
    }
}
