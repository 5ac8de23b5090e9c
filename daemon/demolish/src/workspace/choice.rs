//! Which chunks of the workspace a prompt gets: chosen once per line, so that the beginning of the prompt stays as it is while
//! the user types, and the model has read it already.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use recall::index::{Chunk, Place, Query};

use super::{Root, lock};

/// Documents whose last choice is known, the latest.
const CHOICES_MAX: usize = 32;

/// Where the cursor is, and how much may be told.
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    /// The file, absolute.
    pub path: &'a Path,
    /// Its text.
    pub text: &'a str,
    /// The cursor, in bytes of the text.
    pub offset: usize,
    /// Files that the user has open, absolute.
    pub opened: &'a [PathBuf],
    /// Where names near the cursor are defined, with absolute paths, as far as somebody has told.
    pub definitions: &'a [Place],
    /// How many bytes before and behind the cursor the prompt shows anyway.
    pub shown: (usize, usize),
    /// Bytes of all chunks together.
    pub budget: usize,
}

/// The last choices, by document.
#[derive(Debug, Default)]
pub(super) struct Choices {
    last: Mutex<VecDeque<Choice>>,
}

#[derive(Debug)]
struct Choice {
    path: PathBuf,
    /// Everything but the line of the cursor.
    surroundings: u64,
    /// Whether the workspace was still being read.
    early: bool,
    chunks: Arc<[Chunk]>,
}

impl Choices {
    pub(super) fn at(&self, root: &Root, at: &At<'_>) -> Arc<[Chunk]> {
        let surroundings = surroundings(at);
        let walking = lock(&root.facts).walking;
        let mut kept: Arc<[Chunk]> = Arc::default();
        {
            let mut last = lock(&self.last);
            if let Some(known) = last.iter().position(|choice| choice.path == at.path)
                && let Some(choice) = last.remove(known)
            {
                kept = choice.chunks.clone();
                let same = choice.surroundings == surroundings && (walking || !choice.early);
                last.push_back(choice);
                if same {
                    return kept;
                }
            }
        }
        let chunks = ask(root, at, &kept);
        let mut last = lock(&self.last);
        last.retain(|choice| choice.path != at.path);
        let path = at.path.to_owned();
        last.push_back(Choice { path, surroundings, early: walking, chunks: chunks.clone() });
        if last.len() > CHOICES_MAX {
            last.pop_front();
        }
        chunks
    }
}

/// Asks the index.
fn ask(root: &Root, at: &At<'_>, kept: &[Chunk]) -> Arc<[Chunk]> {
    let Ok(path) = at.path.strip_prefix(root.path()) else { return Arc::default() };
    let inside = |path: &PathBuf| path.strip_prefix(root.path()).ok().map(Path::to_owned);
    let opened: Vec<PathBuf> = at.opened.iter().filter_map(inside).collect();
    let place = |place: &Place| Some(Place { path: inside(&place.path)?, line: place.line });
    let definitions: Vec<Place> = at.definitions.iter().filter_map(place).collect();
    let (prefix, suffix) = at.text.split_at(border(at.text, at.offset));
    let query = Query {
        path,
        prefix,
        suffix,
        shown: at.shown,
        opened: &opened,
        definitions: &definitions,
        kept,
        budget: at.budget,
    };
    root.index().query(&query).into()
}

/// The hash of everything but the line of the cursor.
fn surroundings(at: &At<'_>) -> u64 {
    let (before, after) = at.text.split_at(border(at.text, at.offset));
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let end = after.find('\n').unwrap_or(after.len());
    let mut hasher = DefaultHasher::new();
    (&before[..start], &after[end..], at.budget).hash(&mut hasher);
    hasher.finish()
}

fn border(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
