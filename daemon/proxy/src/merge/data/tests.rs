//! Envelopes of data: byte for byte what goes to the client, and what comes back.

use proptest::prelude::*;

use super::*;
use crate::raw::arbitrary;

/// Wraps as the third start of the server 1.
fn check(method: &str, raw: &str, wrapped: &str) {
    let got = wrap_items(method, raw.as_bytes(), 1, 2);
    assert_eq!(String::from_utf8(got).unwrap(), wrapped, "{method}");
}

#[test]
fn rule_4_37_what_a_client_may_want_resolved_carries_its_server() {
    let cases = [
        (
            "completionItem/resolve",
            r#"{"data":{"a":1e400}}"#,
            r#"{"data":{"_d":[1,2],"v":{"a":1e400}}}"#,
        ),
        (
            "textDocument/codeLens",
            r#"[{"data" : null},{}]"#,
            r#"[{"data" : {"_d":[1,2],"v":null}},{"data":{"_d":[1,2]}}]"#,
        ),
        ("textDocument/inlayHint", r#"[{"label":"x"}]"#, r#"[{"label":"x","data":{"_d":[1,2]}}]"#),
        (
            "textDocument/documentLink",
            r#"[{"x":"\ud83d"}]"#,
            r#"[{"x":"\ud83d","data":{"_d":[1,2]}}]"#,
        ),
        ("workspace/symbol", r#"[{"name":"n"}]"#, r#"[{"name":"n","data":{"_d":[1,2]}}]"#),
        (
            "textDocument/codeAction",
            r#"[{"title":"t","command":"c"},{"title":"t","command":{"command":"c"},"diagnostics":[{"data":7}]}]"#,
            r#"[{"title":"t","command":"c"},{"title":"t","command":{"command":"c"},"diagnostics":[{"data":7}],"data":{"_d":[1,2]}}]"#,
        ),
        (
            "textDocument/publishDiagnostics",
            r#"{"uri":"u","diagnostics":[{"message":"m"}]}"#,
            r#"{"uri":"u","diagnostics":[{"message":"m","data":{"_d":[1,2]}}]}"#,
        ),
        ("textDocument/hover", r#"{"data":1}"#, r#"{"data":1}"#),
        ("rust-analyzer/any", r#"[{"data":1}]"#, r#"[{"data":1}]"#),
        ("textDocument/codeLens", "null", "null"),
    ];
    for (method, raw, wrapped) in cases {
        check(method, raw, wrapped);
    }
}

#[test]
fn rule_4_37_the_default_data_of_a_list_is_wrapped_once() {
    check(
        "textDocument/completion",
        r#"{"itemDefaults":{"data":"d"},"items":[{"label":"a"},{"label":"b","data":1}]}"#,
        r#"{"itemDefaults":{"data":{"_d":[1,2],"v":"d"}},"items":[{"label":"a"},{"label":"b","data":{"_d":[1,2],"v":1}}]}"#,
    );
    check(
        "textDocument/completion",
        r#"[{"label":"a"}]"#,
        r#"[{"label":"a","data":{"_d":[1,2]}}]"#,
    );
}

#[test]
fn rule_4_42_items_of_a_hierarchy_come_back_to_their_server() {
    let item = r#"{"name":"f","data":[1]}"#;
    check(
        "textDocument/prepareCallHierarchy",
        &format!("[{item}]"),
        r#"[{"name":"f","data":{"_d":[1,2],"v":[1]}}]"#,
    );
    check(
        "typeHierarchy/subtypes",
        &format!("[{item}]"),
        r#"[{"name":"f","data":{"_d":[1,2],"v":[1]}}]"#,
    );
    check(
        "callHierarchy/incomingCalls",
        r#"[{"from":{},"data":0}]"#,
        r#"[{"from":{"data":{"_d":[1,2]}},"data":0}]"#,
    );
    check("callHierarchy/outgoingCalls", r#"[{"to":{}}]"#, r#"[{"to":{"data":{"_d":[1,2]}}}]"#);
    let params = br#"{"item":{"name":"f","data":{"_d":[1,2],"v":[1]}},"workDoneToken":3}"#;
    let (child, epoch, own) = unwrap(params).unwrap();
    let own = String::from_utf8(own).unwrap();
    assert_eq!(
        (child, epoch, own.as_str()),
        (1, 2, r#"{"item":{"name":"f","data":[1]},"workDoneToken":3}"#)
    );
}

#[test]
fn rule_4_24_the_result_id_of_tokens_names_its_server_and_epoch() {
    check(
        "textDocument/semanticTokens/full",
        r#"{"resultId":"7:8","data":[]}"#,
        r#"{"resultId":"demolish:1:2:7:8","data":[]}"#,
    );
    check("textDocument/semanticTokens/full/delta", r#"{"edits":[]}"#, r#"{"edits":[]}"#);
    let (child, epoch, own) = unwrap(br#"{"previousResultId":"demolish:1:2:7:8"}"#).unwrap();
    assert_eq!((child, epoch, &own[..]), (1, 2, &br#"{"previousResultId":"7:8"}"#[..]));
}

#[test]
fn rule_4_37_what_was_not_wrapped_has_no_owner() {
    let others: [&[u8]; 7] = [
        b"null",
        b"{}",
        br#"{"data":{"_d":1}}"#,
        br#"{"data":{"_d":[1]}}"#,
        br#"{"data":{"_d":[1,-2]}}"#,
        br#"{"previousResultId":"7"}"#,
        br#"{"item":{"data":{}}}"#,
    ];
    for params in others {
        assert_eq!(unwrap(params), None, "{}", String::from_utf8_lossy(params));
    }
}

proptest! {
    #[test]
    fn rule_4_37_an_item_comes_back_as_its_server_made_it(item in arbitrary::json(), child in 0usize..9, epoch: u32) {
        for method in ["completionItem/resolve", "codeLens/resolve", "codeAction/resolve"] {
            let wrapped = wrap_items(method, item.as_bytes(), child, epoch);
            prop_assert!(arbitrary::is_json(&wrapped));
            let root = Raw::new(item.as_bytes());
            // A bare command has nothing to resolve.
            let command = method.starts_with("codeAction") && root.get("command").is_some_and(Raw::is_string);
            if root.is_object() && !command {
                let back = unwrap(&wrapped);
                prop_assert_eq!(back, Some((child, epoch, item.clone().into_bytes())), "{}", String::from_utf8_lossy(&wrapped));
            }
        }
    }

    #[test]
    fn rule_4_37_nothing_is_too_odd_to_be_wrapped(raw in arbitrary::bytes(), json in arbitrary::json()) {
        for row in crate::merge::results::TABLE {
            wrap_items(row.method, &raw, 0, 0);
            prop_assert!(arbitrary::is_json(&wrap_items(row.method, json.as_bytes(), 0, 0)));
        }
        let _ = unwrap(&raw);
        if let Some((_, _, own)) = unwrap(json.as_bytes()) {
            prop_assert!(arbitrary::is_json(&own));
        }
    }
}
