//! What the client asks.

use super::*;

fn hovers() -> Rig {
    Rig::ready(client(), &[json!({ "hoverProvider": true }), json!({ "hoverProvider": true })])
}

fn hover(text: &str) -> Value {
    json!({ "contents": { "kind": "markdown", "value": text } })
}

#[test]
fn rule_4_43_what_we_do_not_know_is_the_primary_s_byte_for_byte() {
    let mut rig = Rig::ready(client(), &[json!({}), json!({})]);
    let message =
        r#"{"method":"custom/x","id":"\u00e9","jsonrpc":"2.0","params":{"b":1.50,"a":"\ud83d"}}"#;
    let envelope = Envelope::read(message.as_bytes().to_vec().into()).unwrap();
    let routes = rig.merge.on_client(envelope, rig.now);
    let left = rig.note(routes);
    assert_eq!(show(&left), ["a custom/x"]);
    assert!(
        String::from_utf8_lossy(&left[0].envelope.body)
            .ends_with(r#""params":{"b":1.50,"a":"\ud83d"}}"#)
    );
    let id = left[0].envelope.id().unwrap().raw().to_owned();
    let answer = format!(r#"{{"jsonrpc":"2.0","result":{{"z":1e3,"z":"\ud83d"}},"id":{id}}}"#);
    let answer = Envelope::read(answer.into_bytes().into()).unwrap();
    let routes = rig.merge.on_child(Branch(0), answer, rig.now);
    let left = rig.note(routes);
    let expected = r#"{"jsonrpc":"2.0","result":{"z":1e3,"z":"\ud83d"},"id":"\u00e9"}"#;
    assert_eq!(String::from_utf8_lossy(&left[0].envelope.body), expected);
    assert_eq!(show(&rig.tells("$/custom", json!(1))), ["a $/custom"]);
    assert_eq!(show(&rig.tells("custom/note", json!(1))), ["a custom/note"]);
}

#[test]
fn rule_4_11_all_that_can_are_asked_and_their_answers_joined() {
    let mut rig = hovers();
    let left = rig.asks(1, "textDocument/hover", about("u"));
    assert_eq!(show(&left), ["a textDocument/hover", "b textDocument/hover"]);
    assert!(rig.answers('b', "textDocument/hover", hover("from b")).is_empty());
    let answer = result(&rig.answers('a', "textDocument/hover", hover("from a")));
    let text = answer["contents"]["value"].as_str().unwrap();
    assert!(text.starts_with("from a") && text.ends_with("from b"), "{text}");
    assert_eq!(rig.merge.pending_len(), 0);
}

#[test]
fn rule_4_18_the_others_have_two_seconds_after_the_first_and_late_answers_are_dropped() {
    let mut rig = hovers();
    rig.asks(1, "textDocument/hover", about("u"));
    assert!(rig.wait(10 * SECOND).is_empty());
    assert!(rig.answers('a', "textDocument/hover", hover("from a")).is_empty());
    assert_eq!(rig.merge.next_deadline(), Some(rig.now + FAN_PATIENCE));
    let left = rig.wait(FAN_PATIENCE);
    assert_eq!(show(&left), ["b $/cancelRequest", "- 1="]);
    assert_eq!(left[0].params()["id"], rig.last('b', "textDocument/hover"));
    assert!(rig.answers('b', "textDocument/hover", hover("late")).is_empty());
    assert_eq!(rig.merge.next_deadline(), None);
}

#[test]
fn rule_4_18_a_silent_primary_does_not_keep_what_others_have_said() {
    let mut rig = hovers();
    rig.asks(1, "textDocument/hover", about("u"));
    rig.answers('b', "textDocument/hover", hover("from b"));
    assert_eq!(result(&rig.wait(ASK_PATIENCE)), hover("from b"));
    // If nobody has said anything it takes as long as it takes.
    rig.asks(2, "textDocument/hover", about("u"));
    assert!(rig.wait(ASK_PATIENCE).is_empty());
    assert_eq!(rig.merge.next_deadline(), None);
    rig.answers('b', "textDocument/hover", Value::Null);
    assert_eq!(result(&rig.answers('a', "textDocument/hover", hover("x"))), hover("x"));
}

#[test]
fn rule_4_38_completions_of_others_have_150_ms_and_the_list_is_then_incomplete() {
    let provider = json!({ "completionProvider": {} });
    let mut rig = Rig::ready(client(), &[provider.clone(), provider]);
    rig.asks(1, "textDocument/completion", about("u"));
    let items = json!({ "isIncomplete": false, "items": [{ "label": "x" }] });
    rig.answers('a', "textDocument/completion", items);
    let left = rig.wait(COMPLETION_PATIENCE);
    assert_eq!(result(&left)["isIncomplete"], true);
    assert_eq!(result(&left)["items"][0]["label"], "x");
}

#[test]
fn rule_4_38_only_servers_whose_trigger_it_is_are_asked() {
    let with = |trigger: &str| json!({ "completionProvider": { "triggerCharacters": [trigger] } });
    let mut rig = Rig::ready(client(), &[with("."), with(":")]);
    let typed = |character: &str| {
        let mut params = about("u");
        params["context"] = json!({ "triggerKind": 2, "triggerCharacter": character });
        params
    };
    assert_eq!(
        show(&rig.asks(1, "textDocument/completion", typed(":"))),
        ["b textDocument/completion"]
    );
    let left = rig.asks(2, "textDocument/completion", typed("("));
    assert_eq!(result(&left), Value::Null);
}

#[test]
fn rule_4_17_a_cancel_reaches_all_and_the_client_gets_exactly_one_answer() {
    let mut rig = hovers();
    rig.asks("x", "textDocument/hover", about("u"));
    let left = rig.tells("$/cancelRequest", json!({ "id": "x" }));
    assert_eq!(show(&left), ["a $/cancelRequest", "b $/cancelRequest"]);
    assert_eq!(left[1].params()["id"], rig.last('b', "textDocument/hover"));
    assert!(rig.fails('a', "textDocument/hover", codes::REQUEST_CANCELLED).is_empty());
    let left = rig.fails('b', "textDocument/hover", codes::REQUEST_CANCELLED);
    assert_eq!(show(&left), ["- \"x\"!-32800"]);
    // Answered already: nothing comes of it.
    assert!(rig.tells("$/cancelRequest", json!({ "id": "x" })).is_empty());
    // A server that does not heed it.
    rig.asks(2, "textDocument/hover", about("u"));
    rig.tells("$/cancelRequest", json!({ "id": 2 }));
    assert_eq!(show(&rig.wait(2 * SECOND)), ["- 2!-32800"]);
}

#[test]
fn rule_4_6_an_error_counts_only_if_nobody_has_an_answer_and_keeps_its_data() {
    let mut rig = hovers();
    rig.asks(1, "textDocument/hover", about("u"));
    rig.fails('a', "textDocument/hover", codes::CONTENT_MODIFIED);
    assert_eq!(result(&rig.answers('b', "textDocument/hover", hover("b"))), hover("b"));
    rig.asks(2, "textDocument/hover", about("u"));
    rig.fails('b', "textDocument/hover", codes::INTERNAL_ERROR);
    let left = rig.fails('a', "textDocument/hover", codes::CONTENT_MODIFIED);
    assert_eq!(show(&left), ["- 2!-32801"]);
    assert_eq!(left[0].body()["error"]["data"], json!(["a"]));
}

#[test]
fn rule_4_5_an_id_in_use_is_refused() {
    let mut rig = hovers();
    rig.asks(1, "textDocument/hover", about("u"));
    assert_eq!(show(&rig.asks(1, "textDocument/hover", about("u"))), ["- 1!-32600"]);
    rig.answers('a', "textDocument/hover", Value::Null);
    rig.answers('b', "textDocument/hover", Value::Null);
    assert_eq!(rig.asks(1, "textDocument/hover", about("u")).len(), 2);
}

#[test]
fn rule_4_23_tokens_go_to_one_server_or_to_none() {
    let mut rig = hovers();
    let mut params = about("u");
    params["workDoneToken"] = json!("w");
    params["partialResultToken"] = json!("p");
    let left = rig.asks(1, "textDocument/hover", params.clone());
    assert_eq!(left[0].params()["workDoneToken"], "w");
    assert_eq!(left[0].params().get("partialResultToken"), None);
    assert_eq!(left[1].params(), about("u"));
    // Progress of the one that has it passes under the client's own token.
    let begin = json!({ "token": "w", "value": { "kind": "begin", "title": "t" } });
    let left = rig.server('a', json!({ "method": "$/progress", "params": begin }));
    assert_eq!(left[0].params(), begin);
    let mut rig = Rig::ready(client(), &[json!({ "hoverProvider": true }), json!({})]);
    let left = rig.asks(1, "textDocument/hover", params.clone());
    assert_eq!(left[0].params(), params, "one server has all of it");
}

#[test]
fn rule_4_39_one_server_formats() {
    let both =
        json!({ "documentFormattingProvider": true, "documentRangeFormattingProvider": true });
    let mut rig = Rig::ready(client(), &[json!({}), both.clone()]);
    assert_eq!(
        show(&rig.asks(1, "textDocument/formatting", about("u"))),
        ["b textDocument/formatting"]
    );
    let owners = results::Owners::new([("formatting".to_owned(), "b".to_owned())]);
    let children = vec![ChildOptions::named("a"), ChildOptions::named("b")];
    let mut rig = Rig::with(MergeOptions { children, owners, telemetry: false });
    rig.greet(client(), &[both.clone(), both]);
    let left = rig.asks(1, "textDocument/rangeFormatting", about("u"));
    assert_eq!(show(&left), ["b textDocument/rangeFormatting"]);
}

#[test]
fn rule_4_40_one_server_renames_and_prepares_it() {
    let rename = json!({ "renameProvider": true });
    let prepares = json!({ "renameProvider": { "prepareProvider": true } });
    let mut rig = Rig::ready(client(), &[json!({}), prepares, rename]);
    assert_eq!(
        show(&rig.asks(1, "textDocument/prepareRename", about("u"))),
        ["b textDocument/prepareRename"]
    );
    assert_eq!(show(&rig.asks(2, "textDocument/rename", about("u"))), ["b textDocument/rename"]);
}

#[test]
fn rule_4_37_what_comes_back_goes_to_its_maker_as_it_was_made() {
    let provider = json!({ "completionProvider": { "resolveProvider": true } });
    let mut rig = Rig::ready(client(), &[provider.clone(), provider]);
    rig.asks(1, "textDocument/completion", about("u"));
    rig.answers('a', "textDocument/completion", json!([{ "label": "a" }]));
    let left = rig.answers(
        'b',
        "textDocument/completion",
        json!([{ "label": "b", "data": { "k": [1] } }]),
    );
    let items = result(&left)["items"].clone();
    let item = items.as_array().unwrap().iter().find(|item| item["label"] == "b").unwrap();
    let left = rig.asks(2, "completionItem/resolve", item.clone());
    assert_eq!(show(&left), ["b completionItem/resolve"]);
    assert_eq!(left[0].params()["data"], json!({ "k": [1] }));
    let resolved = result(&rig.answers('b', "completionItem/resolve", left[0].params()));
    assert_eq!(resolved["data"], item["data"], "and it can come back again");
    // Its maker has died since: it stays as it is.
    rig.dies('b');
    assert_eq!(result(&rig.asks(3, "completionItem/resolve", item.clone())), *item);
}

#[test]
fn rule_4_37_what_only_one_can_make_stays_as_it_is() {
    let provider = json!({ "completionProvider": { "resolveProvider": true } });
    let mut rig = Rig::ready(client(), &[json!({}), provider]);
    rig.asks(1, "textDocument/completion", about("u"));
    let items = json!([{ "label": "b", "data": 1 }]);
    assert_eq!(result(&rig.answers('b', "textDocument/completion", items.clone())), items);
    let left = rig.asks(2, "completionItem/resolve", items[0].clone());
    assert_eq!(show(&left), ["b completionItem/resolve"]);
    assert_eq!(left[0].params(), items[0]);
}

#[test]
fn rule_4_36_a_command_finds_its_server() {
    let commands = |name: &str| json!({ "codeActionProvider": true, "executeCommandProvider": { "commands": [name] } });
    let mut rig = Rig::ready(client(), &[commands("fix"), commands("fix")]);
    rig.asks(1, "textDocument/codeAction", about("u"));
    let action = |title: &str| json!([{ "title": title, "command": { "title": "t", "command": "fix", "arguments": [{ "n": 1.50 }] } }]);
    rig.answers('a', "textDocument/codeAction", action("of a"));
    let actions = result(&rig.answers('b', "textDocument/codeAction", action("of b")));
    assert_eq!(actions[0]["command"]["command"], "demolish:a:fix");
    assert_eq!(actions[1]["command"]["command"], "demolish:b:fix");
    let left = rig.asks(
        2,
        "workspace/executeCommand",
        json!({ "command": "demolish:b:fix", "arguments": [1] }),
    );
    assert_eq!(show(&left), ["b workspace/executeCommand"]);
    assert_eq!(left[0].params(), json!({ "command": "fix", "arguments": [1] }));
    let left = rig.asks(3, "workspace/executeCommand", json!({ "command": "fix" }));
    assert_eq!(
        show(&left),
        ["a workspace/executeCommand"],
        "without a name: the first that has it"
    );
    let left = rig.asks(4, "workspace/executeCommand", json!({ "command": "demolish:z:fix" }));
    assert_eq!(show(&left), ["- 4!-32803"]);
}

#[test]
fn rule_4_11_a_server_is_told_of_its_own_diagnostics_only() {
    let provider = json!({ "codeActionProvider": true });
    let mut rig = Rig::ready(client(), &[provider.clone(), provider]);
    rig.published('a', "u", None, &["of a"]);
    rig.published('b', "u", None, &["of b"]);
    let shown = rig.wait(COALESCE);
    let mut params = about("u");
    params["context"] = json!({ "diagnostics": shown[0].params()["diagnostics"] });
    let left = rig.asks(1, "textDocument/codeAction", params);
    assert_eq!(left[0].params()["context"]["diagnostics"], json!([finding("of a")]));
    assert_eq!(left[1].params()["context"]["diagnostics"], json!([finding("of b")]));
}

#[test]
fn rule_4_24_one_server_colours_and_its_results_do_not_outlive_it() {
    let provider = json!({ "semanticTokensProvider": { "legend": {}, "full": { "delta": true } } });
    let mut rig = Rig::ready(client(), &[provider.clone(), provider]);
    let full = "textDocument/semanticTokens/full";
    let delta = "textDocument/semanticTokens/full/delta";
    assert_eq!(show(&rig.asks(1, full, about("u"))), [format!("a {full}")]);
    let first = result(&rig.answers('a', full, json!({ "resultId": "7", "data": [0, 1] })));
    assert_eq!(first["data"], json!([0, 1]));
    let mut params = about("u");
    params["previousResultId"] = first["resultId"].clone();
    let left = rig.asks(2, delta, params.clone());
    assert_eq!(show(&left), [format!("a {delta}")]);
    assert_eq!(left[0].params()["previousResultId"], "7");
    let second = result(&rig.answers('a', delta, json!({ "resultId": "8", "edits": [] })));
    params["previousResultId"] = second["resultId"].clone();
    rig.dies('a');
    let left = rig.asks(3, delta, params);
    assert_eq!(show(&left), [format!("a {full}")]);
    assert_eq!(left[0].params().get("previousResultId"), None);
}

#[test]
fn rule_4_21_one_pull_asks_all_and_every_server_gets_its_own_result_id() {
    let provider = |id: &str| json!({ "diagnosticProvider": { "identifier": id } });
    let mut rig = Rig::ready(client(), &[provider("A"), provider("B")]);
    let pull = "textDocument/diagnostic";
    let left =
        rig.asks(1, pull, json!({ "identifier": "demolish", "textDocument": { "uri": "u" } }));
    assert_eq!(show(&left), [format!("a {pull}"), format!("b {pull}")]);
    assert_eq!(left[0].params(), json!({ "identifier": "A", "textDocument": { "uri": "u" } }));
    let full = |id: &str, message: &str| json!({ "kind": "full", "resultId": id, "items": [finding(message)] });
    rig.answers('a', pull, full("1", "of a"));
    let first = result(&rig.answers('b', pull, full("x", "of b")));
    assert_eq!(first["items"].as_array().unwrap().len(), 2);
    let again = json!({ "textDocument": { "uri": "u" }, "previousResultId": first["resultId"] });
    let left = rig.asks(2, pull, again);
    assert_eq!(left[0].params()["previousResultId"], "1");
    assert_eq!(left[1].params()["previousResultId"], "x");
    rig.answers('a', pull, json!({ "kind": "unchanged", "resultId": "1" }));
    let second = result(&rig.fails('b', pull, codes::SERVER_CANCELLED));
    assert_eq!(second["kind"], "unchanged", "a server that has no time now has said nothing new");
    assert_eq!(second["resultId"], first["resultId"]);
}

#[test]
fn rule_4_21_a_client_that_takes_registrations_has_one_for_every_server() {
    let provider = json!({ "diagnosticProvider": { "identifier": "own" } });
    let mut rig = Rig::new(2);
    rig.initialize(dynamic());
    rig.answers('a', "initialize", json!({ "capabilities": provider }));
    let told = result(&rig.answers('b', "initialize", json!({ "capabilities": provider })));
    assert_eq!(told["capabilities"].get("diagnosticProvider"), None);
    let left = rig.tells("initialized", json!({}));
    let registrations =
        find(&left, "- client/registerCapability").params()["registrations"].clone();
    let identifiers: Vec<_> = registrations
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["registerOptions"]["identifier"].as_str().unwrap())
        .collect();
    assert_eq!(identifiers, ["a:own", "b:own"]);
    let left = rig.asks(
        1,
        "textDocument/diagnostic",
        json!({ "identifier": "b:own", "textDocument": { "uri": "u" } }),
    );
    assert_eq!(show(&left), ["b textDocument/diagnostic"]);
    assert_eq!(left[0].params()["identifier"], "own");
}

#[test]
fn rule_4_21_for_a_client_that_cannot_pull_we_do() {
    let mut client = client();
    client["textDocument"].as_object_mut().unwrap().remove("diagnostic");
    let provider = json!({ "textDocumentSync": 2, "diagnosticProvider": {} });
    let mut rig = Rig::ready(client, &[json!({ "textDocumentSync": 2 }), provider]);
    rig.opens("u", 1, "text");
    let left = rig.wait(PULL_DELAY);
    assert_eq!(show(&left), ["b textDocument/diagnostic"]);
    rig.answers(
        'b',
        "textDocument/diagnostic",
        json!({ "kind": "full", "resultId": "1", "items": [finding("b")] }),
    );
    let left = rig.wait(COALESCE);
    assert_eq!(show(&left), ["- textDocument/publishDiagnostics"]);
    assert_eq!(messages(&left[0]), ["b"]);
    rig.changes("u", 2, json!([{ "text": "t" }]));
    let left = rig.wait(PULL_DELAY);
    assert_eq!(left[0].params()["previousResultId"], "1");
    // The server has no time, and is asked again.
    rig.fails('b', "textDocument/diagnostic", codes::SERVER_CANCELLED);
    assert_eq!(show(&rig.wait(PULL_DELAY)), ["b textDocument/diagnostic"]);
    // It says that everything may have changed.
    rig.answers('b', "textDocument/diagnostic", json!({ "kind": "unchanged", "resultId": "1" }));
    rig.wait(COALESCE);
    let left = rig.server('b', json!({ "id": 1, "method": "workspace/diagnostic/refresh" }));
    assert_eq!(show(&left), ["b 1="]);
    assert!(show(&rig.wait(PULL_DELAY)).contains(&"b textDocument/diagnostic".to_owned()));
}

#[test]
fn rule_4_29_before_a_save_servers_are_asked_one_after_the_other_within_500_ms() {
    let provider = json!({ "textDocumentSync": { "openClose": true, "change": 2, "willSaveWaitUntil": true } });
    let mut rig = Rig::ready(client(), &[provider.clone(), provider]);
    rig.opens("u", 1, "one\ntwo\n");
    let method = "textDocument/willSaveWaitUntil";
    let edit = |line: u32| {
        let at = json!({ "line": line, "character": 0 });
        json!([{ "range": { "start": at, "end": at }, "newText": "x" }])
    };
    let save = json!({ "textDocument": { "uri": "u" }, "reason": 1 });
    assert_eq!(show(&rig.asks(1, method, save.clone())), [format!("a {method}")]);
    assert_eq!(show(&rig.answers('a', method, edit(0))), [format!("b {method}")]);
    assert_eq!(result(&rig.answers('b', method, edit(1))).as_array().unwrap().len(), 2);
    // Late edits are dropped.
    rig.asks(2, method, save.clone());
    rig.answers('a', method, edit(0));
    let left = rig.wait(SAVE_PATIENCE);
    assert_eq!(show(&left), ["b $/cancelRequest", "- 2="]);
    assert_eq!(result(&left), edit(0));
    // So are edits of an older text.
    rig.asks(3, method, save);
    rig.answers('a', method, edit(0));
    rig.changes("u", 2, json!([{ "text": "" }]));
    assert_eq!(result(&rig.answers('b', method, edit(1))), Value::Null);
}

#[test]
fn rule_4_9_a_slow_server_does_not_hold_up_what_others_are_asked() {
    let mut rig = Rig::ready(client(), &[json!({}), json!({ "hoverProvider": true })]);
    rig.asks(1, "custom/slow", json!({}));
    rig.asks(2, "textDocument/hover", about("u"));
    assert_eq!(show(&rig.answers('b', "textDocument/hover", hover("b"))), ["- 2="]);
}

#[test]
fn rule_4_27_a_server_that_counts_in_its_own_way_is_told_nothing_that_we_cannot_convert() {
    let own = json!({ "positionEncoding": "utf-8", "textDocumentSync": 2, "hoverProvider": true });
    let mut rig = Rig::new(2);
    rig.initialize(client());
    rig.answers('b', "initialize", json!({ "capabilities": {} }));
    let left = rig.answers('a', "initialize", json!({ "capabilities": own }));
    assert_eq!(show(&left), ["- \"i\"=", "- window/showMessage"]);
    rig.tells("initialized", json!({}));
    rig.opens("u", 1, "é x\n");
    assert_eq!(show(&rig.asks(1, "custom/x", json!({}))), ["- 1!-32601"]);
    assert!(rig.tells("custom/note", json!({})).is_empty());
    let mut params = about("u");
    params["position"]["character"] = 2.into();
    let left = rig.asks(2, "textDocument/hover", params);
    assert_eq!(left[0].params()["position"]["character"], 3, "é has two bytes");
    let range =
        json!({ "start": { "line": 0, "character": 3 }, "end": { "line": 0, "character": 4 } });
    let mut hover = hover("x");
    hover["range"] = range;
    let answer = result(&rig.answers('a', "textDocument/hover", hover));
    assert_eq!(answer["range"]["start"]["character"], 2);
}
