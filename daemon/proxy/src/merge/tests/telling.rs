//! What the client tells: documents, settings, files.

use super::*;

fn sync(change: u32) -> Value {
    json!({ "textDocumentSync": { "openClose": true, "change": change } })
}

fn insert(line: u32, text: &str) -> Value {
    let at = json!({ "line": line, "character": 0 });
    json!({ "range": { "start": at, "end": at }, "text": text })
}

#[test]
fn rule_4_25_changes_pass_as_they_are_and_whole_texts_follow_before_anything_else() {
    let full =
        json!({ "textDocumentSync": { "openClose": true, "change": 1 }, "hoverProvider": true });
    let mut rig = Rig::ready(client(), &[sync(2), full]);
    let left = rig.opens("u", 1, "one\n");
    assert_eq!(show(&left), ["a textDocument/didOpen", "b textDocument/didOpen"]);
    let left = rig.changes("u", 2, json!([insert(0, "zero\n")]));
    assert_eq!(show(&left), ["a textDocument/didChange"]);
    assert_eq!(left[0].params()["contentChanges"], json!([insert(0, "zero\n")]));
    rig.changes("u", 3, json!([insert(1, "half\n")]));
    // Coalesced, and flushed before a request about the document.
    let left = rig.asks(1, "textDocument/hover", about("u"));
    assert_eq!(show(&left), ["b textDocument/didChange", "b textDocument/hover"]);
    let expected = json!({ "textDocument": { "uri": "u", "version": 3 }, "contentChanges": [{ "text": "zero\nhalf\none\n" }] });
    assert_eq!(left[0].params(), expected);
    rig.changes("u", 4, json!([insert(0, "x")]));
    assert!(rig.wait(TEXT_DELAY / 2).is_empty());
    assert_eq!(show(&rig.wait(TEXT_DELAY)), ["b textDocument/didChange"]);
    assert!(rig.wait(SECOND).is_empty());
    // A document that is closed needs no text.
    rig.changes("u", 5, json!([insert(0, "y")]));
    let left = rig.tells("textDocument/didClose", json!({ "textDocument": { "uri": "u" } }));
    assert_eq!(show(&left), ["a textDocument/didClose", "b textDocument/didClose"]);
    assert!(rig.wait(SECOND).is_empty());
}

#[test]
fn rule_4_25_a_server_hears_only_what_it_has_asked_for() {
    let mut rig = Rig::ready(client(), &[sync(0), json!({}), sync(2)]);
    assert_eq!(show(&rig.opens("u", 1, "")), ["a textDocument/didOpen", "c textDocument/didOpen"]);
    assert_eq!(show(&rig.changes("u", 2, json!([{ "text": "x" }]))), ["c textDocument/didChange"]);
    assert!(
        rig.tells("textDocument/didSave", json!({ "textDocument": { "uri": "u" } })).is_empty()
    );
}

#[test]
fn rule_4_26_a_server_that_counts_in_its_own_way_gets_whole_texts() {
    let mut own = sync(2);
    own["positionEncoding"] = "utf-8".into();
    let mut rig = Rig::ready(client(), &[sync(2), own]);
    rig.opens("u", 1, "é\n");
    assert_eq!(show(&rig.changes("u", 2, json!([insert(0, "x")]))), ["a textDocument/didChange"]);
    let left = rig.wait(TEXT_DELAY);
    assert_eq!(left[0].params()["contentChanges"], json!([{ "text": "xé\n" }]));
}

#[test]
fn rule_4_29_the_text_of_a_save_is_for_those_who_asked_for_it() {
    let save = |save: Value| json!({ "textDocumentSync": { "openClose": true, "change": 1, "save": save } });
    let mut rig = Rig::ready(
        client(),
        &[save(json!({ "includeText": true })), save(json!(true)), save(json!(false))],
    );
    rig.opens("u", 1, "");
    rig.changes("u", 2, json!([{ "text": "x" }]));
    let params = json!({ "textDocument": { "uri": "u" }, "text": "x" });
    let left = rig.tells("textDocument/didSave", params.clone());
    let expected = [
        "a textDocument/didChange",
        "a textDocument/didSave",
        "b textDocument/didChange",
        "b textDocument/didSave",
    ];
    assert_eq!(show(&left), expected);
    assert_eq!(left[1].params(), params);
    assert_eq!(left[3].params(), json!({ "textDocument": { "uri": "u" } }));
}

#[test]
fn rule_4_30_notebooks_are_the_primary_s() {
    let mut rig = Rig::ready(client(), &[sync(2), sync(2)]);
    let left = rig.tells("notebookDocument/didOpen", json!({ "notebookDocument": {} }));
    assert_eq!(show(&left), ["a notebookDocument/didOpen"]);
}

#[test]
fn rule_4_31_events_of_files_go_to_those_who_watch_them() {
    let mut rig = Rig::ready(dynamic(), &[json!({}), json!({})]);
    let watch = |pattern: &str| {
        let options = json!({ "watchers": [{ "globPattern": pattern }] });
        let one = json!({ "id": "w", "method": "workspace/didChangeWatchedFiles", "registerOptions": options });
        json!({ "id": 1, "method": "client/registerCapability", "params": { "registrations": [one] } })
    };
    rig.server('a', watch("**/*.py"));
    let left = rig.server('b', watch("**/*.toml"));
    // The client watches the union, under one registration.
    assert_eq!(
        show(&left),
        ["- client/unregisterCapability", "- client/registerCapability", "b 1="]
    );
    let union = left[1].params()["registrations"][0]["registerOptions"]["watchers"].clone();
    assert_eq!(union.as_array().unwrap().len(), 2);
    let event = |uri: &str| json!({ "uri": uri, "type": 2 });
    let changes = json!([event("file:///x.py"), event("file:///y.toml"), event("file:///z.py")]);
    let left = rig.tells("workspace/didChangeWatchedFiles", json!({ "changes": changes }));
    assert_eq!(left[0].params()["changes"], json!([event("file:///x.py"), event("file:///z.py")]));
    assert_eq!(left[1].params()["changes"], json!([event("file:///y.toml")]));
    let changes = json!([event("file:///x.py")]);
    let left = rig.tells("workspace/didChangeWatchedFiles", json!({ "changes": changes }));
    assert_eq!(show(&left), ["a workspace/didChangeWatchedFiles"]);
}

#[test]
fn what_concerns_all_is_told_to_all() {
    let folders = json!({ "workspace": { "workspaceFolders": { "supported": true, "changeNotifications": true } } });
    let created = json!({ "workspace": { "fileOperations": { "didCreate": { "filters": [] } } } });
    let mut rig = Rig::ready(client(), &[folders, created]);
    let mut told = |method: &str| show(&rig.tells(method, json!({})));
    let both = |method: &str| [format!("a {method}"), format!("b {method}")];
    assert_eq!(told("workspace/didChangeConfiguration"), both("workspace/didChangeConfiguration"));
    assert_eq!(told("$/setTrace"), both("$/setTrace"));
    let method = "workspace/didChangeWorkspaceFolders";
    assert_eq!(told(method), [format!("a {method}")]);
    let method = "workspace/didCreateFiles";
    assert_eq!(told(method), [format!("b {method}")]);
}
