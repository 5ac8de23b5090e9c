"""Tokens per second that mlx-lm decodes on the CPU: FOLDER TOKENS. Greedy, after a prompt of one token."""

import sys
import time
from pathlib import Path

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model

mx.set_default_device(mx.cpu)
model, config = load_model(Path(sys.argv[1]))
cache = make_prompt_cache(model)
token = mx.array([[1]])
best = 0.0
for step in range(int(sys.argv[2]) + 1):
    started = time.perf_counter()
    logits = model(token, cache=cache)[:, -1]
    token = mx.argmax(logits, axis=-1)[:, None]
    mx.eval(token)
    # The first step makes buffers.
    if step > 0:
        best = max(best, 1 / (time.perf_counter() - started))
print(best)
