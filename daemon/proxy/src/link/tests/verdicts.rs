//! Verdicts through a link: what it tells the barrier, and how the barrier's questions travel.

use super::*;
use crate::verdict::State;

const U: &str = "file:///a";

fn open(rig: &mut Rig, version: i32) -> Vec<String> {
    let item = json!({ "uri": U, "languageId": "x", "version": version, "text": "t" });
    rig.client(json!({ "method": "textDocument/didOpen", "params": { "textDocument": item } }))
}

fn change(rig: &mut Rig, version: i32) -> Vec<String> {
    let document = json!({ "uri": U, "version": version });
    let params = json!({ "textDocument": document, "contentChanges": [{ "text": "other" }] });
    rig.client(json!({ "method": "textDocument/didChange", "params": params }))
}

/// Asks with ten seconds' patience.
fn ask(rig: &mut Rig) -> Vec<String> {
    let until = rig.now + Duration::from_secs(10);
    show(&rig.link.verdict(U, Ticket(7), until, rig.now))
}

/// A server that says whether it is pulled, with one document.
fn rig(pulls: bool) -> Rig {
    let mut rig = Rig::new(Reads::Fail);
    rig.link.on_server_up(rig.now);
    rig.client(json!({ "id": "i", "method": "initialize", "params": { "capabilities": {} } }));
    let provider = if pulls { json!({}) } else { Value::Null };
    let capabilities = json!({ "diagnosticProvider": provider });
    rig.server(json!({ "id": 1, "result": { "capabilities": capabilities } }));
    rig.client(json!({ "method": "initialized", "params": {} }));
    open(&mut rig, 1);
    rig
}

fn answered(rig: &mut Rig, message: Value) -> Vec<String> {
    let mut shown = Vec::new();
    for route in rig.server_routes(message) {
        match &route {
            Route::Answered(ours, answer) => {
                let follow = rig.link.on_question_answered(*ours, answer, rig.now);
                shown.extend(show(&follow.expect("the barrier's question")));
            }
            _ => shown.extend(show(std::slice::from_ref(&route))),
        }
    }
    shown
}

#[test]
fn rule_4_21_the_server_is_asked_behind_the_client_s_changes_and_the_client_hears_nothing() {
    let mut rig = rig(true);
    assert_eq!(change(&mut rig, 2), ["s textDocument/didChange"]);
    assert_eq!(ask(&mut rig), ["s 2 textDocument/diagnostic"]);
    let report = json!({ "kind": "full", "items": [{ "message": "no" }] });
    assert_eq!(answered(&mut rig, json!({ "id": 2, "result": report })), ["verdict 7 findings"]);
    assert!(rig.link.tap().latest(U).is_none(), "the client was told nothing, and shows nothing");
    assert_eq!(rig.link.pending_len(ClientId::ONLY), 0);
}

#[test]
fn rule_4_20_a_client_s_documents_and_a_server_s_words_reach_the_barrier() {
    let mut rig = rig(false);
    assert!(ask(&mut rig).is_empty());
    let publish = |version: i32| {
        let params = json!({ "uri": U, "version": version, "diagnostics": [] });
        json!({ "method": "textDocument/publishDiagnostics", "params": params })
    };
    change(&mut rig, 2);
    assert_eq!(rig.server(publish(1)), ["c textDocument/publishDiagnostics"]);
    assert_eq!(
        rig.server(publish(2)),
        ["c textDocument/publishDiagnostics", "verdict 7 clean"],
        "the client hears it first"
    );
    let close = json!({ "textDocument": { "uri": U } });
    rig.client(json!({ "method": "textDocument/didClose", "params": close }));
    assert_eq!(ask(&mut rig), ["verdict 7 unknown"]);
}

#[test]
fn rule_4_20_a_question_waits_for_the_server_that_comes_after_the_dead_one() {
    let mut rig = rig(true);
    assert_eq!(ask(&mut rig), ["s 2 textDocument/diagnostic"]);
    let routes = rig.link.on_server_death();
    for route in &routes {
        if let Route::Answered(ours, answer) = route {
            assert!(rig.link.on_question_answered(*ours, answer, rig.now).is_none());
        }
    }
    assert!(!show(&routes).iter().any(|shown| shown.starts_with("verdict")));
    assert_eq!(show(&rig.link.on_server_up(rig.now)), ["s 3 initialize"]);
    let result = json!({ "capabilities": { "diagnosticProvider": {} } });
    let after = rig.server(json!({ "id": 3, "result": result }));
    let (open, asked) = (&after[1], after.last().unwrap());
    assert_eq!((&**open, &**asked), ("s textDocument/didOpen", "s 4 textDocument/diagnostic"));
    let report = json!({ "kind": "full", "items": [] });
    assert_eq!(answered(&mut rig, json!({ "id": 4, "result": report })), ["verdict 7 clean"]);
}

#[test]
fn rule_4_20_every_question_has_its_verdict_when_the_server_is_given_up() {
    let mut rig = rig(true);
    ask(&mut rig);
    let shown = show(&rig.link.give_up("it is no more"));
    assert_eq!(shown.iter().filter(|shown| shown.starts_with("verdict 7")).count(), 1, "{shown:?}");
    assert_eq!(ask(&mut rig), ["verdict 7 unknown"]);
}

#[test]
fn rule_4_20_patience_ends() {
    let mut rig = rig(true);
    ask(&mut rig);
    assert_eq!(rig.link.next_deadline(), Some(rig.now + Duration::from_secs(10)));
    assert_eq!(rig.wait(Duration::from_secs(10)), ["verdict 7 unknown", "withdraw s 2"]);
    let until = rig.now + Duration::from_secs(1);
    let routes = rig.link.verdict("file:///b", Ticket(8), until, rig.now);
    let [Route::Verdict(_, verdict)] = &routes[..] else { panic!("{routes:?}") };
    assert!(matches!(verdict.state, State::Unknown(_)) && verdict.revision.is_none());
}
