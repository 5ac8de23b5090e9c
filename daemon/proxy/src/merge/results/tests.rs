//! Answers in, one answer out. Results are compared as JSON, and byte for byte where bytes must not change.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::merge::capabilities::Child;
use crate::raw::arbitrary;

/// Merges the results of the servers `a`, `b`, `c` of a client with these capabilities.
fn merged_for(client: &Value, method: &str, results: &[&str], all_answered: bool) -> String {
    let names = ["a", "b", "c"];
    let parts: Vec<Part<'_>> = results
        .iter()
        .enumerate()
        .map(|(child, result)| Part { child, name: names[child], result: result.as_bytes() })
        .collect();
    String::from_utf8(merge(method, &parts, client, all_answered)).unwrap()
}

/// As JSON, with duplicate spaces and the order of members aside.
fn check(client: &Value, method: &str, results: &[&str], expected: Value) {
    let got = merged_for(client, method, results, true);
    let got: Value = serde_json::from_str(&got).unwrap_or_else(|error| panic!("{error}: {got}"));
    assert_eq!(got, expected, "{method} of {results:?}");
}

/// Byte for byte.
fn check_bytes(method: &str, results: &[&str], expected: &str) {
    assert_eq!(merged_for(&json!({}), method, results, true), expected, "{method}");
}

#[test]
fn rule_4_11_every_method_of_the_table_passes_a_single_answer_untouched() {
    let odd =
        r#" {"items" : [ {"label":"\ud83d","n":1e400} ], "contents":"x", "changes":{"u":[]}}"#;
    let list = r#"[ {"uri":"u","n":1e400,"s":"\ud83d"} ]"#;
    for row in TABLE {
        for raw in [odd, list] {
            check_bytes(row.method, &[raw], raw);
            check_bytes(row.method, &["null", raw, "null"], raw);
        }
        check_bytes(row.method, &["null", "null"], "null");
        check_bytes(row.method, &[], "null");
    }
    check_bytes("unknown/method", &["1", "2"], "1");
}

#[test]
fn rule_4_38_items_of_others_come_behind_and_defaults_are_written_out() {
    let primary = r#"{"isIncomplete":false,"itemDefaults":{"commitCharacters":["."],"editRange":{"start":1,"end":2}},
        "items":[{"label":"b","x":1},{"label":"a","sortText":"1","commitCharacters":[],"textEditText":"A"}]}"#;
    let second = r#"[{"label":"c"},{"label":"d","sortText":"0"}]"#;
    let third = r#"{"isIncomplete":true,"applyKind":{"commitCharacters":2,"data":2},
        "itemDefaults":{"commitCharacters":["(",";"],"data":{"a":1,"b":2},"insertTextFormat":2,"editRange":{"insert":3,"replace":4}},
        "items":[{"label":"e","commitCharacters":[";","!"],"data":{"b":3},"insertTextFormat":1,"textEdit":5},{"label":"f"}]}"#;
    let range = json!({"start": 1, "end": 2});
    let expected = json!({"isIncomplete": true, "items": [
        {"label": "b", "x": 1, "commitCharacters": ["."], "textEdit": {"newText": "b", "range": range}},
        {"label": "a", "sortText": "1", "commitCharacters": [], "textEditText": "A", "textEdit": {"newText": "A", "range": range}},
        {"label": "c", "sortText": "~01~c"},
        {"label": "d", "sortText": "~01~0"},
        {"label": "e", "sortText": "~02~e", "commitCharacters": [";", "!", "("], "data": {"b": 3, "a": 1}, "insertTextFormat": 1, "textEdit": 5},
        {"label": "f", "sortText": "~02~f", "commitCharacters": ["(", ";"], "data": {"a": 1, "b": 2}, "insertTextFormat": 2,
            "textEdit": {"newText": "f", "insert": 3, "replace": 4}},
    ]});
    check(&json!({}), "textDocument/completion", &[primary, second, third], expected);
}

#[test]
fn rule_4_38_who_is_missing_makes_the_list_incomplete() {
    let completion =
        |results: &[&str], all| merged_for(&json!({}), "textDocument/completion", results, all);
    assert_eq!(completion(&["[1]"], false), r#"{"isIncomplete":true,"items":[1]}"#);
    assert_eq!(completion(&[r#"{"items":[1]}"#], false), r#"{"items":[1],"isIncomplete":true}"#);
    assert_eq!(
        completion(&[r#"{"isIncomplete":false,"items":[1e400]}"#], false),
        r#"{"isIncomplete":true,"items":[1e400]}"#
    );
    assert_eq!(completion(&[r#"{"items":[1]}"#], true), r#"{"items":[1]}"#);
    assert_eq!(completion(&["null"], false), r#"{"isIncomplete":true,"items":[]}"#);
    assert_eq!(completion(&["null", "[]"], true), "[]");
    // A list that is empty so far, and says so, is an answer.
    let empty = r#"{"isIncomplete":true,"items":[]}"#;
    assert_eq!(completion(&["null", empty], true), empty);
}

#[test]
fn rule_4_38_what_no_number_type_holds_survives_a_merge() {
    let list = r#"[{"label":"a","data":1e400,"detail":"\ud83d"}]"#;
    let other = r#"[{"label":"b","data":123456789012345678901234567890}]"#;
    let got = merged_for(&json!({}), "textDocument/completion", &[list, other], true);
    let expected = concat!(
        r#"{"isIncomplete":false,"items":[{"label":"a","data":1e400,"detail":"\ud83d"},"#,
        r#"{"label":"b","data":123456789012345678901234567890,"sortText":"~01~b"}]}"#
    );
    assert_eq!(got, expected);
}

#[test]
fn rule_4_41_hovers_become_one_text_of_the_kind_that_the_client_prefers() {
    let marked = r#"{"contents":["one",{"language":"rust","value":"fn f()"}],"x":1}"#;
    let plain = r#"{"contents":{"kind":"plaintext","value":"a_b\nc"},"range":{"start":1}}"#;
    let markdown = r#"{"contents":{"kind":"markdown","value":"**m**"}}"#;
    let nothing = r#"{"contents":[]}"#;
    let all = [marked, plain, markdown];
    let client = |kinds: Value| json!({"textDocument": {"hover": {"contentFormat": kinds}}});
    let text = "one\n\n```rust\nfn f()\n```\n\n---\n\na\\_b  \nc\n\n---\n\n**m**";
    check(
        &client(json!(["markdown", "plaintext"])),
        "textDocument/hover",
        &all,
        json!({"contents": {"kind": "markdown", "value": text}, "x": 1, "range": {"start": 1}}),
    );
    check(
        &json!({}),
        "textDocument/hover",
        &all,
        json!({"contents": text, "x": 1, "range": {"start": 1}}),
    );
    check(
        &client(json!(["plaintext"])),
        "textDocument/hover",
        &all,
        json!({"contents": {"kind": "plaintext", "value": "one\n\nfn f()\n\n---\n\na_b\nc\n\n---\n\n**m**"}, "x": 1, "range": {"start": 1}}),
    );
    check_bytes("textDocument/hover", &[nothing, plain, "null"], plain);
    check_bytes("textDocument/hover", &[marked, nothing], marked);
}

#[test]
fn rule_4_41_a_fence_is_longer_than_what_it_holds() {
    let one = r#"{"contents":{"language":"md","value":"```\nx\n```"}}"#;
    let expected = json!({"contents": "````md\n```\nx\n```\n````\n\n---\n\ny"});
    check(&json!({}), "textDocument/hover", &[one, r#"{"contents":"y"}"#], expected);
}

#[test]
fn rule_4_41_the_first_signature_counts() {
    check_bytes(
        "textDocument/signatureHelp",
        &["null", r#"{"signatures":[]}"#, r#"{"x":1}"#],
        r#"{"signatures":[]}"#,
    );
}

#[test]
fn rule_4_11_places_become_what_the_client_takes_and_each_stands_once() {
    let range = |line: u32| json!({"start": {"line": line, "character": 0}, "end": {"line": line, "character": 4}});
    let location = json!({"uri": "file:///a", "range": range(1), "x": 1}).to_string();
    let list =
        json!([{"uri": "file:///a", "range": range(1)}, {"uri": "file:///b", "range": range(1)}])
            .to_string();
    let links = json!([
        {"targetUri": "file:///a", "targetRange": range(0), "targetSelectionRange": range(1)},
        {"targetUri": "file:///c", "targetRange": range(0), "targetSelectionRange": range(2), "originSelectionRange": range(9), "y": 2},
    ])
    .to_string();
    let results = [location.as_str(), &list, &links];
    check(
        &json!({}),
        "textDocument/definition",
        &results,
        json!([
            {"uri": "file:///a", "range": range(1), "x": 1},
            {"uri": "file:///b", "range": range(1)},
            {"uri": "file:///c", "range": range(2), "y": 2},
        ]),
    );
    let client = json!({"textDocument": {"definition": {"linkSupport": true}}});
    check(
        &client,
        "textDocument/definition",
        &results,
        json!([
            {"targetUri": "file:///a", "targetRange": range(1), "targetSelectionRange": range(1), "x": 1},
            {"targetUri": "file:///b", "targetRange": range(1), "targetSelectionRange": range(1)},
            {"targetUri": "file:///c", "targetRange": range(0), "targetSelectionRange": range(2), "originSelectionRange": range(9), "y": 2},
        ]),
    );
    // The support of one method says nothing about another.
    check(
        &client,
        "textDocument/declaration",
        &[&location, &list],
        json!([
            {"uri": "file:///a", "range": range(1), "x": 1},
            {"uri": "file:///b", "range": range(1)},
        ]),
    );
    check(
        &client,
        "textDocument/references",
        &["[]", &list, "null"],
        serde_json::from_str(&list).unwrap(),
    );
}

#[test]
fn rule_4_11_lists_are_united_and_what_does_not_add_up_is_the_first_that_says_anything() {
    for method in [
        "workspace/symbol",
        "textDocument/codeAction",
        "textDocument/codeLens",
        "textDocument/inlayHint",
        "textDocument/documentLink",
        "textDocument/documentColor",
    ] {
        check_bytes(method, &["[1e400, 2]", "null", r#"["\ud83d"]"#], r#"[1e400,2,"\ud83d"]"#);
        check_bytes(method, &["null", "[]", "[]"], "[]");
        check_bytes(method, &["\"no list\"", "[1]"], "[1]");
    }
    check_bytes("textDocument/documentHighlight", &["[]", "[2]", "[3]"], "[2]");
    check_bytes("textDocument/documentSymbol", &["null", "[2]"], "[2]");
    check_bytes("textDocument/documentSymbol", &["[]", "[2]"], "[]");
}

fn edit(line: u32, from: u32, to: u32) -> Value {
    json!({"range": {"start": {"line": line, "character": from}, "end": {"line": line, "character": to}}, "newText": "x"})
}

#[test]
fn rule_4_40_edits_are_merged_only_if_they_are_disjoint() {
    let save = "textDocument/willSaveWaitUntil";
    let list = |edits: &[Value]| Value::from(edits).to_string();
    let first = list(&[edit(0, 0, 3), edit(2, 1, 1)]);
    for (other, apart) in [
        (list(&[edit(0, 3, 4), edit(1, 0, 9)]), true),
        (list(&[edit(0, 2, 4)]), false),
        (list(&[edit(0, 1, 2)]), false),
        (list(&[edit(2, 1, 1)]), false),
        (list(&[edit(2, 1, 2)]), true),
        (list(&[edit(2, 0, 2)]), false),
        (r#"[{"range":{"start":"?"}}]"#.to_owned(), false),
    ] {
        let got = merged_for(&json!({}), save, &[&first, &other], true);
        let count = serde_json::from_str::<Vec<Value>>(&got).unwrap().len();
        assert_eq!(count > 2, apart, "{other}");
    }
}

#[test]
fn rule_4_40_edits_of_the_workspace_are_merged_document_by_document() {
    let rename = "workspace/willRenameFiles";
    let by_uri =
        json!({"changes": {"file:///a": [edit(0, 0, 1)], "file:///b": []}, "x": 1}).to_string();
    let more = json!({"changes": {"file:///a": [edit(1, 0, 1)], "file:///c": [edit(0, 0, 1)]}, "changeAnnotations": {"n": {}}}).to_string();
    check(
        &json!({}),
        rename,
        &[&by_uri, &more],
        json!({
            "changes": {"file:///a": [edit(0, 0, 1), edit(1, 0, 1)], "file:///b": [], "file:///c": [edit(0, 0, 1)]},
            "changeAnnotations": {"n": {}}, "x": 1,
        }),
    );
    let document = |uri: &str, edits: &[Value]| json!({"textDocument": {"uri": uri, "version": null}, "edits": edits});
    let listed = json!({"documentChanges": [document("file:///a", &[edit(1, 0, 1)]), {"kind": "create", "uri": "file:///n"}]}).to_string();
    let expected = json!({
        "documentChanges": [
            document("file:///a", &[edit(1, 0, 1), edit(0, 0, 1)]),
            {"kind": "create", "uri": "file:///n"},
            document("file:///b", &[]),
        ],
    });
    check(&json!({}), rename, &[&listed, &by_uri], expected.clone());
    check(&json!({}), rename, &[&by_uri, &listed], expected);
    // What cannot stand together leaves the first alone.
    for other in [
        json!({"changes": {"file:///a": [edit(0, 0, 9)]}}),
        json!({"documentChanges": [{"kind": "delete", "uri": "file:///a"}]}),
        json!({"documentChanges": [{"kind": "rename", "oldUri": "file:///q", "newUri": "file:///a"}]}),
    ] {
        check_bytes(rename, &[&by_uri, &other.to_string()], &by_uri);
    }
    check_bytes(
        rename,
        &[
            &more,
            &json!({"changes": {"file:///z": [edit(0, 0, 1)]}, "changeAnnotations": {"n": {}}})
                .to_string(),
        ],
        &more,
    );
    check_bytes(rename, &[r#"{"changes":{}}"#, &by_uri], &by_uri);
    // Neither can what is no edit.
    for odd in
        [r#"{"changes":[],"x":1}"#, r#"{"changeAnnotations":[1],"changes":{"file:///z":[]}}"#]
    {
        check_bytes(rename, &[odd, &by_uri], odd);
        check_bytes(rename, &[&more, odd], &more);
    }
}

#[test]
fn rule_4_23_what_ends_partial_results_is_empty_and_has_the_shape_of_its_method() {
    assert_eq!(empty("textDocument/references"), b"[]");
    assert_eq!(empty("textDocument/semanticTokens/full"), br#"{"data":[]}"#);
    for row in TABLE {
        let _: Value = serde_json::from_slice(empty(row.method)).unwrap();
    }
}

/// Whether a server with these capabilities is asked.
fn check_capable(method: &str, params: Value, capabilities: Value, expected: bool) {
    let got = capable(method, &params, &capabilities, &[]);
    assert_eq!(got, expected, "{method} {params} {capabilities}");
}

#[test]
fn rule_4_11_only_servers_that_can_are_asked() {
    let none = || json!({});
    check_capable("textDocument/hover", none(), json!({"hoverProvider": true}), true);
    check_capable("textDocument/hover", none(), json!({"hoverProvider": {}}), true);
    check_capable("textDocument/hover", none(), json!({"hoverProvider": false}), false);
    check_capable("textDocument/hover", none(), none(), false);
    check_capable("textDocument/prepareRename", none(), json!({"renameProvider": true}), false);
    check_capable(
        "textDocument/prepareRename",
        none(),
        json!({"renameProvider": {"prepareProvider": true}}),
        true,
    );
    check_capable(
        "textDocument/semanticTokens/full/delta",
        none(),
        json!({"semanticTokensProvider": {"full": true}}),
        false,
    );
    check_capable(
        "textDocument/semanticTokens/full/delta",
        none(),
        json!({"semanticTokensProvider": {"full": {"delta": true}}}),
        true,
    );
    check_capable(
        "textDocument/semanticTokens/full",
        none(),
        json!({"semanticTokensProvider": {"full": {}}}),
        true,
    );
    check_capable(
        "workspace/willRenameFiles",
        none(),
        json!({"workspace": {"fileOperations": {"willRename": {"filters": []}}}}),
        true,
    );
    check_capable("custom/method", none(), none(), true);
}

#[test]
fn rule_4_11_only_servers_whose_triggers_kinds_and_commands_fit_are_asked() {
    let typed =
        |character: &str| json!({"context": {"triggerKind": 2, "triggerCharacter": character}});
    let triggers = json!({"completionProvider": {"triggerCharacters": ["."]}, "signatureHelpProvider": {"triggerCharacters": ["("], "retriggerCharacters": [","]}});
    check_capable("textDocument/completion", typed("."), triggers.clone(), true);
    check_capable("textDocument/completion", typed(":"), triggers.clone(), false);
    check_capable(
        "textDocument/completion",
        json!({"context": {"triggerKind": 1}}),
        triggers.clone(),
        true,
    );
    check_capable("textDocument/signatureHelp", typed(","), triggers.clone(), false);
    let again =
        json!({"context": {"triggerKind": 2, "triggerCharacter": ",", "isRetrigger": true}});
    check_capable("textDocument/signatureHelp", again, triggers, true);
    let actions =
        json!({"codeActionProvider": {"codeActionKinds": ["quickfix", "source.fixAll.ruff"]}});
    let only = |kind: &str| json!({"context": {"only": [kind]}});
    check_capable("textDocument/codeAction", only("source.fixAll"), actions.clone(), true);
    check_capable("textDocument/codeAction", only("source.fixAll.ruff.x"), actions.clone(), true);
    check_capable("textDocument/codeAction", only("refactor"), actions.clone(), false);
    check_capable("textDocument/codeAction", only("quickfixes"), actions, false);
    let commands = json!({"executeCommandProvider": {"commands": ["fix"]}});
    check_capable("workspace/executeCommand", json!({"command": "fix"}), commands.clone(), true);
    check_capable("workspace/executeCommand", json!({"command": "fax"}), commands, false);
}

#[test]
fn rule_4_11_a_server_is_asked_about_the_files_that_it_wants_to_be_asked_about() {
    let check = |filters: Value, file: Value, expected: bool| {
        let server = json!({"workspace": {"fileOperations": {"willRename": {"filters": filters}}}});
        let params = json!({ "files": [file] });
        check_capable("workspace/willRenameFiles", params, server, expected);
    };
    let rename = |old: &str| json!({"oldUri": old, "newUri": "file:///w/x.rs"});
    let glob = |glob: &str| json!([{"scheme": "file", "pattern": {"glob": glob}}]);
    check(glob("**/*.{ts,tsx}"), rename("file:///w/a.ts"), true);
    check(glob("**/*.{ts,tsx}"), rename("file:///w/a.rs"), false);
    check(glob("**/*.ts"), rename("untitled:a.ts"), false);
    check(glob("**/*.TS"), rename("file:///w/a.ts"), false);
    let loose = json!([{"pattern": {"glob": "**/*.TS", "options": {"ignoreCase": true}}}]);
    check(loose, rename("file:///w/a.ts"), true);
    check(json!([]), rename("file:///w/a.ts"), false);
}

#[test]
fn rule_4_12_what_is_registered_later_counts_as_well() {
    let registered = |method: &str, options: Value, asked: &str, params: Value| {
        capable(asked, &params, &json!({}), &[(method.to_owned(), options)])
    };
    assert!(registered(
        "textDocument/formatting",
        Value::Null,
        "textDocument/formatting",
        json!({})
    ));
    assert!(!registered("textDocument/formatting", Value::Null, "textDocument/rename", json!({})));
    let tokens = json!({"full": {"delta": true}});
    assert!(registered(
        "textDocument/semanticTokens",
        tokens,
        "textDocument/semanticTokens/full/delta",
        json!({})
    ));
    let selector = json!({"documentSelector": [{"scheme": "file"}]});
    let about = |uri: &str| json!({"textDocument": {"uri": uri}});
    assert!(registered(
        "textDocument/hover",
        selector.clone(),
        "textDocument/hover",
        about("file:///a")
    ));
    assert!(!registered("textDocument/hover", selector, "textDocument/hover", about("untitled:a")));
}

fn owner(owners: &Owners, method: &str, servers: &[Value]) -> Option<usize> {
    let names = ["a", "b", "c"];
    let children: Vec<Child<'_>> = servers
        .iter()
        .zip(names)
        .map(|(capabilities, name)| Child { name, capabilities, registrations: &[] })
        .collect();
    owners.owner(method, &json!({}), &children)
}

#[test]
fn rule_4_39_all_ways_of_formatting_have_one_owner() {
    let range_only =
        json!({"documentRangeFormattingProvider": true, "documentSymbolProvider": true});
    let full = json!({"documentFormattingProvider": true, "documentSymbolProvider": true});
    let both = json!({"documentFormattingProvider": true, "documentRangeFormattingProvider": true});
    let servers = [range_only, full, both];
    let default = Owners::default();
    assert_eq!(owner(&default, "textDocument/formatting", &servers), Some(1));
    assert_eq!(owner(&default, "textDocument/rangeFormatting", &servers), None, "the owner cannot");
    assert_eq!(owner(&default, "textDocument/rangeFormatting", &servers[..1]), Some(0));
    let chosen = Owners::new([
        ("formatting".to_owned(), "c".to_owned()),
        ("documentSymbol".to_owned(), "b".to_owned()),
    ]);
    assert_eq!(owner(&chosen, "textDocument/rangeFormatting", &servers), Some(2));
    assert_eq!(
        owner(&chosen, "textDocument/formatting", &servers[..2]),
        Some(1),
        "who is not there owns nothing"
    );
    assert_eq!(owner(&chosen, "textDocument/documentSymbol", &servers), Some(1));
    assert_eq!(owner(&default, "textDocument/documentSymbol", &servers), Some(0));
}

#[test]
fn rule_4_40_who_renames_also_prepares() {
    let plain = json!({"renameProvider": true});
    let prepares = json!({"renameProvider": {"prepareProvider": true}});
    let servers = [plain, prepares];
    assert_eq!(owner(&Owners::default(), "textDocument/rename", &servers), Some(0));
    assert_eq!(owner(&Owners::default(), "textDocument/prepareRename", &servers), None);
    let chosen = Owners::new([("rename".to_owned(), "b".to_owned())]);
    assert_eq!(owner(&chosen, "textDocument/prepareRename", &servers), Some(1));
}

#[test]
fn rule_4_11_a_server_is_told_of_its_own_diagnostics_only() {
    let range = json!({"start": {"line": 0, "character": 1}, "end": {"line": 0, "character": 2}});
    let diagnostic = |message: &str| json!({"range": range, "message": message});
    let wrapped = |child: usize| json!({"range": range, "message": "w", "data": {"_d": [child, 0], "v": 1e9}});
    let params = json!({"x": 1, "context": {"only": ["quickfix"], "diagnostics": [
        diagnostic("zero"), {"range": range, "message": "one", "source": "b"}, diagnostic("nobody"), wrapped(0), wrapped(1),
    ]}});
    let sets = [json!([diagnostic("zero")]).to_string(), json!([diagnostic("one")]).to_string()];
    let published: Vec<(usize, &[u8])> = sets.iter().map(String::as_bytes).enumerate().collect();
    let told = |child| -> Value {
        serde_json::from_slice(&own_diagnostics(params.to_string().as_bytes(), child, &published))
            .unwrap()
    };
    let own = json!({"range": range, "message": "w", "data": 1e9});
    let expected = |diagnostics: Value| json!({"x": 1, "context": {"only": ["quickfix"], "diagnostics": diagnostics}});
    assert_eq!(told(0), expected(json!([diagnostic("zero"), diagnostic("nobody"), own])));
    assert_eq!(
        told(1),
        expected(
            json!([{"range": range, "message": "one", "source": "b"}, diagnostic("nobody"), own])
        )
    );
    let other = br#"{ "context" : {"diagnostics":[ ]} }"#;
    assert_eq!(own_diagnostics(other, 0, &published), other);
}

proptest! {
    #[test]
    fn rule_4_11_merging_never_panics_and_gives_json(
        results in proptest::collection::vec(arbitrary::json(), 0..4),
        odd in arbitrary::bytes(),
        client in prop_oneof![
            Just(json!({})),
            Just(json!({"textDocument": {"hover": {"contentFormat": ["markdown"]}, "definition": {"linkSupport": true}}})),
        ],
        all_answered: bool,
    ) {
        for row in TABLE {
            let parts: Vec<Part<'_>> = results.iter().map(|result| Part { child: 0, name: "a", result: result.as_bytes() }).collect();
            let merged = merge(row.method, &parts, &client, all_answered);
            prop_assert!(arbitrary::is_json(&merged), "{} {}", row.method, String::from_utf8_lossy(&merged));
            let mut odd = parts.clone();
            odd.extend([Part { child: 1, name: "b", result: b"[" }]);
            merge(row.method, &odd, &client, all_answered);
        }
        let published = results.iter().map(|set| (1, set.as_bytes())).collect::<Vec<_>>();
        for params in &results {
            prop_assert!(arbitrary::is_json(&own_diagnostics(params.as_bytes(), 1, &published)));
        }
        own_diagnostics(&odd, 0, &published);
        let parts = [Part { child: 0, name: "a", result: &odd }, Part { child: 1, name: "b", result: &odd }];
        for row in TABLE {
            merge(row.method, &parts, &client, all_answered);
        }
    }

    #[test]
    fn rule_4_11_one_answer_keeps_its_bytes(result in arbitrary::json()) {
        for row in TABLE {
            let part = Part { child: 0, name: "a", result: result.as_bytes() };
            prop_assert_eq!(merge(row.method, &[part], &json!({}), true), result.as_bytes());
        }
    }
}
