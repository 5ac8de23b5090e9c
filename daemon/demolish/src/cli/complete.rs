//! `demolish complete FILE:LINE:COL`

use std::fmt::Write as _;

use serde_json::Value as Json;

use super::place::Place;
use super::{Exit, Outcome, control};
use crate::features::inline_completion::object_of_list;
use crate::features::verb;

/// Print what would be suggested at a place, with the language server's verdict and the candidates it refused
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The suggestion is clean when the language server has seen it in place and objects to nothing that it brings in; else the
verdict says what was found, or why nothing is known. Exits with 1 when there is no suggestion.

Examples:
  demolish complete src/app.py:12:20
  demolish complete src/app.ts:3:1 --json | jq '.verdict.kind'")]
pub(super) struct Args {
    /// Where: line and column count from 1, the column in characters; the text goes in before that character
    #[arg(value_name = "FILE:LINE:COL")]
    place: Place,
    /// Print an object: suggestion, range, verdict, alternatives, refused, timings_ms, work, model, server (positions as in
    /// the language server protocol: from 0, in UTF-16 units)
    #[arg(long)]
    json: bool,
    /// Do it in this process, although a daemon is running
    #[arg(long)]
    no_daemon: bool,
}

pub(super) fn run(args: &Args) -> Outcome {
    let (path, text) = args.place.read()?;
    let offset = args.place.offset(&text)?;
    let config = super::settings(path.parent());
    let asked = verb::Asked::new(path, text, Some(offset..offset), &config);
    let object = object_of_list(&control::answered(verb::COMPLETE, &asked, args.no_daemon)?);
    if args.json {
        super::print_json(&object);
    } else {
        super::print(&told(&object));
    }
    Ok(if object["suggestion"].is_null() { Exit::No } else { Exit::Done })
}

/// For people.
fn told(object: &Json) -> String {
    let mut out = String::new();
    match object["suggestion"].as_str() {
        Some(suggestion) => {
            let _ = writeln!(out, "{suggestion}");
            let _ = writeln!(out, "\n  verdict: {}", super::verdict(&object["verdict"]));
        }
        None => out.push_str("no suggestion\n"),
    }
    for refused in object["refused"].as_array().into_iter().flatten() {
        let text = refused["text"].as_str().unwrap_or_default().trim();
        let _ = writeln!(
            out,
            "  refused: {text}\n           {}",
            super::diagnostic(&refused["diagnostic"])
        );
    }
    let ms = object["timings_ms"]["total"].as_f64().unwrap_or_default();
    let work = &object["work"];
    let _ = writeln!(
        out,
        "  {ms:.0} ms, {} checks, {} tokens, {}",
        work["checks"],
        work["tokens"],
        object["model"].as_str().unwrap_or("?")
    );
    out
}
