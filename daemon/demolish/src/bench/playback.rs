//! A peer that speaks the server's side of a transcript: it says what was recorded, in order, once it has heard from the
//! client what was recorded before. Ids may differ; everything else must be the same, or the peer says so and ends.
//!
//! Questions of Demolish's own may come at any time, more or fewer of them than when it was recorded, or not at all: a
//! client that is connected directly asks none. They are answered as they were at this place of the conversation.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use serde_json::Value as Json;
use wire::codec::{Codec, Incoming};
use wire::{Envelope, Id, Kind, frame};

use super::transcript::{self, Line};

/// What is left to be said and heard.
struct Replay {
    lines: std::vec::IntoIter<Line>,
    /// The line that the client is expected to say.
    next: Option<Envelope>,
    /// How many lines of the client have been heard.
    heard: usize,
    /// Questions of Demolish's own, in order.
    own: Vec<Own>,
    /// The ids under which the client has asked, by those in the transcript.
    asked: HashMap<Id, Id>,
}

/// A question that Demolish asked for itself when the transcript was recorded.
struct Own {
    method: String,
    params: Json,
    /// After how many lines of the client.
    after: usize,
    answer: Envelope,
    answered: bool,
}

/// Serves stdin until the transcript or stdin ends.
///
/// # Errors
/// The transcript cannot be read, or the client said something else.
pub(crate) fn serve(path: &Path) -> Result<(), String> {
    let lines = transcript::read(path)?;
    let mut replay = Replay {
        own: own_questions(&lines)?,
        lines: lines.into_iter(),
        next: None,
        heard: 0,
        asked: HashMap::new(),
    };
    replay.speak()?;
    let (mut codec, mut chunk) = (Codec::default(), vec![0; 1 << 16]);
    loop {
        let read = io::stdin().read(&mut chunk).map_err(|error| error.to_string())?;
        if read == 0 {
            return Ok(());
        }
        codec.push(&chunk[..read]);
        while let Some(incoming) = codec.next_incoming() {
            let Incoming::Message(envelope) = incoming else { return Err("rubbish".to_owned()) };
            if envelope.method() == Some("exit") {
                return Ok(());
            }
            replay.hear(&envelope)?;
        }
    }
}

fn own_questions(lines: &[Line]) -> Result<Vec<Own>, String> {
    let mut after = 0;
    let mut asked = Vec::new();
    let mut answers = Vec::new();
    for line in lines {
        match line {
            Line::Client(_) => after += 1,
            Line::Asked { method, params } => asked.push((method.clone(), params.clone(), after)),
            Line::Answered(raw) => answers.push(transcript::message(raw)?),
            _ => {}
        }
    }
    let own =
        |((method, params, after), answer)| Own { method, params, after, answer, answered: false };
    Ok(asked.into_iter().zip(answers).map(own).collect())
}

impl Replay {
    /// Says everything up to the next line of the client.
    fn speak(&mut self) -> Result<(), String> {
        for line in self.lines.by_ref() {
            match line {
                Line::Server(raw) => {
                    let mut envelope = transcript::message(&raw)?;
                    if let Kind::Response { id } = &envelope.kind {
                        let asked = self.asked.remove(id);
                        envelope = envelope.with_id(asked.ok_or("an answer to nothing")?);
                    }
                    say(&envelope)?;
                }
                Line::Client(raw) => {
                    self.next = Some(transcript::message(&raw)?);
                    return Ok(());
                }
                _ => {}
            }
        }
        self.next = None;
        Ok(())
    }

    fn hear(&mut self, envelope: &Envelope) -> Result<(), String> {
        if self.is_expected(envelope) {
            let expected = self.next.take();
            self.heard += 1;
            if let (Some(id), Kind::Request { id: theirs, .. }) =
                (expected.as_ref().and_then(Envelope::id), &envelope.kind)
            {
                self.asked.insert(id.clone(), theirs.clone());
            }
            return self.speak();
        }
        match (self.own_answer(envelope), &envelope.kind) {
            (Some(answer), Kind::Request { id, .. }) => say(&answer.with_id(id.clone())),
            _ => {
                let expected = self.next.as_ref().map(|next| String::from_utf8_lossy(&next.body));
                let heard = String::from_utf8_lossy(&envelope.body);
                Err(format!("expected {}, heard {heard}", expected.unwrap_or_default()))
            }
        }
    }

    /// What a question of Demolish's own is answered with: what was recorded at this place of the conversation, one after the
    /// other, and the last of it again; else what was recorded last before.
    fn own_answer(&mut self, envelope: &Envelope) -> Option<Envelope> {
        let same = |own: &Own| {
            envelope.method() == Some(&own.method) && is_json(envelope.params(), &own.params)
        };
        let heard = self.heard;
        let fresh = |own: &Own| own.after == heard && !own.answered && same(own);
        let at = self.own.iter().position(fresh).or_else(|| {
            let earlier = self.own.iter().rposition(|own| own.after <= heard && same(own));
            earlier.or_else(|| self.own.iter().position(same))
        })?;
        self.own[at].answered = true;
        Some(self.own[at].answer.clone())
    }

    /// Whether this is the line that comes next, but for its id.
    fn is_expected(&self, envelope: &Envelope) -> bool {
        let Some(next) = &self.next else { return false };
        match (&next.kind, &envelope.kind) {
            (Kind::Response { id }, Kind::Response { id: other }) => {
                // Ids of this side's requests are this side's own.
                id == other && outcome(next) == outcome(envelope)
            }
            (Kind::Notification { method }, Kind::Notification { method: other }) => {
                let params = envelope.params();
                method == other && (same(next.params(), params) || self.is_cancel(next, envelope))
            }
            (Kind::Request { method, .. }, Kind::Request { method: other, .. }) => {
                method == other && same(next.params(), envelope.params())
            }
            _ => false,
        }
    }

    /// Whether both cancel the same request, each under its own id.
    fn is_cancel(&self, next: &Envelope, envelope: &Envelope) -> bool {
        let id = |envelope: &Envelope| {
            let params: Json = envelope.params_as().unwrap_or_default();
            Id::from_raw(params["id"].to_string().as_bytes())
        };
        next.method() == Some("$/cancelRequest")
            && id(next).and_then(|id| self.asked.get(&id).cloned()) == id(envelope)
    }
}

fn outcome(envelope: &Envelope) -> Option<Json> {
    envelope.outcome().ok().and_then(|result| serde_json::from_slice(result).ok())
}

fn same(one: &[u8], other: &[u8]) -> bool {
    let json = |raw: &[u8]| serde_json::from_slice::<Json>(raw).ok();
    one == other || json(one) == json(other)
}

fn is_json(raw: &[u8], json: &Json) -> bool {
    serde_json::from_slice::<Json>(raw).is_ok_and(|value| value == *json)
}

fn say(envelope: &Envelope) -> Result<(), String> {
    let mut out = io::stdout().lock();
    out.write_all(&frame::encode(&envelope.body))
        .and_then(|()| out.flush())
        .map_err(|error| error.to_string())
}
