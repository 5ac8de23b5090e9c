#!/usr/bin/env python3
"""Writes a tiny llama with random weights as a GGUF file, for tests against a real llama-server.

    .tools/oracle/bin/python tests/engine/remote/make_gguf.py --tokenizer tokenizer.json --out DIR [--seed N]

The format is version 3 of ggml's docs/gguf.md. The tokenizer's vocabulary and merges are kept, and its rule for cutting words is
replaced by GPT-2's, which llama.cpp and the tokenizers package both know: so the `tokenizer.json` that is written beside
`tiny.gguf` cuts text as the server does.
"""

import argparse
import json
import pathlib
import struct

import numpy as np

WIDTH, LAYERS, HEADS, KV_HEADS, HIDDEN, CONTEXT = 64, 2, 4, 2, 128, 4096


def vocabulary(source):
    """Names, kinds and merges, as GGUF has them."""
    names = {token: number for token, number in source["model"]["vocab"].items()}
    added = {token["content"]: token["id"] for token in source["added_tokens"]}
    names.update(added)
    ordered = sorted(names, key=names.get)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in source["model"]["merges"]]
    return ordered, set(added), merges, names


# Numbers of the format.
U32, F32, BOOL, TEXT, ARRAY = 4, 6, 7, 8, 9
ALIGNED = 32
NORMAL, CONTROL = 1, 3


def text(value):
    encoded = value.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def number(value):
    return struct.pack("<I", value)


def fields(tokens, added, merges, end):
    """Names, types and values of what is said about the model."""

    def array(kind, values):
        return ARRAY, number(kind) + struct.pack("<Q", len(values)) + b"".join(values)

    yield "general.architecture", TEXT, text("llama")
    yield "general.name", TEXT, text("tiny")
    for name, value in (
        ("context_length", CONTEXT), ("embedding_length", WIDTH), ("block_count", LAYERS), ("feed_forward_length", HIDDEN),
        ("attention.head_count", HEADS), ("attention.head_count_kv", KV_HEADS), ("rope.dimension_count", WIDTH // HEADS),
        ("vocab_size", len(tokens)),
    ):
        yield f"llama.{name}", U32, number(value)
    yield "llama.attention.layer_norm_rms_epsilon", F32, struct.pack("<f", 1e-5)
    yield "tokenizer.ggml.model", TEXT, text("gpt2")
    yield "tokenizer.ggml.pre", TEXT, text("gpt-2")
    yield ("tokenizer.ggml.tokens", *array(TEXT, [text(token) for token in tokens]))
    kinds = [struct.pack("<i", CONTROL if token in added else NORMAL) for token in tokens]
    yield ("tokenizer.ggml.token_type", *array(5, kinds))
    yield ("tokenizer.ggml.merges", *array(TEXT, [text(merge) for merge in merges]))
    yield "tokenizer.ggml.eos_token_id", U32, number(end)
    yield "tokenizer.ggml.bos_token_id", U32, number(end)
    yield "tokenizer.ggml.add_bos_token", BOOL, b"\0"


def tensors(vocabulary_len, random):
    def drawn(name, *shape, scale=None):
        return name, (random.standard_normal(shape) * (scale or shape[-1] ** -0.5)).astype("<f4")

    head = WIDTH // HEADS
    yield drawn("token_embd.weight", vocabulary_len, WIDTH, scale=1.0)
    # Logits that stand apart: what is likeliest does not hang on rounding.
    yield drawn("output.weight", vocabulary_len, WIDTH, scale=0.5)
    yield "output_norm.weight", np.ones(WIDTH, dtype="<f4")
    for layer in range(LAYERS):
        name = f"blk.{layer}."
        for norm in ("attn_norm", "ffn_norm"):
            yield f"{name}{norm}.weight", np.ones(WIDTH, dtype="<f4")
        yield drawn(f"{name}attn_q.weight", WIDTH, WIDTH)
        yield drawn(f"{name}attn_k.weight", KV_HEADS * head, WIDTH)
        yield drawn(f"{name}attn_v.weight", KV_HEADS * head, WIDTH)
        yield drawn(f"{name}attn_output.weight", WIDTH, WIDTH)
        yield drawn(f"{name}ffn_gate.weight", HIDDEN, WIDTH)
        yield drawn(f"{name}ffn_up.weight", HIDDEN, WIDTH)
        yield drawn(f"{name}ffn_down.weight", WIDTH, HIDDEN)


def padded(written):
    return written + b"\0" * (-len(written) % ALIGNED)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--tokenizer", required=True)
    arguments.add_argument("--out", required=True)
    arguments.add_argument("--seed", type=int, default=7)
    asked = arguments.parse_args()
    source = json.load(open(asked.tokenizer, encoding="utf-8"))
    source["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    out = pathlib.Path(asked.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "tokenizer.json").write_text(json.dumps(source), encoding="utf-8")
    (out / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|endoftext|>"}), encoding="utf-8")

    tokens, added, merges, numbers = vocabulary(source)
    said = list(fields(tokens, added, merges, numbers["<|endoftext|>"]))
    named = list(tensors(len(tokens), np.random.default_rng(asked.seed)))
    head = b"GGUF" + number(3) + struct.pack("<QQ", len(named), len(said))
    head += b"".join(text(name) + number(kind) + value for name, kind, value in said)
    data = b""
    for name, values in named:
        sizes = values.shape[::-1]
        head += text(name) + number(len(sizes)) + struct.pack(f"<{len(sizes)}Q", *sizes) + number(0) + struct.pack("<Q", len(data))
        data += padded(values.tobytes())
    (out / "tiny.gguf").write_bytes(padded(head) + data)


if __name__ == "__main__":
    main()
