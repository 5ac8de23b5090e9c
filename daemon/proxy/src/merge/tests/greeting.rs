//! Servers that come, come late, or not at all; and that are asked to go.

use super::*;

#[test]
fn rule_4_10_the_servers_are_greeted_at_once_and_options_are_the_primary_s() {
    let mut rig = Rig::new(2);
    let left = rig.initialize(client());
    assert_eq!(show(&left), ["a initialize", "b initialize"]);
    assert_eq!(left[0].params()["initializationOptions"], json!({ "for": "a" }));
    assert_eq!(left[1].params().get("initializationOptions"), None);
    assert_eq!(left[1].params()["processId"], 7);
}

#[test]
fn rule_4_26_servers_are_offered_the_one_encoding_of_the_connection() {
    let mut rig = Rig::new(2);
    let left = rig.initialize(client());
    for left in &left {
        assert_eq!(
            left.params()["capabilities"]["general"]["positionEncodings"],
            json!(["utf-16"])
        );
    }
}

#[test]
fn rule_4_11_the_answer_has_what_all_can_do_and_is_given_once() {
    let mut rig = Rig::new(2);
    rig.initialize(client());
    let capabilities = json!({ "hoverProvider": true, "experimental": { "x": 1 } });
    assert!(rig.answers('a', "initialize", json!({ "capabilities": capabilities })).is_empty());
    let other =
        json!({ "completionProvider": { "triggerCharacters": ["."] }, "experimental": { "y": 1 } });
    let told = result(&rig.answers('b', "initialize", json!({ "capabilities": other })));
    assert_eq!(told["capabilities"]["hoverProvider"], true);
    assert_eq!(told["capabilities"]["completionProvider"]["triggerCharacters"], json!(["."]));
    assert_eq!(told["capabilities"]["experimental"], json!({ "x": 1 }));
    assert_eq!(told["capabilities"]["positionEncoding"], "utf-16");
    assert_eq!(told["serverInfo"]["name"], "a + b");
    assert!(rig.wait(60 * SECOND).is_empty());
}

#[test]
fn rule_4_13_a_client_that_leaves_before_it_was_greeted_has_both_answers() {
    let mut rig = Rig::new(2);
    rig.initialize(client());
    rig.answers('a', "initialize", json!({ "capabilities": {} }));
    let left = rig.asks("bye", "shutdown", Value::Null);
    assert_eq!(show(&left)[0], "- \"i\"!-32800");
    rig.answers('a', "shutdown", Value::Null);
    assert_eq!(show(&rig.answers('b', "shutdown", Value::Null)), ["- \"bye\"="]);
    assert!(rig.answers('b', "initialize", json!({ "capabilities": {} })).is_empty());
}

#[test]
fn rule_4_10_a_greeting_that_is_none_is_that_of_a_server_that_can_nothing() {
    for odd in [json!([1]), json!("x"), json!(7), Value::Null, json!({ "capabilities": [] })] {
        let mut rig = Rig::new(2);
        rig.initialize(client());
        rig.answers('b', "initialize", odd);
        let capabilities = json!({ "hoverProvider": true });
        let told = result(&rig.answers('a', "initialize", json!({ "capabilities": capabilities })));
        assert_eq!(told["capabilities"]["hoverProvider"], true);
    }
}

#[test]
fn rule_4_10_a_client_that_takes_registrations_does_not_wait_for_the_late() {
    let mut rig = Rig::new(2);
    rig.initialize(dynamic());
    let capabilities = json!({ "textDocumentSync": 2, "hoverProvider": true });
    assert!(rig.answers('a', "initialize", json!({ "capabilities": capabilities })).is_empty());
    assert_eq!(rig.merge.next_deadline(), Some(rig.now + SETTLE_PATIENCE));
    assert_eq!(show(&rig.wait(SETTLE_PATIENCE)), ["- \"i\"="]);
    assert_eq!(show(&rig.tells("initialized", json!({}))), ["a initialized"]);
    rig.tells("workspace/didChangeConfiguration", json!({ "settings": 1 }));
    rig.opens("u", 3, "text");
    let late = json!({
        "textDocumentSync": 2, "hoverProvider": true,
        "completionProvider": {}, "executeCommandProvider": { "commands": ["fix"] },
    });
    let left = rig.answers('b', "initialize", json!({ "capabilities": late }));
    let expected = [
        "b initialized",
        "b workspace/didChangeConfiguration",
        "b textDocument/didOpen",
        "- client/registerCapability",
    ];
    assert_eq!(show(&left), expected);
    let registrations = left[3].params()["registrations"].clone();
    let methods: Vec<_> =
        registrations.as_array().unwrap().iter().map(|one| &one["method"]).collect();
    assert_eq!(methods, ["textDocument/completion", "workspace/executeCommand"]);
    assert_eq!(registrations[1]["registerOptions"]["commands"], json!(["demolish:b:fix"]));
}

#[test]
fn rule_4_10_the_others_are_enough_if_the_primary_is_slow() {
    let mut rig = Rig::new(2);
    rig.initialize(dynamic());
    rig.answers('b', "initialize", json!({ "capabilities": { "hoverProvider": true } }));
    assert!(rig.wait(INITIALIZE_PATIENCE - SECOND).is_empty());
    assert_eq!(result(&rig.wait(SECOND))["serverInfo"]["name"], "b");
}

#[test]
fn rule_4_10_a_client_that_takes_no_registrations_waits_for_all_but_not_for_ever() {
    let mut rig = Rig::new(2);
    rig.initialize(client());
    rig.answers('a', "initialize", json!({ "capabilities": {} }));
    assert!(rig.wait(LATE_PATIENCE - SECOND).is_empty());
    assert_eq!(show(&rig.wait(SECOND)), ["- \"i\"="]);
}

#[test]
fn rule_4_10_nobody_there_means_to_wait_for_somebody() {
    let mut rig = Rig::new(2);
    rig.initialize(client());
    assert!(rig.wait(20 * LATE_PATIENCE).is_empty());
    assert_eq!(rig.merge.next_deadline(), None);
    assert_eq!(show(&rig.answers('b', "initialize", json!({ "capabilities": {} }))), ["- \"i\"="]);
}

#[test]
fn rule_4_10_one_server_that_does_not_start_does_not_fail_the_editor() {
    let mut rig = Rig::new(2);
    rig.initialize(client());
    let told = rig.fails('a', "initialize", codes::REQUEST_FAILED);
    assert_eq!(show(&told), ["- window/showMessage"]);
    assert!(told[0].params()["message"].as_str().unwrap().contains("a did not start: no"));
    rig.answers('b', "initialize", json!({ "capabilities": { "hoverProvider": true } }));
    rig.tells("initialized", json!({}));
    assert_eq!(show(&rig.asks(1, "textDocument/hover", about("u"))), ["b textDocument/hover"]);
    assert_eq!(show(&rig.asks(2, "custom/thing", json!({}))), ["- 2!-32803"]);
}

#[test]
fn rule_4_10_if_none_starts_the_client_is_told_why_and_may_try_again() {
    let mut rig = Rig::new(2);
    rig.initialize(client());
    rig.fails('b', "initialize", codes::INTERNAL_ERROR);
    let left = rig.fails('a', "initialize", codes::REQUEST_FAILED);
    assert_eq!(show(&left), ["- window/showMessage", "- \"i\"!-32803"]);
    assert_eq!(left[1].body()["error"]["data"], json!(["a"]));
    assert_eq!(show(&rig.initialize(client())), ["a initialize", "b initialize"]);
}

#[test]
fn rule_4_10_before_the_answer_only_what_is_allowed_passes_and_the_rest_keeps_its_order() {
    let mut rig = Rig::new(2);
    rig.initialize(client());
    let shown =
        json!({ "method": "window/showMessage", "params": { "type": 3, "message": "hello" } });
    assert_eq!(rig.server('b', shown)[0].params()["message"], "[b] hello");
    assert!(rig.server('b', json!({ "method": "custom/early", "params": 1 })).is_empty());
    rig.answers('b', "initialize", json!({ "capabilities": {} }));
    assert!(rig.server('b', json!({ "method": "custom/early", "params": 2 })).is_empty());
    let left = rig.answers('a', "initialize", json!({ "capabilities": {} }));
    assert_eq!(show(&left), ["- \"i\"=", "- custom/early", "- custom/early"]);
    assert_eq!(left[2].params(), 2);
}

#[test]
fn rule_4_10_requests_before_the_answer_are_refused_and_twice_is_once_too_often() {
    let mut rig = Rig::new(2);
    assert_eq!(show(&rig.asks(1, "textDocument/hover", about("u"))), ["- 1!-32002"]);
    rig.initialize(client());
    assert_eq!(show(&rig.asks(1, "textDocument/hover", about("u"))), ["- 1!-32002"]);
    assert_eq!(show(&rig.asks(2, "initialize", json!({}))), ["- 2!-32600"]);
    assert!(rig.opens("u", 1, "").is_empty());
}

#[test]
fn rule_4_10_what_only_a_late_server_may_know_waits_for_it() {
    let mut rig = Rig::new(2);
    rig.initialize(dynamic());
    rig.answers('b', "initialize", json!({ "capabilities": {} }));
    rig.wait(INITIALIZE_PATIENCE);
    rig.tells("initialized", json!({}));
    assert!(rig.asks(1, "custom/one", json!(1)).is_empty());
    assert!(rig.asks(2, "textDocument/hover", about("u")).is_empty());
    assert!(rig.asks(3, "custom/two", json!(2)).is_empty());
    assert_eq!(show(&rig.tells("$/cancelRequest", json!({ "id": 3 }))), ["- 3!-32800"]);
    assert_eq!(show(&rig.asks(1, "custom/one", json!(1))), ["- 1!-32600"], "the id is in use");
    let left = rig.answers('a', "initialize", json!({ "capabilities": { "hoverProvider": true } }));
    let asked: Vec<String> = show(&left).into_iter().filter(|one| !one.starts_with('-')).collect();
    assert_eq!(asked, ["a initialized", "a custom/one", "a textDocument/hover"]);
    let mut rig = Rig::new(2);
    rig.initialize(dynamic());
    rig.answers('b', "initialize", json!({ "capabilities": {} }));
    rig.wait(INITIALIZE_PATIENCE);
    rig.asks(1, "custom/one", json!(1));
    assert_eq!(show(&rig.wait(HELD_PATIENCE)), ["- 1!-32803"], "its own deadline");
}

#[test]
fn rule_4_13_all_are_asked_to_go_and_the_client_waits_for_them_in_vain_for_a_moment_only() {
    let mut rig = Rig::ready(client(), &[json!({}), json!({})]);
    assert_eq!(show(&rig.asks(9, "shutdown", Value::Null)), ["a shutdown", "b shutdown"]);
    assert!(rig.answers('b', "shutdown", Value::Null).is_empty());
    // Servers may still ask (rule 4.13).
    let ask = json!({ "id": 1, "method": "custom/ask" });
    assert_eq!(show(&rig.server('a', ask)), ["- custom/ask"]);
    assert_eq!(show(&rig.answers('-', "custom/ask", json!(1))), ["a 1="]);
    assert_eq!(show(&rig.asks(10, "textDocument/hover", about("u"))), ["- 10!-32600"]);
    assert_eq!(show(&rig.wait(2 * SECOND)), ["- 9="]);
    assert!(rig.answers('a', "shutdown", Value::Null).is_empty());
    assert_eq!(show(&rig.tells("exit", Value::Null)), ["a exit", "b exit"]);
    let mut rig = Rig::ready(client(), &[json!({}), json!({})]);
    rig.asks(9, "shutdown", Value::Null);
    rig.answers('a', "shutdown", Value::Null);
    assert_eq!(show(&rig.fails('b', "shutdown", -1)), ["- 9="]);
}
