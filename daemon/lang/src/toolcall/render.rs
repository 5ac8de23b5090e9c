//! Calls as a model would write them.

use serde_json::Value;

use super::{
    End, Event, Parser, Tool, ToolCall,
    format::{ArgumentMarks, Format, Shape, Trim},
    json,
};

/// Calls that the format cannot express.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The arguments are no JSON object.
    #[error("call {index}: {reason}")]
    Arguments {
        /// Which of the calls.
        index: usize,
        /// What is wrong.
        reason: String,
    },
    /// A value contains the marks of the format in a way that would be read as something else.
    #[error("{format} cannot express these calls: they would be read as something else")]
    Ambiguous {
        /// The format's id.
        format: String,
    },
}

impl Format {
    /// The text of `calls` as the model would write it. It reads back as the same calls, given the same `tools`.
    pub fn render(&self, calls: &[ToolCall], tools: &[Tool]) -> Result<String, RenderError> {
        let mut texts = Vec::new();
        for (index, call) in calls.iter().enumerate() {
            let wrong = |reason: String| RenderError::Arguments { index, reason };
            let arguments = json::object(&call.arguments).map_err(wrong)?;
            let value: Value =
                serde_json::from_str(&arguments).map_err(|error| wrong(error.to_string()))?;
            texts.push(self.one(call, &arguments, &value, index));
        }
        let call = &self.call;
        let text = match (&self.section, self.shape) {
            (_, Shape::Object) if self.object.as_ref().is_some_and(|keys| keys.list) => {
                format!("{}[{}]{}", call.open, texts.join(", "), call.close)
            }
            (_, Shape::Object) if call.bare => texts.join(&call.separator),
            (_, Shape::Python) => format!("{}[{}]{}", call.open, texts.join(", "), call.close),
            (Some(section), _) if section.one_call => {
                let dressed: Vec<String> = texts
                    .iter()
                    .map(|text| format!("{}{text}{}", section.open, section.close))
                    .collect();
                dressed.join(&section.separator)
            }
            (Some(section), _) => {
                format!("{}{}{}", section.open, texts.join(&call.separator), section.close)
            }
            (None, _) => texts.join(&call.separator),
        };
        if self.reads_as(&text, calls, tools) {
            Ok(text)
        } else {
            Err(RenderError::Ambiguous { format: self.id().to_owned() })
        }
    }

    fn reads_as(&self, text: &str, calls: &[ToolCall], tools: &[Tool]) -> bool {
        let Some(format) = super::by_id(self.id()) else {
            return false;
        };
        let mut parser = Parser::new(format, tools, [], false);
        let mut events = parser.text(text);
        events.extend(parser.finish(End::Stopped));
        let parse = |text: &str| serde_json::from_str::<Value>(text).ok();
        let mut read = events.iter().filter_map(|event| match event {
            Event::Call(call) => Some(call),
            _ => None,
        });
        let are_same = calls.iter().all(|call| {
            read.next().is_some_and(|other| {
                other.name == call.name
                    && parse(&other.arguments) == parse(&json::strict(&call.arguments))
            })
        });
        let is_other = |event: &Event| {
            matches!(event, Event::Text(_) | Event::Reasoning(_) | Event::Broken(_))
        };
        are_same && read.next().is_none() && !events.iter().any(is_other)
    }

    fn one(&self, call: &ToolCall, arguments: &str, value: &Value, index: usize) -> String {
        let marks = &self.call;
        let name = &call.name;
        match (self.shape, &self.argument, &self.object) {
            (Shape::Tags, Some(argument), _) => {
                let entries = value.as_object().into_iter().flatten();
                let written: String =
                    entries.map(|(key, value)| tag(argument, key, value)).collect();
                format!("{}{name}{}{written}{}", marks.open, marks.name_close, marks.close)
            }
            (Shape::Object, _, Some(keys)) => {
                let id = call.id.as_ref().filter(|_| keys.list);
                let id = id
                    .map_or(String::new(), |id| format!(", \"id\": {}", Value::from(id.as_str())));
                let object = format!(
                    "{{\"{}\": {}, \"{}\": {arguments}{id}}}",
                    keys.name,
                    Value::from(name.as_str()),
                    keys.arguments
                );
                if keys.list || marks.bare {
                    object
                } else {
                    format!("{}{object}{}", marks.open, marks.close)
                }
            }
            (Shape::Python, ..) => {
                let entries = value.as_object().into_iter().flatten();
                let written: Vec<String> =
                    entries.map(|(key, value)| format!("{key}={}", literal(value))).collect();
                format!("{name}({})", written.join(", "))
            }
            _ => {
                let dressed = match (&marks.name_form, &call.id) {
                    // An id of another format names no tool.
                    (Some(form), id) => {
                        let own = form.replace("{name}", name);
                        let prefix = own.replace("{index}", "");
                        let id = id.as_ref().filter(|id| id.starts_with(&prefix));
                        id.cloned().unwrap_or_else(|| own.replace("{index}", &index.to_string()))
                    }
                    (None, Some(id)) if !marks.id_open.is_empty() => {
                        format!("{name}{}{id}", marks.id_open)
                    }
                    (None, _) => name.clone(),
                };
                format!("{}{dressed}{}{arguments}{}", marks.open, marks.name_close, marks.close)
            }
        }
    }
}

fn tag(marks: &ArgumentMarks, key: &str, value: &Value) -> String {
    let text = value.as_str().map_or_else(|| spaced(value), str::to_owned);
    let typed = if value.is_string() { &marks.text_open } else { &marks.json_open };
    debug_assert!(
        marks.trim == Trim::None || marks.key_close.ends_with('\n'),
        "what is trimmed must be written"
    );
    format!(
        "{}{key}{}{}{typed}{text}{}",
        marks.open, marks.key_close, marks.value_open, marks.value_close
    )
}

/// JSON with a blank after each separator, as Python writes it.
fn spaced(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            format!("[{}]", items.iter().map(spaced).collect::<Vec<_>>().join(", "))
        }
        Value::Object(entries) => {
            let entries = entries
                .iter()
                .map(|(key, value)| format!("{}: {}", Value::from(key.as_str()), spaced(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        leaf => leaf.to_string(),
    }
}

/// A literal of Python.
fn literal(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(literal).collect::<Vec<_>>().join(", "))
        }
        Value::Object(entries) => {
            let entries = entries
                .iter()
                .map(|(key, value)| format!("{}: {}", Value::from(key.as_str()), literal(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        // JSON's escapes are Python's too, except for characters that it writes as two.
        leaf => leaf.to_string(),
    }
}
