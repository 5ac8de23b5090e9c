//! `demolish fix FILE[:LINE[:COL]]`

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value as Json;
use text::{Document, Edit, Position, Revision};

use super::place::Place;
use super::{Exit, Failure, Outcome, control};
use crate::features::{answer, verb};

/// Search for a change that removes a diagnostic, have the language server check every candidate, and print the best clean one
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without a line the file's first error is fixed. Exits with 1 when nothing was found that the language server accepts; nothing
is written without --apply.

Examples:
  demolish fix src/app.py
  demolish fix src/app.ts:14 --apply
  demolish fix src/app.py --json | jq -r '.proposal.diff'")]
pub(super) struct Args {
    /// Where: line and column count from 1, the column in characters
    #[arg(value_name = "FILE[:LINE[:COL]]")]
    place: Place,
    /// Print an object: proposal (origin, edits, diff), target, before, after, candidates, refused, reason, timings_ms, work
    #[arg(long)]
    json: bool,
    /// Write the change into the file
    #[arg(long)]
    apply: bool,
    /// Do it in this process, although a daemon is running
    #[arg(long)]
    no_daemon: bool,
}

pub(super) fn run(args: &Args) -> Outcome {
    let (path, text) = args.place.read()?;
    let range = args.place.range(&text)?;
    let config = super::settings(path.parent());
    let asked = verb::Asked::new(path.clone(), text, range, &config);
    let object = control::answered(verb::FIX, &asked, args.no_daemon)?;
    let applied = args.apply && !object["proposal"].is_null();
    if applied {
        write(&path, &asked.text, &fixed(&asked.text, &object)?)?;
    }
    if args.json {
        super::print_json(&object);
    } else {
        super::print(&told(&object, applied));
    }
    let nothing_wrong = object["target"].is_null();
    Ok(if object["proposal"].is_null() && !nothing_wrong { Exit::No } else { Exit::Done })
}

/// The text with the proposal's edits applied.
fn fixed(text: &str, object: &Json) -> Result<String, Failure> {
    let document = Document::new(Revision(0), text);
    let number = |json: &Json| json.as_u64().and_then(|number| u32::try_from(number).ok());
    let offset = |place: &Json| {
        let position =
            Position { line: number(&place["line"])?, character: number(&place["character"])? };
        Some(document.offset(position, answer::ENCODING))
    };
    let edit = |edit: &Json| {
        let range = offset(&edit["range"]["start"])?..offset(&edit["range"]["end"])?;
        Some(Edit { range, text: edit["newText"].as_str()?.to_owned() })
    };
    let edits = object["proposal"]["edits"].as_array().map_or(&[][..], Vec::as_slice);
    let edits: Option<Vec<Edit>> = edits.iter().map(edit).collect();
    let applied = edits.and_then(|edits| text::apply_edits(text, &edits).ok());
    applied.ok_or_else(|| Failure::bad("the proposal's edits do not fit the file"))
}

/// Writes the fixed text, unless the file is no longer what the fix was made for. Whole or not at all.
#[allow(clippy::disallowed_methods, reason = "`--apply` is the user's word to write")]
fn write(path: &Path, before: &str, after: &str) -> Result<(), Failure> {
    let shown = path.display();
    let unwritable =
        |error: std::io::Error| Failure::bad(format!("{shown} cannot be written ({error})"));
    if std::fs::read(path).map_err(unwritable)? != before.as_bytes() {
        return Err(Failure::bad(format!(
            "{shown} has changed in the meantime; nothing was written, run it again"
        )));
    }
    let mut beside = path.file_name().unwrap_or_default().to_os_string();
    beside.push(format!(".demolish-{}", std::process::id()));
    let beside = path.with_file_name(beside);
    let written = std::fs::write(&beside, after)
        .and_then(|()| std::fs::set_permissions(&beside, std::fs::metadata(path)?.permissions()))
        .and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|error| {
        let _ = std::fs::remove_file(&beside);
        unwritable(error)
    })
}

/// For people.
fn told(object: &Json, applied: bool) -> String {
    let mut out = String::new();
    let list = |name: &str| object[name].as_array().map_or(&[][..], Vec::as_slice);
    for diagnostic in list("before") {
        let _ = writeln!(out, "before: {}", super::diagnostic(diagnostic));
    }
    match object["proposal"].as_object() {
        Some(proposal) => {
            let _ = writeln!(out, "\n{}", proposal["diff"].as_str().unwrap_or_default());
            for diagnostic in list("after") {
                let _ = writeln!(out, "after:  {}", super::diagnostic(diagnostic));
            }
            let origin = proposal["origin"].as_str().unwrap_or_default().replace('_', " ");
            let _ = writeln!(
                out,
                "  clean after it ({origin}){}",
                if applied { ", written" } else { "" }
            );
        }
        None => {
            let _ = writeln!(
                out,
                "no fix: {}",
                object["reason"].as_str().unwrap_or("nothing was found")
            );
        }
    }
    let ms = object["timings_ms"]["total"].as_f64().unwrap_or_default();
    let refused = list("refused").len();
    let _ = writeln!(
        out,
        "  {ms:.0} ms, {} candidates checked, {refused} refused",
        object["candidates"]
    );
    out
}
