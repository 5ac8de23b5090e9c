//! Where the arms write: statements of real functions, in packages that the model was not trained on, in files that compile.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use lang::{Grammar, Language};

use crate::bench::draw::{hash, pick};
use crate::bench::nano::corpus::{File, Held};
use crate::bench::replay::programs::{self, Program};

/// Statements that are left out together: the last ones of a block, as where a function is being written.
const STATEMENTS_MAX: usize = 4;
/// Lines that a hole has at most.
const LINES_MAX: usize = 8;
/// Holes of one file.
const HOLES_MAX: usize = 8;
/// A hole holds at least so many characters that are no blanks.
const CHARS_MIN: usize = 6;

/// A hole in a file.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) program: Program,
    pub(super) file: File,
    /// What is left out, in bytes of the file.
    pub(super) hole: Range<usize>,
}

impl Case {
    /// What the author wrote.
    pub(super) fn truth(&self) -> &str {
        &self.program.text[self.hole.clone()]
    }

    /// The document as the editor has it.
    pub(super) fn document(&self) -> Arc<str> {
        self.with("")
    }

    /// The document with something in the hole.
    pub(super) fn with(&self, written: &str) -> Arc<str> {
        let text = &self.program.text;
        [&text[..self.hole.start], written, &text[self.hole.end..]].concat().into()
    }
}

/// The packages of a language that were held out: each with its files, and the holes in them.
pub(super) struct Package {
    pub(super) held: Held,
    pub(super) cases: Vec<Case>,
}

/// The held-out packages of a language.
///
/// # Errors
/// There are none: one sentence.
pub(super) fn packages(folder: &Path, language: &'static Language) -> Result<Vec<Package>, String> {
    let held_out = held_out(folder)?;
    let all = programs::packages(folder, language)?;
    let ours = all.into_iter().filter(|programs| held_out.contains(&programs[0].package));
    Ok(ours.map(|programs| package(language, programs)).collect())
}

fn held_out(folder: &Path) -> Result<Vec<String>, String> {
    let path = folder.join("heldout.json");
    let failed = |error: &dyn std::fmt::Display| {
        format!(
            "{} cannot be read ({error}); `daemon/nano/build.sh projects` writes it",
            path.display()
        )
    };
    let text = std::fs::read_to_string(&path).map_err(|error| failed(&error))?;
    serde_json::from_str(&text).map_err(|error| failed(&error))
}

fn package(language: &'static Language, programs: Vec<Program>) -> Package {
    let file = |program: &Program| File {
        package: program.package.clone(),
        path: shown(program),
        text: program.text.to_string(),
    };
    let files = programs.iter().map(file).collect();
    let cases = programs.iter().flat_map(|program| {
        let grammar = Grammar::new(language, &program.path);
        let file = file(program);
        let case = move |hole| Case { program: program.clone(), file: file.clone(), hole };
        holes(grammar, program).into_iter().map(case)
    });
    let cases = cases.collect();
    Package { held: Held { language: language.id(), files }, cases }
}

/// The path within the package.
fn shown(program: &Program) -> String {
    let path = program.path.to_string_lossy();
    let sign = format!("/{}/", program.package);
    path.split_once(&sign).map_or_else(|| path.clone().into_owned(), |(_, rest)| rest.to_owned())
}

/// Some holes of a program, which its name draws.
fn holes(grammar: Grammar, program: &Program) -> Vec<Range<usize>> {
    let text = &program.text;
    let Some(syntax) = grammar.parse(text) else { return Vec::new() };
    let blocks = syntax.function_blocks();
    let fits = |hole: &Range<usize>| {
        let said = text[hole.clone()].chars().filter(|letter| !letter.is_whitespace()).count();
        let starts_line = text[..hole.start].ends_with([' ', '\t', '\n']);
        let ends_line = text[hole.end..].starts_with('\n');
        said >= CHARS_MIN
            && starts_line
            && ends_line
            && text[hole.clone()].lines().count() <= LINES_MAX
            && !is_comment(grammar, &text[hole.clone()])
    };
    let mut found: Vec<Range<usize>> = Vec::new();
    for block in &blocks {
        let Some(last) = block.last() else { continue };
        let drawn = hash(&["hole", &program.package, &shown(program), &last.end.to_string()]);
        let count = 1 + pick(drawn, STATEMENTS_MAX.min(block.len()));
        let hole = block[block.len() - count].start..last.end;
        if fits(&hole) {
            found.push(hole);
        }
    }
    found.sort_by_key(|hole| {
        hash(&["order", &program.package, &shown(program), &hole.start.to_string()])
    });
    found.truncate(HOLES_MAX);
    found
}

fn is_comment(grammar: Grammar, text: &str) -> bool {
    let sign = grammar.language().comment().line.as_str();
    let code = text.trim_start();
    code.starts_with(sign) || code.starts_with("/*") || code.starts_with("\"\"\"")
}
