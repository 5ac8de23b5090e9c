//! Everything that was said, as lines of JSON: a policy can be learnt anew from it, without servers and in a second.

use std::io::{self, BufRead as _, Write as _};
use std::path::{Path, PathBuf};

use lang::Language;
use serde::{Deserialize, Serialize};

use super::breaks::Kind;
use super::typing::{Note, Typed};
use super::{LeftOut, Replay, Replayed};

/// A program that was typed in.
#[derive(Serialize, Deserialize)]
struct Line {
    language: String,
    server: String,
    package: String,
    path: PathBuf,
    kind: Option<Kind>,
    notes: Vec<Note>,
    unknown: usize,
    #[serde(default)]
    times: Vec<f64>,
}

/// Adds a line for each program.
///
/// # Errors
/// The file cannot be written.
pub(super) fn append(
    out: &Path,
    language: &Language,
    server: &str,
    replayed: &[Replayed],
) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(out)?;
    for one in replayed {
        let line = Line {
            language: language.id().to_owned(),
            server: server.to_owned(),
            package: one.package.clone(),
            path: one.path.clone(),
            kind: one.kind,
            notes: one.typed.notes.clone(),
            unknown: one.typed.unknown,
            times: one.typed.times.clone().into_vec(),
        };
        writeln!(file, "{}", serde_json::to_string(&line)?)?;
    }
    Ok(())
}

/// The languages of a file that [`append`] has written.
///
/// # Errors
/// It cannot be read, or holds something else: one sentence.
pub(super) fn read(path: &Path) -> Result<Vec<Replay>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = std::fs::File::open(path).map_err(|error| failed(&error))?;
    let mut all: Vec<Replay> = Vec::new();
    for (number, line) in io::BufReader::new(file).lines().enumerate() {
        let line = line.map_err(|error| failed(&error))?;
        let line: Line = serde_json::from_str(&line)
            .map_err(|error| failed(&format!("line {}: {error}", number + 1)))?;
        let language = lang::by_id(&line.language)
            .ok_or_else(|| failed(&format!("no language is called {}", line.language)))?;
        let times = line.times.into_iter().collect();
        let typed = Typed { notes: line.notes, times, unknown: line.unknown };
        let replayed = Replayed { package: line.package, path: line.path, kind: line.kind, typed };
        match all.iter_mut().find(|replay| replay.language.id() == language.id()) {
            Some(replay) => replay.replayed.push(replayed),
            None => all.push(Replay {
                language,
                server: line.server,
                replayed: vec![replayed],
                left_out: LeftOut::default(),
            }),
        }
    }
    Ok(all)
}
