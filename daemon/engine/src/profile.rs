//! What is known of a model beside its files: a file of `profiles/` per family, and per model that needs its own.
//!
//! A profile is chosen by the model's type, by its name, or by facts of its config.json; the one with the most to go by wins. It
//! says how the model is best asked (sampling, thinking, how much context it can use), which of its tokens end an answer, and
//! which chat template it gets if it was published without one.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, path::Path, sync::Arc, sync::OnceLock};

use include_dir::{Dir, include_dir};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{LoadError, Penalty, Sampling, TokenSet, Tokenizer, tokenizer::read_json};

static PROFILES: Dir = include_dir!("$CARGO_MANIFEST_DIR/profiles");
static TEMPLATES: Dir = include_dir!("$CARGO_MANIFEST_DIR/chat_templates");

/// What is known of a model beside its files.
#[derive(Debug, Clone, Copy)]
pub struct Profile(&'static File);

/// Whether a model reasons before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Thinking {
    /// It does, unless it is told not to.
    On,
    /// It should not: answers get worse by it.
    Off,
    /// It does where it is told to.
    IfAsked,
    /// It was not trained to.
    #[default]
    Never,
}

impl Thinking {
    /// As people say it.
    pub fn word(self) -> &'static str {
        match self {
            Thinking::On => "on",
            Thinking::Off => "off",
            Thinking::IfAsked => "if asked",
            Thinking::Never => "never",
        }
    }
}

/// The form of a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    id: String,
    name: String,
    /// The page of docs/models/ that describes it.
    page: String,
    #[serde(default)]
    notes: Option<String>,
    #[serde(rename = "match")]
    matches: Vec<Match>,
    #[serde(default)]
    chat: Chat,
    #[serde(default)]
    sampling: Draw,
    #[serde(default)]
    context: Context,
}

/// Everything in it must be so.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Match {
    #[serde(default)]
    model_types: Vec<String>,
    /// Part of the model's name, in small letters.
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    config: BTreeMap<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Chat {
    /// A file of `chat_templates/`.
    template: Option<String>,
    /// A file of grammars/toolcall/; what a model's own template says goes before it.
    toolcall: Option<String>,
    #[serde(default)]
    thinking: Thinking,
    #[serde(default)]
    variables: BTreeMap<String, Value>,
    #[serde(default)]
    ends: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Draw {
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<u32>,
    min_p: Option<f64>,
    repetition: Option<Repetition>,
    /// Names of tokens that the penalty leaves alone.
    #[serde(default)]
    exempt: Vec<String>,
    /// It leaves alone tokens that consist of nothing else.
    #[serde(default)]
    exempt_bytes: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Repetition {
    amount: f64,
    window: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Context {
    /// Tokens, beyond which answers get bad before the window is full.
    useful: Option<usize>,
}

/// All profiles, by their file names. They are our own files: a mistake in one panics, and a test reads them all.
fn files() -> &'static [File] {
    static FILES: OnceLock<Vec<File>> = OnceLock::new();
    FILES.get_or_init(|| {
        let mut files: Vec<_> = PROFILES.files().collect();
        files.sort_by_key(|file| file.path());
        let read = |file: &include_dir::File<'_>| {
            let text = file.contents_utf8().unwrap_or_default();
            toml::from_str(text)
                .unwrap_or_else(|error| panic!("profiles/{}: {error}", file.path().display()))
        };
        files.into_iter().map(read).collect()
    })
}

impl Profile {
    /// Every profile.
    pub fn all() -> impl Iterator<Item = Profile> {
        files().iter().map(Profile)
    }

    /// The profile of the model in `dir`.
    pub fn of(dir: &Path) -> Result<Profile, LoadError> {
        let config = read_json(&dir.join("config.json"))?;
        Ok(Profile::find(&name_of(dir, &config), &config))
    }

    /// The profile of a model with this name and config.json.
    pub fn find(name: &str, config: &Value) -> Profile {
        let name = name.to_lowercase();
        let best = files().iter().filter_map(|file| Some((file.score(&name, config)?, file)));
        // Of equals the first: `max_by_key` takes the last.
        let best = best.rev().max_by_key(|(score, _)| *score);
        best.map_or_else(Profile::scripted, |(_, file)| Profile(file))
    }

    /// The profile of models that have no files: that of unknown ones.
    pub(crate) fn scripted() -> Profile {
        static NONE: OnceLock<File> = OnceLock::new();
        let default = files().iter().find(|file| file.id == "default");
        Profile(default.unwrap_or_else(|| {
            NONE.get_or_init(|| File {
                id: "default".to_owned(),
                name: String::new(),
                page: String::new(),
                notes: None,
                matches: Vec::new(),
                chat: Chat::default(),
                sampling: Draw::default(),
                context: Context::default(),
            })
        }))
    }

    /// The name of its file.
    pub fn id(&self) -> &'static str {
        &self.0.id
    }

    /// The models that it is for.
    pub fn name(&self) -> &'static str {
        &self.0.name
    }

    /// Its page in docs/models/.
    pub fn page(&self) -> &'static str {
        &self.0.page
    }

    /// What else whoever uses the model should know.
    pub fn notes(&self) -> Option<&'static str> {
        self.0.notes.as_deref()
    }

    /// Whether the model reasons before it answers.
    pub fn thinking(&self) -> Thinking {
        self.0.chat.thinking
    }

    /// The format in which the model calls tools, unless its template says otherwise: a file of grammars/toolcall/.
    pub fn toolcall(&self) -> Option<&'static str> {
        self.0.chat.toolcall.as_deref()
    }

    /// How many tokens of context the model can make use of, where that is less than its window.
    pub fn context_useful(&self) -> Option<usize> {
        self.0.context.useful
    }

    /// What chat templates are told, unless the caller says otherwise.
    pub fn variables(&self) -> &'static BTreeMap<String, Value> {
        &self.0.chat.variables
    }

    /// The names of the tokens that end an answer.
    pub fn ends(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.0.chat.ends.iter().map(String::as_str)
    }

    /// The chat template for a model that was published without one, with its name.
    pub fn fallback_template(&self) -> Option<(&'static str, &'static str)> {
        let name = self.0.chat.template.as_deref()?;
        let source = TEMPLATES.get_file(format!("{name}.jinja"))?.contents_utf8()?;
        Some((name, source))
    }

    /// All of it, to be shown.
    pub fn described(&self) -> Value {
        let File { chat, sampling, .. } = self.0;
        let repetition = sampling.repetition.as_ref();
        let repetition =
            repetition.map(|penalty| json!({"amount": penalty.amount, "window": penalty.window}));
        json!({
            "id": self.id(),
            "for": self.name(),
            "thinking": self.thinking().word(),
            "toolcall": chat.toolcall,
            "fallback_template": chat.template,
            "variables": chat.variables,
            "ends": chat.ends,
            "sampling": {
                "temperature": sampling.temperature.unwrap_or(1.0),
                "top_p": sampling.top_p,
                "top_k": sampling.top_k,
                "min_p": sampling.min_p,
                "repetition": repetition,
            },
            "context_useful": self.context_useful(),
            "notes": self.notes(),
        })
    }

    /// How the model's tokens are best drawn; the seed is 0.
    pub fn sampling(&self, tokenizer: &Tokenizer) -> Sampling {
        let draw = &self.0.sampling;
        let usual = Sampling { temperature: 1.0, ..Sampling::GREEDY };
        let repetition = draw.repetition.as_ref().map_or(usual.repetition, |repetition| Penalty {
            amount: repetition.amount as f32,
            window: repetition.window,
            with_prompt: false,
        });
        Sampling {
            temperature: draw.temperature.map_or(usual.temperature, |number| number as f32),
            top_p: draw.top_p.map_or(usual.top_p, |number| number as f32),
            top_k: draw.top_k.unwrap_or(usual.top_k),
            min_p: draw.min_p.map_or(usual.min_p, |number| number as f32),
            repetition,
            exempt: draw.exempt(tokenizer).map(Arc::new),
            ..usual
        }
    }
}

impl File {
    /// How much the profile knows of the model; `None`: it is for others.
    fn score(&self, name: &str, config: &Value) -> Option<usize> {
        self.matches.iter().filter_map(|entry| entry.score(name, config)).max()
    }
}

impl Match {
    fn score(&self, name: &str, config: &Value) -> Option<usize> {
        let text = &config["text_config"];
        let is_type =
            |known: &String| [config, text].iter().any(|part| part["model_type"] == known.as_str());
        let type_fits = self.model_types.is_empty() || self.model_types.iter().any(is_type);
        let name_fits = self.name.as_ref().is_none_or(|part| name.contains(part.as_str()));
        let fact_fits =
            |(key, value): (&String, &Value)| [config, text].iter().any(|part| part[key] == *value);
        let fits = type_fits && name_fits && self.config.iter().all(fact_fits);
        let score = usize::from(!self.model_types.is_empty())
            + 2 * usize::from(self.name.is_some())
            + 4 * self.config.len();
        fits.then_some(score)
    }
}

impl Draw {
    fn exempt(&self, tokenizer: &Tokenizer) -> Option<TokenSet> {
        if self.exempt.is_empty() && self.exempt_bytes.is_empty() {
            return None;
        }
        let named = self.exempt.iter().filter_map(|name| tokenizer.special(name));
        let is_plain = |token: &u32| {
            let bytes = tokenizer.token_bytes(*token);
            !bytes.is_empty()
                && bytes.iter().all(|byte| self.exempt_bytes.as_bytes().contains(byte))
        };
        let plain = (0..tokenizer.len() as u32)
            .filter(|token| !tokenizer.is_special(*token) && is_plain(token));
        Some(named.chain(plain).collect())
    }
}

/// The name of a model's folder; in Hugging Face's cache that of its repository; and what config.json says.
fn name_of(dir: &Path, config: &Value) -> String {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let mut names: Vec<String> = Vec::new();
    let mut at = Some(dir.as_path());
    if dir.parent().is_some_and(|parent| parent.ends_with("snapshots")) {
        at = dir.ancestors().nth(2);
    }
    names.extend(at.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned()));
    names.extend(config["_name_or_path"].as_str().map(str::to_owned));
    names.join(" ")
}
