//! A call that is being read.

use super::{Broken, CALL_LEN_MAX, End, Event, Fault, ToolCall, buffer::Buffer};

/// What is known of the call in progress.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// Where it began, in bytes of the whole output.
    start: usize,
    /// Everything of it that left the buffer.
    raw: String,
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    /// Keys, and the JSON text of their values.
    arguments: Vec<(String, String)>,
    pub(super) key: String,
    /// What the value says of itself: text or JSON.
    pub(super) is_text: Option<bool>,
    pub(super) in_reasoning: bool,
    /// Why it is no call after all.
    pub(super) fault: Option<Fault>,
}

impl Draft {
    pub(super) fn begin(start: usize, in_reasoning: bool) -> Draft {
        Draft { start, in_reasoning, ..Draft::default() }
    }

    /// Moves the first `len` bytes of the buffer into the call.
    pub(super) fn take(&mut self, buffer: &mut Buffer, len: usize) {
        self.raw.push_str(&buffer.text()[..len]);
        buffer.consume(len);
    }

    pub(super) fn is_too_long(&self, buffer: &Buffer) -> bool {
        self.raw.len() + buffer.len() > CALL_LEN_MAX
    }

    /// `false`: the key has a value already.
    pub(super) fn add(&mut self, json: String) -> bool {
        let key = std::mem::take(&mut self.key);
        let is_new = self.arguments.iter().all(|(known, _)| *known != key);
        self.arguments.push((key, json));
        self.is_text = None;
        is_new
    }

    /// The call, its arguments collected one by one.
    pub(super) fn finish(&mut self) -> ToolCall {
        let arguments = std::mem::take(&mut self.arguments);
        let entries: Vec<String> = arguments
            .iter()
            .map(|(key, json)| format!("{}: {json}", super::schema::quote(key)))
            .collect();
        self.call(format!("{{{}}}", entries.join(", ")))
    }

    /// The call with these arguments.
    pub(super) fn call(&mut self, arguments: String) -> ToolCall {
        ToolCall {
            id: self.id.take(),
            name: self.name.take().unwrap_or_default(),
            arguments,
            in_reasoning: self.in_reasoning,
        }
    }

    /// The end of something that is no call.
    pub(super) fn broken(&mut self, fault: Fault) -> Event {
        let raw = std::mem::take(&mut self.raw);
        let at = self.start..self.start + raw.len();
        Event::Broken(Broken { at, name: self.name.take(), raw, fault })
    }
}

/// What an ending in the middle of a call is.
pub(super) fn fault_of(end: End) -> Fault {
    match end {
        End::Stopped => Fault::Unclosed,
        End::Cut => Fault::Truncated,
    }
}
