"""Proves an export with mlx-lm itself: it loads unchanged, agrees with the trainer's logits, and generates.

Runs in the reader's own environment (requirements-mlx.txt); `parity.py` writes what is compared.
"""

from __future__ import annotations

import argparse
import time
import tomllib
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx_lm import load
from mlx_lm.generate import generate_step

PROMPTS = Path(__file__).with_name("prompts.toml")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parity", type=Path, help="tokens and logits written by parity.py")
    args = parser.parse_args()
    model, tokenizer = load(str(args.folder))
    if args.parity:
        stored = np.load(args.parity)
        logits = np.array(model(mx.array(stored["tokens"])).astype(mx.float32))
        print(f"largest difference of logits: {np.abs(logits - stored['logits']).max():.2e}")
        return
    plain = tokenizer._tokenizer if hasattr(tokenizer, "_tokenizer") else tokenizer
    ids = {name: plain.convert_tokens_to_ids(f"<|{name}|>") for name in ("fim_prefix", "fim_suffix", "fim_middle", "file_sep")}

    def encode(text: str) -> list[int]:
        return plain.encode(text, add_special_tokens=False)

    for case in tomllib.loads(PROMPTS.read_text())["prompt"]:
        path, prefix, suffix = case["path"], case["prefix"], case["suffix"]
        before = [ids["fim_prefix"], ids["file_sep"], *encode(path + "\n"), *encode(prefix)]
        prompt = [ids["fim_suffix"], *encode(suffix), *before, ids["fim_middle"]]
        out: list[int] = []
        begun = time.time()
        for token, _ in generate_step(mx.array(prompt), model, max_tokens=40):
            if token in tokenizer.eos_token_ids:
                break
            out.append(int(token))
        speed = len(out) / (time.time() - begun)
        print(f"{path:10} {prefix.splitlines()[-1]!r} -> {plain.decode(out)!r}   ({speed:.0f} tokens/s)")


if __name__ == "__main__":
    main()
