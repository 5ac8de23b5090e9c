"""Muon for matrices, AdamW for the rest: at this scale Muon reaches the same loss in clearly fewer tokens.

Keller Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


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


def is_matrix(name: str, weight: Tensor) -> bool:
    """Whether Muon moves a weight (by its published name)."""
    return weight.dim() >= 2 and name != "embed_tokens" and not name.endswith("mlp.gate")


@dataclass(frozen=True)
class Rates:
    """Learning rates and decay of a run."""

    muon: float
    adam: float
    decay: float


@dataclass(frozen=True)
class Moments:
    """What is remembered of a weight's gradients: their mean and, for AdamW, their mean square. Same shape as the weight."""

    mean: Tensor
    square: Tensor


@torch.no_grad()
def update(name: str, weight: Tensor, grad: Tensor, kept: Moments, rates: Rates, factor: float, step: int) -> None:
    """Moves one weight, in its `step`-th step (from 1), at `factor` of the rates."""
    if is_matrix(name, weight):
        momentum = min(0.85 + 0.10 * step / 200, 0.95)
        kept.mean.lerp_(grad, 1 - momentum)
        wanted = grad.lerp(kept.mean, momentum)
        moved = orthogonal(wanted.view(-1, *wanted.shape[-2:])).view_as(wanted)
        rate = rates.muon * factor
        stretch = max(1.0, weight.shape[-2] / weight.shape[-1]) ** 0.5
        weight.mul_(1 - rate * rates.decay).add_(moved, alpha=-rate * stretch)
        return
    kept.mean.lerp_(grad, 0.1)
    kept.square.lerp_(grad.square(), 0.05)
    rate = rates.adam * factor * (0.25 if name.endswith("mlp.gate") else 1.0)
    first, second = 1 - 0.9**step, 1 - 0.95**step
    weight.addcdiv_(kept.mean / first, (kept.square / second).sqrt_().add_(1e-10), value=-rate)
