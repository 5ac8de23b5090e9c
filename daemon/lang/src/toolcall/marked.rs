//! Calls between marks: text and reasoning around them, and where a call begins and ends. What is inside is read in `states`.

mod states;

use super::{
    End, Event, Fault,
    buffer::{Buffer, Literal, Match},
    draft::{Draft, fault_of},
    format::{Format, Shape},
    json::{self, Scan},
    parser::Tools,
};

/// Reads output whose calls stand between marks.
#[derive(Debug)]
pub(super) struct Marked {
    format: &'static Format,
    tools: Tools,
    marks: Marks,
    state: State,
    is_reasoning: bool,
    /// Nothing but white space was read yet.
    is_fresh: bool,
    /// A call has just ended: white space after it belongs to nothing.
    after_call: bool,
    in_section: bool,
    calls_in_section: usize,
    draft: Draft,
    scan: Scan,
    /// Where the next search begins.
    resume: usize,
}

/// The format's marks, as they are looked for.
#[derive(Debug)]
struct Marks {
    think: Literal,
    think_end: Literal,
    section: Literal,
    section_end: Literal,
    call: Literal,
    id: Literal,
    name_end: Literal,
    call_end: Literal,
    argument: Literal,
    key_end: Literal,
    value: Literal,
    text_value: Literal,
    json_value: Literal,
    value_end: Literal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Text,
    /// Between calls.
    Section,
    Name,
    Id,
    /// A JSON object: the arguments, or the whole call.
    Json {
        is_call: bool,
    },
    Python,
    Arguments,
    Key,
    /// Before a value, at the mark that opens it.
    Open,
    Value,
    /// Everything was read; the mark at the end is due.
    Close,
    /// Something is wrong: everything up to the end of the call is taken for it.
    Lost,
}

/// What a state came to.
enum Next {
    /// Go on in this state.
    Go(State),
    /// More output is needed.
    Wait,
    /// What stands here is wrong.
    Wrong(String),
}

impl Marked {
    pub(super) fn new(
        format: &'static Format,
        tools: Tools,
        names: &[String],
        is_reasoning: bool,
    ) -> Marked {
        let literal = |mark: &str| Literal::new(mark, names);
        let [think, think_end] = format.reasoning().unwrap_or(["", ""]);
        let [section, section_end] =
            format.section.as_ref().map_or(["", ""], |section| [&section.open, &section.close]);
        let argument = |get: fn(&super::format::ArgumentMarks) -> &String| {
            literal(format.argument.as_ref().map_or("", |marks| get(marks)))
        };
        let marks = Marks {
            think: literal(think),
            think_end: literal(think_end),
            section: literal(section),
            section_end: literal(section_end),
            call: literal(&format.call.open),
            id: literal(&format.call.id_open),
            name_end: literal(&format.call.name_close),
            call_end: literal(&format.call.close),
            argument: argument(|marks| &marks.open),
            key_end: argument(|marks| &marks.key_close),
            value: argument(|marks| &marks.value_open),
            text_value: argument(|marks| &marks.text_open),
            json_value: argument(|marks| &marks.json_open),
            value_end: argument(|marks| &marks.value_close),
        };
        Marked {
            format,
            tools,
            marks,
            state: State::Text,
            is_reasoning,
            is_fresh: true,
            after_call: false,
            in_section: false,
            calls_in_section: 0,
            draft: Draft::default(),
            scan: Scan::default(),
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
        let is_end = end.is_some();
        let next = match self.state {
            State::Text => return self.text(buffer, is_end, events),
            State::Lost => return self.lost(buffer, end, events),
            _ if self.draft.is_too_long(buffer) => Next::Wrong("the call is too long".to_owned()),
            State::Section => self.section(buffer),
            State::Name => self.name(buffer, is_end, events),
            State::Id => self.id(buffer, is_end),
            State::Json { is_call } => self.json(buffer, is_call, events),
            State::Python => self.python(buffer, events),
            State::Arguments => self.arguments(buffer, events),
            State::Key => self.key(buffer, is_end),
            State::Open => self.open(buffer),
            State::Value => self.value(buffer, is_end),
            State::Close => self.close(buffer, is_end),
        };
        match (next, end) {
            (Next::Go(state), _) => {
                self.state = state;
                self.resume = 0;
                true
            }
            (Next::Wrong(reason), _) => {
                let place = buffer.offset;
                self.lose(Fault::Malformed { place, reason });
                true
            }
            (Next::Wait, None) => false,
            (Next::Wait, Some(end)) => self.ended(buffer, end, events),
        }
    }

    /// The answer ended inside of a call, or between calls.
    fn ended(&mut self, buffer: &mut Buffer, end: End, events: &mut Vec<Event>) -> bool {
        match self.state {
            State::Close => {}
            State::Section if self.calls_in_section > 0 && self.is_closing(buffer) => {}
            // All that is missing is the mark at the end.
            State::Arguments if end == End::Stopped && buffer.text().trim().is_empty() => {
                events.push(Event::Call(self.draft.finish()));
            }
            // What was never closed may hide later calls.
            _ if end == End::Stopped && !self.marks.call_end.is_empty() => {
                self.lose(Fault::Unclosed);
                return true;
            }
            _ => {
                self.draft.take(buffer, buffer.len());
                events.push(self.draft.broken(fault_of(end)));
            }
        }
        buffer.consume(buffer.len());
        self.state = State::Text;
        false
    }

    /// Whether there is nothing left but, at most, the beginning of the mark that closes the section.
    fn is_closing(&self, buffer: &Buffer) -> bool {
        let at = buffer.skip_space(0);
        at == buffer.len() || buffer.matches(at, &self.marks.section_end) == Match::Partial
    }

    fn text(&mut self, buffer: &mut Buffer, is_end: bool, events: &mut Vec<Event>) -> bool {
        if let Some(goes_on) = self.bare(buffer, is_end) {
            return goes_on;
        }
        let marks = &self.marks;
        // The first two open a call; the others are taken out of the text.
        let wanted = [
            &marks.section,
            &marks.call,
            &marks.think,
            &marks.think_end,
            &marks.section_end,
            &marks.call_end,
        ];
        let first = buffer.skip_space(0);
        let found = buffer.find(0, &wanted, is_end);
        let (until, which) = match found {
            Some((at, which, Match::Full)) => (at, Some(which)),
            Some((at, ..)) => (at, None),
            None => (buffer.len(), None),
        };
        // A stray mark of an end is one only behind a call, or where no text can spell it.
        let is_stray = which.is_some_and(|which| which >= 4);
        let len = which.map_or(0, |which| wanted[which].len());
        let is_text = is_stray
            && !wanted[which.unwrap_or(0)].is_token()
            && !(self.after_call && first >= until);
        let stop = if is_text { until + len } else { until };
        if self.after_call && first >= stop {
            // White space between calls, and after the last one.
            if which.is_none() && !is_end {
                return false;
            }
        } else if stop > 0 {
            let text = buffer.plain(0..stop);
            self.is_fresh &= self.is_reasoning || text.trim().is_empty();
            self.after_call = false;
            events.push(if self.is_reasoning { Event::Reasoning(text) } else { Event::Text(text) });
        }
        buffer.consume(stop);
        match which {
            None => false,
            Some(0 | 1) => {
                self.open_call(buffer, len, which == Some(0));
                true
            }
            Some(2 | 3) => {
                buffer.consume(len);
                self.is_reasoning = which == Some(2);
                true
            }
            Some(_) => {
                buffer.consume(if is_text { 0 } else { len });
                true
            }
        }
    }

    fn open_call(&mut self, buffer: &mut Buffer, len: usize, is_section: bool) {
        self.begin(buffer, len);
        self.in_section = is_section;
        self.calls_in_section = 0;
        self.state = if is_section { State::Section } else { self.after_open() };
        self.is_fresh = false;
    }

    /// Begins a call that is the whole answer, without any mark. `None`: this is none; `Some(false)`: that cannot be told yet.
    fn bare(&mut self, buffer: &mut Buffer, is_end: bool) -> Option<bool> {
        let first = buffer.skip_space(0);
        let may_be = self.is_fresh && self.format.call.bare && !self.is_reasoning;
        if !may_be || first == buffer.len() {
            return None;
        }
        match self.is_bare(&buffer.text()[first..], is_end) {
            Some(true) => {
                buffer.consume(first);
                self.begin(buffer, 0);
                self.state = self.after_open();
                Some(true)
            }
            Some(false) => {
                self.is_fresh = false;
                None
            }
            None => Some(false),
        }
    }

    /// Whether the answer is a call without any mark; `None` when it is too short to tell.
    fn is_bare(&self, text: &str, is_end: bool) -> Option<bool> {
        let is_python = self.format.shape == Shape::Python;
        let Some(rest) = text.strip_prefix(if is_python { '[' } else { '{' }) else {
            return Some(false);
        };
        let rest = rest.trim_start();
        if is_python {
            let after =
                rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_' || c == '.');
            return match after.chars().next() {
                None if !is_end => None,
                next => Some(next == Some('(') && after.len() < rest.len()),
            };
        }
        let keys = self.format.object.as_ref()?;
        match rest.chars().next() {
            // Any object begins like this: only its keys tell.
            Some('"') => match Scan::default().run(text) {
                Some(len) => {
                    Some(json::objects(&text[..len], (&keys.name, &keys.arguments)).is_ok())
                }
                // One that is cut off and has a name is reported.
                None => is_end.then(|| text.contains(&format!("\"{}\"", keys.name))),
            },
            None if !is_end => None,
            _ => Some(false),
        }
    }

    fn begin(&mut self, buffer: &mut Buffer, len: usize) {
        self.draft = Draft::begin(buffer.offset, self.is_reasoning);
        self.draft.take(buffer, len);
        self.scan = Scan::default();
        self.resume = 0;
    }

    fn after_open(&self) -> State {
        match self.format.shape {
            Shape::Object => State::Json { is_call: true },
            Shape::Python => State::Python,
            _ => State::Name,
        }
    }

    fn lose(&mut self, fault: Fault) {
        self.draft.fault = Some(fault);
        self.state = State::Lost;
        self.resume = 0;
    }

    /// Takes everything up to the end of the call for it.
    fn lost(&mut self, buffer: &mut Buffer, end: Option<End>, events: &mut Vec<Event>) -> bool {
        let marks = &self.marks;
        // Where nothing ends a call, the next one does.
        let is_markless = marks.call_end.is_empty();
        let wanted = [
            &marks.call_end,
            &marks.section_end,
            if is_markless { &marks.call } else { &marks.call_end },
        ];
        let found = buffer.find(self.resume, &wanted, end.is_some());
        let until = match found {
            Some((at, which, Match::Full)) => {
                at + if which == 1 || is_markless { 0 } else { wanted[which].len() }
            }
            Some((at, ..)) if end.is_none() => {
                self.resume = at;
                return false;
            }
            None if end.is_none() => {
                self.resume = buffer.len();
                return false;
            }
            _ => buffer.len(),
        };
        self.draft.take(buffer, until);
        let fault = self.draft.fault.take().unwrap_or(Fault::Unclosed);
        events.push(self.draft.broken(fault));
        self.calls_in_section += 1;
        self.after_call = true;
        self.state = if self.in_section { State::Section } else { State::Text };
        self.resume = 0;
        true
    }
}
