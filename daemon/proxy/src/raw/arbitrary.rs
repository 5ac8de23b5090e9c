//! JSON texts for property tests: anything at all, and things that look like the protocol's.

use proptest::prelude::*;

/// Names that something in this crate looks for.
/// Names that something in this crate looks for, one a line, as they stand between quotes; shared with the fuzzer.
fn names() -> Vec<&'static str> {
    include_str!("../../../../tests/fuzz/member-names.txt").lines().collect()
}

/// Values that a reader stumbles over.
const ODD: &[&str] = &[
    "1e400",
    "-0",
    "123456789012345678901234567890",
    "1.50",
    "\"\\ud83d\"",
    "\"\\ude00\\ud83d\"",
    "\"\\u0000\"",
    "null",
    "true",
    "false",
    "{}",
    "[]",
    "0",
    "1",
    "2",
    "3.0",
    "4294967295",
    "\"\"",
    "\"a\"",
    "\"markdown\"",
    "\"file:///a\"",
    "\"demolish:0:0:x\"",
    "[0,0]",
    "[1,2]",
    "{\"_d\":[1,2],\"v\":3}",
    "{\"line\":0,\"character\":3}",
    "{\"start\":{\"line\":0,\"character\":1},\"end\":{\"line\":1,\"character\":9}}",
    "[0,1,2,3,4]",
    "\"plaintext\"",
];

/// A JSON text whose objects use the names that are looked for, with odd values.
pub(crate) fn json() -> impl Strategy<Value = String> {
    let leaf = proptest::sample::select(ODD).prop_map(str::to_owned);
    leaf.prop_recursive(5, 48, 6, |inner| {
        let name = proptest::sample::select(names());
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5)
                .prop_map(|all| format!("[{}]", all.join(", "))),
            proptest::collection::vec((name, inner), 0..6).prop_map(|members| {
                let members = members.iter().map(|(name, value)| format!("\"{name}\" :{value}"));
                format!("{{ {} }}", members.collect::<Vec<_>>().join(","))
            }),
        ]
    })
}

/// Bytes that are mostly not JSON.
pub(crate) fn bytes() -> impl Strategy<Value = Vec<u8>> {
    "[\\[\\]{}:,\"a1\\\\ \\x00é]{0,40}".prop_map(String::into_bytes)
}

/// Whether it is JSON.
pub(crate) fn is_json(text: &[u8]) -> bool {
    wire::json::value_end(text, 0)
        .is_some_and(|span| wire::json::first(&text[span.end..]).is_none())
}
