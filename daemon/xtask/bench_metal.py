"""What mlx-lm reads and writes per second, on MLX's default device: MODEL LENGTHS WRITTEN. Prints an object."""

import json
import statistics
import sys
import time
from pathlib import Path

import mlx.core as mx
from mlx_lm.generate import generate_step
from mlx_lm.utils import load_model

ROUNDS = 5

model, config = load_model(Path(sys.argv[1]))
lengths = [int(length) for length in sys.argv[2].split(",")]
written = int(sys.argv[3])
vocabulary = config.get("text_config", config)["vocab_size"]


def once(length, seed):
    """Seconds to the first token, and those of each after it."""
    mx.random.seed(seed)
    prompt = mx.random.randint(0, vocabulary, (length,))
    mx.eval(prompt)
    started = time.perf_counter()
    steps = generate_step(prompt, model, max_tokens=written + 1)
    next(steps)
    read = time.perf_counter() - started
    count = sum(1 for _ in steps)
    return length / read, count / (time.perf_counter() - started - read)


found = {"device": str(mx.default_device())}
for length in lengths:
    # The first round makes buffers.
    rounds = [once(length, seed) for seed in range(ROUNDS + 1)][1:]
    found[f"prefill_{length}"] = statistics.median(read for read, _ in rounds)
    found[f"decode_after_{length}"] = statistics.median(wrote for _, wrote in rounds)
print(json.dumps(found))
