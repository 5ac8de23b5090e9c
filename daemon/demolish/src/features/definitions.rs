//! Where the names near the cursor are defined, as the language server says.
//!
//! It is asked in the background, once a completion has been answered, for the completions that follow: nobody waits for it. One
//! name is asked for at a time, and no more as soon as the next completion of the document begins, so that this one's checks have the server.

use std::collections::{HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use recall::index::{Place, names};

use crate::twin::Critic;

/// Lines before the cursor whose names are asked for, its own among them.
const LINES_BEFORE: usize = 16;
/// Lines behind it.
const LINES_AFTER: usize = 4;
/// Names that are asked for behind one completion.
const ASKED_MAX: usize = 8;
/// Of these, names that are asked for again, since what defines them may have moved.
const AGAIN_MAX: usize = 2;
/// Names near one cursor.
const NEAR_MAX: usize = 48;
/// Names that are known of one document, the last that were asked for.
const NAMES_MAX: usize = 256;
/// Documents whose names are known, the last that were completed.
const DOCUMENTS_MAX: usize = 32;
/// Shorter names are those of a loop.
const NAME_BYTES_MIN: usize = 3;
/// In longer lines no names are looked for: they are data.
const LINE_BYTES_MAX: usize = 400;

/// What is known, by document.
#[derive(Debug, Default)]
pub struct Definitions(Mutex<VecDeque<Known>>);

/// What is known of one document.
#[derive(Debug)]
struct Known {
    path: PathBuf,
    /// Names with the places of their definitions; none where the server knows of none. What was asked for last is last.
    names: VecDeque<(Box<str>, Arc<[Place]>)>,
    /// The number of its last completion.
    round: u64,
}

/// What one completion finds, and what is to be asked behind it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Near {
    /// Where names near the cursor are defined.
    pub(super) places: Vec<Place>,
    path: PathBuf,
    /// Names to be asked for, and where one of each is.
    wanted: Vec<(Box<str>, usize)>,
    round: u64,
}

impl Definitions {
    /// What is known of the names near `offset`. Ends what is being asked behind an earlier completion of the document.
    pub(super) fn near(&self, path: &Path, text: &str, offset: usize) -> Near {
        let found = names_near(text, offset);
        let mut documents = self.lock();
        let known = documents.iter().position(|known| known.path == path);
        let known = known.and_then(|at| documents.remove(at));
        let mut known = known.unwrap_or_else(|| Known::new(path));
        known.round += 1;
        let near = known.near(&found);
        documents.push_back(known);
        if documents.len() > DOCUMENTS_MAX {
            documents.pop_front();
        }
        near
    }

    /// Asks for what `near` lacks, in the background, of the text that it was made of.
    pub(super) fn ask(self: Arc<Self>, near: Near, text: Arc<str>, critic: Arc<Critic>) {
        if near.wanted.is_empty() || critic.lack().is_some() {
            return;
        }
        tokio::spawn(async move {
            for (name, at) in &near.wanted {
                if !self.is_current(&near) {
                    return;
                }
                match critic.definition(&text, *at).await {
                    Ok(places) => self.learn(&near.path, name, places.into()),
                    Err(reason) => {
                        tracing::debug!(%reason, "no definition");
                        return;
                    }
                }
            }
        });
    }

    /// All places that are known of a document.
    #[cfg(test)]
    pub(super) fn known(&self, path: &Path) -> Vec<Place> {
        let documents = self.lock();
        let names =
            documents.iter().filter(|known| known.path == path).flat_map(|known| &known.names);
        names.flat_map(|(_, places)| places.iter().cloned()).collect()
    }

    fn is_current(&self, near: &Near) -> bool {
        self.lock().iter().any(|known| known.path == near.path && known.round == near.round)
    }

    fn learn(&self, path: &Path, name: &str, places: Arc<[Place]>) {
        let mut documents = self.lock();
        let Some(known) = documents.iter_mut().find(|known| known.path == path) else { return };
        known.names.retain(|(other, _)| **other != *name);
        known.names.push_back((name.into(), places));
        if known.names.len() > NAMES_MAX {
            known.names.pop_front();
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn new(path: &Path) -> Known {
        Known { path: path.to_owned(), names: VecDeque::new(), round: 0 }
    }

    /// Of the names that were found, the nearest first.
    fn near(&self, found: &[(&str, usize)]) -> Near {
        let known = |name: &str| self.names.iter().position(|(known, _)| **known == *name);
        let mut places: Vec<Place> = Vec::new();
        let mut again: Vec<(usize, &(&str, usize))> = Vec::new();
        let mut wanted: Vec<(Box<str>, usize)> = Vec::new();
        for name in found {
            match known(name.0) {
                Some(age) => {
                    again.push((age, name));
                    let new = self.names[age].1.iter().filter(|place| !places.contains(place));
                    let new: Vec<Place> = new.cloned().collect();
                    places.extend(new);
                }
                None if wanted.len() < ASKED_MAX => wanted.push((name.0.into(), name.1)),
                None => {}
            }
        }
        // What was asked for longest ago is first.
        again.sort_unstable_by_key(|(age, _)| *age);
        let room = (ASKED_MAX - wanted.len()).min(AGAIN_MAX);
        wanted.extend(again.iter().take(room).map(|(_, (name, at))| ((*name).into(), *at)));
        Near { places, path: self.path.clone(), wanted, round: self.round }
    }
}

/// The distinct names near a place and where they start, the nearest first.
fn names_near(text: &str, offset: usize) -> Vec<(&str, usize)> {
    let offset = text.floor_char_boundary(offset);
    let (before, after) = text.split_at(offset);
    let lines_before = before.rsplit('\n').scan(offset, |end, line| {
        let start = *end - line.len();
        *end = start.saturating_sub(1);
        Some((line, start))
    });
    let lines_after = after.split('\n').scan(offset, |start, line| {
        let this = *start;
        *start += line.len() + 1;
        Some((line, this))
    });
    let lines = lines_before.take(LINES_BEFORE).chain(lines_after.skip(1).take(LINES_AFTER));
    let (mut seen, mut found) = (HashSet::new(), Vec::new());
    for (line, start) in lines.filter(|(line, _)| line.len() <= LINE_BYTES_MAX) {
        let mut of_line = Vec::new();
        names(line, |name, at| of_line.push((name, start + at)));
        // The word that is being typed is no name yet.
        let is_whole = |(name, at): &(&str, usize)| at + name.len() != offset;
        for name in of_line.into_iter().rev().filter(is_whole) {
            if name.0.len() >= NAME_BYTES_MIN && found.len() < NEAR_MAX && seen.insert(name.0) {
                found.push(name);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "import deep\n\ndef first(value):\n    return second(value) + thi\nlast = value\n";

    fn place(line: usize) -> Arc<[Place]> {
        [Place { path: "/w/b.py".into(), line }].into()
    }

    fn wanted(near: &Near) -> Vec<&str> {
        near.wanted.iter().map(|(name, _)| &**name).collect()
    }

    #[test]
    fn the_nearest_names_come_first_and_half_a_word_is_none() {
        let found = names_near(TEXT, TEXT.find("thi").unwrap() + 3);
        let names: Vec<&str> = found.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["value", "second", "return", "first", "def", "deep", "import", "last"]);
        assert!(found.iter().all(|(name, at)| TEXT[*at..].starts_with(name)));
        assert!(names_near("", 0).is_empty());
        assert!(names_near(&"long ".repeat(100), 500).is_empty());
        names_near("é😀", 3);
    }

    #[test]
    fn what_is_known_is_given_and_what_is_not_is_asked_for() {
        let definitions = Definitions::default();
        let (path, at) = (Path::new("/w/a.py"), TEXT.len());
        let near = definitions.near(path, TEXT, at);
        assert_eq!(near.places, []);
        assert_eq!(wanted(&near).len(), ASKED_MAX);
        for (name, _) in &near.wanted {
            definitions.learn(path, name, if **name == *"second" { place(7) } else { [].into() });
        }
        let next = definitions.near(path, TEXT, at);
        assert_eq!(*next.places, *place(7));
        assert_eq!(wanted(&next)[0], "import", "what is still missing");
        assert_eq!(wanted(&next).len(), 1 + AGAIN_MAX, "and a few that may have moved");
        assert!(!definitions.is_current(&near) && definitions.is_current(&next));
        assert_eq!(definitions.near(Path::new("/w/c.py"), TEXT, at).places, []);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let definitions = Definitions::default();
        let path = Path::new("/w/a.py");
        definitions.near(path, "", 0);
        for number in 0..NAMES_MAX * 2 {
            definitions.learn(path, &format!("name{number}"), place(number));
        }
        assert_eq!(definitions.lock()[0].names.len(), NAMES_MAX);
        for number in 0..DOCUMENTS_MAX * 2 {
            definitions.near(Path::new(&format!("/w/{number}.py")), "", 0);
        }
        assert_eq!(definitions.lock().len(), DOCUMENTS_MAX);
        definitions.learn(path, "name", place(1));
    }
}
