//! Reading the settings in layers: defaults, the user's file, the project's file, the environment, the editor.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Config, Kind, SECTIONS, Scope, Setting, settings};
use crate::env_vars;

/// The name of a project's own file.
pub const PROJECT_FILE: &str = ".demolish.toml";
/// How the place of the editor's settings is called.
pub const EDITOR: &str = "the editor's options";
/// The setting whose keys are languages.
const COMMANDS: &str = "servers.command";
/// A configuration file larger than this is refused: nobody writes one, and the daemon reads it on its way up.
pub const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Something that a layer asked for and did not get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: a file, a variable, the editor.
    pub place: String,
    /// The line, where the place is a file.
    pub line: Option<usize>,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.place, self.message),
            None => write!(f, "{}: {}", self.place, self.message),
        }
    }
}

/// Where to read from.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// The user's file. A file that does not exist is an empty one, unless `user_file_named`.
    pub user_file: Option<PathBuf>,
    /// The user named that file (`DEMOLISH_CONFIG`): its absence is a problem.
    pub user_file_named: bool,
    /// The project's folder, for its `.demolish.toml`.
    pub project: Option<PathBuf>,
    /// Whether the environment's overrides count.
    pub environment: bool,
    /// What the editor sent as `initializationOptions`.
    pub editor: Option<Json>,
}

impl Layers {
    /// The layers of this process, for a project.
    #[must_use]
    pub fn of_process(project: Option<&Path>) -> Self {
        Layers {
            user_file: env_vars::config_file(),
            user_file_named: env_vars::config_file_is_named(),
            project: project.map(Path::to_owned),
            environment: true,
            editor: None,
        }
    }
}

/// What came of reading.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// The settings; where a layer was wrong, what the layers below it say.
    pub config: Config,
    /// What was wrong, in the order of the layers.
    pub problems: Vec<Problem>,
    /// Which layer decided a setting: key and place. Settings that are not in it have their default.
    pub decided: Vec<(String, String)>,
}

impl Loaded {
    /// All problems as one warning, or nothing.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let lines: Vec<String> = self.problems.iter().map(ToString::to_string).collect();
        (!lines.is_empty()).then(|| lines.join("; "))
    }
}

/// Reads all layers. Never fails: problems are part of the answer.
#[must_use]
pub fn load(layers: &Layers) -> Loaded {
    let mut reader = Reader { table: settings(), loaded: Loaded::default() };
    if let Some(file) = &layers.user_file {
        reader.file(file, From::User, layers.user_file_named);
    }
    if let Some(project) = &layers.project {
        reader.file(&project.join(PROJECT_FILE), From::Project, false);
    }
    if layers.environment {
        reader.environment();
    }
    if let Some(options) = &layers.editor {
        reader.editor(options);
    }
    reader.loaded
}

/// Reads one text as if it were the user's or the project's file: for tests and `demolish config`.
#[must_use]
pub fn load_text(place: &str, text: &str, project: bool) -> Loaded {
    let mut reader = Reader { table: settings(), loaded: Loaded::default() };
    reader.text(place, text, if project { From::Project } else { From::User });
    reader.loaded
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    User,
    Project,
    Environment,
    Editor,
}

struct Reader {
    table: Vec<Setting>,
    loaded: Loaded,
}

impl Reader {
    fn problem(&mut self, place: &str, line: Option<usize>, message: String) {
        self.loaded.problems.push(Problem { place: place.to_owned(), line, message });
    }

    fn file(&mut self, file: &Path, from: From, named: bool) {
        let place = file.display().to_string();
        let text = match read_bounded(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !named => return,
            Err(error) => {
                return self.problem(
                    &place,
                    None,
                    format!("cannot be read ({error}); the defaults hold"),
                );
            }
        };
        self.text(&place, &text, from);
    }

    fn text(&mut self, place: &str, text: &str, from: From) {
        match DeTable::parse(text) {
            Ok(table) => self.table(place, text, "", table.get_ref(), from),
            Err(error) => {
                let line = error.span().map(|span| line_of(text, span.start));
                let message = error.message().trim().replace('\n', ", ");
                self.problem(place, line, format!("not TOML ({message}); the file is left out"));
            }
        }
    }

    fn table(&mut self, place: &str, text: &str, prefix: &str, table: &DeTable<'_>, from: From) {
        let mut rows: Vec<_> = table.iter().collect();
        rows.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in rows {
            let name = format!("{prefix}{}", key.get_ref());
            let line = Some(line_of(text, key.span().start));
            let is_setting = self.table.iter().any(|setting| setting.key == name);
            match value.get_ref() {
                DeValue::Table(inner) if !is_setting && self.is_section(&name) => {
                    self.table(place, text, &format!("{name}."), inner, from);
                }
                _ => match json(value) {
                    Ok(json) => self.set(place, line, &name, &json, from),
                    Err(message) => self.problem(place, line, format!("`{name}`: {message}")),
                },
            }
        }
    }

    fn is_section(&self, name: &str) -> bool {
        let prefix = format!("{name}.");
        self.table.iter().any(|setting| setting.key.starts_with(&prefix))
    }

    fn environment(&mut self) {
        for setting in self.table.clone() {
            let Some((variable, text)) = env_vars::setting(&setting.key) else { continue };
            let json = match setting.kind {
                Kind::Text | Kind::Path | Kind::Choice(_) => Json::from(text),
                _ => serde_json::from_str(&text).unwrap_or_else(|_| Json::from(text)),
            };
            self.set(&variable, None, &setting.key, &json, From::Environment);
        }
    }

    /// The editor's options are nested tables like the file's. Sections of the plugin itself are its own business.
    fn editor(&mut self, options: &Json) {
        match options {
            Json::Null => {}
            Json::Object(sections) => {
                for (section, fields) in sections {
                    match fields {
                        Json::Object(fields) if self.is_section(section) => {
                            for (field, value) in fields {
                                self.set(
                                    EDITOR,
                                    None,
                                    &format!("{section}.{field}"),
                                    value,
                                    From::Editor,
                                );
                            }
                        }
                        _ => self.set(EDITOR, None, section, fields, From::Editor),
                    }
                }
            }
            _ => self.problem(EDITOR, None, "expected a table of settings".to_owned()),
        }
    }

    fn set(&mut self, place: &str, line: Option<usize>, key: &str, json: &Json, from: From) {
        let Some(setting) = self.table.iter().find(|setting| setting.key == key) else {
            let message = self.unknown(key);
            return self.problem(place, line, message);
        };
        let refusal = match (from, setting.scope) {
            (From::Editor, Scope::Editor) => return,
            (From::Project, Scope::User) => {
                Some("only your own configuration may set it, not a project's")
            }
            (_, Scope::Editor) => {
                Some("it belongs to the editor's plugin: require(\"demolish\").setup { … }")
            }
            _ => None,
        };
        if let Some(refusal) = refusal {
            return self.problem(place, line, format!("`{key}` has no effect here: {refusal}"));
        }
        if let (Some((min, max)), Some(number)) = (setting.limits, json.as_f64())
            && !(min..=max).contains(&number)
        {
            return self.problem(
                place,
                line,
                format!("`{key}` is {number}, expected {min} to {max}"),
            );
        }
        match self.loaded.config.set(key, json) {
            Ok(()) => {
                if key == COMMANDS {
                    self.unknown_languages(place, line, json);
                }
                self.loaded.decided.retain(|(decided, _)| decided != key);
                self.loaded.decided.push((key.to_owned(), place.to_owned()));
            }
            Err(expected) => self.problem(place, line, format!("`{key}` is {json}, {expected}")),
        }
    }

    /// Commands for languages that there are not have no effect; the others hold.
    fn unknown_languages(&mut self, place: &str, line: Option<usize>, commands: &Json) {
        let known: Vec<&str> = lang::all().iter().map(lang::Language::id).collect();
        let named = commands.as_object().into_iter().flat_map(serde_json::Map::keys);
        for language in named.filter(|language| !known.contains(&language.as_str())) {
            let near = nearest(language, known.iter().copied());
            let near = near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
            let message = format!(
                "`{COMMANDS}` names an unknown language `{language}`{near}; there are {}",
                known.join(", ")
            );
            self.problem(place, line, message);
        }
    }

    fn unknown(&self, key: &str) -> String {
        if self.is_section(key) {
            return format!("`{key}` is a section, expected a table");
        }
        let sections = SECTIONS.iter().map(|(section, _)| *section);
        match nearest(key, sections.chain(self.table.iter().map(|setting| setting.key.as_str()))) {
            Some(near) => format!("unknown setting `{key}`; did you mean `{near}`?"),
            None => format!("unknown setting `{key}`; `demolish config` lists them all"),
        }
    }
}

/// The known name that is most like `key`: the whole name, or the last part of it, within a third of its letters.
fn nearest<'k>(key: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let last = key.rsplit('.').next().unwrap_or(key);
    let scored = known.map(|name| {
        let field = name.rsplit('.').next().unwrap_or(name);
        let whole = strsim::damerau_levenshtein(key, name);
        let part = strsim::damerau_levenshtein(last, field)
            + usize::from(!name.starts_with(key.split('.').next().unwrap_or("")));
        (whole.min(part), name)
    });
    let (distance, name) = scored.min_by_key(|(distance, _)| *distance)?;
    (distance <= (last.len() / 3).max(1) + 1).then_some(name)
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

fn read_bounded(file: &Path) -> std::io::Result<String> {
    if std::fs::metadata(file)?.len() > FILE_BYTES_MAX {
        let message = format!("larger than {} KiB", FILE_BYTES_MAX / 1024);
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, message));
    }
    std::fs::read_to_string(file)
}

fn json(value: &Spanned<DeValue<'_>>) -> Result<Json, String> {
    Ok(match value.get_ref() {
        DeValue::String(text) => Json::from(text.as_ref()),
        DeValue::Boolean(flag) => Json::from(*flag),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(Json::from)
            .map_err(|error| error.to_string())?,
        DeValue::Float(number) => {
            number.as_str().parse::<f64>().map(Json::from).map_err(|error| error.to_string())?
        }
        DeValue::Datetime(date) => Json::from(date.to_string()),
        DeValue::Array(items) => Json::Array(items.iter().map(json).collect::<Result<_, _>>()?),
        DeValue::Table(rows) => {
            let rows =
                rows.iter().map(|(key, value)| Ok((key.get_ref().to_string(), json(value)?)));
            Json::Object(rows.collect::<Result<_, String>>()?)
        }
    })
}
