//! The capability table, row by row.

use serde_json::{Value, json};

use super::*;

/// Merges the capabilities of the servers `a`, `b`, `c` for a client.
fn merged(servers: &[Value], client: &Value, owners: &Owners) -> Value {
    let children: Vec<Child<'_>> = servers
        .iter()
        .zip(["a", "b", "c"])
        .map(|(capabilities, name)| Child { name, capabilities, registrations: &[] })
        .collect();
    merge_capabilities(&children, client, owners)
}

fn check(servers: &[Value], expected: Value) {
    assert_eq!(merged(servers, &json!({}), &Owners::default()), expected);
}

#[test]
fn rule_4_11_documents_are_kept_in_step_as_the_most_demanding_server_wants() {
    check(
        &[
            json!({"textDocumentSync": 1}),
            json!({"textDocumentSync": {"openClose": true, "change": 2, "save": true}}),
        ],
        json!({"textDocumentSync": {"openClose": true, "change": 2, "save": {"includeText": false}}}),
    );
    check(
        &[
            json!({"textDocumentSync": {"change": 0, "willSave": true}}),
            json!({"textDocumentSync": {"save": {"includeText": true}, "willSaveWaitUntil": true}}),
            json!({}),
        ],
        json!({"textDocumentSync": {
            "openClose": false, "change": 0, "willSave": true, "willSaveWaitUntil": true, "save": {"includeText": true},
        }}),
    );
    check(&[json!({}), json!({})], json!({}));
}

#[test]
fn rule_4_11_what_several_are_asked_for_is_united() {
    check(
        &[
            json!({"completionProvider": {"triggerCharacters": [".", ":"], "x": 1}, "hoverProvider": true, "definitionProvider": {}}),
            json!({"completionProvider": {"triggerCharacters": [".", "<"], "resolveProvider": true, "allCommitCharacters": [";"],
                "completionItem": {"labelDetailsSupport": true}}, "hoverProvider": {"workDoneProgress": true}}),
            json!({"hoverProvider": false, "definitionProvider": true, "signatureHelpProvider": {"triggerCharacters": ["("]}}),
        ],
        json!({
            "completionProvider": {"triggerCharacters": [".", ":", "<"], "x": 1, "resolveProvider": true, "allCommitCharacters": [";"],
                "completionItem": {"labelDetailsSupport": true}},
            "hoverProvider": {"workDoneProgress": true},
            "definitionProvider": true,
            "signatureHelpProvider": {"triggerCharacters": ["("]},
        }),
    );
}

#[test]
fn rule_4_11_kinds_of_action_are_united_unless_one_names_none() {
    let some =
        json!({"codeActionProvider": {"codeActionKinds": ["quickfix"], "resolveProvider": true}});
    let others = json!({"codeActionProvider": {"codeActionKinds": ["source"]}});
    check(
        &[some.clone(), others.clone()],
        json!({"codeActionProvider": {"codeActionKinds": ["quickfix", "source"], "resolveProvider": true}}),
    );
    check(
        &[some, json!({"codeActionProvider": true}), others],
        json!({"codeActionProvider": {"resolveProvider": true}}),
    );
}

#[test]
fn rule_4_11_options_of_a_single_server_stay_as_they_are() {
    let options = json!({"id": "1", "documentSelector": [{"language": "rust"}], "x": 1e9});
    check(
        &[json!({}), json!({"implementationProvider": options})],
        json!({"implementationProvider": options}),
    );
    // Of several, nobody may lose documents, and an id is nobody's.
    check(
        &[json!({"implementationProvider": options}), json!({"implementationProvider": true})],
        json!({"implementationProvider": {"x": 1e9}}),
    );
}

#[test]
fn rule_4_11_what_does_not_merge_is_the_owners() {
    let servers = [
        json!({"renameProvider": true, "foldingRangeProvider": false, "documentRangeFormattingProvider": true}),
        json!({"renameProvider": {"prepareProvider": true}, "foldingRangeProvider": true, "documentFormattingProvider": true,
            "documentOnTypeFormattingProvider": {"firstTriggerCharacter": "}"}}),
    ];
    let expected = json!({
        "renameProvider": true,
        "foldingRangeProvider": true,
        "documentFormattingProvider": true,
        "documentOnTypeFormattingProvider": {"firstTriggerCharacter": "}"},
    });
    check(&servers, expected);
    let owners = Owners::new([
        ("rename".to_owned(), "b".to_owned()),
        ("formatting".to_owned(), "a".to_owned()),
    ]);
    let chosen = json!({"renameProvider": {"prepareProvider": true}, "foldingRangeProvider": true, "documentRangeFormattingProvider": true});
    assert_eq!(merged(&servers, &json!({}), &owners), chosen);
}

#[test]
fn rule_4_24_tokens_have_one_owner_and_changes_only_in_the_clients_encoding() {
    let tokens = json!({"legend": {"tokenTypes": ["a"]}, "full": {"delta": true}});
    let other = json!({"semanticTokensProvider": {"legend": {"tokenTypes": ["b"]}, "range": true}});
    check(
        &[json!({"semanticTokensProvider": tokens}), other.clone()],
        json!({"semanticTokensProvider": tokens}),
    );
    let bytes = json!({"positionEncoding": "utf-8", "semanticTokensProvider": tokens});
    let without = json!({"legend": {"tokenTypes": ["a"]}, "full": {"delta": false}});
    check(&[bytes, other], json!({"semanticTokensProvider": without}));
}

#[test]
fn rule_4_36_commands_are_advertised_under_their_servers_names() {
    let server = |commands: &[&str]| json!({"executeCommandProvider": {"commands": commands, "workDoneProgress": commands.len() > 1}});
    check(
        &[server(&["fix", "run"]), server(&["fix"])],
        json!({"executeCommandProvider": {"commands": ["demolish:a:fix", "demolish:a:run", "demolish:b:fix"], "workDoneProgress": true}}),
    );
}

#[test]
fn rule_4_11_the_workspace_is_what_any_server_wants_of_it() {
    let filter = |glob: &str| json!({"pattern": {"glob": glob}});
    check(
        &[
            json!({"workspace": {"workspaceFolders": {"supported": true}, "fileOperations": {"willRename": {"filters": [filter("*.a")]}}, "x": 1}}),
            json!({"workspace": {"workspaceFolders": {"changeNotifications": "id"}, "fileOperations": {"willRename": {"filters": [filter("*.b"), filter("*.a")]},
                "didCreate": {"filters": []}}, "y": 2}}),
        ],
        json!({"workspace": {
            "workspaceFolders": {"supported": true, "changeNotifications": true},
            "fileOperations": {"willRename": {"filters": [filter("*.a"), filter("*.b")]}, "didCreate": {"filters": []}},
            "x": 1,
        }}),
    );
}

#[test]
fn rule_4_11_what_we_do_not_know_is_the_primarys() {
    check(
        &[
            json!({"experimental": {"a": 1}, "newProvider": true}),
            json!({"experimental": {"b": 2}, "otherProvider": true, "notebookDocumentSync": {}}),
        ],
        json!({"experimental": {"a": 1}, "newProvider": true}),
    );
    check(&[], json!({}));
}

#[test]
fn rule_4_21_pulled_diagnostics_are_one_registration_each_or_ours() {
    let servers = [
        json!({"diagnosticProvider": {"identifier": "x", "interFileDependencies": false, "workspaceDiagnostics": true}}),
        json!({"diagnosticProvider": {"interFileDependencies": true, "workspaceDiagnostics": false}}),
    ];
    check(
        &servers,
        json!({"diagnosticProvider": {"identifier": "demolish", "interFileDependencies": true, "workspaceDiagnostics": true}}),
    );
    check(&servers[..1], servers[0].clone());
    let client = json!({"textDocument": {"diagnostic": {"dynamicRegistration": true}}});
    assert_eq!(merged(&servers, &client, &Owners::default()), json!({}));
    let children = [
        Child { name: "a", capabilities: &servers[0], registrations: &[] },
        Child { name: "b", capabilities: &servers[1], registrations: &[] },
    ];
    let registrations = diagnostic_registrations(&children, &client);
    let identifiers: Vec<_> =
        registrations.iter().map(|(at, options)| (*at, options["identifier"].clone())).collect();
    assert_eq!(identifiers, [(0, json!("a:x")), (1, json!("b"))]);
    assert!(diagnostic_registrations(&children, &json!({})).is_empty());
    assert!(diagnostic_registrations(&children[..1], &client).is_empty());
}

#[test]
fn rule_4_26_every_server_is_offered_the_encoding_of_the_connection_alone() {
    let client = |names: Value| json!({"general": {"positionEncodings": names, "x": 1}, "offsetEncoding": ["utf-8"], "experimental": {"e": 1}});
    for (offered, chosen) in [
        (json!(["utf-8", "utf-16"]), "utf-16"),
        (json!(["utf-32", "utf-8"]), "utf-32"),
        (json!(["utf-7", "utf-8"]), "utf-8"),
        (json!([]), "utf-16"),
    ] {
        let client = client(offered);
        assert_eq!(chosen_encoding(&client).as_lsp(), chosen);
        let told = child_client_capabilities(&client);
        assert_eq!(
            told,
            json!({"general": {"positionEncodings": [chosen], "x": 1}, "offsetEncoding": [chosen], "experimental": {"e": 1}})
        );
        let merged = merged(&[json!({"positionEncoding": "utf-8"})], &client, &Owners::default());
        assert_eq!(merged, json!({"positionEncoding": chosen}));
    }
    assert_eq!(child_client_capabilities(&json!({"x": 1})), json!({"x": 1}));
    assert_eq!(child_client_capabilities(&Value::Null), Value::Null);
    check(&[json!({"positionEncoding": "utf-16"})], json!({}));
}
