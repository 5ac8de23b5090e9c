//! `demolish journal`

use std::fmt::Write as _;
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use super::{Exit, Failure, Outcome, clock};
use crate::journal;
use crate::journal::read::{self, Document, Journal};

/// How long a name of a restored file may be.
const NAME_BYTES_MAX: usize = 80;

/// Show what editors had open, and what they accepted, when the machine or they crashed
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  demolish journal
  demolish journal show last
  demolish journal restore last --dir ~/rescued

A journal holds the text of open documents. It is removed when its editor closes; what a crash leaves is kept for 14
days. `journal.enabled = false` keeps none. Exits with 1 when there is none.")]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Print an object
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// The journals there are, the latest first
    List,
    /// What was open, with its last text, and which edits were accepted
    Show {
        /// Its id, the beginning of it, or `last`
        id: String,
    },
    /// Write the texts into a folder, each into a file of its own; nothing is overwritten
    Restore {
        /// Its id, the beginning of it, or `last`
        id: String,
        /// The folder; made if it is not there
        #[arg(long)]
        dir: PathBuf,
    },
    /// Remove a journal whose editor is gone, or all of them
    Remove {
        /// Its id, the beginning of it, `last`, or `all`
        id: String,
    },
}

pub(super) fn run(args: &Args) -> Outcome {
    let dir = journal::dir();
    let journals = read::all(&dir);
    match &args.verb {
        None | Some(Verb::List) => Ok(list(&journals, args.json)),
        Some(Verb::Show { id }) => {
            let journal = find(&journals, id)?;
            if args.json {
                super::print_json(&whole(journal));
            } else {
                super::print(&told(journal));
            }
            Ok(Exit::Done)
        }
        Some(Verb::Restore { id, dir }) => restore(find(&journals, id)?, dir, args.json),
        Some(Verb::Remove { id }) => remove(&journals, id, &dir),
    }
}

fn list(journals: &[Journal], as_json: bool) -> Exit {
    if as_json {
        super::print_json(&json!({ "journals": journals.iter().map(row).collect::<Vec<_>>() }));
    } else if journals.is_empty() {
        super::print("no journals: no editor is open, and none has crashed\n");
    } else {
        let mut out =
            format!("{:<20} {:<6} {:<19} {:>4}  SERVER\n", "ID", "STATE", "LAST (UTC)", "OPEN");
        for journal in journals {
            let _ = writeln!(
                out,
                "{:<20} {:<6} {:<19} {:>4}  {}",
                journal.id,
                if journal.in_use { "in use" } else { "left" },
                clock::date_time(journal.last_ms),
                journal.documents.len() + journal.left_out.len(),
                server(journal),
            );
        }
        super::print(&out);
    }
    if journals.is_empty() { Exit::No } else { Exit::Done }
}

fn server(journal: &Journal) -> String {
    let command = journal.head.command.join(" ");
    if command.is_empty() { "demolish".to_owned() } else { command }
}

/// A journal without its texts.
fn row(journal: &Journal) -> Json {
    let documents: Vec<Json> = journal
        .documents
        .iter()
        .map(|document| json!({ "uri": document.uri, "language": document.language, "version": document.version, "bytes": document.text.len() }))
        .collect();
    json!({
        "id": journal.id,
        "inUse": journal.in_use,
        "startedMs": journal.head.started_ms,
        "lastMs": journal.last_ms,
        "command": journal.head.command,
        "cwd": journal.head.cwd,
        "shimPid": journal.head.pid,
        "editorPid": journal.head.editor_pid,
        "documents": documents,
        "leftOut": journal.left_out,
        "accepted": journal.accepted.len(),
        "tornBytes": journal.torn,
    })
}

/// A journal with its texts and edits.
fn whole(journal: &Journal) -> Json {
    let mut object = row(journal);
    for (row, document) in
        object["documents"].as_array_mut().into_iter().flatten().zip(&journal.documents)
    {
        row["text"] = document.text.as_str().into();
    }
    let accepted = journal.accepted.iter().map(|accepted| {
        let kind = if accepted.suggestion { "suggestion" } else { "edit" };
        json!({ "atMs": accepted.at_ms, "kind": kind, "params": accepted.params })
    });
    object["accepted"] = accepted.collect();
    object
}

fn told(journal: &Journal) -> String {
    let mut out = String::new();
    let state = if journal.in_use { "in use" } else { "its editor is gone" };
    let _ = writeln!(out, "journal   {} ({state})", journal.id);
    let _ = writeln!(out, "server    {}, in {}", server(journal), journal.head.cwd);
    let _ = writeln!(
        out,
        "time      from {} to {} UTC",
        clock::date_time(journal.head.started_ms),
        clock::date_time(journal.last_ms),
    );
    if journal.torn > 0 {
        let _ = writeln!(out, "torn      the last {} bytes are no whole entry", journal.torn);
    }
    for uri in &journal.left_out {
        let _ = writeln!(out, "too large {uri}: its text was not kept");
    }
    for accepted in &journal.accepted {
        let what = if accepted.suggestion { "suggestion" } else { "edit" };
        let _ = writeln!(
            out,
            "accepted  {} UTC: {what}{}",
            clock::date_time(accepted.at_ms),
            words(&accepted.params)
        );
    }
    for document in &journal.documents {
        let Document { uri, language, version, text } = document;
        let _ = writeln!(
            out,
            "\n== {uri} ({language}, version {version}, {})",
            clock::bytes(text.len() as u64)
        );
        out.push_str(text);
        if !text.is_empty() && !text.ends_with('\n') {
            out.push('\n');
        }
    }
    out
}

/// What an accepted edit was, in a few words.
fn words(params: &Json) -> String {
    let mut uris: Vec<&str> = Vec::new();
    if let Some(uri) = params["textDocument"]["uri"].as_str() {
        uris.push(uri);
    }
    let changes = params["edit"]["changes"].as_object();
    uris.extend(changes.into_iter().flat_map(|changes| changes.keys().map(String::as_str)));
    let parts = params["edit"]["documentChanges"].as_array().map_or(&[][..], Vec::as_slice);
    uris.extend(parts.iter().filter_map(|part| part["textDocument"]["uri"].as_str()));
    let label = params["label"].as_str().map(|label| format!(" \"{label}\"")).unwrap_or_default();
    let text = params["text"].as_str().map(|text| format!(" {text:?}")).unwrap_or_default();
    let place = if uris.is_empty() { String::new() } else { format!(" in {}", uris.join(", ")) };
    format!("{label}{text}{place}")
}

fn find<'j>(journals: &'j [Journal], id: &str) -> Result<&'j Journal, Failure> {
    let mut found = journals.iter().filter(|journal| id == "last" || journal.id.starts_with(id));
    match (found.next(), found.next()) {
        (Some(journal), None) => Ok(journal),
        (Some(journal), Some(_)) if id == "last" || journal.id == id => Ok(journal),
        (Some(_), Some(_)) => Err(Failure::bad(format!(
            "several journals begin with `{id}`; `demolish journal` lists them"
        ))),
        (None, _) => Err(Failure::bad(format!("no journal `{id}`; `demolish journal` lists them"))),
    }
}

fn restore(journal: &Journal, dir: &Path, as_json: bool) -> Outcome {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(dir).map_err(|error| {
        Failure::missing(format!("the folder {} cannot be made ({error})", dir.display()))
    })?;
    let mut written = Vec::new();
    for (at, document) in journal.documents.iter().enumerate() {
        let path = dir.join(format!("{:02}-{}", at + 1, file_name(&document.uri)));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(document.text.as_bytes())).map_err(|error| {
            Failure::missing(format!("{} cannot be written ({error})", path.display()))
        })?;
        written.push((path, document));
    }
    if as_json {
        let rows: Vec<Json> = written
            .iter()
            .map(|(path, document)| json!({ "path": path, "uri": document.uri }))
            .collect();
        super::print_json(&json!({ "restored": rows }));
    } else {
        for (path, document) in &written {
            super::print(&format!("{}  <-  {}\n", path.display(), document.uri));
        }
    }
    Ok(if written.is_empty() { Exit::No } else { Exit::Done })
}

/// The last part of a URI as the name of a file; nothing of it can lead out of a folder.
fn file_name(uri: &str) -> String {
    let last = uri.rsplit('/').next().unwrap_or_default();
    let harmless = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '+' | '%');
    let name: String = last.chars().map(|c| if harmless(c) { c } else { '_' }).collect();
    let mut end = name.len().min(NAME_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    if end == 0 { "untitled".to_owned() } else { name[..end].to_owned() }
}

fn remove(journals: &[Journal], id: &str, dir: &Path) -> Outcome {
    let gone: Vec<&Journal> = match id {
        "all" => journals.iter().filter(|journal| !journal.in_use).collect(),
        _ => vec![find(journals, id)?],
    };
    if let Some(journal) = gone.iter().find(|journal| journal.in_use) {
        let message =
            format!("the journal {} is in use; it goes when its editor closes", journal.id);
        return Err(Failure::bad(message));
    }
    for journal in &gone {
        let path = dir.join(&journal.id).with_extension(journal::EXTENSION);
        std::fs::remove_file(&path).map_err(|error| {
            Failure::missing(format!("{} cannot be removed ({error})", path.display()))
        })?;
        super::print(&format!("removed {}\n", journal.id));
    }
    Ok(if gone.is_empty() { Exit::No } else { Exit::Done })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_restored_files_stay_in_their_folder() {
        assert_eq!(file_name("file:///home/a/shop.py"), "shop.py");
        assert_eq!(file_name("untitled:Untitled-1"), "untitled_Untitled-1");
        assert_eq!(file_name("file:///a/"), "untitled");
        assert_eq!(file_name("x\\..\\..\\y"), "x_.._.._y");
        assert_eq!(file_name(&"ä".repeat(100)).len(), NAME_BYTES_MAX);
    }

    #[test]
    fn an_edit_in_words() {
        let params = json!({ "label": "rename", "edit": { "changes": { "file:///a": [] }, "documentChanges": [{ "textDocument": { "uri": "file:///b" } }] } });
        assert_eq!(words(&params), " \"rename\" in file:///a, file:///b");
        assert_eq!(
            words(&json!({ "textDocument": { "uri": "u" }, "text": "x\n" })),
            " \"x\\n\" in u"
        );
        assert_eq!(words(&Json::Null), "");
    }
}
