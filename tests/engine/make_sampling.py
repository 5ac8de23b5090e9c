"""Writes sampling.json: what mlx-lm's samplers leave of given logits, and with which probabilities.

Run it with the oracle's Python (requirements.txt); the result is committed.
"""

import json
import pathlib

import mlx.core as mx
import numpy as np
from mlx_lm.sample_utils import (
    apply_min_p,
    apply_top_k,
    apply_top_p,
    apply_xtc,
    make_logits_processors,
)

FILTERS = [
    {},
    {"top_k": 5},
    {"top_p": 0.9},
    {"top_p": 0.5},
    {"min_p": 0.05},
    {"min_p": 0.3},
    {"xtc": 0.1},
    {"xtc": 0.05, "top_p": 0.95},
    {"top_k": 10, "top_p": 0.8, "min_p": 0.02},
    {"repetition": 1.3, "top_p": 0.9},
    {"presence": 1.5, "min_p": 0.05},
    {"frequency": 0.7, "top_k": 8},
    {"repetition": 1.15, "presence": 0.4, "frequency": 0.2, "top_p": 0.95},
    {"bias": {3: 4.0, 7: -3.0, 11: 1.0}, "top_k": 6},
]
NONE = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "xtc": None, "repetition": 1.0, "presence": 0.0, "frequency": 0.0, "bias": {}}


def left(logits, history, case):
    """The probabilities of the tokens that remain, in the order of mlx_lm.sample_utils.make_sampler."""
    processors = make_logits_processors(
        logit_bias=case["bias"] or None,
        repetition_penalty=case["repetition"] if case["repetition"] != 1.0 else None,
        presence_penalty=case["presence"] or None,
        frequency_penalty=case["frequency"] or None,
    )
    row = mx.array(logits)[None]
    for processor in processors:
        row = processor(mx.array(history), row)
    row = row - mx.logsumexp(row, axis=-1, keepdims=True)
    if 0 < case["top_p"] < 1.0:
        row = apply_top_p(row, case["top_p"])
    if case["min_p"]:
        row = apply_min_p(row, case["min_p"])
    if case["xtc"] is not None:
        row = apply_xtc(row, 1.0, case["xtc"], [])
    if case["top_k"]:
        row = apply_top_k(row, case["top_k"])
    row = np.array(row[0], dtype=np.float64) / case["temperature"]
    weights = np.exp(row - row.max())
    shares = weights / weights.sum()
    return {token: float(share) for token, share in enumerate(shares) if share > 0}


def main():
    random = np.random.default_rng(7)
    cases = []
    for number, filters in enumerate(FILTERS * 4):
        size = int(random.integers(24, 48))
        logits = (random.normal(size=size) * random.choice([0.5, 2.0, 4.0])).astype(np.float32)
        history = [int(token) for token in random.integers(0, size, size=int(random.integers(2, 40)))]
        temperature = [1.0, 0.6, 1.5, 0.9][number // len(FILTERS)]
        case = {**NONE, **filters, "temperature": temperature}
        cases.append(
            {
                "name": f"{number} {filters} at {temperature}",
                **case,
                "logits": [float(logit) for logit in logits],
                "history": history,
                "left": left(logits, history, case),
            }
        )
    path = pathlib.Path(__file__).parent / "sampling.json"
    path.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")


if __name__ == "__main__":
    main()
