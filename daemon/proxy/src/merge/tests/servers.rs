//! What servers say and ask.

use super::*;

#[test]
fn rule_4_19_the_client_is_shown_the_union_under_its_own_spelling() {
    let mut rig =
        Rig::ready(client(), &[json!({ "textDocumentSync": 2 }), json!({ "textDocumentSync": 2 })]);
    rig.opens("file:///c%3A/x.py", 4, "");
    assert!(rig.published('a', "file:///C:/x.py", Some(4), &["of a"]).is_empty());
    assert!(rig.published('b', "file:///c%3A/x.py", None, &["of b"]).is_empty());
    let left = rig.wait(COALESCE);
    assert_eq!(show(&left), ["- textDocument/publishDiagnostics"]);
    assert_eq!(left[0].params()["uri"], "file:///c%3A/x.py");
    assert_eq!(left[0].params()["version"], 4);
    assert_eq!(messages(&left[0]), ["of a", "of b"]);
}

#[test]
fn rule_4_20_diagnostics_of_a_text_that_is_gone_are_dropped() {
    let mut rig = Rig::ready(client(), &[json!({ "textDocumentSync": 2 }), json!({})]);
    rig.opens("u", 4, "");
    rig.published('a', "u", Some(4), &["of four"]);
    assert_eq!(messages(&rig.wait(COALESCE)[0]), ["of four"]);
    rig.changes("u", 5, json!([{ "text": "x" }]));
    rig.published('a', "u", Some(4), &["late"]);
    assert!(rig.wait(COALESCE).is_empty());
    rig.published('a', "u", Some(5), &["of five"]);
    assert_eq!(messages(&rig.wait(COALESCE)[0]), ["of five"]);
}

#[test]
fn rule_4_8_nothing_overtakes_what_a_server_has_said_before() {
    let mut rig = Rig::ready(client(), &[json!({}), json!({})]);
    rig.asks(1, "custom/x", json!({}));
    rig.published('a', "u", None, &["first"]);
    rig.published('b', "v", None, &["other"]);
    let left = rig.answers('a', "custom/x", json!(1));
    assert_eq!(show(&left), ["- textDocument/publishDiagnostics", "- 1="]);
    assert_eq!(left[0].params()["uri"], "u");
    let left = rig.server('b', json!({ "method": "custom/note" }));
    assert_eq!(show(&left), ["- textDocument/publishDiagnostics", "- custom/note"]);
}

#[test]
fn rule_4_14_one_server_dies_and_the_others_go_on() {
    let mut rig = Rig::ready(client(), &[json!({}), json!({ "hoverProvider": true })]);
    rig.published('a', "u", None, &["of a"]);
    rig.published('b', "u", None, &["of b"]);
    rig.wait(COALESCE);
    let begin = json!({ "token": 1, "value": { "kind": "begin", "title": "indexing" } });
    rig.server(
        'a',
        json!({ "id": 1, "method": "window/workDoneProgress/create", "params": { "token": 1 } }),
    );
    rig.server('a', json!({ "method": "$/progress", "params": begin }));
    rig.answers('-', "window/workDoneProgress/create", Value::Null);
    let left = rig.dies('a');
    assert_eq!(show(&left), ["- $/progress", "- textDocument/publishDiagnostics"]);
    assert_eq!(left[0].params()["value"]["kind"], "end");
    assert_eq!(messages(&left[1]), ["of b"]);
    assert_eq!(show(&rig.asks(1, "textDocument/hover", about("u"))), ["b textDocument/hover"]);
    // What its link still says in its name changes nothing for the others.
    rig.published('a', "u", None, &[]);
    assert_eq!(messages(&rig.wait(COALESCE)[0]), ["of b"]);
    rig.published('a', "u", None, &["again"]);
    assert_eq!(messages(&rig.wait(COALESCE)[0]), ["again", "of b"]);
}

#[test]
fn rule_4_12_registrations_of_two_servers_do_not_meet() {
    let mut rig = Rig::ready(dynamic(), &[json!({}), json!({})]);
    let register = |id: &str, method: &str| {
        let one = json!({ "id": id, "method": method, "registerOptions": {} });
        json!({ "id": 5, "method": "client/registerCapability", "params": { "registrations": [one] } })
    };
    let left = rig.server('a', register("r1", "textDocument/hover"));
    assert_eq!(show(&left), ["- client/registerCapability", "a 5="]);
    let id = left[0].params()["registrations"][0]["id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("demolish:"), "{id}");
    // The same for another server: the client knows, and asks both.
    assert_eq!(show(&rig.server('b', register("r1", "textDocument/hover"))), ["b 5="]);
    assert_eq!(rig.asks(1, "textDocument/hover", about("u")).len(), 2);
    // What the client does not take is answered in its place, and counts all the same.
    assert_eq!(show(&rig.server('b', register("r2", "textDocument/foldingRange"))), ["b 5="]);
    let left = rig.asks(2, "textDocument/foldingRange", about("u"));
    assert_eq!(show(&left), ["b textDocument/foldingRange"]);
    // One takes its own back, and the other's stays.
    let gone = json!({ "unregisterations": [{ "id": "r1", "method": "textDocument/hover" }] });
    let left = rig
        .server('a', json!({ "id": 6, "method": "client/unregisterCapability", "params": gone }));
    assert_eq!(show(&left), ["a 6="]);
    // A server that dies keeps what it has: its link takes it back if the next life does not make it again.
    assert!(rig.dies('b').is_empty());
    let left = rig
        .server('b', json!({ "id": 7, "method": "client/unregisterCapability", "params": gone }));
    assert_eq!(show(&left), ["- client/unregisterCapability", "b 7="]);
    assert_eq!(left[0].params()["unregisterations"][0]["id"], id.as_str());
    // It comes back, and registers again.
    let left = rig.server('b', register("r1", "textDocument/hover"));
    assert_eq!(show(&left), ["- client/registerCapability", "b 5="]);
}

#[test]
fn rule_4_33_settings_are_those_of_the_server_that_asks_and_none_after_a_second() {
    let children = vec![
        ChildOptions::named("a"),
        ChildOptions { settings: json!({ "x": { "on": true } }), ..ChildOptions::named("b") },
    ];
    let mut rig = Rig::with(MergeOptions { children, ..MergeOptions::default() });
    rig.greet(client(), &[json!({}), json!({})]);
    let items = json!({ "items": [{ "section": "y", "scopeUri": "s" }, { "section": "x" }] });
    let ask = json!({ "id": "q", "method": "workspace/configuration", "params": items });
    let left = rig.server('b', ask.clone());
    assert_eq!(left[0].params(), items);
    let left = rig.answers('-', "workspace/configuration", json!([null, { "on": false, "z": 1 }]));
    assert_eq!(left[0].body()["result"], json!([null, { "on": true, "z": 1 }]));
    rig.server('b', ask.clone());
    let left = rig.wait(CONFIGURATION_PATIENCE);
    assert_eq!(show(&left), ["b \"q\"="]);
    assert_eq!(left[0].body()["result"], json!([null, { "on": true }]));
    assert!(rig.answers('-', "workspace/configuration", json!([1, 2])).is_empty());
    // Too few answers are filled up.
    rig.server('a', ask);
    let left = rig.answers('-', "workspace/configuration", json!([1]));
    assert_eq!(left[0].body()["result"], json!([1, null]));
}

#[test]
fn rule_4_35_edits_reach_the_client_once_and_not_for_an_older_text() {
    let mut rig = Rig::ready(client(), &[json!({ "textDocumentSync": 2 }), json!({})]);
    rig.opens("u", 2, "text");
    let edit = |version: Value| {
        let document = json!({ "uri": "u", "version": version });
        let params =
            json!({ "edit": { "documentChanges": [{ "textDocument": document, "edits": [] }] } });
        json!({ "id": 3, "method": "workspace/applyEdit", "params": params })
    };
    assert_eq!(show(&rig.server('b', edit(json!(2)))), ["- workspace/applyEdit"]);
    let left = rig.answers('-', "workspace/applyEdit", json!({ "applied": true }));
    assert_eq!(show(&left), ["b 3="]);
    assert_eq!(show(&rig.server('b', edit(Value::Null))), ["- workspace/applyEdit"]);
    let left = rig.server('b', edit(json!(1)));
    assert_eq!(left[0].to, 'b');
    assert_eq!(left[0].body()["result"]["applied"], false);
}

#[test]
fn rule_4_44_what_a_server_says_to_the_user_carries_its_name_and_the_answer_finds_it() {
    let mut rig = Rig::ready(client(), &[json!({}), json!({})]);
    let params = json!({ "type": 3, "message": "Restart?", "actions": [{ "title": "Yes" }] });
    for name in ['a', 'b'] {
        let ask = json!({ "id": "same", "method": "window/showMessageRequest", "params": params });
        let left = rig.server(name, ask);
        assert_eq!(left[0].params()["message"], format!("[{name}] Restart?"));
        assert_eq!(left[0].params()["actions"], params["actions"]);
    }
    let left = rig.answers('-', "window/showMessageRequest", json!({ "title": "Yes" }));
    assert_eq!(show(&left), ["b \"same\"="]);
    assert_eq!(left[0].body()["result"], json!({ "title": "Yes" }));
    let left = rig.server(
        'b',
        json!({ "method": "window/logMessage", "params": { "type": 4, "message": "m" } }),
    );
    assert_eq!(left[0].params()["message"], "[b] m");
}

#[test]
fn rule_4_45_refreshes_are_answered_at_once_and_asked_for_once() {
    let mut rig = Rig::ready(client(), &[json!({}), json!({})]);
    let refresh = |what: &str| json!({ "id": 1, "method": format!("workspace/{what}/refresh") });
    assert_eq!(show(&rig.server('a', refresh("inlayHint"))), ["a 1="]);
    assert_eq!(show(&rig.server('b', refresh("inlayHint"))), ["b 1="]);
    // The client has not said that it can.
    assert_eq!(show(&rig.server('b', refresh("codeLens"))), ["b 1="]);
    assert_eq!(show(&rig.wait(REFRESH_DELAY)), ["- workspace/inlayHint/refresh"]);
    assert!(rig.answers('-', "workspace/inlayHint/refresh", Value::Null).is_empty());
    assert!(rig.wait(SECOND).is_empty());
}

#[test]
fn rule_4_22_progress_is_shown_under_our_own_tokens_and_cancelled_under_theirs() {
    let mut rig = Rig::ready(client(), &[json!({}), json!({})]);
    let create =
        json!({ "id": 1, "method": "window/workDoneProgress/create", "params": { "token": "t" } });
    let progress = |value: Value| json!({ "method": "$/progress", "params": { "token": "t", "value": value } });
    for name in ['a', 'b'] {
        assert_eq!(show(&rig.server(name, create.clone())), [format!("{name} 1=")]);
    }
    assert!(rig.server('a', progress(json!({ "kind": "begin", "title": "" }))).is_empty(), "blank");
    let begin = json!({ "kind": "begin", "title": "indexing" });
    let left = rig.server('b', progress(begin.clone()));
    assert_eq!(show(&left), ["- window/workDoneProgress/create"]);
    let token = left[0].params()["token"].clone();
    let left = rig.answers('-', "window/workDoneProgress/create", Value::Null);
    assert_eq!(left[0].params(), json!({ "token": token, "value": begin }));
    let left = rig.tells("window/workDoneProgress/cancel", json!({ "token": token }));
    assert_eq!(show(&left), ["b window/workDoneProgress/cancel"]);
    assert_eq!(left[0].params()["token"], "t");
    let report = |n: u32| progress(json!({ "kind": "report", "percentage": n }));
    assert_eq!(rig.server('b', report(1)).len(), 1);
    assert!(rig.server('b', report(2)).is_empty());
    assert_eq!(rig.wait(REPORT_INTERVAL)[0].params()["value"]["percentage"], 2);
    assert_eq!(rig.server('b', progress(json!({ "kind": "end" })))[0].params()["token"], token);
}

#[test]
fn rule_4_17_a_server_may_cancel_what_it_has_asked() {
    let mut rig = Rig::ready(client(), &[json!({}), json!({})]);
    let ask = |id: u32| json!({ "id": id, "method": "custom/ask" });
    rig.server('a', ask(1));
    let first = rig.last('-', "custom/ask");
    rig.server('b', ask(1));
    let left = rig.server('a', json!({ "method": "$/cancelRequest", "params": { "id": 1 } }));
    assert_eq!(show(&left), ["- $/cancelRequest"]);
    assert_eq!(left[0].params()["id"], first);
    let tag = left[0].tag.unwrap();
    let routes = rig.merge.withdrawn_from_client(tag);
    assert_eq!(show(&rig.note(routes)), ["a 1!-32800"]);
    assert_eq!(show(&rig.answers('-', "custom/ask", json!(1))), ["b 1="]);
}

#[test]
fn rule_4_43_what_servers_say_that_we_do_not_know_passes_and_telemetry_does_not() {
    let mut rig = Rig::ready(client(), &[json!({}), json!({})]);
    let left = rig.server('b', json!({ "method": "textDocument/inactiveRegions", "params": [1] }));
    assert_eq!(left[0].params(), json!([1]));
    assert!(rig.server('b', json!({ "method": "telemetry/event", "params": {} })).is_empty());
    rig.server('b', json!({ "id": 7, "method": "custom/ask", "params": { "x": 1 } }));
    let left = rig.answers('-', "custom/ask", json!({ "y": 2 }));
    assert_eq!(
        (left[0].show(), left[0].body()["result"].clone()),
        ("b 7=".into(), json!({ "y": 2 }))
    );
}

#[test]
fn rule_4_46_a_bridge_between_servers_by_the_client_is_not_in_the_way() {
    let mut rig = Rig::ready(client(), &[json!({}), json!({})]);
    let params = json!([[1, "_vue:projectInfo", { "file": "x" }]]);
    let left = rig.server('b', json!({ "method": "tsserver/request", "params": params }));
    assert_eq!((left[0].to, left[0].params()), ('-', params));
}

#[test]
fn rule_4_18_a_client_that_never_answers_is_given_up() {
    let mut rig = Rig::ready(client(), &[json!({}), json!({})]);
    rig.server('a', json!({ "id": 1, "method": "custom/ask" }));
    assert_eq!(show(&rig.wait(700 * SECOND)), ["a 1!-32803"]);
    assert!(rig.merge.asked_client.is_empty());
}
