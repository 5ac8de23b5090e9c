//! What a pass needs on its way stays within its bound far into a context, and heads are rows there: keys and values are never made.

#![allow(clippy::disallowed_methods, reason = "tests write scratch files")]

use std::{fs, path::Path};

use mlx_rs::{Array, Dtype, memory, transforms::eval};
use serde_json::{Value, json};

use super::{Directory, Mlx, bare, chunk::Chunk};
use crate::{
    backend::{Backend, Feed, Rows},
    cache::Cache,
    info::{Compute, LoadOptions, LoadWatch},
    job::SoulId,
    memory::{plan::Room, promised},
};

/// Whatever does not grow with the pass times the context: weights that are unpacked, rows of the pass itself.
const BESIDE: u64 = 8 << 20;

/// A fixture whose configuration allows a long context.
fn far_sighted(name: &str, dir: &Path) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/engine/fixtures");
    for entry in fs::read_dir(fixtures.join(name)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.join(path.file_name().unwrap())).unwrap();
    }
    let path = dir.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["max_position_embeddings"] = json!(1 << 18);
    fs::write(path, config.to_string()).unwrap();
}

/// A cache that has seen `len` tokens, all of them nothing.
fn seen(model: &mut Mlx, len: i32) -> Cache {
    let mut cache = model.fresh();
    let mut feeds = [Feed { state: &mut cache, tokens: &[1, 2], rows: Rows::None }];
    model.forward(None, &mut feeds, &mut || {}).unwrap();
    let parts: Vec<(String, Vec<i32>, Dtype)> = model
        .save(&cache)
        .unwrap()
        .into_iter()
        .map(|(head, array)| {
            let mut shape = array.shape().to_vec();
            shape[2] = len;
            (head.name, shape, array.dtype())
        })
        .collect();
    let zeros = |shape: &[i32], dtype| mlx_rs::ops::zeros_dtype(shape, dtype).unwrap();
    let parts: Vec<(String, Array)> =
        parts.into_iter().map(|(name, shape, dtype)| (name, zeros(&shape, dtype))).collect();
    eval(parts.iter().map(|(_, array)| array)).unwrap();
    model.restore(len as usize, parts).unwrap()
}

/// The most bytes beyond what is held afterwards, of a pass that goes on from the cache.
fn scratch(model: &mut Mlx, soul: Option<SoulId>, cache: &mut Cache, tokens: usize) -> u64 {
    memory::clear_cache().unwrap();
    memory::reset_peak_memory().unwrap();
    let tokens: Vec<u32> = (0..tokens as u32).map(|token| token % 200 + 1).collect();
    let mut feeds = [Feed { state: cache, tokens: &tokens, rows: Rows::Last }];
    model.forward(soul, &mut feeds, &mut || {}).unwrap();
    (memory::peak_memory().unwrap() - memory::active_memory().unwrap()) as u64
}

/// Every array in the cache has room for the next 256 tokens.
fn with_room(model: &mut Mlx, cache: &mut Cache) {
    let len = model.len(cache);
    scratch(model, None, cache, 1);
    model.truncate(cache, len);
}

#[test]
fn a_pass_far_into_a_context_stays_within_its_bound() {
    // What is gathered of one latent and one rotated key in the widest of these models, and of the indexer's key.
    for (name, heads, value) in [("deepseek_v3-q4", 4, 32), ("glm_moe_dsa_52-q4a4h6", 2, 32)] {
        let dir = tempfile::tempdir().unwrap();
        far_sighted(name, dir.path());
        for compute in [Compute::Uniform, Compute::Quantized, Compute::Fast] {
            let options = LoadOptions { compute, ..LoadOptions::AUTO };
            let (mut model, _) = bare(dir.path(), options, LoadWatch::nobody()).unwrap();
            for len in [1 << 16, 1 << 17] {
                let mut cache = seen(&mut model, len);
                with_room(&mut model, &mut cache);
                let one = scratch(&mut model, None, &mut cache, 1);
                // Keys and values of one layer, had they been made of all latents; both of them are wider than a latent.
                let unfolded = (len * heads * 2 * value * 4) as u64;
                assert!(one < unfolded / 2, "{name} {compute:?} at {len}: {one} for a token");
                model.truncate(&mut cache, len as usize);
                let tokens = model.chunk_len_max(None, len as usize);
                let found = scratch(&mut model, None, &mut cache, tokens);
                let Chunk { pair_bytes, .. } = model.chunk;
                let counted = (len as u64 + tokens as u64) * tokens as u64 * pair_bytes;
                assert!(
                    found <= counted + BESIDE,
                    "{name} {compute:?} at {len}: {found} for {tokens} tokens, {counted} are counted"
                );
            }
        }
    }
}

/// Our own attention makes no scores; MLX's does, in a packed cache and where an adapter takes a layer out of our kernels.
#[test]
#[cfg(not(target_os = "macos"))]
fn only_a_pass_that_makes_scores_is_shortened_for_them() {
    const SEEN: i32 = 1 << 16;
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/engine/fixtures");
    for (name, kv_bits, is_worn, makes_scores) in [
        ("qwen3_moe-q4", None, false, false),
        ("qwen3_moe-q4", None, true, true),
        ("llama-packed", None, false, false),
        ("llama-packed", Some(8), false, true),
        ("deepseek_v3-q4", None, false, false),
        ("deepseek_v3-q4", None, true, false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        far_sighted(name, dir.path());
        let options = LoadOptions { compute: Compute::Fast, kv_bits, ..LoadOptions::AUTO };
        let (mut model, _) = bare(dir.path(), options, LoadWatch::nobody()).unwrap();
        let soul = is_worn.then(|| model.mount(&fixtures.join("souls").join(name)).unwrap());
        let mut cache = seen(&mut model, SEEN);
        with_room(&mut model, &mut cache);
        let tokens = model.chunk_len_max(soul, SEEN as usize);
        let is_shortened = tokens < model.chunk_len_max(soul, 0);
        assert_eq!(is_shortened, makes_scores, "{name} {kv_bits:?} {is_worn}: {tokens}");
        let Chunk { pair_bytes, worn_bytes, .. } = model.chunk;
        let each = if is_worn { worn_bytes } else { pair_bytes };
        let counted = (SEEN as u64 + tokens as u64) * tokens as u64 * each;
        let found = scratch(&mut model, soul, &mut cache, tokens);
        assert!(
            found <= counted + BESIDE,
            "{name} {kv_bits:?} {is_worn}: {found} for {tokens} tokens, {counted} are counted"
        );
    }
}

/// The most bytes of a pass at the end of a context that was read from its beginning, and what is planned for it.
fn read_to(dir: &Path, compute: Compute, context: usize) -> (u64, u64) {
    let options = LoadOptions { compute, context_max: Some(context), ..LoadOptions::AUTO };
    let directory = Directory::read(dir, options).unwrap();
    let needs = directory.needs(options);
    let room = Room::now(options, promised());
    let (_, floats) = needs.plan(compute, room);
    let (mut model, _) = bare(dir, options, LoadWatch::nobody()).unwrap();
    let (mut cache, mut found) = (model.fresh(), 0);
    while model.len(&cache) < context {
        let seen = model.len(&cache);
        let len = model.chunk_len_max(None, seen).min(context - seen);
        found = scratch(&mut model, None, &mut cache, len);
    }
    (found, needs.chosen(floats, room).scratch)
}

#[test]
#[cfg(not(target_os = "macos"))]
fn what_a_pass_takes_is_what_is_planned() {
    let families = [
        "qwen3_moe-q4",
        "glm4_moe-q4",
        "gpt_oss-packed",
        "minimax-q4",
        "deepseek_v3-q4",
        "qwen3_next-q4",
    ];
    for name in families {
        let dir = tempfile::tempdir().unwrap();
        far_sighted(name, dir.path());
        for compute in [Compute::Parity, Compute::Uniform, Compute::Fast] {
            let (found, planned) = read_to(dir.path(), compute, 2048);
            let share = found as f64 / planned as f64;
            assert!(share < 1.25, "{name} {compute:?}: {found} bytes, {planned} are planned");
            // What our own kernels take for themselves, MLX does not count.
            let is_counted = compute != Compute::Fast;
            assert!(!is_counted || share > 0.75, "{name} {compute:?}: {found} of {planned} bytes");
        }
    }
}

#[test]
#[cfg(not(target_os = "macos"))]
fn adapters_are_promised_once_what_passes_with_one_take() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/engine/fixtures");
    for (name, takes_more) in [("qwen3_moe-q4", true), ("deepseek_v3-q4", false)] {
        let dir = tempfile::tempdir().unwrap();
        far_sighted(name, dir.path());
        let options = LoadOptions { compute: Compute::Fast, ..LoadOptions::AUTO };
        let (mut model, _) = bare(dir.path(), options, LoadWatch::nobody()).unwrap();
        assert_eq!(model.worn > 0, takes_more, "{name}");
        let before = promised();
        let mut mount = || model.mount(&fixtures.join("souls").join(name)).unwrap();
        let first = mount();
        let one = promised() - before;
        let second = mount();
        let overlay = promised() - before - one;
        assert_eq!(one, overlay + model.worn, "{name}");
        model.unmount(first);
        assert_eq!(promised() - before, one, "{name}: another is worn yet");
        model.unmount(second);
        assert_eq!(promised(), before, "{name}");
    }
}
