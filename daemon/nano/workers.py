"""Makes the gradients of a batch: on a CPU a thread per share of it, on an accelerator one after another.

Each thread takes its rows through the network from end to end, so that none waits for another within a layer: on a machine with
other work this is faster than splitting every product. A thread's rows go in small pieces, whose activations stay in its cache. The
sums are always made in the same order, so that a run on the same machine gives the same weights to the bit.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
import torch._inductor.config as inductor
from torch import Tensor

from fakequant import affine, bits_of
from model import BF16, Nano, fuse, published

Batch = tuple[Tensor, Tensor, Tensor]


class Workers:
    """The network in the precision of its products, beside the master weights that the optimizer changes."""

    def __init__(self, master: Nano, train: dict[str, Any], export: dict[str, Any]) -> None:
        self.master, self.train, self.export = master, train, export
        self.device = master.embed_tokens.device
        self.threads = train["threads"] if self.device.type == "cpu" else 1
        self.piece_tokens = train["piece_tokens"] if self.device.type == "cpu" else train["piece_tokens_accelerator"]
        self.working = Nano(master.shape).to(self.device)
        for name, weight in self.working.named_parameters():
            if name.endswith("_proj"):
                weight.data = weight.data.to(BF16)
        self.leaves = list(self.working.parameters())
        self.sums = [[torch.zeros_like(weight, dtype=torch.float32) for weight in self.leaves] for _ in range(self.threads)]
        inductor.cpp.threads = 1
        fuse()
        self.pool = ThreadPoolExecutor(self.threads, initializer=torch.set_num_threads, initargs=(1,))
        self.compiled: set[torch.Size] = set()

    @torch.no_grad()
    def refresh(self, rounding: bool) -> None:
        """Takes over the master weights, rounded as the export rounds them if so wished: the gradient passes straight through."""

        def one(pair: tuple[tuple[str, Tensor], Tensor]) -> None:
            (name, weight), leaf = pair
            with torch.no_grad():
                bits = bits_of(name, self.export) if rounding else None
                leaf.copy_(affine(weight, bits, self.export["group"]) if bits else weight)

        list(self.pool.map(one, zip(self.master.named_parameters(), self.leaves, strict=True)))

    def piece(self, batch: Batch, part: float, count: int, sums: list[Tensor]) -> Tensor:
        """Adds the gradients of one piece, which is `part` of the whole by weight and one of `count`."""
        loss, balance, shares = self.working.loss(*(tensor.to(self.device) for tensor in batch))
        grads = torch.autograd.grad(loss * part + balance * (self.train["balance"] / count), self.leaves)
        with torch.no_grad():
            for total, grad in zip(sums, grads, strict=True):
                total.add_(grad)
        return torch.stack([loss.detach() * part, balance.detach() / count, shares.min() / count])

    def gradients(self, batch: Batch) -> tuple[list[Tensor], dict[str, float]]:
        """The gradients of a batch, one tensor per weight, and its loss, its balance loss and the least share of an expert."""
        rows = max(1, self.piece_tokens // batch[0].shape[1])
        pieces: list[Batch] = list(zip(*(tensor.split(rows) for tensor in batch), strict=True))
        whole = batch[2].sum().clamp(min=1.0)
        count = len(pieces)

        def share(thread: int) -> Tensor:
            for total in self.sums[thread]:
                total.zero_()
            mine = pieces[thread :: self.threads]
            return sum(
                (self.piece(one, (one[2].sum() / whole).item(), count, self.sums[thread]) for one in mine),
                torch.zeros(3, device=self.device),
            )

        if pieces[0][0].shape not in self.compiled:  # one thread compiles, the others find it done
            self.pool.submit(self.piece, pieces[0], 0.0, 1, self.sums[0]).result()
            self.compiled.add(pieces[0][0].shape)
        measured = sum(self.pool.map(share, range(self.threads)), torch.zeros(3, device=self.device)).tolist()

        def gather(place: int) -> None:
            for other in self.sums[1:]:
                self.sums[0][place].add_(other[place])

        list(self.pool.map(gather, range(len(self.leaves))))
        return self.sums[0], dict(zip(("loss", "balance", "least_share"), measured, strict=True))

    def clip(self, grads: list[Tensor], most: float) -> float:
        """Scales gradients so that their norm is at most `most`; gives the norm before."""
        norm = torch.stack(list(self.pool.map(torch.linalg.vector_norm, grads))).norm().item()
        if norm > most:
            list(self.pool.map(lambda grad: grad.mul_(most / norm), grads))
        return norm

    def published(self, grads: list[Tensor]) -> dict[str, Tensor]:
        """Gradients by the names of the published weights."""
        names = (name for name, _ in self.working.named_parameters())
        return dict(published(self.master.shape, zip(names, grads, strict=True)))
