//! `demolish model serve-path` and `demolish model remove`.

use std::fs;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::Path;

use engine::{Engine, LoadOptions};
use serde_json::json;

use super::super::{Exit, Failure, Outcome, clock, print, print_json};
use super::settings;
use crate::env_vars;
use crate::model;
use crate::model::hub::{self, manifest};
use crate::model::shelf::{self, Place};

/// Prints the absolute path of a model that another server may be given.
pub(super) fn serve_path(which: Option<&Path>, json: bool) -> Outcome {
    let settings = settings();
    let dir = match which {
        Some(asked) => shelf::resolve(&settings, asked).map_err(Failure::bad)?.dir,
        None => model::find(&settings).map_err(Failure::missing)?,
    };
    let dir =
        dir.canonicalize().map_err(|error| Failure::bad(format!("{}: {error}", dir.display())))?;
    let reason = shelf::incomplete(&dir).or_else(|| {
        let survey = Engine::survey(&dir, LoadOptions::AUTO);
        survey.err().map(|error| model::refused(Some(&dir), &error))
    });
    if json {
        print_json(&json!({"path": dir, "complete": reason.is_none(), "reason": reason}));
        return Ok(if reason.is_none() { Exit::Done } else { Exit::No });
    }
    match reason {
        None => {
            print(&format!("{}\n", dir.display()));
            Ok(Exit::Done)
        }
        Some(reason) => {
            let message = format!("{} is not to be served: {reason}", dir.display());
            Err(Failure { exit: Exit::No, message })
        }
    }
}

/// Removes a pulled model, once the user has said yes.
pub(super) fn remove(asked: &Path, is_sure: bool) -> Outcome {
    let settings = settings();
    let Place { name, dir, .. } = shelf::resolve(&settings, asked).map_err(Failure::bad)?;
    if manifest::manifest(&dir).is_none() && manifest::unfinished(&dir).is_none() {
        return Err(Failure::bad(format!(
            "{} was not brought by `demolish model pull`, and is left alone; remove the folder yourself",
            dir.display()
        )));
    }
    let used = [model::find(&settings), model::find_for(&settings, model::Role::Agent)];
    let note = if used.iter().flatten().any(|used| *used == dir) { " (it is in use)" } else { "" };
    let bytes = clock::bytes(shelf::bytes(&dir));
    if !is_sure && !confirmed(&format!("remove {name}{note}, {bytes}, {}?", dir.display()))? {
        return Err(Failure { exit: Exit::No, message: "nothing was removed".to_owned() });
    }
    let left = hub::remove(&dir).map_err(Failure::missing)?;
    if left > 0 {
        print(&format!(
            "{name} is removed; {} stays with {left} things that `demolish model pull` did not bring\n",
            dir.display()
        ));
        return Ok(Exit::Done);
    }
    if let Some(parent) = dir.parent()
        && env_vars::models_dir()
            .is_some_and(|models| parent.starts_with(&models) && parent != models)
    {
        // The folder of its organisation, unless there is more in it.
        let _ = fs::remove_dir(parent);
    }
    print(&format!("{name} is removed, {bytes} are free\n"));
    Ok(Exit::Done)
}

fn confirmed(question: &str) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::bad("nobody is there to ask; say --yes"));
    }
    let _ = write!(io::stderr(), "{question} [y/N] ").and_then(|()| io::stderr().flush());
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    Ok(read.is_ok() && ["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}
