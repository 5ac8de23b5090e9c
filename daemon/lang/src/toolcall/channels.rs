//! Messages on channels: a head that says for whom the message is, and a body.

use super::{
    End, Event, Fault, NAME_LEN_MAX,
    buffer::{Buffer, Literal, Match},
    draft::{Draft, fault_of},
    format::ChannelMarks,
    json,
};

/// Reads messages. An answer begins inside of a head: the prompt ended with the start of a message.
#[derive(Debug)]
pub(super) struct Channels {
    marks: &'static ChannelMarks,
    start: Literal,
    channel: Literal,
    message: Literal,
    ends: Vec<Literal>,
    state: State,
    draft: Draft,
    /// Where the next search begins.
    resume: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    /// The message is text, or reasoning.
    Text {
        is_reasoning: bool,
    },
    /// The message is a call.
    Call,
}

impl Channels {
    pub(super) fn new(marks: &'static ChannelMarks, names: &[String]) -> Channels {
        let literal = |mark: &str| Literal::new(mark, names);
        Channels {
            marks,
            start: literal(&marks.start),
            channel: literal(&marks.channel),
            message: literal(&marks.message),
            ends: marks.ends.iter().map(|mark| literal(mark)).collect(),
            state: State::Head,
            draft: Draft::default(),
            resume: 0,
        }
    }

    /// Reads as far as it can be understood; `false` when more is needed.
    pub(super) fn step(
        &mut self,
        buffer: &mut Buffer,
        end: Option<End>,
        events: &mut Vec<Event>,
    ) -> bool {
        match self.state {
            State::Head => self.head(buffer, end, events),
            State::Text { is_reasoning } => self.message(buffer, end, |text| {
                events.push(if is_reasoning { Event::Reasoning(text) } else { Event::Text(text) });
            }),
            State::Call => self.call(buffer, end, events),
        }
    }

    fn head(&mut self, buffer: &mut Buffer, end: Option<End>, events: &mut Vec<Event>) -> bool {
        let wanted = [&self.message, &self.start];
        match buffer.find(self.resume, &wanted, end.is_some()) {
            Some((at, 0, Match::Full)) => {
                let head = buffer.text()[..at].to_owned();
                let len = at + self.message.len();
                self.open(&head, buffer.offset);
                self.draft.take(buffer, len);
                self.resume = 0;
                events.extend(self.draft.name.clone().map(|name| Event::Begun { name }));
                true
            }
            // The head of a message that never came.
            Some((at, _, Match::Full)) => {
                buffer.consume(at + self.start.len());
                self.resume = 0;
                true
            }
            // A template without heads, or a model that forgot them: what comes is the answer.
            None if self.is_headless(buffer, end) => {
                self.state = State::Text { is_reasoning: false };
                true
            }
            None if end.is_some() => {
                let is_call = buffer.text().contains(&self.marks.recipient);
                if let Some(end) = end.filter(|_| is_call) {
                    self.draft = Draft::begin(buffer.offset, false);
                    self.draft.take(buffer, buffer.len());
                    events.push(self.draft.broken(fault_of(end)));
                }
                buffer.consume(buffer.len());
                false
            }
            found => {
                self.resume = found.map_or(buffer.len(), |(at, ..)| at);
                false
            }
        }
    }

    fn is_headless(&self, buffer: &Buffer, end: Option<End>) -> bool {
        let text = buffer.text();
        let first = buffer.find(0, &[&self.channel], end.is_some());
        let is_head = first.is_some()
            || text.trim_start().starts_with("assistant")
            || text.contains(&self.marks.recipient);
        !text.trim().is_empty() && (text.len() > NAME_LEN_MAX || end.is_some() && !is_head)
    }

    /// Understands a head: `assistant to=functions.f<|channel|>commentary <|constrain|>json`, in whatever order.
    fn open(&mut self, head: &str, start: usize) {
        let after = |mark: &str| {
            let (_, rest) = head.split_once(mark)?;
            let end = rest.find(|c: char| c.is_whitespace() || c == '<').unwrap_or(rest.len());
            Some(&rest[..end])
        };
        let channel = after(&self.marks.channel).unwrap_or("");
        let is_reasoning = self.marks.reasoning.iter().any(|name| name == channel);
        self.draft = Draft::begin(start, is_reasoning);
        let recipient = after(&self.marks.recipient)
            .filter(|name| !name.is_empty() && *name != "user" && *name != "all");
        self.state = match recipient {
            Some(name) => {
                let name = name.strip_prefix(&self.marks.function).unwrap_or(name);
                self.draft.name = Some(name.to_owned());
                State::Call
            }
            None => State::Text { is_reasoning },
        };
    }

    /// Hands on the text of a message as it comes.
    fn message(
        &mut self,
        buffer: &mut Buffer,
        end: Option<End>,
        mut give: impl FnMut(String),
    ) -> bool {
        let found = buffer.find(0, &self.body_ends(), end.is_some());
        let until = found.map_or(buffer.len(), |(at, ..)| at);
        give(buffer.plain(0..until));
        buffer.consume(until);
        self.leave(buffer, found)
    }

    fn body_ends(&self) -> Vec<&Literal> {
        self.ends.iter().chain([&self.start, &self.channel]).collect()
    }

    /// Goes on with the next head if the mark that ends a message is at the beginning of the buffer.
    fn leave(&mut self, buffer: &mut Buffer, found: Option<(usize, usize, Match)>) -> bool {
        self.resume = 0;
        let Some((_, which, Match::Full)) = found else {
            return false;
        };
        let ends: Vec<usize> = self.body_ends().iter().map(|literal| literal.len()).collect();
        // The mark of a channel is the beginning of a head that lacks its start.
        let is_channel = which + 1 == ends.len();
        buffer.consume(if is_channel { 0 } else { ends[which] });
        self.state = State::Head;
        true
    }

    fn call(&mut self, buffer: &mut Buffer, end: Option<End>, events: &mut Vec<Event>) -> bool {
        let found = buffer.find(self.resume, &self.body_ends(), end.is_some());
        let is_complete = matches!(found, Some((_, _, Match::Full)));
        if !is_complete && end.is_none() && !self.draft.is_too_long(buffer) {
            self.resume = found.map_or(buffer.len(), |(at, ..)| at);
            return false;
        }
        let until = found.map_or(buffer.len(), |(at, ..)| at);
        let place = buffer.offset;
        let arguments = json::object(&buffer.value(0..until));
        self.draft.take(buffer, until);
        events.push(match (arguments, end) {
            (Ok(arguments), _) => Event::Call(self.draft.call(arguments)),
            (Err(_), Some(end)) if !is_complete => self.draft.broken(fault_of(end)),
            (Err(reason), _) => self.draft.broken(Fault::Malformed { place, reason }),
        });
        self.state = State::Text { is_reasoning: false };
        self.leave(buffer, found.map(|(_, which, found)| (0, which, found)))
    }
}
