//! The mirror, told by messages.

use proptest::prelude::*;

use super::*;

fn tell(mirror: &mut Mirror, method: &str, params: Value) {
    mirror.on_client(&Envelope::notification(method, &params));
}

fn opened() -> Mirror {
    let mut mirror = Mirror::default();
    mirror.on_client(&Envelope::request(
        wire::Id::number(1),
        "initialize",
        &json!({ "rootUri": null }),
    ));
    tell(&mut mirror, "initialized", json!({}));
    let document =
        json!({ "uri": "file:///a b", "languageId": "x", "version": 1, "text": "a😀b\n" });
    tell(&mut mirror, "textDocument/didOpen", json!({ "textDocument": document }));
    mirror
}

fn change(version: i32, line: u32, from: u32, to: u32, text: &str) -> Value {
    let range = json!({
        "start": { "line": line, "character": from }, "end": { "line": line, "character": to },
    });
    json!({
        "textDocument": { "uri": "file:///a b", "version": version },
        "contentChanges": [{ "range": range, "text": text }],
    })
}

fn methods(messages: &[Envelope]) -> Vec<&str> {
    messages.iter().filter_map(Envelope::method).collect()
}

#[test]
fn rule_4_14_the_replay_says_what_is_so_and_not_what_was_said() {
    let mut mirror = opened();
    tell(&mut mirror, "workspace/didChangeConfiguration", json!({ "settings": 1 }));
    tell(&mut mirror, "workspace/didChangeConfiguration", json!({ "settings": 2 }));
    let other = json!({ "uri": "file:///b", "languageId": "x", "version": 1, "text": "" });
    tell(&mut mirror, "textDocument/didOpen", json!({ "textDocument": other }));
    tell(&mut mirror, "textDocument/didChange", change(5, 0, 1, 3, "c"));
    tell(&mut mirror, "textDocument/didClose", json!({ "textDocument": { "uri": "file:///b" } }));
    let replay = mirror.replay();
    let expected = ["initialized", "workspace/didChangeConfiguration", "textDocument/didOpen"];
    assert_eq!(methods(&replay), expected);
    let settings: Value = replay[1].params_as().unwrap();
    assert_eq!(settings["settings"], 2);
    let document: Value = replay[2].params_as().unwrap();
    let expected =
        json!({ "uri": "file:///a b", "languageId": "x", "version": 5, "text": "acb\n" });
    assert_eq!(document["textDocument"], expected);
}

#[test]
fn rule_4_26_positions_are_counted_as_the_server_said() {
    for (encoding, end) in [("utf-8", 5), ("utf-16", 3), ("utf-32", 2)] {
        let mut mirror = opened();
        let result = json!({ "capabilities": { "positionEncoding": encoding } });
        mirror.on_initialize_result(&serde_json::to_vec(&result).unwrap());
        tell(&mut mirror, "textDocument/didChange", change(2, 0, 1, end, ""));
        assert_eq!(mirror.documents()["file:///a b"].document.text(), "ab\n", "{encoding}");
    }
}

#[test]
fn what_cannot_be_read_is_passed_over() {
    let mut mirror = opened();
    tell(&mut mirror, "textDocument/didChange", json!({ "odd": 1 }));
    tell(&mut mirror, "textDocument/didOpen", json!([]));
    tell(
        &mut mirror,
        "textDocument/didChange",
        json!({ "textDocument": { "uri": "file:///none" }, "contentChanges": [] }),
    );
    assert_eq!(mirror.documents().len(), 1);
}

#[test]
fn a_picture_stays_as_it_was() {
    let mut mirror = opened();
    let before = mirror.documents();
    tell(&mut mirror, "textDocument/didChange", change(2, 0, 0, 1, "z"));
    assert_eq!(mirror.latest("file:///a b"), Some(Revision(2)));
    assert_eq!(before["file:///a b"].document.text(), "a😀b\n");
    assert_eq!(mirror.documents()["file:///a b"].document.text(), "z😀b\n");
}

proptest! {
    #[test]
    fn rule_4_25_no_change_is_lost_however_late_it_is_applied(
        edits in proptest::collection::vec((0u32..3, 0u32..6, 0u32..6, "[a-c\n]{0,3}"), 1..200),
        looks in proptest::collection::vec(any::<bool>(), 200),
    ) {
        let mut mirror = opened();
        let mut naive = Document::new(Revision(1), "a😀b\n");
        for (n, (line, from, to, text)) in edits.iter().enumerate() {
            let version = n as i32 + 2;
            tell(&mut mirror, "textDocument/didChange", change(version, *line, *from, *to, text));
            let at = |character| Position { line: *line, character };
            let range = Some(Range { start: at(*from), end: at(*to) });
            naive.apply(Revision(version), &[Change { range, text: text.clone() }], Encoding::Utf16).unwrap();
            if looks[n] {
                prop_assert_eq!(mirror.documents()["file:///a b"].document.text(), naive.text());
            }
        }
        let documents = mirror.documents();
        prop_assert_eq!(documents["file:///a b"].document.text(), naive.text());
        prop_assert_eq!(documents["file:///a b"].document.revision(), naive.revision());
    }
}
