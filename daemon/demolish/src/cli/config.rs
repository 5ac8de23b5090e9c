//! `demolish config`

use std::path::PathBuf;

use serde_json::{Value as Json, json};

use super::{Exit, Outcome};
use crate::config::{self, Layers, Scope, generate, read};

/// Print every setting, its value and where the value comes from; exit with 2 if a setting is wrong
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  demolish config\n  demolish config --json | jq '.settings[\"complete.deadline_ms\"]'\n  demolish config --schema > demolish.schema.json"
)]
pub(super) struct Args {
    /// Print an object: settings (by name: value, from), problems, file
    #[arg(long, conflicts_with = "schema")]
    json: bool,
    /// Print the JSON schema of demolish.toml
    #[arg(long)]
    schema: bool,
    /// The project whose .demolish.toml counts
    #[arg(long, value_name = "DIR", default_value = ".")]
    project: PathBuf,
}

pub(super) fn run(args: &Args) -> Outcome {
    if args.schema {
        super::print(&format!("{:#}\n", generate::schema()));
        return Ok(Exit::Done);
    }
    let layers = Layers::of_process(Some(&args.project));
    let loaded = read::load(&layers);
    let from = |key: &str| {
        let decided = loaded.decided.iter().find(|(decided, _)| decided == key);
        decided.map_or("default", |(_, place)| place.as_str())
    };
    if args.json {
        let values = loaded.config.values();
        let settings = values
            .iter()
            .map(|(key, value)| ((*key).to_owned(), json!({"value": value, "from": from(key)})));
        super::print_json(&json!({
            "file": layers.user_file,
            "settings": settings.collect::<serde_json::Map<_, _>>(),
            "problems": loaded.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }));
    } else {
        super::print(&listing(&loaded.config, from));
        for problem in &loaded.problems {
            super::warn(problem);
        }
    }
    Ok(if loaded.problems.is_empty() { Exit::Done } else { Exit::Bad })
}

/// The settings as TOML that could be read back, with the origin of each as a comment.
fn listing<'f>(settings: &config::Config, from: impl Fn(&str) -> &'f str) -> String {
    let mut text = String::new();
    let table = config::settings();
    let mut section = "";
    for (key, value) in settings.values() {
        if table.iter().any(|row| row.key == key && row.scope == Scope::Editor) {
            continue;
        }
        let (this, field) = key.split_once('.').unwrap_or(("", key));
        if this != section {
            section = this;
            text.push_str(&format!("{}[{section}]\n", if text.is_empty() { "" } else { "\n" }));
        }
        let origin = from(key);
        let origin = if origin == "default" { String::new() } else { format!("  # {origin}") };
        match &value {
            Json::Null => text.push_str(&format!("# {field} is not set\n")),
            Json::Object(rows) if rows.is_empty() => {
                text.push_str(&format!("{field} = {{}}{origin}\n"))
            }
            Json::Object(rows) => {
                for (name, row) in rows {
                    text.push_str(&format!("{field}.{name} = {row}{origin}\n"));
                }
            }
            value => text.push_str(&format!("{field} = {value}{origin}\n")),
        }
    }
    text
}
