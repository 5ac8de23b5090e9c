"""Trains the model: warm-up, constant rate, then decay, and at the end with weights rounded as the export rounds them.

It can be stopped at any time and goes on from its last checkpoint. The end is set by a token count or, where the wall
clock is what is scarce, by a time (`--until`): the decay then starts early enough to finish in time.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._inductor.config as inductor
from torch import Tensor

from fakequant import rounded
from model import Nano, fuse, sizes
from muon import Optimizer
from samples import Packer
from settings import WORK, load, shape
from tokens import open_tokenizer

RUN = WORK / "run"


def feed(config: dict[str, Any], fim: float, first: int, rows: int, length: int, queue: Any) -> None:
    """The process that tokenises ahead of the training."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    train = config["train"]
    packer = Packer(open_tokenizer(), config["data"]["mix"], train["seed"], fim, train["middle_weight"])
    number = first
    while True:
        made = [packer.row(number + offset, length) for offset in range(rows)]
        number += rows
        queue.put((np.stack([row[0] for row in made]), np.stack([row[1] for row in made])))


class Feeder:
    """Batches from the other process, by row number."""

    def __init__(self, config: dict[str, Any], fim: float, first: int, rows: int, length: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.queue = context.Queue(maxsize=8)
        self.process = context.Process(target=feed, args=(config, fim, first, rows, length, self.queue), daemon=True)
        self.process.start()

    def next(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        ids, weights = self.queue.get(timeout=300)
        tokens = torch.from_numpy(ids)
        return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous(), torch.from_numpy(weights)[:, 1:].contiguous()

    def close(self) -> None:
        self.process.terminate()
        self.process.join()


class Workers:
    """Each thread does its own share of a batch from end to end, so that none waits for another within a layer.

    On a machine with other work this is faster than splitting every product: the threads meet once per step.
    """

    def __init__(self, model: Nano, threads: int, balance: float, accumulate: int) -> None:
        self.model, self.threads, self.balance, self.accumulate = model, threads, balance, accumulate
        self.weights = list(model.parameters())
        inductor.cpp.threads = 1
        fuse()
        self.pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
        self.compiled: set[torch.Size] = set()

    def share(self, tokens: Tensor, targets: Tensor, weights: Tensor, part: float) -> tuple[list[Tensor], np.ndarray]:
        loss, balance, shares = self.model.loss(tokens, targets, weights)
        total = loss * part + balance * (self.balance / self.threads)
        grads = torch.autograd.grad(total / self.accumulate, self.weights)
        return list(grads), np.array([loss.item() * part, balance.item() / self.threads, shares.min().item() / self.threads])

    def run(self, tokens: Tensor, targets: Tensor, weights: Tensor) -> np.ndarray:
        """Adds a batch's gradients; gives loss, balance loss and the least share of an expert."""
        whole = weights.sum().clamp(min=1.0)
        pieces = zip(tokens.chunk(self.threads), targets.chunk(self.threads), weights.chunk(self.threads), strict=True)
        jobs = [(*piece, (piece[2].sum() / whole).item()) for piece in pieces]
        if jobs[0][0].shape not in self.compiled:  # one thread compiles, the others find it done
            self.pool.submit(self.share, *jobs[0]).result()
            self.compiled.add(jobs[0][0].shape)
        results = list(self.pool.map(lambda job: self.share(*job), jobs))
        for weight, *grads in zip(self.weights, *(result[0] for result in results), strict=True):
            total = sum(grads[1:], grads[0])
            weight.grad = total if weight.grad is None else weight.grad.add_(total)
        return sum(result[1] for result in results)


class Clock:
    """How far the run is, in 0..1, from tokens or from the wall clock, whichever is further."""

    def __init__(self, tokens: int, begun: float, until: float | None) -> None:
        self.tokens, self.begun, self.until = tokens, begun, until

    def progress(self, seen: int) -> float:
        by_tokens = seen / self.tokens
        by_time = (time.time() - self.begun) / (self.until - self.begun) if self.until else 0.0
        return min(max(by_tokens, by_time), 1.0)


def rate(step: int, progress: float, train: dict[str, Any]) -> float:
    """Warm-up, stable, decay to almost nothing."""
    warm = min(1.0, (step + 1) / train["warmup_steps"])
    begin = 1 - train["decay"]
    return warm if progress < begin else max(0.01, (1 - progress) / train["decay"])


def stage(stages: list[list[float]], progress: float) -> Any:
    """The value of the last stage that has begun."""
    return next(value for begin, value in reversed(stages) if progress >= begin)


def save(path: Path, model: Nano, optimizer: Optimizer, meta: dict[str, Any]) -> None:
    temporary = path.with_suffix(".tmp")
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "meta": meta}, temporary)
    temporary.replace(path)


def train_run(config: dict[str, Any], until: float | None) -> None:
    train = config["train"]
    torch.set_num_threads(train["threads"])
    torch.manual_seed(train["seed"])
    RUN.mkdir(parents=True, exist_ok=True)
    model = Nano(shape(config))
    optimizer = Optimizer(model, train["muon_rate"], train["adam_rate"], train["weight_decay"])
    meta: dict[str, Any] = {"step": 0, "rows": 0, "tokens": 0, "seconds": 0.0, "begun": time.time(), "balance": train["balance"]}
    latest = RUN / "latest.pt"
    if latest.exists():
        saved = torch.load(latest, weights_only=False)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        meta = saved["meta"]
    workers = Workers(model, train["threads"], meta["balance"], train["accumulate"])
    clock = Clock(train["tokens"], meta["begun"], until)
    print(sizes(model), "from step", meta["step"], flush=True)
    log = (RUN / "log.jsonl").open("a")
    feeder: Feeder | None = None
    current: tuple[float, float] | None = None
    saved_at = logged_at = time.time()
    sums = np.zeros(3)
    since = 0
    while (progress := clock.progress(meta["tokens"])) < 1.0:
        started = time.time()
        wanted = (stage(train["lengths"], progress), stage(train["fim"], progress))
        if wanted != current:
            if feeder:
                feeder.close()
            current = wanted
            feeder = Feeder(config, wanted[1], meta["rows"], train["micro_tokens"] // wanted[0], wanted[0])
        assert feeder
        rounding = progress >= 1 - train["quantized"]
        for _ in range(train["accumulate"]):
            tokens, targets, weights = feeder.next()
            with rounded(model, config["export"], rounding):
                measured = workers.run(tokens, targets, weights)
            meta["rows"] += tokens.shape[0]
            meta["tokens"] += tokens.numel()
            since += tokens.numel()
            sums += (measured[0], measured[1], 1.0)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item()
        factor = rate(meta["step"], progress, train)
        optimizer.step(factor)
        meta["step"] += 1
        meta["seconds"] += time.time() - started
        if meta["step"] % 10 == 0:
            now = time.time()
            line = {
                "step": meta["step"], "tokens": meta["tokens"], "loss": round(sums[0] / sums[2], 4),
                "balance": round(sums[1] / sums[2], 4), "least_share": round(measured[2], 4), "norm": round(norm, 3),
                "rate": round(factor, 4), "progress": round(progress, 4), "speed": round(since / (now - logged_at)),
                "seconds": round(meta["seconds"]),
            }  # fmt: skip
            print(json.dumps(line), file=log, flush=True)
            print(line, flush=True)
            if not math.isfinite(line["loss"]):
                raise SystemExit("the loss is no number any more")
            sums[:] = 0
            logged_at, since = now, 0
        if time.time() - saved_at > train["save_seconds"]:
            save(latest, model, optimizer, meta)
            saved_at = time.time()
    save(latest, model, optimizer, meta)
    save(RUN / "final.pt", model, optimizer, meta)
    if feeder:
        feeder.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--until", help="wall-clock end, HH:MM of today")
    args = parser.parse_args()
    until = None
    if args.until:
        hour, minute = map(int, args.until.split(":"))
        until = time.mktime((*time.localtime()[:3], hour, minute, 0, 0, 0, -1))
    train_run(load(), until)


if __name__ == "__main__":
    main()
