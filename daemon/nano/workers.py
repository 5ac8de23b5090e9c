"""Makes the gradients of a batch and moves the weights: on a CPU a process per share of the work, on an accelerator one worker.

Each worker takes its rows through the network from end to end, so that none waits for another within a layer, and in small pieces,
whose activations stay near. Processes and not threads: threads share one table of pages, and waited for it (and for Python) half of
the time. Sums are always made in the same order, so that a run on the same machine gives the same weights to the bit.
"""

from __future__ import annotations

import multiprocessing.connection
from typing import Any

import torch
import torch._inductor.config as inductor
import torch.multiprocessing as processes
from torch import Tensor

from fakequant import affine, bits_of
from memory import Memory, layout, reserve, views
from model import BF16, Nano, fuse, published
from muon import Moments, Rates, update
from settings import shape

Batch = tuple[Tensor, Tensor, Tensor]
Answer = list[float]


class Worker:
    """One of `count` workers: the network in the precision of its products, and a share of the weights to move."""

    def __init__(self, index: int, count: int, config: dict[str, Any], memory: Memory) -> None:
        self.index, self.count, self.train, self.export = index, count, config["train"], config["export"]
        self.shape, self.memory = shape(config), memory
        self.device = memory.weights.device
        self.sizes = layout(self.shape)
        self.rates = Rates(self.train["muon_rate"], self.train["adam_rate"], self.train["weight_decay"])
        self.weights, self.sum = views(memory.weights, self.sizes), views(memory.gradients[index], self.sizes)
        self.working = Nano(self.shape).to(self.device)
        for name, weight in self.working.named_parameters():
            if name.endswith("_proj"):
                weight.data = weight.data.to(BF16)
        self.leaves = dict(self.working.named_parameters())
        fuse()

    def share(self) -> list[str]:
        """The weights that this worker moves: heavy ones dealt out first."""
        loads = [0] * self.count
        mine = []
        for name in sorted(self.sizes, key=lambda name: -self.sizes[name].numel()):
            least = loads.index(min(loads))
            loads[least] += self.sizes[name].numel()
            if least == self.index:
                mine.append(name)
        return mine

    @torch.no_grad()
    def refresh(self, rounding: bool) -> Answer:
        """Takes over the weights, rounded as the export rounds them if so wished: the gradient passes straight through."""
        for name, leaf in self.leaves.items():
            bits = bits_of(name, self.export) if rounding else None
            leaf.copy_(affine(self.weights[name], bits, self.export["group"]) if bits else self.weights[name])
        return []

    def gradients(self, pieces: list[Batch], whole: float, count: int) -> Answer:
        """Sums the gradients of this worker's pieces, of `count` that weigh `whole` together; gives loss, balance, least share."""
        self.memory.gradients[self.index].zero_()
        measured = torch.zeros(3, device=self.device)
        for piece in pieces:
            part = piece[2].sum().item() / whole
            loss, balance, shares = self.working.loss(*(tensor.to(self.device) for tensor in piece))
            grads = torch.autograd.grad(loss * part + balance * (self.train["balance"] / count), list(self.leaves.values()))
            with torch.no_grad():
                for total, grad in zip(self.sum.values(), grads, strict=True):
                    total.add_(grad)
            measured += torch.stack([loss.detach() * part, balance.detach() / count, shares.min() / count])
        return measured.tolist()

    @torch.no_grad()
    def gather(self) -> Answer:
        """Sums the workers' gradients of this worker's share of the block; gives the square of their norm."""
        first, *others = (block.tensor_split(self.count)[self.index] for block in self.memory.gradients)
        for other in others:
            first.add_(other)
        return [first.square().sum().item()]

    @torch.no_grad()
    def move(self, scale: float, factor: float, step: int) -> Answer:
        """Moves this worker's weights by their gradients times `scale`."""
        blocks = (self.memory.gradients[0], self.memory.means, self.memory.squares)
        grads, means, squares = (views(block, self.sizes) for block in blocks)
        for joint in self.share():
            kinds = [dict(published(self.shape, [(joint, kind[joint])])) for kind in (self.weights, grads, means, squares)]
            for name, weight in kinds[0].items():
                update(name, weight, kinds[1][name] * scale, Moments(kinds[2][name], kinds[3][name]), self.rates, factor, step)
        return []


def serve(index: int, count: int, config: dict[str, Any], memory: Memory, line: multiprocessing.connection.Connection) -> None:
    """The life of a worker's process: calls come over the line and are answered, until it closes."""
    torch.set_num_threads(1)
    inductor.cpp.threads = 1
    worker = Worker(index, count, config, memory)
    while True:
        try:
            name, arguments = line.recv()
        except EOFError:
            return
        line.send(getattr(worker, name)(*arguments))


class Workers:
    """All workers of a run, and the memory that they share."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.train = config["train"]
        on_cpu = not torch.cuda.is_available()
        self.count = self.train["processes"] if on_cpu else 1
        self.piece_tokens = self.train["piece_tokens"] if on_cpu else self.train["piece_tokens_accelerator"]
        self.memory = memory = reserve(shape(config), self.count, torch.device("cpu" if on_cpu else "cuda"))
        self.local = None if on_cpu else Worker(0, 1, config, memory)
        self.lines: list[multiprocessing.connection.Connection] = []
        if self.local:
            return
        context = processes.get_context("spawn")
        for index in range(self.count):
            ours, theirs = context.Pipe()
            context.Process(target=serve, args=(index, self.count, config, memory, theirs), daemon=True).start()
            theirs.close()
            self.lines.append(ours)

    def call(self, name: str, arguments: list[tuple[Any, ...]]) -> list[Answer]:
        """Calls a method of every worker, each with its own arguments, and waits for all."""
        if self.local:
            return [getattr(self.local, name)(*arguments[0])]
        for line, one in zip(self.lines, arguments, strict=True):
            line.send((name, one))
        return [line.recv() for line in self.lines]

    def refresh(self, rounding: bool) -> None:
        self.call("refresh", [(rounding,)] * self.count)

    def gradients(self, batch: Batch) -> dict[str, float]:
        """Makes the gradients of a batch and sums them in the first block."""
        rows = max(1, self.piece_tokens // batch[0].shape[1])
        pieces: list[Batch] = list(zip(*(tensor.split(rows) for tensor in batch), strict=True))
        whole = batch[2].sum().clamp(min=1.0).item()
        shares = [(pieces[index :: self.count], whole, len(pieces)) for index in range(self.count)]
        answers = self.call("gradients", shares)
        norm = sum(answer[0] for answer in self.call("gather", [()] * self.count)) ** 0.5
        loss, balance, least = (sum(column) for column in zip(*answers, strict=True))
        return {"loss": loss, "balance": balance, "least_share": least, "norm": norm}

    def move(self, scale: float, factor: float, step: int) -> None:
        self.call("move", [(scale, factor, step)] * self.count)
