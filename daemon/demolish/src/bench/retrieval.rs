//! `demolish bench retrieval`: what it costs to ask a workspace of ten thousand files, and whether it knows the names that come next.
//!
//! The tree is real: the sources of the crates that this program is built from, as cargo keeps them, or any folder that is named. Places
//! are spread over its files; a query sees the file as it stands, with the rest of the cursor's line taken out of the text. A name
//! counts that the rest of the line holds and the prompt's own window does not.

use std::collections::HashSet;
use std::path::Path;
use std::time::Instant;

use recall::index::{Chunk, Limits, Query};

use super::report::{Report, Row, Samples};
use crate::{env_vars, memory, workspace};

/// Files of the tree.
const FILES: usize = 10_000;
/// Places that are asked about.
const PLACES: usize = 500;
/// One query is to take no longer, in microseconds.
const QUERY_US: f64 = 10_000.0;
/// What the prompt of a model with a context of 1024 tokens shows and has room for, in bytes.
const SHOWN: (usize, usize) = (1150, 288);
const BUDGET: usize = 1150;
/// How far from place to place, in lines: a prime, so that they are spread over files of any length.
const STRIDE: usize = 7919;
/// Shorter names are keywords and loop variables.
const NAME_BYTES_MIN: usize = 4;

/// Runs it over `tree`; `None`: cargo's sources.
///
/// # Errors
/// There is no tree with files in it: one sentence.
pub(crate) fn run(tree: Option<&Path>) -> Result<Report, String> {
    Ok(Report::new("retrieval", rows(tree)?))
}

/// The rows, for whoever has others beside them.
///
/// # Errors
/// There is no tree with files in it: one sentence.
pub(crate) fn rows(tree: Option<&Path>) -> Result<Vec<Row>, String> {
    let cargos = || env_vars::cargo_home().map(|home| home.join("registry/src"));
    let tree = tree
        .map(Path::to_owned)
        .or_else(cargos)
        .filter(|tree| tree.is_dir())
        .ok_or("there is no home folder with cargo's sources; name a tree with --tree")?;
    let before = memory::of_self();
    let started = Instant::now();
    let root = workspace::read_all(&tree, Limits { files: FILES, ..Limits::default() });
    let read = started.elapsed();
    let facts = root.facts();
    if facts.size.files == 0 {
        return Err(format!(
            "{} has no files of code; name another tree with --tree",
            tree.display()
        ));
    }
    let grown = memory::of_self().zip(before).map(|(after, before)| after.saturating_sub(before));
    let asked = ask(&root);
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let share = |found: usize| 100.0 * found as f64 / asked.wanted.max(1) as f64;
    let mut rows = vec![
        Row::new("retrieval_files", facts.size.files as f64, "files"),
        Row::new("retrieval_chunks", facts.size.chunks as f64, "chunks"),
        Row::new("retrieval_read_s", read.as_secs_f64(), "s"),
        Row::new("retrieval_index_mib", mib(facts.size.bytes as u64), "MiB")
            .at_most(mib(Limits::default().bytes as u64) + 1.0),
        Row::new("retrieval_p50_us", asked.times.quantile(0.5), "us"),
        Row::new("retrieval_p95_us", asked.times.quantile(0.95), "us").at_most(QUERY_US),
        Row::new("retrieval_names_found", share(asked.found), "%"),
        Row::new("retrieval_names_before", share(asked.before), "%").noted(
            "the same bytes of the file's own text before the window, in the place of chunks",
        ),
    ];
    if let Some(grown) = grown {
        rows.push(Row::new("retrieval_resident_mib", mib(grown), "MiB"));
    }
    if facts.left_out > 0 {
        let left_out = Row::new("retrieval_left_out", facts.left_out as f64, "files");
        rows.push(left_out.noted("no room within the limits of files and bytes"));
    }
    Ok(rows)
}

/// What came of all queries.
#[derive(Default)]
struct Asked {
    times: Samples,
    /// Names that were to come, and that the window does not show.
    wanted: usize,
    found: usize,
    before: usize,
}

fn ask(root: &workspace::Root) -> Asked {
    let index = root.index();
    let paths = index.paths();
    let mut asked = Asked::default();
    for place in 0..PLACES {
        let path = &paths[place * paths.len() / PLACES];
        let text = index.text(path).unwrap_or_default();
        let starts: Vec<usize> = text.match_indices('\n').map(|(at, _)| at + 1).collect();
        // Any line, but the same one each time.
        let Some(&start) = starts.get(place * STRIDE % starts.len().max(1)) else { continue };
        let end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        let line = &text[start..end];
        let cursor = start + line.len() - line.trim_start().len();
        let query = Query {
            path,
            prefix: &text[..cursor],
            suffix: &text[end..],
            shown: SHOWN,
            opened: &[],
            definitions: &[],
            kept: &[],
            budget: BUDGET,
        };
        let started = Instant::now();
        let chunks = index.query(&query);
        asked.times.push(started.elapsed().as_secs_f64() * 1e6);
        asked.compare(&query, &chunks, &text[cursor..end]);
    }
    asked
}

impl Asked {
    fn compare(&mut self, query: &Query<'_>, chunks: &[Chunk], rest: &str) {
        let end = |text: &str, bytes: usize| {
            text[border(text, text.len().saturating_sub(bytes))..].to_owned()
        };
        let near = end(query.prefix, SHOWN.0);
        let behind = &query.suffix[..border(query.suffix, SHOWN.1)];
        let shown: HashSet<&str> = names(&near).chain(names(behind)).collect();
        let wanted: HashSet<&str> = names(rest).filter(|name| !shown.contains(name)).collect();
        // The index has the line itself, which an editor's has not.
        let others = chunks
            .iter()
            .filter(|chunk| !(chunk.path == query.path && chunk.text.contains(rest.trim())));
        let told: HashSet<&str> = others.flat_map(|chunk| names(&chunk.text)).collect();
        let far = end(&query.prefix[..query.prefix.len() - near.len()], BUDGET);
        let before: HashSet<&str> = names(&far).collect();
        self.wanted += wanted.len();
        self.found += wanted.iter().filter(|name| told.contains(*name)).count();
        self.before += wanted.iter().filter(|name| before.contains(*name)).count();
    }
}

fn names(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|sign: char| !sign.is_alphanumeric() && sign != '_');
    words.filter(|word| {
        word.len() >= NAME_BYTES_MIN && !word.starts_with(|first: char| first.is_ascii_digit())
    })
}

fn border(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at += 1;
    }
    at
}
