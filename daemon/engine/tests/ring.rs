//! Windows and packed caches: however a text is cut, taken back and fed again, the numbers are the same; and a packed cache
//! gives mlx-lm's.

#![cfg(feature = "mlx")]
#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests read the environment, write scratch files and report"
)]

#[path = "support/checkpoint.rs"]
mod checkpoint;
#[path = "support/compare.rs"]
mod compare;

use std::sync::OnceLock;

use checkpoint::{Checkpoint, fixture, fixtures};
use compare::{FAST, PARITY, distance};
use engine::{Bare, Class, Engine, Job, Limits, LoadError, LoadOptions, Sampling, Speculation};
use proptest::prelude::*;

/// Rows beyond a window that a cache keeps (`MARGIN_ROWS`).
const MARGIN: usize = 256;
/// The window of the fixtures.
const WINDOW: usize = 16;
/// Long enough that the oldest rows are gone.
const TEXT: usize = MARGIN + 5 * WINDOW + 64;

fn load(checkpoint: &Checkpoint, kv_bits: Option<u8>) -> Bare {
    let options = LoadOptions { kv_bits, ..LoadOptions::PARITY };
    Bare::load(&checkpoint.dir, options).unwrap()
}

/// A text that no fixture holds.
fn text(len: usize, vocabulary: usize) -> Vec<u32> {
    let mut state = 12345u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % vocabulary
    };
    (0..len).map(|_| next() as u32).collect()
}

/// The text and its logits, fed token by token.
fn reference() -> &'static (Vec<u32>, Vec<f32>, usize) {
    static REFERENCE: OnceLock<(Vec<u32>, Vec<f32>, usize)> = OnceLock::new();
    REFERENCE.get_or_init(|| {
        let mut model = load(&fixture("gpt_oss-mxfp4"), None);
        let text = text(TEXT, model.vocabulary());
        let rows = text.iter().flat_map(|&token| model.feed(&[token]).unwrap()).collect();
        (text, rows, model.vocabulary())
    })
}

/// What is done to a sequence.
#[derive(Debug, Clone)]
enum Act {
    Feed(usize),
    Remember,
    /// So many tokens are taken back.
    Back(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (1usize..3).prop_map(Act::Feed),
        4 => (1usize..TEXT).prop_map(Act::Feed),
        2 => Just(Act::Remember),
        2 => (1usize..12).prop_map(Act::Back),
        2 => (1usize..TEXT).prop_map(Act::Back),
    ];
    proptest::collection::vec(act, 1..14)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn however_a_text_is_cut_and_taken_back_the_logits_are_the_same(acts in acts()) {
        let (text, expected, vocabulary) = reference();
        let mut model = load(&fixture("gpt_oss-mxfp4"), None);
        let mut len = 0;
        for act in acts {
            match act {
                Act::Feed(count) => {
                    let end = (len + count).min(TEXT);
                    let rows = model.feed(&text[len..end]).unwrap();
                    let found = distance(&rows, &expected[len * vocabulary..end * vocabulary]);
                    prop_assert!(found <= FAST, "{len}..{end}: {found:e}");
                    len = end;
                }
                Act::Remember => model.checkpoint(),
                Act::Back(count) => {
                    len = len.saturating_sub(count);
                    model.rewind(len).unwrap();
                }
            }
        }
    }
}

#[test]
fn within_the_margin_nothing_is_fed_again_and_every_bit_is_the_same() {
    let (text, ..) = reference();
    let mut model = load(&fixture("gpt_oss-mxfp4"), None);
    model.feed(&text[..100]).unwrap();
    let mut first: Vec<f32> = Vec::new();
    for &token in &text[100..120] {
        first.extend(model.feed(&[token]).unwrap());
    }
    // A pass of several tokens turns the rows, which must not show behind the place that is come back to.
    model.feed(&text[120..320]).unwrap();
    assert_eq!(model.rewind(100).unwrap(), 0);
    let again: Vec<f32> =
        text[100..120].iter().flat_map(|&token| model.feed(&[token]).unwrap()).collect();
    assert_eq!(first, again);
}

#[test]
fn beyond_the_margin_it_comes_back_to_a_place_or_begins_anew() {
    let (text, expected, vocabulary) = reference();
    let mut model = load(&fixture("gpt_oss-mxfp4"), None);
    let check = |model: &mut Bare, from: usize| {
        let rows = model.feed(&text[from..from + 3]).unwrap();
        let found = distance(&rows, &expected[from * vocabulary..(from + 3) * vocabulary]);
        assert!(found <= FAST, "{from}: {found:e}");
        model.rewind(from).unwrap();
    };
    model.feed(&text[..30]).unwrap();
    model.checkpoint();
    model.feed(&text[30..]).unwrap();
    // 40 is gone; from the place at 30 ten tokens are fed again.
    assert_eq!(model.rewind(40).unwrap(), 10);
    check(&mut model, 40);
    model.feed(&text[40..]).unwrap();
    assert_eq!(model.rewind(30).unwrap(), 0);
    check(&mut model, 30);
    model.feed(&text[30..]).unwrap();
    // Before the first place there is the beginning.
    assert_eq!(model.rewind(20).unwrap(), 20);
    check(&mut model, 20);
    model.feed(&text[20..]).unwrap();
    assert_eq!(
        model.rewind(40).unwrap(),
        40,
        "the place at 30 is forgotten with the tokens before it"
    );
}

#[test]
fn a_packed_cache_gives_mlx_lms_logits() {
    let mut compared = 0;
    for checkpoint in fixtures().iter().filter(|checkpoint| checkpoint.name.contains("-packed")) {
        let (prompt, greedy) = (&checkpoint.prompt, &checkpoint.greedy);
        for bits in [8, 4] {
            let expected = checkpoint.floats(&format!("packed{bits}"));
            let mut model = load(checkpoint, Some(bits));
            let follow = |model: &mut Bare| -> Vec<f32> {
                greedy[..greedy.len() - 1]
                    .iter()
                    .flat_map(|&token| model.feed(&[token]).unwrap())
                    .collect()
            };
            let mut rows = model.feed(prompt).unwrap();
            rows.extend(follow(&mut model));
            let found = distance(&rows, &expected);
            // Cut back, and the same again.
            assert_eq!(model.rewind(prompt.len()).unwrap(), 0);
            let again =
                distance(&follow(&mut model), &expected[prompt.len() * checkpoint.vocabulary..]);
            let loss = distance(
                &rows[..prompt.len() * checkpoint.vocabulary],
                &checkpoint.floats("prefill"),
            );
            eprintln!(
                "{:22} {bits} bits: {found:e}, again {again:e}; from the whole cache's {loss:e}",
                checkpoint.name
            );
            assert!(found <= PARITY && again <= PARITY, "{} {bits}", checkpoint.name);
            // It is packed indeed.
            assert!(loss > 1e-3, "{} {bits}: {loss:e}", checkpoint.name);
            compared += 1;
        }
    }
    assert!(compared >= 4, "{compared}");
}

#[test]
fn a_packed_cache_is_cut_and_fed_again_like_a_whole_one() {
    for name in ["llama-packed", "gpt_oss-packed"] {
        let checkpoint = fixture(name);
        let prompt = &checkpoint.prompt;
        let mut model = load(&checkpoint, Some(8));
        let whole = model.feed(prompt).unwrap();
        model.rewind(0).unwrap();
        let mut rows = Vec::new();
        for chunk in prompt.chunks(7) {
            rows.extend(model.feed(chunk).unwrap());
            model.feed(&prompt[..3]).unwrap();
            let len = rows.len() / checkpoint.vocabulary;
            assert_eq!(model.rewind(len).unwrap(), 0, "{name}");
        }
        let found = distance(&rows, &whole);
        assert!(found <= FAST, "{name}: {found:e}");
    }
}

#[test]
fn a_cache_that_cannot_be_packed_is_refused() {
    let refusal = |name: &str, bits: u8| {
        let options = LoadOptions { kv_bits: Some(bits), ..LoadOptions::PARITY };
        match Bare::load(&fixture(name).dir, options).err() {
            Some(LoadError::Options(said)) => said,
            other => panic!("{name}: {:?}", other.map(|error| error.to_string())),
        }
    };
    assert_eq!(
        refusal("llama-packed", 3),
        "model.kv_bits = 3: a cache can be packed into 8 or 4 bits; set it to 0, 4 or 8"
    );
    assert_eq!(
        refusal("minimax-q4", 8),
        "model.kv_bits = 8: heads of 16 cannot be packed in groups of 64 or 32; set it to 0"
    );
    assert_eq!(
        refusal("mistral-q4", 8),
        "model.kv_bits = 8: every layer has a window, and windows are not packed; set it to 0"
    );
    assert_eq!(
        refusal("deepseek_v3-q4", 8),
        "model.kv_bits = 8: the cache of this architecture cannot be packed; set it to 0"
    );
}

#[tokio::test]
async fn a_packed_cache_says_what_a_token_takes() {
    let bytes = |kv_bits: Option<u8>| {
        let options = LoadOptions { kv_bits, ..LoadOptions::PARITY };
        Engine::load(&fixture("llama-packed").dir, options).unwrap().info().bytes_per_token
    };
    // One layer, two heads of 64: numbers of 4 bytes; or 1 or ½ byte and a scale and a bias for 64.
    assert_eq!(bytes(None), 2 * 2 * 64 * 4);
    assert_eq!(bytes(Some(8)), 2 * 2 * (64 + 8));
    assert_eq!(bytes(Some(4)), 2 * 2 * (32 + 8));
}

/// Three sequences with windows and packed caches in one batch.
#[tokio::test]
async fn a_batch_of_three_gives_each_what_it_gets_alone() {
    for (name, kv_bits) in [
        ("gpt_oss-mxfp4", None),
        ("mistral-q4", None),
        ("minimax-q4", None),
        ("gpt_oss-packed", Some(8)),
    ] {
        let checkpoint = fixture(name);
        let options = LoadOptions { kv_bits, ..LoadOptions::PARITY };
        let engine = Engine::load(&checkpoint.dir, options).unwrap();
        let job = |prompt: &[u32]| Job {
            prompt: prompt.to_vec(),
            constraint: None,
            sampling: Sampling::GREEDY,
            limits: Limits { tokens_max: 24, stop: Vec::new(), ahead_max: 24 },
            class: Class::Agent,
            soul: None,
            mixture: None,
            lookup: Vec::new(),
            speculation: Speculation::Auto,
        };
        let prompts = [&checkpoint.prompt[..], &checkpoint.prompt[1..20], &checkpoint.prompt[2..]];
        let mut alone = Vec::new();
        for prompt in prompts {
            engine.shrink_to(0).unwrap();
            let mut sequence = engine.submit(job(prompt)).unwrap();
            let mut steps = Vec::new();
            while let Some(step) = sequence.next().await.unwrap() {
                steps.push((step.token, step.logprob));
            }
            alone.push(steps);
        }
        engine.shrink_to(0).unwrap();
        let sequences: Vec<_> =
            prompts.iter().map(|prompt| engine.submit(job(prompt)).unwrap()).collect();
        for (mut sequence, expected) in sequences.into_iter().zip(alone) {
            for (token, logprob) in expected {
                let step = sequence.next().await.unwrap().unwrap();
                assert!(
                    (step.logprob - logprob).abs() <= FAST,
                    "{name}: {} {logprob}",
                    step.logprob
                );
                assert_eq!(step.token, token, "{name}");
            }
        }
    }
}
