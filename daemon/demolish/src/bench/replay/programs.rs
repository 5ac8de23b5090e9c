//! Real programs: the files of the packages that `daemon/nano/build.sh projects` lays out, each in its own project.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lang::Language;

use crate::bench::draw::hash;

/// Lines of a program: shorter ones have nothing to find, longer ones take long to type in.
const LINES: std::ops::RangeInclusive<usize> = 8..=160;
/// Files of one package that are typed in, so that the biggest does not decide.
const FILES_MAX: usize = 40;
/// Folders below a package's own that are looked through.
const DEPTH_MAX: usize = 8;
/// Files that declare and hold no code of their own, and what is no source.
const SKIPPED: [&str; 3] = [".d.ts", ".min.js", ".pyi"];
/// Kinds of files that a server checks only for syntax.
const UNCHECKED: [&str; 2] = ["javascript", "javascriptreact"];

/// A file that somebody wrote.
#[derive(Debug, Clone)]
pub(in crate::bench) struct Program {
    /// The package's name.
    pub(in crate::bench) package: String,
    /// Where it is in its project.
    pub(in crate::bench) path: PathBuf,
    /// What it holds.
    pub(in crate::bench) text: Arc<str>,
}

/// The packages of a language with the programs that are chosen of each, in the order of hashes of their names.
///
/// # Errors
/// There are none: one sentence.
pub(in crate::bench) fn packages(
    folder: &Path,
    language: &'static Language,
) -> Result<Vec<Vec<Program>>, String> {
    let mut found: BTreeMap<u64, Vec<Program>> = BTreeMap::new();
    let root = folder.join(language.id());
    for package in children(&root).filter(|path| path.is_dir() && !is_hidden(path)) {
        let name = package.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut programs = Vec::new();
        collect(&package, 0, &mut |path| programs.extend(program(&name, path, language)));
        let key = |program: &Program| {
            let path = program.path.strip_prefix(&package).unwrap_or(&program.path);
            hash(&[&name, &path.to_string_lossy()])
        };
        programs.sort_by_key(key);
        programs.truncate(FILES_MAX);
        if !programs.is_empty() {
            found.insert(hash(&[&name]), programs);
        }
    }
    if found.is_empty() {
        return Err(format!(
            "{} holds no packages; `daemon/nano/build.sh projects` writes them",
            root.display()
        ));
    }
    Ok(found.into_values().collect())
}

fn program(package: &str, path: &Path, language: &'static Language) -> Option<Program> {
    let name = path.file_name()?.to_str()?;
    let is_own = lang::detect(path).is_some_and(|found| found.id() == language.id());
    let skipped = SKIPPED.iter().any(|ending| name.ends_with(ending));
    if !is_own || skipped || UNCHECKED.contains(&language.lsp_id(path)) {
        return None;
    }
    let text = std::fs::read_to_string(path).ok()?;
    let fits = LINES.contains(&text.lines().count()) && !text.contains('\r');
    fits.then(|| Program { package: package.to_owned(), path: path.to_owned(), text: text.into() })
}

fn collect(folder: &Path, depth: usize, take: &mut impl FnMut(&Path)) {
    for path in children(folder) {
        let is_link = path.is_symlink();
        if path.is_dir() && !is_link && depth < DEPTH_MAX && !is_hidden(&path) {
            collect(&path, depth + 1, take);
        } else if path.is_file() && !is_link {
            take(&path);
        }
    }
}

fn children(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    all.sort();
    all.into_iter()
}

fn is_hidden(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.') || name == "node_modules" || name == "testdata"
}
