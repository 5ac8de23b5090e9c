//! Real text that lies on every machine that can build this program: sources of crates, of Python and of language servers, tables and
//! logs. Nothing of it is in the repository.

use std::path::{Path, PathBuf};

/// No more of one file is taken, from its beginning.
const FILE_BYTES_MAX: usize = 200_000;
/// Smaller files are left out.
const FILE_BYTES_MIN: u64 = 500;
/// Larger ones too: they are no sources.
const FILE_BYTES_READ_MAX: u64 = 4_000_000;
/// Folders within folders that are looked into.
const DEPTH_MAX: usize = 12;

/// A real text.
pub(super) struct Text {
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) text: String,
}

/// One kind of text: where it is, how its files end, what their paths hold, and which share of the whole it has.
struct Kind {
    name: &'static str,
    roots: Vec<PathBuf>,
    ends: &'static [&'static str],
    holds: &'static [&'static str],
    percent: usize,
}

/// Texts of about `bytes` bytes, the same ones each time on the same machine.
pub(super) fn gather(bytes: usize) -> Vec<Text> {
    kinds().iter().flat_map(|kind| take(kind, bytes / 100 * kind.percent)).collect()
}

fn kinds() -> Vec<Kind> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools");
    let cargo = crate::env_vars::cargo_home();
    let crates: Vec<PathBuf> = cargo.into_iter().map(|home| home.join("registry/src")).collect();
    let packages = vec![tools.join("pkgs")];
    let python: Vec<PathBuf> =
        (9..20).map(|minor| PathBuf::from(format!("/usr/lib/python3.{minor}"))).collect();
    let kind = |name, roots: &[PathBuf], ends, holds, percent| Kind {
        name,
        roots: roots.to_vec(),
        ends,
        holds,
        percent,
    };
    let generated = &["bindings", "generated", "tables", "unicode", "consts", "syscall"];
    vec![
        kind("Rust", &crates, &[".rs"], &[], 28),
        kind("generated", &crates, &[".rs"], generated, 14),
        kind("tests", &crates, &[".rs"], &["/tests/"], 8),
        kind("C", &crates, &[".c", ".h"], &[], 10),
        kind("Python", &[python, packages.clone()].concat(), &[".py"], &[], 14),
        kind("JavaScript", &packages, &[".ts", ".js", ".mjs", ".cjs"], &[], 14),
        kind(
            "tables",
            &[crates.clone(), packages.clone()].concat(),
            &[".json", ".lock", ".csv", ".tsv", ".toml", ".snap"],
            &[],
            16,
        ),
        kind("logs", &[tools.join("log"), PathBuf::from("/var/log")], &[".log"], &[], 6),
    ]
}

fn take(kind: &Kind, bytes: usize) -> Vec<Text> {
    let mut files = Vec::new();
    for root in &kind.roots {
        walk(root, kind, 0, &mut files);
    }
    files.sort();
    let all: u64 = files.iter().map(|(_, len)| (*len).min(FILE_BYTES_MAX as u64)).sum();
    // Every so many files, so that the whole alphabet of packages is in it.
    let every = (usize::try_from(all).unwrap_or(usize::MAX) / bytes.max(1)).max(1);
    let mut taken = Vec::new();
    let mut left = bytes;
    for (path, _) in files.iter().step_by(every) {
        let Some(text) = (left > 0).then(|| read(path)).flatten() else { continue };
        left = left.saturating_sub(text.len());
        taken.push(Text { kind: kind.name, name: short(path), text });
    }
    taken
}

fn walk(dir: &Path, kind: &Kind, depth: usize, files: &mut Vec<(PathBuf, u64)>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let (path, Ok(what)) = (entry.path(), entry.file_type()) else { continue };
        if what.is_dir() {
            if depth < DEPTH_MAX {
                walk(&path, kind, depth + 1, files);
            }
            continue;
        }
        let text = path.to_string_lossy();
        let fits = what.is_file()
            && kind.ends.iter().any(|end| text.ends_with(end))
            && (kind.holds.is_empty() || kind.holds.iter().any(|part| text.contains(part)));
        if fits && let Ok(facts) = entry.metadata() {
            let len = facts.len();
            if (FILE_BYTES_MIN..=FILE_BYTES_READ_MAX).contains(&len) {
                files.push((path, len));
            }
        }
    }
}

fn read(path: &Path) -> Option<String> {
    let mut text = std::fs::read_to_string(path).ok()?;
    let mut end = FILE_BYTES_MAX.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    Some(text)
}

/// The end of a path: the package and the file.
fn short(path: &Path) -> String {
    let parts: Vec<_> = path.iter().rev().take(3).map(|part| part.to_string_lossy()).collect();
    parts.into_iter().rev().collect::<Vec<_>>().join("/")
}
