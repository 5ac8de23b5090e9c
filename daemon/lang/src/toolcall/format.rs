//! The formats as their files describe them, and which of them a model speaks.

use serde::Deserialize;

use crate::data;

/// How one family of models writes calls.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Format {
    id: String,
    name: String,
    pub(super) shape: Shape,
    /// Detection tries formats in this order; one that is recognised by more than another comes before it.
    rank: u32,
    model_types: Vec<String>,
    template: Vec<Sign>,
    #[serde(default)]
    pub(super) reasoning: Option<[String; 2]>,
    #[serde(default)]
    pub(super) section: Option<Section>,
    pub(super) call: CallMarks,
    #[serde(default)]
    pub(super) argument: Option<ArgumentMarks>,
    #[serde(default)]
    pub(super) object: Option<ObjectKeys>,
    #[serde(default)]
    pub(super) channels: Option<ChannelMarks>,
}

/// What stands between the marks of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Shape {
    /// The name, then every argument between marks of its own; values are text.
    Tags,
    /// The name, then the arguments as one JSON object.
    Json,
    /// A JSON object with the name and the arguments in it, or a list of such.
    Object,
    /// A list of calls in Python's syntax.
    Python,
    /// Messages with heads; one that is addressed to a function is a call.
    Channels,
}

/// A template that contains all of these speaks the format.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sign {
    all: Vec<String>,
}

/// What stands around the calls of one turn.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    pub(super) open: String,
    pub(super) close: String,
    /// Every call has a section to itself.
    #[serde(default)]
    pub(super) one_call: bool,
    #[serde(default)]
    pub(super) separator: String,
}

/// What stands around one call. White space at the ends of a mark is how it is written; when reading, any will do.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CallMarks {
    pub(super) open: String,
    /// Between the name and the id, where the model gives one.
    #[serde(default)]
    pub(super) id_open: String,
    /// How the name is dressed: `functions.{name}:{index}`.
    #[serde(default)]
    pub(super) name_form: Option<String>,
    #[serde(default)]
    pub(super) name_close: String,
    pub(super) close: String,
    #[serde(default)]
    pub(super) separator: String,
    /// A call may also be the whole answer, without any mark.
    #[serde(default)]
    pub(super) bare: bool,
    /// After the opening mark there may also be JSON objects in the manner of `object`.
    #[serde(default)]
    pub(super) or_objects: bool,
}

/// What stands around an argument.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ArgumentMarks {
    pub(super) open: String,
    pub(super) key_close: String,
    /// Between the key and the value, where the first mark does not do.
    #[serde(default)]
    pub(super) value_open: String,
    /// Opens a value that is text; with `json_open`, the value says its own type.
    #[serde(default)]
    pub(super) text_open: String,
    #[serde(default)]
    pub(super) json_open: String,
    pub(super) value_close: String,
    pub(super) trim: Trim,
}

/// What of a value belongs to its marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Trim {
    /// Nothing.
    None,
    /// One line break at the beginning and one at the end.
    LineBreak,
}

/// Where a call's parts are in its JSON object.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ObjectKeys {
    pub(super) name: String,
    pub(super) arguments: String,
    /// All calls are written as one list.
    #[serde(default)]
    pub(super) list: bool,
}

/// The marks of messages on channels.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChannelMarks {
    pub(super) start: String,
    pub(super) channel: String,
    pub(super) message: String,
    pub(super) ends: Vec<String>,
    pub(super) constrain: String,
    /// Stands before the addressee.
    pub(super) recipient: String,
    /// Stands before a function's name in an address.
    pub(super) function: String,
    /// The channels whose text is reasoning.
    pub(super) reasoning: Vec<String>,
}

impl Format {
    /// The name of the file: `glm47`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The marks around reasoning, where the format has such.
    pub fn reasoning(&self) -> Option<[&str; 2]> {
        self.reasoning.as_ref().map(|[open, close]| [open.as_str(), close.as_str()])
    }

    /// The names that may be tokens of their own in a vocabulary. A penalty for repetition must leave these alone.
    pub fn marks(&self) -> Vec<&str> {
        let mut marks =
            vec![&*self.call.open, &self.call.id_open, &self.call.name_close, &self.call.close];
        marks.extend(self.section.iter().flat_map(|section| [&*section.open, &section.close]));
        marks.extend(self.reasoning.iter().flatten().map(String::as_str));
        if let Some(argument) = &self.argument {
            marks.extend([&*argument.open, &argument.key_close, &argument.value_open]);
            marks.extend([&*argument.text_open, &argument.json_open, &argument.value_close]);
        }
        if let Some(channels) = &self.channels {
            marks.extend([&*channels.start, &channels.channel, &channels.message]);
            marks.push(&channels.constrain);
            marks.extend(channels.ends.iter().map(String::as_str));
        }
        let mut marks: Vec<&str> = marks.into_iter().map(str::trim).collect();
        marks.retain(|mark| !mark.is_empty());
        marks.sort_unstable();
        marks.dedup();
        marks
    }

    pub(crate) fn rank(&self) -> u32 {
        self.rank
    }
}

/// Every known format, in the order in which they are tried.
pub fn all() -> &'static [Format] {
    data::formats()
}

/// The format of this id.
pub fn by_id(id: &str) -> Option<&'static Format> {
    all().iter().find(|format| format.id == id)
}

/// The format that a model speaks: by what its chat template says, which survives renaming and repacking, else by its type.
pub fn detect(template: Option<&str>, model_type: &str) -> Option<&'static Format> {
    let told = template.and_then(|template| {
        let says = |sign: &Sign| sign.all.iter().all(|part| template.contains(part.as_str()));
        all().iter().find(|format| format.template.iter().any(says))
    });
    told.or_else(|| {
        all().iter().find(|format| format.model_types.iter().any(|name| name == model_type))
    })
}
