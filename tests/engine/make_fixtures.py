#!/usr/bin/env python3
"""Makes tiny random checkpoints with mlx-lm's own classes, and what mlx-lm computes with them.

    .tools/oracle/bin/python tests/engine/make_fixtures.py [--out DIR] [--seed N] [--all | --only NAME …] [--jobs N] [--hidden N …]

Each case is a model directory that any MLX engine can load, plus `ref.safetensors`:
    prompt         [L]      token ids
    prefill        [L, V]   logits of one pass over the prompt
    chunked        [L, V]   the same when the prompt is fed in chunks of 7
    greedy         [N]      the tokens that greedy decoding finds
    decode         [N, V]   the logits that each of them was taken from
The committed fixtures are those of the default arguments; `cargo test -p engine` compares the engine with them. Adapters lie on
some of them: `make_souls.py` has to follow. mlx-lm 0.32.1 and 0.32.2 cannot run quantized experts on MLX 0.32.2, hence 0.32.0. The cases are in `oracle/`, a module per family.
"""

from oracle.cli import main

if __name__ == "__main__":
    main(__doc__)
