//! The workspace as a whole: what is read, what follows it, and what it bears. The thread's work is done here in its place, so that
//! nothing depends on when it would have been done.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use recall::index::{Chunk, Limits};
use text::{Document, Revision};

use super::choice::{At, Choices};
use super::worker::{Note, PENDING_MAX, Worker};
use super::*;

const LEDGER: &str = "class Ledger:\n    def post_entry(self, account, amount):\n        self.entries.append((account, amount))\n";
const CALL: &str = "from ledger import Ledger\n\nledger = Ledger()\nledger.post_entry(";

struct Place {
    dir: tempfile::TempDir,
    worker: Worker,
    root: Arc<Root>,
}

impl Place {
    fn new(files: &[(&str, &str)]) -> Place {
        Place::with(files, Limits::default())
    }

    fn with(files: &[(&str, &str)], limits: Limits) -> Place {
        let dir = tempfile::tempdir().unwrap();
        let root = Arc::new(Root::new(dir.path().to_owned(), limits));
        let place = Place { dir, worker: Worker::new(limits.bytes), root };
        files.iter().for_each(|(path, text)| place.write(path, text.as_bytes()));
        place
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn tell(&mut self, note: Note) {
        self.worker.take(note, Instant::now());
    }

    fn walk(&mut self) {
        let near = self.dir.path().to_owned();
        self.tell(Note::Walk(self.root.clone(), near));
        while self.worker.step() {}
    }

    fn open(&mut self, path: &str, text: &str) {
        let document = Document::new(Revision(1), text);
        self.tell(Note::Text(self.dir.path().to_owned(), path.into(), document));
        self.worker.flush(Instant::now());
    }

    fn note(&self, path: &str) -> (PathBuf, PathBuf) {
        (self.dir.path().to_owned(), path.into())
    }

    fn text(&self, path: &str) -> Option<String> {
        self.root.index().text(Path::new(path))
    }

    fn files(&self) -> usize {
        self.root.facts().size.files
    }
}

/// Writes down what it is handed.
struct Recorder {
    seen: Arc<Mutex<Vec<String>>>,
    wanted: usize,
}

impl Sink for Recorder {
    fn insert(&mut self, _root: &Path, path: &Path, text: &str) -> bool {
        let mut seen = self.seen.lock().unwrap();
        seen.push(format!("{} {}", path.display(), text.len()));
        seen.len() < self.wanted
    }

    fn remove(&mut self, _root: &Path, path: &Path) {
        self.seen.lock().unwrap().push(format!("-{}", path.display()));
    }

    fn forget(&mut self, _root: &Path) {
        self.seen.lock().unwrap().push("forget".to_owned());
    }
}

#[test]
fn a_workspace_is_read_and_followed_on_disk() {
    let mut place = Place::new(&[("a.py", "a = 1\n"), ("b.py", "b = 1\n")]);
    place.walk();
    assert_eq!((place.files(), place.root.facts().walking), (2, false));
    place.write("a.py", b"a = 22\n");
    place.write("c.py", b"c = 1\n");
    std::fs::remove_file(place.dir.path().join("b.py")).unwrap();
    place.walk();
    assert_eq!(place.text("a.py").as_deref(), Some("a = 22\n"));
    assert_eq!((place.text("b.py"), place.files()), (None, 2));
    place.write("d.py", b"d = 1\n");
    let (root, path) = place.note("d.py");
    place.tell(Note::Disk(root, path));
    assert_eq!(place.text("d.py").as_deref(), Some("d = 1\n"));
    std::fs::remove_file(place.dir.path().join("d.py")).unwrap();
    let (root, path) = place.note("d.py");
    place.tell(Note::Disk(root, path));
    assert_eq!(place.text("d.py"), None);
}

#[test]
fn what_is_open_counts_until_it_is_closed() {
    let mut place = Place::new(&[
        (".gitignore", "private.py\n"),
        ("a.py", "a = 1\n"),
        ("private.py", "p = 1\n"),
    ]);
    place.walk();
    place.open("a.py", "a = 2\n");
    assert_eq!(place.text("a.py").as_deref(), Some("a = 2\n"));
    place.write("a.py", b"a = 3\n");
    place.walk();
    let (root, path) = place.note("a.py");
    place.tell(Note::Disk(root.clone(), path.clone()));
    assert_eq!(place.text("a.py").as_deref(), Some("a = 2\n"), "the editor's text counts");
    place.tell(Note::Closed(root, path));
    assert_eq!(place.text("a.py").as_deref(), Some("a = 3\n"));
    place.open("private.py", "p = 2\n");
    place.open("never_saved.py", "n = 2\n");
    assert_eq!((place.text("private.py"), place.text("never_saved.py")), (None, None));
}

#[test]
fn a_document_that_is_typed_into_waits_for_its_time_and_the_last_text_counts() {
    let mut place = Place::new(&[("a.py", "a = 1\n")]);
    place.walk();
    place.open("a.py", "a = 1\n");
    for typed in ["a = 12\n", "a = 123\n"] {
        place.open("a.py", typed);
    }
    assert_eq!(place.text("a.py").as_deref(), Some("a = 1\n"));
    place.worker.flush(Instant::now() + Duration::from_secs(60));
    assert_eq!(place.text("a.py").as_deref(), Some("a = 123\n"));
}

#[test]
fn sinks_hear_all_that_is_known_and_all_that_changes() {
    let mut place = Place::new(&[("a.py", "a = 1\n"), ("b.py", "b = 1\n")]);
    place.walk();
    let seen = Arc::new(Mutex::new(Vec::new()));
    place.tell(Note::Attach(Box::new(Recorder { seen: seen.clone(), wanted: 100 })));
    place.tell(Note::Attach(Box::new(Recorder { seen: Arc::default(), wanted: 1 })));
    place.write("c.py", b"c = 11\n");
    std::fs::remove_file(place.dir.path().join("a.py")).unwrap();
    place.walk();
    let root = place.dir.path().to_owned();
    place.tell(Note::Forget(root));
    assert_eq!(*seen.lock().unwrap(), ["a.py 6", "b.py 6", "c.py 7", "-a.py", "forget"]);
    assert_eq!(place.files(), 0);
}

#[test]
fn odd_trees_are_borne() {
    let mut place = Place::new(&[]);
    place.walk();
    assert_eq!(
        place.root.facts(),
        RootFacts {
            root: place.dir.path().to_owned(),
            walking: false,
            size: Size::default(),
            cut: false,
            left_out: 0,
            tokens: None,
        }
    );
    place.write("line.py", "x".repeat(1 << 20).as_bytes());
    place.write("binary.py", &[0, 159, 146, 150]);
    place.write("latin.py", b"x = '\xe9'\n");
    place.write("fine.py", b"x = 1\n");
    place.write("empty.py", b"");
    place.walk();
    assert_eq!(place.files(), 2);
    place.open("fine.py", &"x".repeat(1 << 20));
    assert_eq!(place.text("fine.py"), None, "it has become one line of data");
    std::fs::remove_dir_all(place.dir.path()).unwrap();
    place.walk();
    place.open("gone.py", "x = 1\n");
    assert!(!place.root.facts().walking);
}

#[test]
fn what_has_no_room_is_counted_and_said() {
    let files: Vec<(String, String)> =
        (0..6).map(|n| (format!("f{n}.py"), format!("value_{n} = {n}\n"))).collect();
    let files: Vec<(&str, &str)> =
        files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let mut place = Place::with(&files, Limits { files: 4, bytes: 64 << 20 });
    place.walk();
    place.walk();
    let facts = place.root.facts();
    assert_eq!((facts.size.files, facts.left_out, facts.cut), (4, 2, false));
}

#[test]
fn a_second_workspace_takes_the_room_of_the_first() {
    let text: String = (0..400).map(|n| format!("name_{n} = other_{n}\n")).collect();
    let mut place = Place::with(&[("a.py", &text)], Limits { files: 100, bytes: 100_000 });
    place.walk();
    let bytes = place.root.facts().size.bytes;
    assert!((50_000..100_000).contains(&bytes), "{bytes}");
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("b.py"), &text).unwrap();
    let second =
        Arc::new(Root::new(other.path().to_owned(), Limits { files: 100, bytes: 100_000 }));
    place.tell(Note::Walk(second.clone(), other.path().to_owned()));
    while place.worker.step() {}
    assert_eq!((place.files(), second.facts().size.files), (0, 1));
}

fn at<'a>(place: &'a Place, path: &'a Path, text: &'a str, offset: usize) -> At<'a> {
    let _ = place;
    At { path, text, offset, opened: &[], definitions: &[], shown: (1000, 300), budget: 1000 }
}

fn paths(chunks: &[Chunk]) -> Vec<&Path> {
    chunks.iter().map(|chunk| chunk.path.as_path()).collect()
}

#[test]
fn the_choice_stays_within_a_line_and_follows_the_workspace() {
    let mut place = Place::new(&[("ledger.py", LEDGER)]);
    let path = place.dir.path().join("main.py");
    let choices = Choices::default();
    assert!(choices.at(&place.root, &at(&place, &path, CALL, CALL.len())).is_empty());
    place.walk();
    let typed = format!("{CALL}account");
    let none = choices.at(&place.root, &at(&place, &path, &typed, typed.len()));
    assert!(none.is_empty(), "the line is the same, and so is the choice");
    let next = format!("{CALL}1, 2)\nledger.post_entry(");
    let found = choices.at(&place.root, &at(&place, &path, &next, next.len()));
    assert_eq!(paths(&found), [Path::new("ledger.py")]);
    place.open("ledger.py", &LEDGER.replace("entries", "lines"));
    let more = format!("{next}3");
    assert_eq!(choices.at(&place.root, &at(&place, &path, &more, more.len())), found);
    let outside = Path::new("/elsewhere/main.py");
    assert!(choices.at(&place.root, &at(&place, outside, CALL, CALL.len())).is_empty());
}

#[test]
fn what_is_chosen_while_the_workspace_is_read_is_chosen_again_when_it_is() {
    let mut place = Place::new(&[("ledger.py", LEDGER)]);
    let path = place.dir.path().join("main.py");
    let choices = Choices::default();
    let near = place.dir.path().to_owned();
    place.tell(Note::Walk(place.root.clone(), near));
    assert!(choices.at(&place.root, &at(&place, &path, CALL, CALL.len())).is_empty());
    while place.worker.step() {}
    assert_eq!(choices.at(&place.root, &at(&place, &path, CALL, CALL.len())).len(), 1);
}

#[test]
fn a_tree_that_is_too_large_is_remembered_in_part_and_what_is_gone_of_it_goes() {
    let mut place = Place::new(&[("z/last.py", "last = 1\n"), ("z/gone.py", "gone = 1\n")]);
    place.walk();
    for n in 0..300 {
        place.write(&format!("d{:02}/f{n}.py", n / 10), format!("x_{n} = {n}\n").as_bytes());
    }
    std::fs::remove_file(place.dir.path().join("z/gone.py")).unwrap();
    place.worker = std::mem::replace(&mut place.worker, Worker::new(0)).of_entries(60);
    place.walk();
    let facts = place.root.facts();
    assert!(facts.cut && !facts.walking && (3..=61).contains(&facts.size.files), "{facts:?}");
    assert_eq!(place.text("z/last.py").as_deref(), Some("last = 1\n"), "it is still there");
    assert_eq!(place.text("z/gone.py"), None);
    let many = place.files();
    // What is left out takes no room either, wherever the next walks begin.
    for n in 0..300 {
        place.write(&format!("d{:02}/f{n}.py", n / 10), b"# @generated\n");
    }
    for n in 0..30 {
        let near = place.dir.path().join(format!("d{n:02}"));
        place.tell(Note::Walk(place.root.clone(), near));
        while place.worker.step() {}
        assert!(place.worker.known() <= 60 + many, "{}", place.worker.known());
    }
}

#[test]
fn a_text_that_may_not_wait_leaves_its_file_to_the_disk() {
    let mut place = Place::new(&[("a.py", "a = 1\n")]);
    place.walk();
    let root = place.dir.path().to_owned();
    for n in 0..=PENDING_MAX {
        let path = if n == PENDING_MAX { "a.py".into() } else { format!("new{n}.py") };
        let document = Document::new(Revision(1), "a = 2\n");
        place.tell(Note::Text(root.clone(), path.into(), document));
    }
    place.write("a.py", b"a = 33\n");
    place.walk();
    assert_eq!(place.text("a.py").as_deref(), Some("a = 33\n"));
}

#[test]
fn a_file_that_has_grown_too_long_is_forgotten() {
    let mut place = Place::new(&[("a.py", "a = 1\n")]);
    place.walk();
    place.write("a.py", "a = 1\n".repeat(200_000).as_bytes());
    place.walk();
    assert_eq!(place.text("a.py"), None);
}
