//! `demolish model list`: the models on this machine.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use engine::{Engine, LoadOptions, Survey};
use serde_json::{Value as Json, json};

use super::super::{Exit, Failure, Outcome, clock, print, print_json};
use super::settings;
use crate::config;
use crate::model::shelf::{self, Place};
use crate::model::{self, Role};

pub(super) fn run(json: bool) -> Outcome {
    let settings = settings();
    let typing = model::find(&settings);
    let agent = settings.agent_path.is_some().then(|| model::find_for(&settings, Role::Agent));
    let roles = |dir: &Path| -> Vec<&'static str> {
        let is = |found: Option<&PathBuf>| found.is_some_and(|found| found == dir);
        let types = is(typing.as_ref().ok());
        let works = match &agent {
            Some(agent) => is(agent.as_ref().ok()),
            None => types,
        };
        [(types, "typing"), (works, "agent")]
            .into_iter()
            .filter(|role| role.0)
            .map(|role| role.1)
            .collect()
    };
    let rows: Vec<Json> = shelf::models(&settings)
        .iter()
        .map(|place| described(place, &roles(&place.dir), &settings))
        .collect();
    if json {
        print_json(&Json::Array(rows));
    } else {
        print(&told(&rows));
    }
    match typing.and(agent.unwrap_or_else(|| Ok(PathBuf::new()))) {
        Ok(_) => Ok(Exit::Done),
        Err(reason) => Err(Failure::missing(reason)),
    }
}

/// What can be said of a model's folder without loading it.
fn described(place: &Place, roles: &[&str], settings: &config::Model) -> Json {
    let dir = &place.dir;
    let options = LoadOptions { ..model::options(settings) };
    let incomplete = shelf::incomplete(dir);
    let survey = match &incomplete {
        Some(reason) => Err(reason.clone()),
        None => surveyed(dir, options),
    };
    let survey_ref = survey.as_ref().ok();
    json!({
        "name": place.name,
        "path": dir,
        "origin": place.origin.word(),
        "used": !roles.is_empty(),
        "role": roles.first(),
        "roles": roles,
        "complete": incomplete.is_none() && dir.is_dir(),
        "architecture": survey_ref.map(|survey| &survey.info.architecture),
        "parameters": survey_ref.map(|survey| survey.info.parameters),
        "quantization": survey_ref.and_then(|survey| survey.info.quantization.as_ref()),
        "bytes": shelf::bytes(dir),
        "fits": survey_ref.map(|survey| survey.memory.fits),
        "error": survey.as_ref().err(),
    })
}

fn surveyed(dir: &Path, options: LoadOptions) -> Result<Survey, String> {
    let path = dir.join("config.json");
    // A pipe would have the verb wait for ever.
    if path.exists() && !path.is_file() {
        return Err("config.json: not a regular file".to_owned());
    }
    std::fs::File::open(&path).map_err(|error| format!("config.json: {error}"))?;
    Engine::survey(dir, options).map_err(|error| {
        let said = error.to_string();
        said.strip_prefix(&format!("{}/", dir.display())).unwrap_or(&said).to_owned()
    })
}

fn told(rows: &[Json]) -> String {
    let text = |row: &Json, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let width = rows.iter().map(|row| text(row, "name").chars().count()).max().unwrap_or(0);
    let mut all = String::new();
    for row in rows {
        let mark = if row["used"] == true { "*" } else { " " };
        let name = text(row, "name");
        let _ = write!(all, "{mark} {name:width$}  ");
        if let Some(error) = row["error"].as_str() {
            let _ = writeln!(all, "{error}");
        } else {
            let packing = row["quantization"].as_str().unwrap_or("unpacked");
            let packing = packing.split(',').next().unwrap_or_default();
            let fits = if row["fits"] == true { "fits" } else { "does not fit" };
            let roles: Vec<&str> =
                row["roles"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
            let roles = match roles[..] {
                [] => String::new(),
                _ => format!("  ({})", roles.join(", ")),
            };
            let _ = writeln!(
                all,
                "{}, {} weights, {packing}, {}, {fits}{roles}",
                text(row, "architecture"),
                super::info::counted(row["parameters"].as_u64().unwrap_or(0)),
                clock::bytes(row["bytes"].as_u64().unwrap_or(0)),
            );
        }
        let _ = writeln!(all, "  {:width$}  {}", "", text(row, "path"));
    }
    all
}
