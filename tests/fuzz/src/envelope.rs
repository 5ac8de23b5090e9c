//! Envelopes, and what rewrites JSON text: reading agrees with serde's, another id changes the id alone, wrapping is undone,
//! and merging gives JSON whatever the servers said.

use proxy::merge::results::{self, Part};
use proxy::merge::{commands, data};
use serde_json::Value;
use wire::{Bytes, Envelope, Id, Kind};

use super::input::Input;

/// Ids of all shapes.
const IDS: &[&str] =
    &["1", "\"x\"", "null", "-7", "1.5e3", "4294967296", "\"\\u00e9\"", "\"\\ud83d\""];

/// Methods whose results are merged, wrapped or renamed in some way of their own.
const METHODS: &[&str] = &[
    "textDocument/completion",
    "textDocument/hover",
    "textDocument/definition",
    "textDocument/references",
    "textDocument/codeAction",
    "textDocument/codeLens",
    "textDocument/documentHighlight",
    "textDocument/documentSymbol",
    "textDocument/willSaveWaitUntil",
    "workspace/willRenameFiles",
    "workspace/symbol",
    "textDocument/semanticTokens/full/delta",
    "textDocument/publishDiagnostics",
    "callHierarchy/incomingCalls",
    "completionItem/resolve",
    "codeAction/resolve",
];

/// One input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.below(4) {
        0 => check_envelope(input.rest()),
        1 => check_envelope(&input.soup(64)),
        2 => {
            let body = message(&mut input);
            check_envelope(body.as_bytes());
        }
        _ => check_rewriting(&mut input),
    }
}

fn message(input: &mut Input<'_>) -> String {
    let mut members = Vec::new();
    for _ in 0..1 + input.below(6) {
        let name =
            *input.of(&["id", "method", "params", "result", "error", "jsonrpc", "\\u0069d", "x"]);
        let value = match (name, input.below(4)) {
            ("id" | "\\u0069d", 1..) => (*input.of(IDS)).to_owned(),
            ("method", 1..) => format!("\"{}\"", input.of(METHODS)),
            _ => input.json(3),
        };
        members.push(format!("\"{name}\":{value}"));
    }
    format!("{{{}}}", members.join(","))
}

fn check_envelope(body: &[u8]) {
    let bytes = Bytes::copy_from_slice(body);
    let read = Envelope::read(bytes.clone());
    let salvaged = wire::salvage(body, body);
    // Where serde reads an object, we read the same out of it.
    if let Ok(Value::Object(object)) = serde_json::from_slice::<Value>(body) {
        let right = |id: &Value| id.is_null() || id.is_string() || id.is_number();
        let id = object.get("id");
        let method = object.get("method");
        let valid = id.is_none_or(right) && method.is_none_or(Value::is_string);
        let kind = match (id, method) {
            _ if !valid => None,
            (Some(_), Some(_)) => Some("request"),
            (None, Some(_)) => Some("notification"),
            (Some(_), None) => Some("response"),
            (None, None) => None,
        };
        assert_eq!(read.as_ref().ok().map(kind_of), kind);
        if let (Ok(read), Some(method)) = (&read, method) {
            assert_eq!(read.method(), method.as_str());
        }
        if let (Ok(read), Some(id)) = (&read, id) {
            assert_eq!(
                serde_json::from_str::<Value>(read.id().unwrap().raw()).ok().as_ref(),
                Some(id)
            );
        }
    }
    let Ok(read) = read else { return };
    assert_eq!(read.body, bytes, "reading changes nothing");
    assert_eq!(salvaged.id.as_ref(), read.id(), "what is readable can be salvaged");
    assert_eq!(kind_of(&Envelope::read(read.body.clone()).unwrap()), kind_of(&read));
    let _ = (read.params_as::<Value>(), read.outcome().map(<[u8]>::to_vec));
    let Some(id) = read.id().cloned() else {
        assert_eq!(read.with_id(Id::number(5)).body, bytes, "there is no id to change");
        return;
    };
    for other in IDS {
        let other = Id::from_raw(other.as_bytes()).unwrap();
        let changed = read.with_id(other.clone());
        let again = Envelope::read(changed.body.clone()).unwrap();
        assert_eq!((again.id(), &again.kind), (Some(&other), &changed.kind));
        assert_eq!((again.params(), changed.params()), (read.params(), read.params()));
        assert_eq!(again.outcome().ok(), read.outcome().ok());
        assert_eq!(changed.with_id(id.clone()).body, bytes, "and back");
    }
}

fn kind_of(envelope: &Envelope) -> &'static str {
    match envelope.kind {
        Kind::Request { .. } => "request",
        Kind::Notification { .. } => "notification",
        Kind::Response { .. } => "response",
    }
}

/// What merged mode does with results.
fn check_rewriting(input: &mut Input<'_>) {
    let method = *input.of(METHODS);
    let (child, epoch) = (input.below(5), u32::from(input.byte()));
    let texts: Vec<Vec<u8>> = (0..1 + input.below(3))
        .map(|_| if input.byte() < 200 { input.json(4).into_bytes() } else { input.soup(12) })
        .collect();
    let parts: Vec<Part<'_>> =
        texts.iter().enumerate().map(|(child, result)| Part { child, name: "a", result }).collect();
    let client = *input.of(&[
        "{}",
        r#"{"textDocument":{"hover":{"contentFormat":["markdown"]},"definition":{"linkSupport":true}}}"#,
        r#"{"textDocument":{"hover":{"contentFormat":["plaintext"]}}}"#,
    ]);
    let client: Value = serde_json::from_str(client).unwrap();
    let all = texts.iter().all(|text| is_json(text));
    let merged = results::merge(method, &parts, &client, input.one_in(2));
    assert!(!all || is_json(&merged), "{}", String::from_utf8_lossy(&merged));
    assert_eq!(
        results::merge(method, &parts[..1], &client, true),
        texts[0],
        "one answer keeps its bytes"
    );
    let text = &texts[0];
    let wrapped = data::wrap_items(method, text, child, epoch);
    let own = results::own_diagnostics(text, child, &[(0, text), (1, &wrapped)]);
    let renamed = commands::prefix(text, "ty", &[]);
    for rewritten in [&wrapped, &own, &renamed, &commands::restore(&renamed, "ty")] {
        let kept = is_json(rewritten) || !is_json(text);
        assert!(kept, "{}", String::from_utf8_lossy(rewritten));
    }
    let object = is_json(text) && text.trim_ascii().starts_with(b"{");
    if method == "completionItem/resolve" && object {
        assert_eq!(data::unwrap(&wrapped), Some((child, epoch, text.clone())));
    }
}

fn is_json(text: &[u8]) -> bool {
    wire::json::value_end(text, 0)
        .is_some_and(|span| wire::json::first(&text[span.end..]).is_none())
}
