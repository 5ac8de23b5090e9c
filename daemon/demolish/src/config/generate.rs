//! What is written from the table of settings, so that nothing is typed twice: the manual page, the JSON schema for
//! editors of TOML files, and the Neovim plugin's defaults with their types.

use std::fmt::Write as _;

use serde_json::{Value as Json, json};

use super::{Kind, SECTIONS, Scope, Setting, settings, value::list};
use crate::env_vars;

/// The files: path below the repository's root, and content. `cargo xtask gen` writes them, a test compares them.
#[must_use]
pub fn files() -> Vec<(&'static str, String)> {
    vec![
        ("docs/config.md", manual()),
        ("docs/config.schema.json", schema_text()),
        ("lua/demolish/defaults.lua", lua()),
    ]
}

fn of_section(section: &str) -> Vec<Setting> {
    let prefix = format!("{section}.");
    settings().into_iter().filter(|setting| setting.key.starts_with(&prefix)).collect()
}

fn sentence(doc: &str) -> String {
    doc.trim().to_owned()
}

fn limits(setting: &Setting) -> String {
    setting.limits.map_or_else(String::new, |(min, max)| format!(", {min} to {max}"))
}

/// `docs/config.md`.
#[must_use]
pub fn manual() -> String {
    let mut page = String::from(MANUAL_HEAD);
    for (section, doc) in SECTIONS {
        let _ = write!(
            page,
            "\n## `{section}`\n\n{}\n\n| setting | type | default | |\n|---|---|---|---|\n",
            sentence(doc)
        );
        for setting in of_section(section) {
            let default = match &setting.default {
                Json::Null => "not set".to_owned(),
                other => format!("`{other}`"),
            };
            let who = match setting.scope {
                Scope::Project => "",
                Scope::User => " *Not in a project's file.*",
                Scope::Editor => "",
            };
            let _ = writeln!(
                page,
                "| `{}` | {}{} | {default} | {}{who} |",
                setting.key,
                setting.kind.words(),
                limits(&setting),
                sentence(setting.doc),
            );
        }
    }
    page.push_str("\n## Environment variables\n\n| variable | |\n|---|---|\n");
    for variable in env_vars::ALL {
        let _ = writeln!(page, "| `{}` | {} |", variable.name, sentence(variable.doc));
    }
    page.push_str(MANUAL_FOOT);
    page
}

const MANUAL_HEAD: &str = "<!-- Written from daemon/demolish/src/config.rs by `cargo xtask gen`; edits are lost. -->
# Configuration

Demolish works without any. Settings are read in this order, later ones win:

1. the defaults below;
2. your file, `$XDG_CONFIG_HOME/demolish/demolish.toml` (or the one that `DEMOLISH_CONFIG` names);
3. the project's file, `.demolish.toml` in the project's root. It is part of the project, so it may not set what starts programs, reads paths or
   spends your memory: those settings are marked;
4. the environment: `DEMOLISH_` and the setting's name in capitals with `_` for `.`, for example `DEMOLISH_COMPLETE_DEADLINE_MS=300`;
5. what the editor sends when it starts Demolish's server (`initializationOptions`; in Neovim `require(\"demolish\").setup { … }`).

A setting that does not exist or has a wrong value is reported once, with the file and the line, and its default holds; language servers go on
working. `demolish config` prints every setting, its value and where it comes from, and exits with 2 if something is wrong.
`docs/config.schema.json` is the schema for editors of TOML files.

```toml
# demolish.toml
[complete]
deadline_ms = 400

[servers.command]
python = [\"ty\", \"server\"]
```
";

const MANUAL_FOOT: &str =
    "| `DEMOLISH_…` | An override of the setting with that name, as above. |\n";

/// The JSON schema of `demolish.toml` (draft 2020-12).
#[must_use]
pub fn schema() -> Json {
    let sections = SECTIONS.iter().filter_map(|(section, doc)| {
        let rows: Vec<Setting> = of_section(section)
            .into_iter()
            .filter(|setting| setting.scope != Scope::Editor)
            .collect();
        if rows.is_empty() {
            return None;
        }
        let fields = rows.iter().map(|setting| {
            let field = setting.key.rsplit('.').next().unwrap_or_default().to_owned();
            (field, field_schema(setting))
        });
        let table = json!({
            "type": "object",
            "description": sentence(doc),
            "additionalProperties": false,
            "properties": fields.collect::<serde_json::Map<_, _>>(),
        });
        Some(((*section).to_owned(), table))
    });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Demolish's configuration",
        "type": "object",
        "additionalProperties": false,
        "properties": sections.collect::<serde_json::Map<_, _>>(),
    })
}

fn field_schema(setting: &Setting) -> Json {
    let mut schema = match setting.kind {
        Kind::Boolean => json!({"type": "boolean"}),
        Kind::Integer => json!({"type": "integer"}),
        Kind::Number => json!({"type": "number"}),
        Kind::Text | Kind::Path => json!({"type": "string"}),
        Kind::Choice(words) => json!({"type": "string", "enum": words}),
        Kind::Numbers(numbers) => json!({"type": "integer", "enum": numbers}),
        Kind::Texts => json!({"type": "array", "items": {"type": "string"}}),
        Kind::TextByName => {
            json!({"type": "object", "additionalProperties": {"type": "string"}})
        }
        Kind::TextsByName => json!({
            "type": "object",
            "additionalProperties": {"type": "array", "items": {"type": "string"}},
        }),
    };
    schema["description"] = Json::from(sentence(setting.doc));
    if !setting.default.is_null() {
        schema["default"] = setting.default.clone();
    }
    if let Some((min, max)) = setting.limits {
        schema["minimum"] = whole(min);
        schema["maximum"] = whole(max);
    }
    schema
}

#[allow(clippy::cast_possible_truncation, reason = "limits are written as whole numbers")]
fn whole(limit: f64) -> Json {
    Json::from(limit as i64)
}

fn schema_text() -> String {
    format!("{:#}\n", schema())
}

/// `lua/demolish/defaults.lua`: the types of what a user may pass (`demolish.Opts…`, all optional), of what the plugin
/// holds (`demolish.Config…`, all present), and the defaults themselves.
#[must_use]
pub fn lua() -> String {
    let mut opts = String::from("---@class (exact) demolish.Opts\n");
    let mut config = String::from("---@class (exact) demolish.Config\n");
    let mut classes = String::new();
    let mut defaults = String::from("---@type demolish.Config\nreturn {\n");
    for (section, doc) in SECTIONS {
        let name = capital(section);
        let doc = sentence(doc);
        let _ = writeln!(opts, "---@field {section}? demolish.Opts.{name} {doc}");
        let _ = writeln!(config, "---@field {section} demolish.Config.{name} {doc}");
        let mut opts_class = format!("---@class (exact) demolish.Opts.{name}\n");
        let mut config_class = format!("---@class (exact) demolish.Config.{name}\n");
        let _ = writeln!(defaults, "  {section} = {{");
        for setting in of_section(section) {
            let field = setting.key.rsplit('.').next().unwrap_or_default();
            let doc = sentence(setting.doc);
            let ty = lua_type(setting.kind);
            let optional = if setting.default.is_null() { "?" } else { "" };
            let _ = writeln!(opts_class, "---@field {field}? {ty} {doc}");
            let _ = writeln!(config_class, "---@field {field}{optional} {ty} {doc}");
            let _ = writeln!(defaults, "    {field} = {},", lua_value(&setting.default));
        }
        defaults.push_str("  },\n");
        let _ = write!(classes, "\n{opts_class}\n{config_class}");
    }
    defaults.push_str("}\n");
    format!(
        "-- Written from daemon/demolish/src/config.rs by `cargo xtask gen`; edits are lost.\n\n{opts}\n{config}{classes}\n{defaults}"
    )
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn lua_type(kind: Kind) -> String {
    match kind {
        Kind::Boolean => "boolean".to_owned(),
        Kind::Integer => "integer".to_owned(),
        Kind::Number => "number".to_owned(),
        Kind::Text | Kind::Path => "string".to_owned(),
        Kind::Choice(words) => {
            words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join("|")
        }
        Kind::Numbers(numbers) => list(numbers, "|"),
        Kind::Texts => "string[]".to_owned(),
        Kind::TextsByName => "table<string, string[]>".to_owned(),
        Kind::TextByName => "table<string, string>".to_owned(),
    }
}

fn lua_value(value: &Json) -> String {
    match value {
        Json::Null => "nil".to_owned(),
        Json::Array(items) if items.is_empty() => "{}".to_owned(),
        Json::Array(items) => {
            let items: Vec<String> = items.iter().map(lua_value).collect();
            format!("{{ {} }}", items.join(", "))
        }
        Json::Object(rows) if rows.is_empty() => "{}".to_owned(),
        Json::Object(rows) => {
            let rows: Vec<String> = rows
                .iter()
                .map(|(key, value)| format!("[\"{key}\"] = {}", lua_value(value)))
                .collect();
            format!("{{ {} }}", rows.join(", "))
        }
        Json::Number(number)
            if number.is_f64() && number.as_f64().is_some_and(|n| n.fract() == 0.0) =>
        {
            format!("{}", number.as_f64().unwrap_or_default())
        }
        other => other.to_string(),
    }
}
