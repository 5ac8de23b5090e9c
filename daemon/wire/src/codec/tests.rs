//! The codec: batches, repairs.

use super::*;

fn all(bytes: &[u8]) -> Vec<String> {
    let mut codec = Codec::default();
    codec.push(bytes);
    std::iter::from_fn(|| codec.next_incoming())
        .map(|incoming| match incoming {
            Incoming::Message(envelope) => String::from_utf8_lossy(&envelope.body).into_owned(),
            Incoming::Malformed(bad) => format!("malformed {:?} {:?}", bad.id, bad.method),
            Incoming::Junk(junk) => format!("junk {}", String::from_utf8_lossy(&junk)),
        })
        .collect()
}

fn frames(bodies: &[&str]) -> Vec<u8> {
    bodies.iter().flat_map(|body| crate::frame::encode(body.as_bytes())).collect()
}

#[test]
fn rule_4_3_batches_are_taken_apart() {
    let bytes = frames(&[r#"[{"id":1}, {"method":"a"} ,3]"#, "[]", r#"{"id":2}"#]);
    let expected = [r#"{"id":1}"#, r#"{"method":"a"}"#, "malformed None None", r#"{"id":2}"#];
    assert_eq!(all(&bytes), expected);
}

#[test]
fn rule_4_2_bad_json_costs_one_message() {
    let bytes = frames(&[r#"{"id":1,"method":"m","params":}"#, r#"{"id":2}"#]);
    assert_eq!(all(&bytes), ["malformed Some(1) Some(\"m\")", r#"{"id":2}"#]);
}

#[test]
fn rule_4_1_a_length_that_is_too_long_swallows_nothing() {
    let second = frames(&[r#"{"id":2}"#]);
    let body = [br#"{"id":1}"#, &second[..]].concat();
    let mut bytes = format!("Content-Length: {}\r\n\r\n", body.len() - 3).into_bytes();
    bytes.extend(body);
    bytes.extend(frames(&[r#"{"id":3}"#]));
    assert_eq!(all(&bytes), ["malformed Some(1) None", r#"{"id":2}"#, r#"{"id":3}"#]);
}

#[test]
fn rule_4_1_a_length_that_is_too_short_costs_one_message() {
    let mut bytes = b"Content-Length: 4\r\n\r\n{\"id\":1}".to_vec();
    bytes.extend(frames(&[r#"{"id":2}"#]));
    assert_eq!(all(&bytes), ["malformed None None", "junk \":1}", r#"{"id":2}"#]);
}
