"""Muon for matrices, AdamW for the rest: at this scale Muon reaches the same loss in clearly fewer tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """Newton-Schulz iteration of a batch of matrices towards the nearest orthogonal ones."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    turned = x.shape[-2] > x.shape[-1]
    if turned:
        x = x.mT
    for _ in range(steps):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return (x.mT if turned else x).float()


class Optimizer:
    """Both optimizers behind one step; the state is a plain dictionary for checkpoints."""

    def __init__(self, model: nn.Module, muon_rate: float, adam_rate: float, decay: float) -> None:
        self.named = dict(model.named_parameters())
        self.muon_rate, self.adam_rate, self.decay = muon_rate, adam_rate, decay
        self.state: dict[str, dict[str, Tensor]] = {}
        self.steps = 0

    def is_matrix(self, name: str, weight: Tensor) -> bool:
        return weight.dim() >= 2 and name != "embed_tokens" and not name.endswith("mlp.gate")

    @torch.no_grad()
    def step(self, factor: float) -> None:
        self.steps += 1
        momentum = min(0.85 + 0.10 * self.steps / 200, 0.95)
        for name, weight in self.named.items():
            grad = weight.grad
            if grad is None:
                continue
            state = self.state.setdefault(name, {})
            if self.is_matrix(name, weight):
                buffer = state.setdefault("momentum", torch.zeros_like(weight))
                buffer.lerp_(grad, 1 - momentum)
                update = orthogonal(grad.lerp(buffer, momentum))
                rate = self.muon_rate * factor
                update *= max(1.0, weight.shape[-2] / weight.shape[-1]) ** 0.5
                weight.mul_(1 - rate * self.decay).add_(update, alpha=-rate)
            else:
                mean = state.setdefault("mean", torch.zeros_like(weight))
                square = state.setdefault("square", torch.zeros_like(weight))
                mean.lerp_(grad, 0.1)
                square.lerp_(grad.square(), 0.05)
                rate = self.adam_rate * factor * (0.25 if name.endswith("mlp.gate") else 1.0)
                first, second = 1 - 0.9**self.steps, 1 - 0.95**self.steps
                weight.addcdiv_(mean / first, (square / second).sqrt_().add_(1e-10), value=-rate)
            weight.grad = None

    def state_dict(self) -> dict[str, object]:
        return {"steps": self.steps, "state": self.state}

    def load_state_dict(self, saved: dict[str, object]) -> None:
        self.steps, self.state = saved["steps"], saved["state"]  # type: ignore[assignment]
