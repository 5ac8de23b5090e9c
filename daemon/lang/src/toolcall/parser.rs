//! The reader of a model's output.

use serde_json::Value;

use super::{
    End, Event, Format, Tool, buffer::Buffer, channels::Channels, format::Shape, marked::Marked,
};

/// Reads one answer of a model, in pieces cut anywhere.
#[derive(Debug)]
pub struct Parser {
    machine: Machine,
    buffer: Buffer,
}

#[derive(Debug)]
enum Machine {
    Marked(Box<Marked>),
    Channels(Box<Channels>),
}

/// What the machines share.
#[derive(Debug)]
pub(super) struct Tools(Vec<Tool>);

impl Tools {
    /// The schema of a tool's arguments; `null` of one that is not known.
    pub(super) fn schema(&self, name: &str) -> &Value {
        self.0.iter().find(|tool| tool.name == name).map_or(&Value::Null, |tool| &tool.parameters)
    }
}

impl Parser {
    /// A reader of output in `format`. `tools` tell what values mean. `names` are the tokens of the vocabulary that are not text:
    /// a mark among them is looked for as that token ([`Parser::mark`]), and text that spells it is text. `in_reasoning`: the
    /// prompt ended with the mark that opens reasoning.
    pub fn new<'n>(
        format: &'static Format,
        tools: &[Tool],
        names: impl IntoIterator<Item = &'n str>,
        in_reasoning: bool,
    ) -> Parser {
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let tools = Tools(tools.to_vec());
        let machine = match (format.shape, &format.channels) {
            (Shape::Channels, Some(marks)) => {
                Machine::Channels(Box::new(Channels::new(marks, &names)))
            }
            _ => Machine::Marked(Box::new(Marked::new(format, tools, &names, in_reasoning))),
        };
        Parser { machine, buffer: Buffer::default() }
    }

    /// Text of the answer.
    pub fn text(&mut self, text: &str) -> Vec<Event> {
        self.buffer.push(text);
        self.run(None)
    }

    /// A token that is not text. `is_control`: it can be no part of a value, as the end of a turn.
    pub fn mark(&mut self, name: &str, is_control: bool) -> Vec<Event> {
        self.buffer.push_mark(name, is_control);
        self.run(None)
    }

    /// The answer has ended.
    pub fn finish(mut self, end: End) -> Vec<Event> {
        self.run(Some(end))
    }

    fn run(&mut self, end: Option<End>) -> Vec<Event> {
        let mut events = Vec::new();
        match &mut self.machine {
            Machine::Marked(marked) => while marked.step(&mut self.buffer, end, &mut events) {},
            Machine::Channels(channels) => {
                while channels.step(&mut self.buffer, end, &mut events) {}
            }
        }
        events.retain(
            |event| !matches!(event, Event::Text(text) | Event::Reasoning(text) if text.is_empty()),
        );
        events
    }
}
