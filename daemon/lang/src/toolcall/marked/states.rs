//! The inside of a call: its name, its arguments, its end.

use super::{Marked, Next, State};
use crate::toolcall::{
    Event, NAME_LEN_MAX, ToolCall,
    buffer::{Buffer, Literal, Match},
    format::{Shape, Trim},
    json::{self, Scan},
    python, schema,
};

impl Marked {
    /// Takes white space off the buffer; whether anything is left.
    fn space(&mut self, buffer: &mut Buffer) -> bool {
        let len = buffer.skip_space(0);
        self.draft.take(buffer, len);
        buffer.len() > 0
    }

    /// Which of `wanted` stands at the beginning; `Err(true)` when that cannot be told yet.
    fn at_start(buffer: &Buffer, wanted: &[&Literal]) -> Result<usize, bool> {
        let matches: Vec<Match> = wanted.iter().map(|literal| buffer.matches(0, literal)).collect();
        match matches.iter().position(|found| *found == Match::Full) {
            Some(which) => Ok(which),
            None => Err(matches.contains(&Match::Partial)),
        }
    }

    pub(super) fn section(&mut self, buffer: &mut Buffer) -> Next {
        if !self.space(buffer) {
            return Next::Wait;
        }
        match Self::at_start(buffer, &[&self.marks.call, &self.marks.section_end]) {
            Ok(0) => {
                if self.calls_in_section > 0 {
                    self.begin(buffer, 0);
                }
                self.draft.take(buffer, self.marks.call.len());
                Next::Go(self.after_open())
            }
            Ok(_) => {
                buffer.consume(self.marks.section_end.len());
                self.leave();
                Next::Go(State::Text)
            }
            Err(true) => Next::Wait,
            Err(false) => {
                if self.calls_in_section > 0 {
                    self.begin(buffer, 0);
                }
                Next::Wrong(expected(&[&self.marks.call, &self.marks.section_end], buffer))
            }
        }
    }

    fn leave(&mut self) {
        self.in_section = false;
        self.after_call = true;
    }

    pub(super) fn name(
        &mut self,
        buffer: &mut Buffer,
        is_end: bool,
        events: &mut Vec<Event>,
    ) -> Next {
        if self.resume == 0 {
            if !self.space(buffer) {
                return Next::Wait;
            }
            if self.format.call.or_objects && buffer.text().starts_with(['[', '{']) {
                return Next::Go(State::Json { is_call: true });
            }
        }
        let marks = &self.marks;
        let mut ends = vec![&marks.name_end, &marks.id];
        if self.format.shape == Shape::Tags && marks.name_end.is_empty() {
            ends.extend([&marks.argument, &marks.call_end]);
        }
        match buffer.find(self.resume, &ends, is_end) {
            Some((at, which, Match::Full)) => {
                let written = buffer.plain(0..at).trim().to_owned();
                let taken = if which < 2 { at + ends[which].len() } else { at };
                let Some(name) = self.bare_name(&written) else {
                    return Next::Wrong(format!("{written:?} is no name of a tool"));
                };
                self.draft.take(buffer, taken);
                self.draft.name = Some(name.clone());
                events.push(Event::Begun { name });
                Next::Go(match which {
                    1 => State::Id,
                    _ => self.after_name(),
                })
            }
            None if buffer.len() > NAME_LEN_MAX => Next::Wrong(expected(&ends, buffer)),
            found => self.wait_at(buffer, found),
        }
    }

    fn after_name(&self) -> State {
        if self.format.shape == Shape::Tags {
            State::Arguments
        } else {
            State::Json { is_call: false }
        }
    }

    fn wait_at(&mut self, buffer: &Buffer, found: Option<(usize, usize, Match)>) -> Next {
        self.resume = found.map_or(buffer.len(), |(at, ..)| at);
        Next::Wait
    }

    /// The name without what it is dressed in, which is the call's id.
    fn bare_name(&mut self, written: &str) -> Option<String> {
        let is_name = |name: &str| {
            let is_part = |c: char| !c.is_whitespace() && !matches!(c, '<' | '>' | '"' | '{' | '}');
            !name.is_empty() && name.len() <= NAME_LEN_MAX && name.chars().all(is_part)
        };
        let Some(form) = &self.format.call.name_form else {
            return is_name(written).then(|| written.to_owned());
        };
        let (before, rest) = form.split_once("{name}")?;
        let between = rest.strip_suffix("{index}").unwrap_or(rest);
        let dressed = written.strip_prefix(before).and_then(|inner| inner.rsplit_once(between));
        self.draft.id = dressed.map(|_| written.to_owned());
        let name = dressed.map_or(written, |(name, _)| name);
        is_name(name).then(|| name.to_owned())
    }

    pub(super) fn id(&mut self, buffer: &mut Buffer, is_end: bool) -> Next {
        match buffer.find(self.resume, &[&self.marks.name_end], is_end) {
            Some((at, _, Match::Full)) => {
                self.draft.id = Some(buffer.plain(0..at).trim().to_owned());
                self.draft.take(buffer, at + self.marks.name_end.len());
                Next::Go(self.after_name())
            }
            None if buffer.len() > NAME_LEN_MAX => {
                Next::Wrong(expected(&[&self.marks.name_end], buffer))
            }
            found => self.wait_at(buffer, found),
        }
    }

    pub(super) fn json(
        &mut self,
        buffer: &mut Buffer,
        is_call: bool,
        events: &mut Vec<Event>,
    ) -> Next {
        if self.resume == 0 {
            if !self.space(buffer) {
                return Next::Wait;
            }
            let opens: &[char] = if is_call { &['{', '['] } else { &['{'] };
            if !buffer.text().starts_with(opens) {
                return Next::Wrong(found_instead("{", buffer));
            }
            self.scan = Scan::default();
            self.resume = 1;
        }
        let Some(len) = self.scan.run(buffer.text()) else {
            return Next::Wait;
        };
        let text = buffer.value(0..len);
        let calls = match (is_call, &self.format.object) {
            (true, Some(keys)) => json::objects(&text, (&keys.name, &keys.arguments)),
            _ => json::object(&text).map(|arguments| {
                let ToolCall { id, name, arguments, .. } = self.draft.call(arguments);
                vec![json::Object { id, name, arguments }]
            }),
        };
        match calls {
            Ok(calls) => {
                self.draft.take(buffer, len);
                for json::Object { id, name, arguments } in calls {
                    let in_reasoning = self.draft.in_reasoning;
                    events.extend(is_call.then(|| Event::Begun { name: name.clone() }));
                    events.push(Event::Call(ToolCall { id, name, arguments, in_reasoning }));
                }
                Next::Go(State::Close)
            }
            Err(reason) => Next::Wrong(reason),
        }
    }

    pub(super) fn python(&mut self, buffer: &mut Buffer, events: &mut Vec<Event>) -> Next {
        if self.resume == 0 {
            if !self.space(buffer) {
                return Next::Wait;
            }
            if !buffer.text().starts_with('[') {
                return Next::Wrong(found_instead("[", buffer));
            }
            self.scan = Scan::python();
            self.resume = 1;
        }
        let Some(len) = self.scan.run(buffer.text()) else {
            return Next::Wait;
        };
        match python::calls(&buffer.value(0..len)) {
            Ok(calls) => {
                self.draft.take(buffer, len);
                for (name, arguments) in calls {
                    self.draft.name = Some(name.clone());
                    events.push(Event::Begun { name });
                    events.push(Event::Call(self.draft.call(arguments)));
                }
                Next::Go(State::Close)
            }
            Err(reason) => Next::Wrong(reason),
        }
    }

    pub(super) fn arguments(&mut self, buffer: &mut Buffer, events: &mut Vec<Event>) -> Next {
        if !self.space(buffer) {
            return Next::Wait;
        }
        let wanted = [&self.marks.argument, &self.marks.call_end, &self.marks.section_end];
        match Self::at_start(buffer, &wanted) {
            Ok(0) => {
                self.draft.take(buffer, self.marks.argument.len());
                Next::Go(State::Key)
            }
            // A model may forget to close the call before the section.
            Ok(_) => {
                events.push(Event::Call(self.draft.finish()));
                Next::Go(State::Close)
            }
            Err(true) => Next::Wait,
            Err(false) => Next::Wrong(expected(&wanted[..2], buffer)),
        }
    }

    pub(super) fn key(&mut self, buffer: &mut Buffer, is_end: bool) -> Next {
        match buffer.find(self.resume, &[&self.marks.key_end], is_end) {
            Some((at, _, Match::Full)) => {
                self.draft.key = buffer.plain(0..at).trim().to_owned();
                self.draft.take(buffer, at + self.marks.key_end.len());
                let opens = !self.marks.value.is_empty() || !self.marks.text_value.is_empty();
                Next::Go(if opens { State::Open } else { State::Value })
            }
            None if buffer.len() > NAME_LEN_MAX => {
                Next::Wrong(expected(&[&self.marks.key_end], buffer))
            }
            found => self.wait_at(buffer, found),
        }
    }

    pub(super) fn open(&mut self, buffer: &mut Buffer) -> Next {
        if !self.space(buffer) {
            return Next::Wait;
        }
        let wanted = [&self.marks.value, &self.marks.text_value, &self.marks.json_value];
        match Self::at_start(buffer, &wanted) {
            Ok(which) => {
                self.draft.is_text = (which > 0).then_some(which == 1);
                self.draft.take(buffer, wanted[which].len());
                Next::Go(State::Value)
            }
            Err(true) => Next::Wait,
            Err(false) => Next::Wrong(expected(&wanted, buffer)),
        }
    }

    /// A value ends where, after its mark, something stands that may follow a value: a text may well contain `</parameter>`.
    pub(super) fn value(&mut self, buffer: &mut Buffer, is_end: bool) -> Next {
        let marks = &self.marks;
        let mut from = self.resume;
        let at = loop {
            match buffer.find(from, &[&marks.value_end], is_end) {
                Some((at, _, Match::Full)) => {
                    let after = buffer.skip_space(at + marks.value_end.len());
                    let follows = [&marks.argument, &marks.call_end, &marks.section_end];
                    let found: Vec<Match> =
                        follows.iter().map(|literal| buffer.matches(after, literal)).collect();
                    let is_open = after == buffer.len() || found.contains(&Match::Partial);
                    if marks.value_end.is_token()
                        || found.contains(&Match::Full)
                        || is_end && after == buffer.len()
                    {
                        break at;
                    }
                    if is_open && !is_end {
                        self.resume = at;
                        return Next::Wait;
                    }
                    from = at + marks.value_end.len();
                }
                found => return self.wait_at(buffer, found),
            }
        };
        let text = buffer.value(0..at);
        let trim = self.format.argument.as_ref().map_or(Trim::None, |marks| marks.trim);
        let text = if trim == Trim::LineBreak { without_line_breaks(&text) } else { &text };
        let json = match self.draft.is_text {
            Some(true) => schema::quote(text),
            Some(false) => match serde_json::from_str::<serde_json::Value>(text.trim()) {
                Ok(_) => text.trim().to_owned(),
                Err(error) => {
                    return Next::Wrong(format!(
                        "the value of {:?} is no JSON: {error}",
                        self.draft.key
                    ));
                }
            },
            None => {
                let name = self.draft.name.as_deref().unwrap_or("");
                schema::coerce(text, self.tools.schema(name), &self.draft.key)
            }
        };
        let key = self.draft.key.clone();
        if key.is_empty() || !self.draft.add(json) {
            return Next::Wrong(format!("the argument {key:?} has no name, or comes twice"));
        }
        self.draft.take(buffer, at + self.marks.value_end.len());
        Next::Go(State::Arguments)
    }

    pub(super) fn close(&mut self, buffer: &mut Buffer, is_end: bool) -> Next {
        self.calls_in_section += 1;
        let next = if self.in_section { State::Section } else { State::Text };
        self.after_call = true;
        if self.marks.call_end.is_empty() {
            return self.close_markless(buffer, next, is_end);
        }
        // Waiting must not count twice.
        self.calls_in_section -= 1;
        if !self.space(buffer) {
            return Next::Wait;
        }
        match Self::at_start(buffer, &[&self.marks.call_end]) {
            Ok(_) => {
                buffer.consume(self.marks.call_end.len());
                self.calls_in_section += 1;
                Next::Go(next)
            }
            Err(true) => Next::Wait,
            // Its section may be closed instead, or the next thing may begin: the call is whole, and has been given.
            Err(false) => {
                self.calls_in_section += 1;
                self.begin(buffer, 0);
                let follows = [&self.marks.section_end, &self.marks.call, &self.marks.section];
                match Self::at_start(buffer, &follows) {
                    Ok(_) => Next::Go(next),
                    Err(true) => Next::Wait,
                    Err(false) if self.format.call.bare => Next::Go(next),
                    Err(false) => Next::Wrong(expected(&[&self.marks.call_end], buffer)),
                }
            }
        }
    }

    /// Calls that nothing ends may go on with the next one after a separator.
    fn close_markless(&mut self, buffer: &mut Buffer, next: State, is_end: bool) -> Next {
        let separator = self.format.call.separator.trim();
        if separator.is_empty() || !self.format.call.bare {
            return Next::Go(next);
        }
        let after = buffer.skip_space(0);
        let rest = &buffer.text()[after..];
        if rest.is_empty() && !is_end {
            return Next::Wait;
        }
        let Some(rest) = rest.strip_prefix(separator) else {
            return Next::Go(next);
        };
        match rest.trim_start().chars().next() {
            Some('{') => {
                let len = buffer.len() - rest.trim_start().len();
                buffer.consume(len);
                self.begin(buffer, 0);
                Next::Go(State::Json { is_call: true })
            }
            None if !is_end => Next::Wait,
            _ => Next::Go(next),
        }
    }
}

/// One line break off each end.
fn without_line_breaks(text: &str) -> &str {
    let text = text.strip_prefix('\n').unwrap_or(text);
    text.strip_suffix('\n').unwrap_or(text)
}

fn expected(wanted: &[&Literal], buffer: &Buffer) -> String {
    let wanted: Vec<&str> =
        wanted.iter().map(|literal| literal.text()).filter(|text| !text.is_empty()).collect();
    found_instead(&wanted.join(" or "), buffer)
}

/// One character of what was found must do: more of it may not be there yet.
fn found_instead(wanted: &str, buffer: &Buffer) -> String {
    match buffer.text().chars().next() {
        Some(found) => format!("expected {wanted}, found {found:?}"),
        None => format!("expected {wanted}"),
    }
}
