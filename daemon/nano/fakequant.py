"""Rounds weights as MLX's affine quantization does, so that the last part of training learns to live with it.

The gradient passes straight through: rounded weights are used on the way forward, and restored for the update.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from model import Nano


def affine(weight: Tensor, bits: int, group: int) -> Tensor:
    """Quantizes and dequantizes along the last dimension, the way mlx.core.quantize chooses scales and biases."""
    shape = weight.shape
    rows = weight.reshape(-1, group)
    low, high = rows.amin(1, keepdim=True), rows.amax(1, keepdim=True)
    levels = 2**bits - 1
    scale = ((high - low) / levels).clamp(min=1e-7)
    side = low.abs() > high.abs()
    scale = torch.where(side, scale, -scale)
    edge = torch.where(side, low, high)
    zero = (edge / scale).round()
    scale = torch.where(zero != 0, edge / zero, scale)
    bias = torch.where(zero != 0, edge, torch.zeros_like(edge))
    return (((rows - bias) / scale).round().clamp(0, levels) * scale + bias).view(shape)


def bits_of(name: str, export: dict[str, Any]) -> int | None:
    """The export's bits for a parameter, or nothing where it stays in floating point."""
    if name == "embed_tokens":
        return export["embedding_bits"]
    return export["bits"] if name.endswith("_proj") else None


@contextmanager
def rounded(model: Nano, export: dict[str, Any], on: bool) -> Iterator[None]:
    """The model with rounded weights while the block runs."""
    if not on:
        yield
        return
    kept: dict[str, Tensor] = {}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if bits := bits_of(name, export):
                kept[name] = weight.data.clone()
                weight.data.copy_(affine(weight.data, bits, export["group"]))
    try:
        yield
    finally:
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if name in kept:
                    weight.data.copy_(kept[name])
