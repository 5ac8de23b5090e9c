#!/usr/bin/env python3
"""Two processes share one tiny model over MLX's ring, and must say what one process says.

    .tools/oracle/bin/python tests/engine/distributed/ring.py [--width N --layers N --heads N --hidden N --tokens N]

Starts itself twice with a hostfile on the loopback. The model is a llama-like stack with random weights. Two ways to share it:
*tensor*: each process has half of the heads and of the hidden units of every layer, and two sums per layer join them;
*pipeline*: each process has half of the layers, and one vector per token goes from the first to the second (and one back).
Prints what each costs in bytes and time per token, the cost of a bare sum and of a bare send, and the greatest difference in logits
from one process. JSON, one object.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import mlx.core as mx

CPU = mx.cpu


def weights(asked):
    mx.random.seed(7)
    n, h = asked.width, asked.hidden

    def matrix(out, inner):
        return mx.random.normal((out, inner), scale=inner**-0.5)

    layers = [
        {"q": matrix(n, n), "k": matrix(n, n), "v": matrix(n, n), "o": matrix(n, n), "gate": matrix(h, n), "up": matrix(h, n), "down": matrix(n, h)}
        for _ in range(asked.layers)
    ]
    embedding = mx.random.normal((asked.vocabulary, n))
    mx.eval(layers, embedding)
    return layers, embedding


def norm(x):
    return mx.fast.rms_norm(x, None, 1e-5)


def attend(layer, x, cache, heads, dim):
    """x [tokens, width] -> [tokens, heads * dim], with the keys and values of all tokens so far."""

    def split(matrix):
        return (x @ matrix.T).reshape(1, x.shape[0], heads, dim).transpose(0, 2, 1, 3)

    offset = cache[0].shape[2] if cache else 0
    q, k, v = (split(layer[name]) for name in ("q", "k", "v"))
    q, k = (mx.fast.rope(part, dim, traditional=False, base=10000.0, scale=1.0, offset=offset) for part in (q, k))
    if cache:
        k, v = mx.concatenate([cache[0], k], axis=2), mx.concatenate([cache[1], v], axis=2)
    mask = "causal" if x.shape[0] > 1 else None
    out = mx.fast.scaled_dot_product_attention(q, k, v, scale=dim**-0.5, mask=mask)
    return out.transpose(0, 2, 1, 3).reshape(x.shape[0], heads * dim), (k, v)


def run(layers, x, caches, heads, dim, join):
    for index, layer in enumerate(layers):
        out, caches[index] = attend(layer, norm(x), caches[index], heads, dim)
        x = x + join(out @ layer["o"].T)
        y = norm(x)
        gate = y @ layer["gate"].T
        x = x + join((gate * mx.sigmoid(gate) * (y @ layer["up"].T)) @ layer["down"].T)
    return x


def half(layer, rank, asked):
    def rows(matrix):
        return mx.split(matrix, 2, axis=0)[rank]

    def columns(matrix):
        return mx.split(matrix, 2, axis=1)[rank]

    by = {"q": rows, "k": rows, "v": rows, "gate": rows, "up": rows, "o": columns, "down": columns}
    return {name: mx.contiguous(by[name](matrix)) for name, matrix in layer.items()}


def decode(asked, embedding, step):
    """Logits of a prompt and of greedy tokens after it, and the median time of a token."""
    tokens, rows, times = [3, 1, 4, 1, 5, 9, 2, 6], [], []
    fed = tokens
    for _ in range(asked.tokens):
        started = time.perf_counter()
        x = step(embedding[mx.array(fed)])
        logits = norm(x)[-1] @ embedding.T
        mx.eval(logits)
        times.append(time.perf_counter() - started)
        rows.append(logits)
        fed = [int(mx.argmax(logits).item())]
        tokens.append(fed[0])
    return tokens, mx.stack(rows), statistics.median(times[1:])


def timed(work, rounds=200):
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        mx.eval(work())
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e6


def worker(asked):
    group = mx.distributed.init(strict=True, backend="ring")
    rank = group.rank()
    layers, embedding = weights(asked)
    dim = asked.width // asked.heads
    alone, expected, single = decode(asked, embedding, lambda x, c=[None] * asked.layers: run(layers, x, c, asked.heads, dim, lambda y: y))

    shard, caches = [half(layer, rank, asked) for layer in layers], [None] * asked.layers
    join = lambda y: mx.distributed.all_sum(y, group=group)
    tensor, logits, tensor_time = decode(asked, embedding, lambda x: run(shard, x, caches, asked.heads // 2, dim, join))
    tensor_difference = mx.abs(logits - expected).max().item()

    cut = asked.layers // 2
    own, own_caches = (layers[:cut] if rank == 0 else layers[cut:]), [None] * (asked.layers - cut if rank else cut)

    def relay(x):
        if rank == 0:
            y = run(own, x, own_caches, asked.heads, dim, lambda z: z)
            mx.eval(mx.distributed.send(y, 1, group=group))
            return mx.distributed.recv_like(x, 1, group=group)
        y = run(own, mx.distributed.recv_like(x, 0, group=group), own_caches, asked.heads, dim, lambda z: z)
        mx.eval(mx.distributed.send(y, 0, group=group))
        return y

    pipeline, logits, pipeline_time = decode(asked, embedding, relay)
    pipeline_difference = mx.abs(logits - expected).max().item()

    sums = {}
    for floats in (asked.width, 4096, 65536):
        x = mx.ones((floats,))
        mx.eval(x)
        sums[f"{4 * floats} B"] = round(timed(lambda: mx.distributed.all_sum(x, group=group)), 1)
    x = mx.ones((asked.width,))

    def there_and_back():
        if rank == 0:
            mx.eval(mx.distributed.send(x, 1, group=group))
            return mx.distributed.recv_like(x, 1, group=group)
        y = mx.distributed.recv_like(x, 0, group=group)
        mx.eval(y)
        return mx.distributed.send(y, 0, group=group)

    trip = timed(there_and_back)
    if rank == 0:
        # A ring of two sends each element once in the reduction and once around.
        print(json.dumps({
            "mlx": mx.__version__, "layers": asked.layers, "width": asked.width,
            "single_us_per_token": round(single * 1e6), "tensor_us_per_token": round(tensor_time * 1e6), "pipeline_us_per_token": round(pipeline_time * 1e6),
            "tensor_bytes_per_token": 2 * asked.layers * asked.width * 4, "pipeline_bytes_per_token": 2 * asked.width * 4,
            "all_sum_us": sums, "send_and_back_us": round(trip, 1),
            "tensor_max_difference": tensor_difference, "pipeline_max_difference": pipeline_difference,
            "same_tokens": alone == tensor == pipeline,
        }))


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    for name, value in (("width", 256), ("layers", 8), ("heads", 8), ("hidden", 512), ("tokens", 40), ("vocabulary", 512)):
        arguments.add_argument(f"--{name}", type=int, default=value)
    asked = arguments.parse_args()
    mx.set_default_device(CPU)
    if "MLX_RANK" in os.environ:
        return worker(asked)
    free = [socket.socket() for _ in range(2)]
    for one in free:
        one.bind(("127.0.0.1", 0))
    hosts = [[f"127.0.0.1:{one.getsockname()[1]}"] for one in free]
    for one in free:
        one.close()
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(hosts, file)
        file.flush()
        started = [
            subprocess.Popen([sys.executable, *sys.argv], env={**os.environ, "MLX_RANK": str(rank), "MLX_HOSTFILE": file.name})
            for rank in range(2)
        ]
        failed = [process.wait(timeout=300) for process in started]
    sys.exit(max(failed, key=abs))


if __name__ == "__main__":
    main()
