//! The bodies of the fuzz targets (`tests/fuzz`) on pseudo-random inputs, so that they hold and keep compiling.

#[allow(unreachable_pub, reason = "in their own crate the bodies are public")]
#[path = "../../../tests/fuzz/src/lib.rs"]
mod bodies;

/// How many inputs each target gets.
const INPUTS: u64 = 2000;

/// Bytes from a seed (SplitMix64), of any length below 256.
fn input(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    let length = next() % 256;
    (0..length).map(|_| next() as u8).collect()
}

/// Runs a body; an input that fails is named by its seed.
fn check(body: fn(&[u8])) {
    for seed in 0..INPUTS {
        let input = input(seed);
        let outcome = std::panic::catch_unwind(|| body(&input));
        assert!(outcome.is_ok(), "the input of seed {seed} fails: {input:?}");
    }
}

#[test]
fn rule_4_1_any_cutting_of_a_stream_gives_the_same_messages() {
    check(bodies::framer::run);
}

#[test]
fn rule_4_2_any_bytes_are_read_as_a_message_or_refused() {
    check(bodies::envelope::run);
}

#[test]
fn rule_4_28_any_edits_in_any_encodings_agree_with_the_naive_model() {
    check(bodies::edits::run);
}

#[test]
fn rule_4_17_any_sequence_of_messages_leaves_nobody_without_an_answer() {
    check(bodies::router::run);
}
