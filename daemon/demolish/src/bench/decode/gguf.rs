//! Writes a model as GGUF, for llama.cpp: Q4_0 for what has four bits, fp32 for the rest.
//! Format: docs/gguf.md of the ggml repository, version 3.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::numbers::{Numbers, half, offset, single};
use super::shapes::{FeedForward, GROUP, Kind, Shape, Tensor};

/// Where tensors begin.
const ALIGNMENT: usize = 32;
/// Numbers of a block of Q4_0: an fp16 scale, then sixteen bytes, number `j` in the lower half of byte `j`, `16 + j` in the upper.
const BLOCK: usize = 32;

/// Types of values and of tensors.
const U32: u32 = 4;
const F32: u32 = 6;
const STRING: u32 = 8;
const TENSOR_F32: u32 = 0;
const TENSOR_Q4_0: u32 = 2;

enum Value {
    Number(u32),
    Float(f32),
    Text(&'static str),
}

/// Writes it.
#[allow(clippy::disallowed_methods, reason = "the folder is the measurement's own")]
pub(super) fn write(shape: &Shape, path: &Path) -> io::Result<()> {
    let tensors = shape.tensors();
    let mut header = Vec::new();
    let settings = settings(shape);
    header.extend(b"GGUF");
    header.extend(3u32.to_le_bytes());
    header.extend((tensors.len() as u64).to_le_bytes());
    header.extend((settings.len() as u64).to_le_bytes());
    for (key, value) in settings {
        text(&key, &mut header);
        match value {
            Value::Number(number) => {
                header.extend(U32.to_le_bytes());
                header.extend(number.to_le_bytes());
            }
            Value::Float(number) => {
                header.extend(F32.to_le_bytes());
                header.extend(number.to_le_bytes());
            }
            Value::Text(word) => {
                header.extend(STRING.to_le_bytes());
                text(word, &mut header);
            }
        }
    }
    let mut at = 0;
    for tensor in &tensors {
        describe(tensor, at, &mut header);
        at += bytes(tensor).next_multiple_of(ALIGNMENT);
    }
    header.resize(header.len().next_multiple_of(ALIGNMENT), 0);
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(&header)?;
    for tensor in &tensors {
        let mut data = packed(tensor, &Numbers::of(tensor));
        data.resize(data.len().next_multiple_of(ALIGNMENT), 0);
        file.write_all(&data)?;
    }
    file.flush()
}

/// What the header says of the model. There is no vocabulary, only its size.
fn settings(shape: &Shape) -> Vec<(String, Value)> {
    let number = |number: usize| Value::Number(u32::try_from(number).unwrap_or(u32::MAX));
    let name = if shape.is_mixture() { "qwen3moe" } else { "qwen2" };
    let mut all = vec![
        ("general.architecture".to_owned(), Value::Text(name)),
        ("general.name".to_owned(), Value::Text(shape.name)),
        ("general.file_type".to_owned(), Value::Number(2)),
        ("general.quantization_version".to_owned(), Value::Number(2)),
        ("tokenizer.ggml.model".to_owned(), Value::Text("no_vocab")),
    ];
    let mut add = |key: &str, value| all.push((format!("{name}.{key}"), value));
    add("vocab_size", number(shape.vocabulary));
    add("context_length", Value::Number(32_768));
    add("embedding_length", number(shape.hidden));
    add("block_count", number(shape.layers));
    add("attention.head_count", number(shape.heads));
    add("attention.head_count_kv", number(shape.kv_heads));
    add("attention.key_length", number(shape.head_dim));
    add("attention.value_length", number(shape.head_dim));
    add("attention.layer_norm_rms_epsilon", Value::Float(1e-6));
    add("rope.freq_base", Value::Float(1_000_000.0));
    match shape.feed_forward {
        FeedForward::Dense { inner } => add("feed_forward_length", number(inner)),
        FeedForward::Experts { count, chosen, inner } => {
            add("feed_forward_length", number(inner));
            add("expert_feed_forward_length", number(inner));
            add("expert_count", number(count));
            add("expert_used_count", number(chosen));
        }
    }
    all
}

fn text(text: &str, to: &mut Vec<u8>) {
    to.extend((text.len() as u64).to_le_bytes());
    to.extend(text.as_bytes());
}

fn describe(tensor: &Tensor, at: usize, to: &mut Vec<u8>) {
    let suffix = if tensor.kind == Kind::Bias { "bias" } else { "weight" };
    text(&format!("{}.{suffix}", tensor.gguf), to);
    // The innermost comes first.
    let mut sizes = vec![tensor.inner];
    if matches!(tensor.kind, Kind::FourBits | Kind::EightBits) {
        sizes.push(tensor.out);
    }
    sizes.extend(tensor.experts);
    to.extend((sizes.len() as u32).to_le_bytes());
    sizes.iter().for_each(|size| to.extend((*size as u64).to_le_bytes()));
    let kind = if tensor.kind == Kind::FourBits { TENSOR_Q4_0 } else { TENSOR_F32 };
    to.extend(kind.to_le_bytes());
    to.extend((at as u64).to_le_bytes());
}

/// How long a tensor is in the file.
fn bytes(tensor: &Tensor) -> usize {
    match tensor.kind {
        Kind::FourBits => tensor.numbers() / BLOCK * (2 + BLOCK / 2),
        _ => tensor.numbers() * 4,
    }
}

fn packed(tensor: &Tensor, numbers: &Numbers) -> Vec<u8> {
    let mut data = Vec::with_capacity(bytes(tensor) + ALIGNMENT);
    match tensor.kind {
        Kind::Norm | Kind::Bias => {
            numbers.floats.iter().for_each(|float| data.extend(single(*float).to_le_bytes()));
        }
        Kind::EightBits => {
            for (codes, scale) in numbers.codes.chunks_exact(GROUP).zip(&numbers.floats) {
                let (scale, offset) = (single(*scale), single(offset(tensor.kind, *scale)));
                for code in codes {
                    data.extend((scale * f32::from(*code) + offset).to_le_bytes());
                }
            }
        }
        Kind::FourBits => {
            for (codes, scale) in numbers.codes.chunks_exact(GROUP / 2).zip(&numbers.floats) {
                for codes in codes.chunks_exact(BLOCK / 2) {
                    data.extend(half(*scale).to_le_bytes());
                    data.extend(block(codes));
                }
            }
        }
    }
    data
}

/// Thirty-two codes, from neighbours that share a byte to codes that are sixteen apart.
fn block(codes: &[u8]) -> [u8; 16] {
    let (first, second) = codes.split_at(8);
    let word =
        |bytes: &[u8]| bytes.iter().rev().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
    let (first, second) = (word(first), word(second));
    let (first, second) = (spread(first), spread(second));
    (first | second << 4).to_le_bytes()
}

/// Sixteen codes of four bits, each in a byte of its own.
fn spread(codes: u64) -> u128 {
    let mut word = u128::from(codes);
    for (shift, mask) in [
        (32, 0x0000_0000_ffff_ffff_0000_0000_ffff_ffff_u128),
        (16, 0x0000_ffff_0000_ffff_0000_ffff_0000_ffff),
        (8, 0x00ff_00ff_00ff_00ff_00ff_00ff_00ff_00ff),
        (4, 0x0f0f_0f0f_0f0f_0f0f_0f0f_0f0f_0f0f_0f0f),
    ] {
        word = (word | word << shift) & mask;
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_a_block_are_sixteen_apart() {
        let code = |index: usize| u8::try_from(index * 7 % 16).unwrap();
        let packed: Vec<u8> =
            (0..16).map(|byte| code(2 * byte) | code(2 * byte + 1) << 4).collect();
        let told = block(&packed);
        for (index, byte) in told.iter().enumerate() {
            assert_eq!((byte & 15, byte >> 4), (code(index), code(16 + index)));
        }
    }
}
