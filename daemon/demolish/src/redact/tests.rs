//! Secrets that are planted do not come through, and what is harmless does.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn redactor() -> Redactor {
    Redactor::new(Some("/home/mara"), Some("mara"), Some("mill-17"))
}

fn check(text: &str, expected: &str) {
    assert_eq!(redactor().text(text), expected, "{text}");
}

#[test]
fn who_and_where_the_user_is() {
    check("/home/mara/src/shop.py:3", "~/src/shop.py:3");
    check("file:///home/mara", "file://~");
    check("/home/marauder/x", "/home/marauder/x");
    check("mara@mill-17: no such host mill-17x", "<user>@<host>: no such host mill-17x");
    assert_eq!(
        Redactor::new(Some("/root"), Some("root"), None).text("root of /root/a"),
        "root of ~/a"
    );
    assert_eq!(Redactor::new(Some("/"), None, None).text("/a"), "/a");
}

#[test]
fn well_known_keys() {
    check("key ghp_16C7e42F292c6912E7710c838347Ae178B4a!", "key <redacted>!");
    check("sk-proj-abcdefghijklmnop", "<redacted>");
    check("at AKIAIOSFODNN7EXAMPLE.", "at <redacted>");
    check("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dBjftJeZ4CVP", "<redacted>");
    check("npm_lower", "npm_lower");
    check(
        "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----\nx",
        "<redacted>\nx",
    );
    check("-----BEGIN RSA PRIVATE KEY-----\nabc", "<redacted>");
}

#[test]
fn secrets_by_the_name_before_them() {
    check("password=hunter2 rest", "password=<redacted> rest");
    check("DB_PASSWORD: hunter2", "DB_PASSWORD: <redacted>");
    check("--token abc next", "--token <redacted> next");
    check("--api-key=abc", "--api-key=<redacted>");
    check(r#"{"apiKey": "abc", "n": 1}"#, r#"{"apiKey": "<redacted>", "n": 1}"#);
    check("Authorization: Bearer abc.def", "Authorization: Bearer <redacted>");
    check(
        "https://mo:pw@host/x and https://tok@host/y",
        "https://<redacted>@host/x and https://<redacted>@host/y",
    );
    check("the token is short", "the token is short");
    check("unexpected token: `)`", "unexpected token: `)`");
}

#[test]
fn what_nobody_writes_by_hand() {
    check("h: aGVsbG8gd29ybGQhIFRoaXMgaXM5", "h: <redacted>");
    check("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b", "<redacted>");
    check("/tmp/9f86d081884c7d659a2feaa0c55ad015a3bf4f1b/x.rs", "/tmp/<redacted>/x.rs");
    check("textDocument/publishDiagnostics", "textDocument/publishDiagnostics");
    check(
        "/usr/lib/x86_64-linux-gnu/libstdc++.so.6.0.33",
        "/usr/lib/x86_64-linux-gnu/libstdc++.so.6.0.33",
    );
    check(
        "2026-11-22T14:03:12.123456Z  INFO demolish: connected link=3",
        "2026-11-22T14:03:12.123456Z  INFO demolish: connected link=3",
    );
}

#[test]
fn bodies_of_messages() {
    let body = json!({
        "id": 7, "method": "textDocument/didOpen",
        "params": {
            "textDocument": { "uri": "file:///home/mara/a.py", "version": 3, "text": "the secret plan" },
            "contentChanges": [{ "range": { "start": { "line": 1 } }, "text": "ab" }],
            "contents": { "kind": "markdown", "value": "words" },
            "edit": [{ "newText": "x = 1" }],
            "env": { "HOME": "/home/mara", "X": "y" },
            "settings": { "api_key": 1234, "authToken": { "value": "low" }, "secrets": ["a", null] },
            "command": ["srv", "--password", "pw", "--log"],
            "workDoneToken": "abc", "capabilities": { "semanticTokens": { "formats": ["relative"] } },
        },
    });
    let expected = json!({
        "id": 7, "method": "textDocument/didOpen",
        "params": {
            "textDocument": { "uri": "file://~/a.py", "version": 3, "text": "<15 characters>" },
            "contentChanges": [{ "range": { "start": { "line": 1 } }, "text": "<2 characters>" }],
            "contents": { "kind": "markdown", "value": "<5 characters>" },
            "edit": [{ "newText": "<5 characters>" }],
            "env": "<redacted>",
            "settings": { "api_key": "<redacted>", "authToken": { "value": "<redacted>" }, "secrets": ["<redacted>", null] },
            "command": ["srv", "--password", "<redacted>", "--log"],
            "workDoneToken": "abc", "capabilities": { "semanticTokens": { "formats": ["relative"] } },
        },
    });
    assert_eq!(redactor().value(&body), expected);
}

#[test]
fn what_is_too_deep_is_taken_out() {
    let mut value = json!("ghp_0123456789abcdef");
    for _ in 0..200 {
        value = json!([value]);
    }
    assert!(!redactor().value(&value).to_string().contains("ghp_"));
}

/// Text around a secret.
fn around() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just(" ".to_owned()),
        "[a-z ]{0,12} ",
        Just("\n".to_owned()),
        Just("(".to_owned()),
        Just("\"".to_owned()),
        Just("päß: ".to_owned()),
    ]
}

/// Keys as machines make them.
fn key() -> impl Strategy<Value = String> {
    let mixed = "[A-Za-z0-9_-]{24,60}".prop_filter("all kinds", |key| {
        let count = |is: fn(&char) -> bool| key.chars().filter(is).count();
        count(char::is_ascii_uppercase) > 1
            && count(char::is_ascii_lowercase) > 1
            && count(char::is_ascii_digit) > 1
    });
    let known = (0..5_usize, "[A-Za-z0-9]{16,40}")
        .prop_map(|(n, rest)| format!("{}{rest}", ["ghp_", "sk-", "xoxb-", "glpat-", "hf_"][n]));
    prop_oneof![mixed, known]
}

/// Secrets that only their names give away.
fn named() -> impl Strategy<Value = (String, String)> {
    let name = prop_oneof![
        Just("password"),
        Just("API_KEY"),
        Just("apiKey"),
        Just("my-secret"),
        Just("GITHUB_TOKEN"),
        Just("Authorization"),
        Just("clientSecret"),
        Just("x-api-key"),
        Just("accessToken"),
    ];
    (name.prop_map(str::to_owned), "qz[a-z0-9]{4,20}")
}

proptest! {
    #[test]
    fn no_key_comes_through(before in around(), key in key(), after in around()) {
        let text = redactor().text(&format!("{before}{key}{after}"));
        prop_assert!(!text.contains(&key), "{text}");
    }

    #[test]
    fn no_key_comes_through_a_body(key in key(), member in "[a-z]{1,8}", nested in any::<bool>()) {
        let value = if nested { json!({ "a": [{ &member: &key }] }) } else { json!({ &key: 1, "b": [&key] }) };
        let text = redactor().value(&value).to_string();
        prop_assert!(!text.contains(&key), "{text}");
    }

    #[test]
    fn no_named_secret_comes_through((name, secret) in named(), before in around()) {
        let line = redactor().text(&format!("{before}{name}={secret}"));
        prop_assert!(!line.contains(&secret), "{line}");
        let line = redactor().text(&format!("{before}{name}: \"{secret}\","));
        prop_assert!(!line.contains(&secret), "{line}");
        let line = redactor().text(&format!("srv --{name} {secret} {before}"));
        prop_assert!(!line.contains(&secret), "{line}");
        let value = redactor().value(&json!({ "a": { &name: { "b": [&secret] } }, "c": ["x", format!("--{name}"), &secret] }));
        prop_assert!(!value.to_string().contains(&secret), "{value}");
    }

    #[test]
    fn no_text_of_a_document_comes_through(text in "qz[ a-z\n\"{}]{6,60}", at in 0..TEXT_KEYS.len()) {
        let key = TEXT_KEYS[at];
        let value = redactor().value(&json!({ "params": [{ key: { "x": [&text] } }, { key: &text }] }));
        let found = serde_json::to_string(&value).unwrap();
        let planted = serde_json::to_string(&text).unwrap();
        prop_assert!(!found.contains(planted.trim_matches('"')), "{found}");
    }

    #[test]
    fn any_text_can_be_redacted(text in "\\PC{0,200}") {
        let once = redactor().text(&text);
        prop_assert_eq!(redactor().text(&once), once.clone());
    }
}
