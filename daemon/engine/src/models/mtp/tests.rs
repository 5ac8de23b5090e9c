//! What the layer drafts is what the reference says (`tests/engine/oracle/mtp.py`), however the prompt came into the cache.

#![allow(clippy::disallowed_methods, reason = "tests read fixtures")]

use std::{fs, path::PathBuf};

use serde_json::Value;

use crate::{
    backend::{
        Backend, Feed, Rows,
        mlx::{Mlx, bare},
    },
    cache::Cache,
    info::{Compute, LoadOptions, LoadWatch},
    speculate::Speculation,
};

const CLOSE: f32 = 1e-4;

/// A kind of attention each.
const FIXTURES: [&str; 2] = ["glm4_moe-q4-mtp", "deepseek_v3-q4-mtp"];

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/engine/fixtures").join(name)
}

/// The words of a tensor of the reference.
fn reference(fixture_name: &str, name: &str) -> Vec<u32> {
    let file = fs::read(fixture(fixture_name).join("ref.safetensors")).unwrap();
    let (len, rest) = file.split_at(8);
    let (header, data) = rest.split_at(u64::from_le_bytes(len.try_into().unwrap()) as usize);
    let header: Value = serde_json::from_slice(header).unwrap();
    let offset = |index: usize| header[name]["data_offsets"][index].as_u64().unwrap() as usize;
    let words = data[offset(0)..offset(1)].chunks_exact(4);
    words.map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
}

fn model(fixture_name: &str, speculation: Speculation) -> Mlx {
    let options = LoadOptions { compute: Compute::Fast, speculation, ..LoadOptions::AUTO };
    bare(&fixture(fixture_name), options, LoadWatch::nobody()).unwrap().0
}

fn feed(model: &mut Mlx, state: &mut Cache, tokens: &[u32]) {
    let mut feeds = [Feed { state, tokens, rows: Rows::None }];
    model.forward(None, &mut feeds, &mut || {}).unwrap();
}

/// Drafts as many tokens as the reference, each the likeliest, and compares the logits with it.
fn check(model: &mut Mlx, state: &mut Cache, last: u32, (fixture, case): (&str, &str)) {
    let expected: Vec<f32> = reference(fixture, "mtp").into_iter().map(f32::from_bits).collect();
    let drafts = reference(fixture, "mtp_drafts");
    let seen = model.len(state);
    let mut rows = expected.chunks_exact(expected.len() / drafts.len()).zip(&drafts);
    let mut count = 0;
    let mut next = |logits: &[f32]| {
        let (row, &token) = rows.next()?;
        let pairs = logits.iter().zip(row);
        let worst = pairs.map(|(one, other)| (one - other).abs()).fold(0.0, f32::max);
        assert!(worst < CLOSE, "{fixture}, {case}: row {count}: {worst}");
        count += 1;
        (count < drafts.len()).then_some(token)
    };
    model.guess(None, state, last, &mut next).unwrap();
    assert_eq!(count, drafts.len(), "{fixture}, {case}");
    assert_eq!(model.len(state), seen, "{fixture}, {case}");
}

#[test]
fn drafts_are_those_of_the_reference() {
    for fixture in FIXTURES {
        let mut model = model(fixture, Speculation::Auto);
        assert!(model.has_guesses());
        let prompt = reference(fixture, "prompt");
        let (last, before) = prompt.split_last().unwrap();
        let mut whole = model.fresh();
        feed(&mut model, &mut whole, before);
        check(&mut model, &mut whole, *last, (fixture, "one pass"));
        check(&mut model, &mut whole, *last, (fixture, "a second time"));

        let mut pieces = model.fresh();
        for piece in before.chunks(7) {
            feed(&mut model, &mut pieces, piece);
        }
        check(&mut model, &mut pieces, *last, (fixture, "pieces"));

        // After a draft that was wrong: what the layer has noted behind is written over.
        let mut wrong = model.fresh();
        let (start, end) = before.split_at(20);
        feed(&mut model, &mut wrong, start);
        model.guess(None, &mut wrong, 7, &mut |_| None).unwrap();
        let drafted = [&end[..4], &[3, 1, 4]].concat();
        feed(&mut model, &mut wrong, &drafted);
        model.truncate(&mut wrong, 24);
        feed(&mut model, &mut wrong, &end[4..]);
        check(&mut model, &mut wrong, *last, (fixture, "cut back"));

        let mut fork = model.fork(&wrong, before.len());
        check(&mut model, &mut fork, *last, (fixture, "a fork"));
    }
}

#[test]
fn sequences_of_one_pass_have_each_their_own() {
    for fixture in FIXTURES {
        let mut model = model(fixture, Speculation::Auto);
        let prompt = reference(fixture, "prompt");
        let (last, before) = prompt.split_last().unwrap();
        let (mut one, mut other) = (model.fresh(), model.fresh());
        feed(&mut model, &mut one, &before[..11]);
        feed(&mut model, &mut other, &[5, 6, 7]);
        let mut feeds = [
            Feed { state: &mut other, tokens: &[8, 9, 10, 11], rows: Rows::Last },
            Feed { state: &mut one, tokens: &before[11..], rows: Rows::None },
        ];
        model.forward(None, &mut feeds, &mut || {}).unwrap();
        check(&mut model, &mut one, *last, (fixture, "beside another"));
    }
}

#[test]
fn what_was_read_from_a_file_drafts_after_the_next_pass() {
    for fixture in FIXTURES {
        let mut model = model(fixture, Speculation::Auto);
        let prompt = reference(fixture, "prompt");
        let mut state = model.fresh();
        feed(&mut model, &mut state, &prompt[..30]);
        let parts = model.save(&state).unwrap();
        let parts: Vec<_> = parts.into_iter().map(|(head, tensor)| (head.name, tensor)).collect();
        let mut lacking = parts.clone();
        lacking.retain(|(name, _)| !name.starts_with("3."));
        assert!(model.restore(30, lacking).is_err(), "a file without the layer's memory");
        let mut state = model.restore(30, parts).unwrap();
        let mut asked = 0;
        let mut count = |_: &[f32]| {
            asked += 1;
            None
        };
        model.guess(None, &mut state, prompt[30], &mut count).unwrap();
        feed(&mut model, &mut state, &prompt[30..31]);
        model.guess(None, &mut state, prompt[31], &mut count).unwrap();
        assert_eq!(asked, 1, "only behind a pass");
    }
}

#[test]
fn nobody_who_does_not_speculate_pays_for_it() {
    for fixture in FIXTURES {
        let (mut with, mut without) =
            (model(fixture, Speculation::Auto), model(fixture, Speculation::Off));
        assert!(!without.has_guesses());
        let (mut more, mut less) = (with.fresh(), without.fresh());
        feed(&mut with, &mut more, &[1, 2, 3]);
        feed(&mut without, &mut less, &[1, 2, 3]);
        assert!(with.bytes(&[&more]) > without.bytes(&[&less]));
    }
}
