"""Trains the model: warm-up, constant rate, then decay, and at the end with weights rounded as the export rounds them.

It can be stopped at any time and goes on from its last checkpoint. The end is set by a token count or, where the wall
clock is what is scarce, by a time (`--until`): the decay then starts early enough to finish in time. The state before the decay
is kept as well (`stable.pt`), so that a longer run can go on from there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import multiprocessing
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from export import restore
from memory import layout, views
from model import Nano, sizes
from samples import Packer
from settings import WORK, load, shape
from tokens import open_tokenizer
from workers import Batch, Workers

RUN = WORK / "run"
NORM_MAX = 1.0  # longer gradients are shortened to this
LATEST, STABLE = RUN / "latest.pt", RUN / "stable.pt"


def feed(config: dict[str, Any], fim: float, first: int, rows: int, length: int, queue: Any) -> None:
    """The process that tokenises ahead of the training."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    packer = Packer(open_tokenizer(), config, fim)
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

    def next(self) -> Batch:
        ids, weights = self.queue.get(timeout=300)
        tokens = torch.from_numpy(ids)
        return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous(), torch.from_numpy(weights)[:, 1:].contiguous()

    def close(self) -> None:
        self.process.terminate()
        self.process.join()


class Clock:
    """How far the run is, in 0..1, from tokens or from the time it has trained, whichever is further."""

    def __init__(self, tokens: int, trained: float, until: float | None) -> None:
        self.tokens = tokens
        self.seconds = trained + until - time.time() if until else math.inf
        self.begun = time.time() - trained

    def progress(self, seen: int) -> float:
        return min(max(seen / self.tokens, (time.time() - self.begun) / self.seconds), 1.0)


def rate(step: int, progress: float, train: dict[str, Any]) -> float:
    """Warm-up, stable, decay to almost nothing."""
    warm = min(1.0, (step + 1) / train["warmup_steps"])
    begin = 1 - train["decay"]
    return warm if progress < begin else max(0.01, (1 - progress) / train["decay"])


def stage(stages: list[list[float]], progress: float) -> Any:
    """The value of the last stage that has begun."""
    return next(value for begin, value in reversed(stages) if progress >= begin)


class Run:
    """A training run: the weights, what the optimizer remembers, and how far it is."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config, self.train = config, config["train"]
        torch.manual_seed(self.train["seed"])
        self.workers = Workers(config)
        memory, sizes = self.workers.memory, layout(shape(config))
        self.kept = {"model": views(memory.weights, sizes), "means": views(memory.means, sizes), "squares": views(memory.squares, sizes)}
        self.fill({"model": Nano(shape(config)).state_dict()})
        self.meta: dict[str, Any] = {"step": 0, "updates": 0, "rows": 0, "tokens": 0, "seconds": 0.0}

    @torch.no_grad()
    def fill(self, saved: dict[str, Any]) -> None:
        for kind, weights in self.kept.items():
            for name, weight in saved.get(kind, {}).items():
                weights[name].copy_(weight)

    def load(self, checkpoint: Path) -> None:
        if checkpoint.is_dir():  # an exported model: its weights, and an optimizer that remembers nothing
            self.fill({"model": restore(self.config, checkpoint)[0].state_dict()})
            return
        saved = torch.load(checkpoint, weights_only=False, map_location="cpu")
        self.fill(saved)
        self.meta = saved["meta"]

    def save(self, path: Path) -> None:
        temporary = path.with_suffix(".tmp")
        copies = {kind: {name: weight.cpu().clone() for name, weight in weights.items()} for kind, weights in self.kept.items()}
        torch.save(copies | {"meta": self.meta}, temporary)
        temporary.replace(path)

    def batches(self, clock: Clock) -> Iterator[tuple[float, Batch]]:
        """Progress and the next batch, until the run is at its end; the kind of batch changes on the way."""
        feeder: Feeder | None = None
        current: tuple[float, float] | None = None
        try:
            while (progress := clock.progress(self.meta["tokens"])) < 1.0:
                wanted = (stage(self.train["lengths"], progress), stage(self.train["fim"], progress))
                if wanted != current or feeder is None:
                    if feeder:
                        feeder.close()
                    current = wanted
                    rows = self.train["step_tokens"] // wanted[0]
                    feeder = Feeder(self.config, wanted[1], self.meta["rows"], rows, wanted[0])
                yield progress, feeder.next()
        finally:
            if feeder:
                feeder.close()

    def step(self, progress: float, batch: Batch) -> dict[str, float]:
        """One update; gives what the log wants to know."""
        factor = rate(self.meta["step"], progress, self.train)
        self.workers.refresh(rounding=progress >= 1 - self.train["quantized"])
        measured = self.workers.gradients(batch)
        self.meta["step"] += 1
        self.meta["updates"] += 1
        self.workers.move(min(1.0, NORM_MAX / max(measured["norm"], 1e-9)), factor, self.meta["updates"])
        self.meta["rows"] += batch[0].shape[0]
        self.meta["tokens"] += batch[0].numel()
        return measured | {"rate": factor}

    def digest(self) -> str:
        """A fingerprint of all weights."""
        parts = (weight.cpu().numpy().tobytes() for weight in self.kept["model"].values())
        total = hashlib.sha256()
        for part in parts:
            total.update(part)
        return total.hexdigest()


def train_run(run: Run, until: float | None, steps: int | None, keep: bool = True) -> None:
    """Trains to the end, or for so many steps; saves on the way if it shall be kept."""
    train, meta = run.train, run.meta
    clock = Clock(train["tokens"], meta["seconds"], until)
    print(sizes(Nano(shape(run.config))), "from step", meta["step"], flush=True)
    RUN.mkdir(parents=True, exist_ok=True)
    log = (RUN / "log.jsonl" if keep else Path(os.devnull)).open("a")
    started = saved_at = logged_at = time.time()
    trained, since, losses = meta["seconds"], 0, []
    decaying = meta["tokens"] > 0 and clock.progress(meta["tokens"]) >= 1 - train["decay"]
    for progress, batch in run.batches(clock):
        if keep and not decaying and progress >= 1 - train["decay"]:
            decaying = True
            run.save(STABLE)
        measured = run.step(progress, batch)
        meta["seconds"] = trained + time.time() - started
        since += batch[0].numel()
        losses.append(measured["loss"])
        if meta["step"] % 10 == 0:
            now = time.time()
            line = {"step": meta["step"], "tokens": meta["tokens"], **{key: round(value, 4) for key, value in measured.items()},
                    "loss": round(float(np.mean(losses)), 4), "length": batch[0].shape[1], "progress": round(progress, 4),
                    "speed": round(since / (now - logged_at)), "seconds": round(meta["seconds"])}  # fmt: skip
            print(json.dumps(line), file=log, flush=True)
            print(line, flush=True)
            if not math.isfinite(line["loss"]):
                raise SystemExit("the loss is no number any more: go on from an earlier checkpoint with lower rates")
            logged_at, since, losses = now, 0, []
        if keep and time.time() - saved_at > train["save_seconds"]:
            run.save(LATEST)
            saved_at = time.time()
        if steps and meta["step"] >= steps:
            break
    if keep:
        run.save(LATEST)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--until", help="wall-clock end, HH:MM of today")
    parser.add_argument(
        "--from", dest="start", type=Path, help="a checkpoint, or the folder of an exported model; else the latest checkpoint"
    )
    parser.add_argument(
        "--digest", type=int, metavar="STEPS", help="only make so many steps from nothing and print a fingerprint of the weights"
    )
    args = parser.parse_args()
    until = None
    if args.until:
        hour, minute = map(int, args.until.split(":"))
        until = time.mktime((*time.localtime()[:3], hour, minute, 0, 0, 0, -1))
    run = Run(load())
    if args.digest:
        train_run(run, None, args.digest, keep=False)
        print(run.digest())
        return
    start = args.start or (LATEST if LATEST.exists() else None)
    if start:
        run.load(start)
    train_run(run, until, None)


if __name__ == "__main__":
    main()
