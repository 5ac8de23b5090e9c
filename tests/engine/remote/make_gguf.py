#!/usr/bin/env python3
"""Writes a tiny llama with random weights as a GGUF file, for tests against a real llama-server.

    python tests/engine/remote/make_gguf.py --gguf-py DIR --tokenizer tokenizer.json --out DIR [--seed N]

The `gguf` package is llama.cpp's own (`gguf-py` in its sources); `--gguf-py` names its folder where it is not installed. The
tokenizer's vocabulary and merges are kept, and its rule for cutting words is replaced by GPT-2's, which llama.cpp and the
tokenizers package both know: so the `tokenizer.json` that is written beside `tiny.gguf` cuts text as the server does.
"""

import argparse
import json
import pathlib
import sys

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


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--gguf-py")
    arguments.add_argument("--tokenizer", required=True)
    arguments.add_argument("--out", required=True)
    arguments.add_argument("--seed", type=int, default=7)
    asked = arguments.parse_args()
    if asked.gguf_py:
        sys.path.insert(0, asked.gguf_py)
    import gguf

    source = json.load(open(asked.tokenizer, encoding="utf-8"))
    source["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    out = pathlib.Path(asked.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "tokenizer.json").write_text(json.dumps(source), encoding="utf-8")
    (out / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|endoftext|>"}), encoding="utf-8")
    tokens, added, merges, numbers = vocabulary(source)
    random = np.random.default_rng(asked.seed)
    head = WIDTH // HEADS
    writer = gguf.GGUFWriter(str(out / "tiny.gguf"), "llama")
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(head)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if token in added else gguf.TokenType.NORMAL for token in tokens])
    writer.add_token_merges(merges)
    writer.add_eos_token_id(numbers["<|endoftext|>"])
    writer.add_bos_token_id(numbers["<|endoftext|>"])
    writer.add_add_bos_token(False)

    def tensor(name, *shape, scale=None):
        values = random.standard_normal(shape) * (scale or shape[-1] ** -0.5)
        writer.add_tensor(name, values.astype(np.float32))

    tensor("token_embd.weight", len(tokens), WIDTH, scale=1.0)
    # Logits that stand apart: what is likeliest does not hang on rounding.
    tensor("output.weight", len(tokens), WIDTH, scale=0.5)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, dtype=np.float32))
    for layer in range(LAYERS):
        name = f"blk.{layer}."
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{name}{norm}.weight", np.ones(WIDTH, dtype=np.float32))
        tensor(f"{name}attn_q.weight", WIDTH, WIDTH)
        tensor(f"{name}attn_k.weight", KV_HEADS * head, WIDTH)
        tensor(f"{name}attn_v.weight", KV_HEADS * head, WIDTH)
        tensor(f"{name}attn_output.weight", WIDTH, WIDTH)
        tensor(f"{name}ffn_gate.weight", HIDDEN, WIDTH)
        tensor(f"{name}ffn_up.weight", HIDDEN, WIDTH)
        tensor(f"{name}ffn_down.weight", WIDTH, HIDDEN)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
