"""Muon for matrices, AdamW for the rest: at this scale Muon reaches the same loss in clearly fewer tokens.

Keller Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from model import Nano, published


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """Newton-Schulz iteration of a batch of matrices towards the nearest orthogonal ones."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    turned = x.shape[-2] > x.shape[-1]
    if turned:
        x = x.mT.contiguous()
    for _ in range(steps):
        square = torch.bmm(x, x.mT)
        polynomial = torch.baddbmm(square, square, square, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return (x.mT if turned else x).float()


@dataclass(frozen=True)
class Rates:
    """Learning rates and decay of a run."""

    muon: float
    adam: float
    decay: float


class Optimizer:
    """Both optimizers behind one step; the state is a plain dictionary for checkpoints. Weights are shared out among a pool's threads."""

    def __init__(self, model: Nano, rates: Rates) -> None:
        self.named, self.rates = dict(published(model.shape, model.named_parameters())), rates
        self.state: dict[str, dict[str, Tensor]] = {}
        self.steps = 0

    def is_matrix(self, name: str, weight: Tensor) -> bool:
        return weight.dim() >= 2 and name != "embed_tokens" and not name.endswith("mlp.gate")

    @torch.no_grad()
    def step(self, grads: dict[str, Tensor], factor: float, pool: ThreadPoolExecutor) -> None:
        """One update; `grads` are by published name."""
        self.steps += 1
        jobs = sorted(self.named, key=lambda name: -self.named[name].numel())
        list(pool.map(lambda name: self.update(name, grads[name], factor), jobs))

    @torch.no_grad()
    def update(self, name: str, grad: Tensor, factor: float) -> None:
        weight = self.named[name]
        state = self.state.setdefault(name, {})
        if self.is_matrix(name, weight):
            momentum = min(0.85 + 0.10 * self.steps / 200, 0.95)
            buffer = state.setdefault("momentum", torch.zeros_like(grad))
            buffer.lerp_(grad, 1 - momentum)
            wanted = grad.lerp(buffer, momentum)
            update = orthogonal(wanted.view(-1, *wanted.shape[-2:])).view_as(wanted)
            rate = self.rates.muon * factor
            stretch = max(1.0, weight.shape[-2] / weight.shape[-1]) ** 0.5
            weight.mul_(1 - rate * self.rates.decay).add_(update, alpha=-rate * stretch)
        else:
            mean = state.setdefault("mean", torch.zeros_like(grad))
            square = state.setdefault("square", torch.zeros_like(grad))
            mean.lerp_(grad, 0.1)
            square.lerp_(grad.square(), 0.05)
            rate = self.rates.adam * factor * (0.25 if name.endswith("mlp.gate") else 1.0)
            first, second = 1 - 0.9**self.steps, 1 - 0.95**self.steps
            weight.addcdiv_(mean / first, (square / second).sqrt_().add_(1e-10), value=-rate)

    def state_dict(self) -> dict[str, object]:
        return {"steps": self.steps, "state": self.state}

    def load_state_dict(self, saved: dict[str, object]) -> None:
        self.steps, self.state = saved["steps"], saved["state"]  # type: ignore[assignment]
