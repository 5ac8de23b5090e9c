//! The journal of a shim that is fed by hand.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::journal::read::{self, Journal};
use crate::journal::{TEXT_BYTES_MAX, record};

const PATIENCE: Duration = Duration::from_secs(20);

/// A shim's loop, as far as the journal sees it.
struct Shim {
    dir: tempfile::TempDir,
    keeper: Keeper,
    mirror: Mirror,
}

impl Shim {
    fn new(enabled: fn() -> bool) -> Shim {
        let dir = tempfile::tempdir().unwrap();
        let keeper =
            Keeper::new(dir.path().join("journal"), Head::of_process(&["srv".into()]), enabled);
        Shim { dir, keeper, mirror: Mirror::default() }
    }

    fn say(&mut self, method: &str, params: &Value) {
        self.hear(&Envelope::notification(method, params));
    }

    fn hear(&mut self, envelope: &Envelope) {
        self.keeper.editor_sent(envelope, &mut self.mirror);
        self.mirror.on_client(envelope);
        self.keeper.tick(&mut self.mirror, Instant::now());
    }

    fn open(&mut self, uri: &str, text: &str) {
        let item = json!({ "uri": uri, "languageId": "plain", "version": 1, "text": text });
        self.say("textDocument/didOpen", &json!({ "textDocument": item }));
    }

    fn change(&mut self, uri: &str, version: i32, change: &Value) {
        let params = json!({
            "textDocument": { "uri": uri, "version": version }, "contentChanges": [change],
        });
        self.say("textDocument/didChange", &params);
    }

    fn answer(&mut self, id: u32, applied: bool) {
        self.hear(&Envelope::response(wire::Id::number(id), &json!({ "applied": applied })));
    }

    /// What is on the disk once `so` holds of it.
    fn disk(&mut self, so: impl Fn(&Journal) -> bool) -> Journal {
        let end = Instant::now() + PATIENCE;
        loop {
            self.keeper.tick(&mut self.mirror, Instant::now());
            let found = read::all(&self.dir.path().join("journal")).into_iter().find(&so);
            if let Some(journal) = found {
                return journal;
            }
            assert!(Instant::now() < end, "not within {PATIENCE:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn texts(journal: &Journal) -> Vec<(&str, i32, &str)> {
        let mut texts = Vec::new();
        for document in &journal.documents {
            texts.push((&*document.uri, document.version, &*document.text));
        }
        texts
    }
}

#[test]
fn what_is_open_and_what_was_accepted_is_on_the_disk_until_the_editor_leaves() {
    let mut shim = Shim::new(|| true);
    shim.mirror.on_initialize_result(br#"{"capabilities":{"positionEncoding":"utf-8"}}"#);
    shim.open("file:///a", "one\n");
    shim.open("file:///b", "gone");
    let range =
        json!({ "start": { "line": 0, "character": 4 }, "end": { "line": 0, "character": 4 } });
    shim.change("file:///a", 2, &json!({ "text": "éone\n" }));
    shim.change("file:///a", 3, &json!({ "range": range, "text": "!" }));
    shim.say("textDocument/didClose", &json!({ "textDocument": { "uri": "file:///b" } }));
    shim.keeper.edit_asked(7, br#"{"label":"taken"}"#);
    shim.keeper.edit_asked(8, br#"{"label":"refused"}"#);
    shim.answer(8, false);
    shim.answer(7, true);
    shim.say("demolish/didAccept", &json!({ "text": "x" }));
    let journal = shim.disk(|journal| journal.accepted.len() == 2);
    // Positions count bytes here: the fourth is behind `éon`.
    assert_eq!(Shim::texts(&journal), [("file:///a", 3, "éon!e\n")]);
    assert!(journal.in_use && journal.torn == 0);
    assert_eq!(journal.head.command, ["srv"]);
    assert_eq!(journal.accepted[0].params, json!({ "label": "taken" }));
    assert!(journal.accepted[1].suggestion);
    let dir = shim.dir.path().join("journal");
    shim.keeper.end(true);
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), 0);
}

#[test]
fn an_editor_that_is_gone_without_a_word_leaves_its_journal() {
    let mut shim = Shim::new(|| true);
    shim.open("file:///a", "kept");
    let Shim { dir, keeper, .. } = shim;
    keeper.end(false);
    let left = read::all(&dir.path().join("journal"));
    assert_eq!(Shim::texts(&left[0]), [("file:///a", 1, "kept")]);
    assert!(!left[0].in_use);
}

#[test]
fn who_wants_no_journal_gets_none() {
    let mut shim = Shim::new(|| false);
    shim.open("file:///a", "private");
    shim.change("file:///a", 2, &json!({ "text": "secret" }));
    let Shim { dir, keeper, .. } = shim;
    keeper.end(false);
    assert!(!dir.path().join("journal").exists());
}

#[test]
fn a_journal_is_bounded_and_nothing_is_lost_by_its_rewriting() {
    let mut shim = Shim::new(|| true);
    shim.open("file:///a", "");
    shim.say("demolish/didAccept", &json!({ "text": "early" }));
    // Twenty times as much as makes it be written anew; and more at once than the queue takes.
    let text = "x".repeat(1024 * 1024);
    for version in 2..102 {
        shim.change("file:///a", version, &json!({ "text": text }));
    }
    shim.change("file:///a", 102, &json!({ "text": "the last" }));
    let journal = shim.disk(|journal| journal.documents.iter().any(|d| d.version == 102));
    assert_eq!(Shim::texts(&journal), [("file:///a", 102, "the last")]);
    assert_eq!(journal.accepted[0].params["text"], "early");
    let dir = shim.dir.path().join("journal");
    let len = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().metadata().unwrap().len();
    let size: u64 = std::fs::read_dir(dir).unwrap().map(len).sum();
    assert!(size < 50 * 1024 * 1024, "{size}");
    // A document that has no room is named.
    shim.open("file:///huge", &"y".repeat(TEXT_BYTES_MAX + 1));
    let journal = shim.disk(|journal| !journal.left_out.is_empty());
    assert_eq!(journal.left_out, ["file:///huge"]);
    shim.keeper.end(true);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_prefix_of_a_journal_reads_as_an_earlier_state(
        steps in proptest::collection::vec((0..3_usize, 0..4_u32, "[a-z\n]{0,6}"), 1..20),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut file = Vec::new();
        record::begin(&mut file);
        let mut note = |kind, content: Bytes| {
            record::append(&mut file, &record::Entry { kind, at_ms: 1, content });
            file.len()
        };
        note(Kind::Head, Bytes::from_static(b"{}"));
        // What a mirror says after each entry.
        let mut mirror = Mirror::default();
        let mut states = Vec::new();
        let mut ends = Vec::new();
        for (version, (what, uri, text)) in steps.into_iter().enumerate() {
            let document = json!({ "uri": format!("u{uri}"), "version": version, "languageId": "", "text": text });
            let at = json!({ "line": 0, "character": 1 });
            let change = json!({ "range": { "start": at, "end": at }, "text": text });
            let envelope = match what {
                0 => Envelope::notification("textDocument/didOpen", &json!({ "textDocument": document })),
                1 => Envelope::notification("textDocument/didChange", &json!({ "textDocument": document, "contentChanges": [change] })),
                _ => Envelope::notification("textDocument/didClose", &json!({ "textDocument": document })),
            };
            ends.push(note(Kind::Message, envelope.body.clone()));
            mirror.on_client(&envelope);
            let mut state: Vec<(String, i32, String)> = mirror.documents().iter()
                .map(|(uri, open)| (uri.to_string(), open.document.revision().0, open.document.text())).collect();
            state.sort();
            states.push(state);
        }
        let cut = cut.index(file.len() + 1);
        let found = read::of_bytes("x", false, &Bytes::from(file[..cut].to_vec()));
        let whole = ends.iter().filter(|end| **end <= cut).count();
        let mut texts: Vec<_> = found.into_iter().flat_map(|journal| journal.documents)
            .map(|d| (d.uri, d.version, d.text)).collect();
        texts.sort();
        let expected = whole.checked_sub(1).map(|at| states[at].clone()).unwrap_or_default();
        prop_assert_eq!(texts, expected);
    }
}
