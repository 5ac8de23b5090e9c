//! Envelopes: what is read of a message, and what stays as it is.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn read(body: &str) -> Envelope {
    Envelope::read(body.to_owned().into()).unwrap()
}

#[test]
fn the_three_kinds() {
    let request = read(r#"{"jsonrpc":"2.0","id":"x","method":"a/b","params":[1]}"#);
    assert_eq!((request.id().unwrap().raw(), request.method()), ("\"x\"", Some("a/b")));
    assert_eq!(request.params(), b"[1]");
    let notification = read(r#"{"params":{"k":1},"method":"a"}"#);
    assert_eq!((notification.id(), notification.method()), (None, Some("a")));
    let response = read(r#" {"result" : null , "id" : 7 } "#);
    assert_eq!((response.id().unwrap().raw(), response.method()), ("7", None));
    // Some servers leave a null result out.
    assert_eq!(read(r#"{"id":7}"#).outcome().unwrap(), b"null");
    assert_eq!(read(r#"{"\u0069d":1,"m\u0065thod":"\u0061"}"#).method(), Some("a"));
}

#[test]
fn what_is_no_message() {
    for body in [
        "",
        "{",
        "[]",
        "{}",
        "1",
        r#"{"id":{}}"#,
        r#"{"id":true,"method":"a"}"#,
        r#"{"method":1}"#,
        "{\"method\":\"a\"}x",
    ] {
        assert!(Envelope::read(body.to_owned().into()).is_err(), "{body}");
    }
}

#[test]
fn rule_4_6_result_and_error() {
    let outcome = |body: &str| read(body).outcome().map(<[u8]>::to_vec).map_err(|error| error.code);
    assert_eq!(outcome(r#"{"id":1,"result":{"a":1}}"#), Ok(br#"{"a":1}"#.to_vec()));
    assert_eq!(
        outcome(r#"{"id":1,"result":null,"error":{"code":-32801,"message":"m","x":1}}"#),
        Err(-32801)
    );
    assert_eq!(outcome(r#"{"id":1,"result":5,"error":null}"#), Ok(b"5".to_vec()));
    assert_eq!(outcome(r#"{"id":1,"error":"odd"}"#), Err(codes::INTERNAL_ERROR));
    let error = read(r#"{"id":1,"error":{"code":1,"message":"m","data":{ "a" : 1 }}}"#)
        .outcome()
        .unwrap_err();
    assert_eq!(error.data.unwrap().get(), r#"{ "a" : 1 }"#);
}

#[test]
fn our_own_messages_read_back() {
    let params = json!({ "a": [1, "é"] });
    for made in [
        Envelope::request(Id::string("q\"1"), "m", &params),
        Envelope::notification("n", &Value::Null),
        Envelope::response(Id::number(3), &params),
        Envelope::error(Id::null(), &ResponseError::new(-1, "no")),
    ] {
        let again = Envelope::read(made.body.clone()).unwrap();
        assert_eq!(again.kind, made.kind);
        assert_eq!(again.params(), made.params());
        assert_eq!(again.outcome().ok(), made.outcome().ok());
    }
}

#[test]
fn rule_4_2_lone_surrogates_and_foreign_bytes_are_read_as_one_unit() {
    assert_eq!(
        parse::<String>(br#""a\ud83db\ude00\ud83d\ude00\\ud83d""#).unwrap(),
        "a\u{fffd}b\u{fffd}😀\\ud83d"
    );
    assert_eq!(parse::<String>(b"\"a\xffb\"").unwrap(), "a\u{fffd}b");
    assert!(parse::<String>(b"\"a\\x\"").is_err());
    let envelope =
        Envelope::read(Bytes::from_static(b"{\"id\":1,\"method\":\"m\",\"params\":\"\xff\"}"))
            .unwrap();
    assert_eq!(envelope.params(), b"\"\xff\"");
}

#[test]
fn rule_4_2_ids_are_salvaged_from_both_ends() {
    let salvaged = salvage(br#"{"id":7,"method":"m","params":{"a":}}"#, b"");
    assert_eq!((salvaged.id, salvaged.method.as_deref()), (Some(Id::number(7)), Some("m")));
    let salvaged = salvage(br#"{"jsonrpc":"2.0","result":["xxxx"#, br#"xxx", "a"], "id" : "z" }"#);
    assert_eq!(
        (salvaged.id.unwrap().raw().to_owned(), salvaged.method),
        ("\"z\"".to_owned(), None)
    );
    // An id inside of the result is not the message's.
    assert_eq!(salvage(b"{\"result\":[", br#"{"id":5},{"x":1}]}"#).id, None);
}

proptest! {
    #[test]
    fn rule_4_5_with_id_changes_the_id_alone(
        order in Just(vec![0usize, 1, 2, 3]).prop_shuffle(),
        old in prop_oneof!["[1-9][0-9]{0,18}", "\"[a-z\\\\u00e9]{0,9}\""].prop_filter("json", |raw| serde_json::from_str::<Value>(raw).is_ok()),
        new in 1u32..u32::MAX,
        space in "[ \n\t]{0,3}",
    ) {
        let member = |at: usize, id: &str| match at {
            0 => r#""jsonrpc":"2.0""#.to_owned(),
            1 => format!("\"id\":{space}{id}{space}"),
            2 => r#""method":"m""#.to_owned(),
            _ => r#""params":{"id":1,"x":"\ud800"}"#.to_owned(),
        };
        let body = |id: &str| format!("{{{}}}", order.iter().map(|at| member(*at, id)).collect::<Vec<_>>().join(","));
        let envelope = read(&body(&old));
        let renamed = envelope.with_id(Id::number(new));
        prop_assert_eq!(&renamed.body, &Bytes::from(body(&new.to_string())));
        prop_assert_eq!(renamed.params(), envelope.params());
        let back = renamed.with_id(envelope.id().unwrap().clone());
        prop_assert_eq!(back.body, envelope.body);
    }
}

#[test]
fn one_parameter_is_replaced_and_every_other_byte_stays() {
    let raw =
        r#"{ "params": {"a":[{"token":1}], "token" : "x" ,"b":"\ud83d"},"id":7,"method":"m"}"#;
    let envelope = Envelope::read(raw.into()).unwrap();
    assert_eq!(envelope.param("token"), Some(&b"\"x\""[..]));
    assert_eq!(envelope.param("gone"), None);
    let other = envelope.with_param("token", b"12345");
    assert_eq!(other.body, raw.replace("\"x\"", "12345"));
    assert_eq!(other.id().unwrap().raw(), "7");
    assert_eq!(other.method(), Some("m"));
    assert_eq!(envelope.with_param("gone", b"1").body, raw);
    let none = Envelope::read(r#"{"id":1,"result":{"token":1}}"#.into()).unwrap();
    assert_eq!(none.with_param("token", b"2").body, none.body);
    let list = Envelope::read(r#"{"method":"m","params":[1]}"#.into()).unwrap();
    assert_eq!(list.param("token"), None);
}
