"""What the workers of a run share: each kind of number of all weights in one block of memory, with a view of it per weight."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model import Nano
from settings import Shape


@dataclass(frozen=True)
class Memory:
    """Blocks of float32, one number per weight: the weights, what the optimizer remembers, and the gradients of each worker."""

    weights: Tensor
    means: Tensor
    squares: Tensor
    gradients: list[Tensor]


def layout(shape: Shape) -> dict[str, torch.Size]:
    """Names and shapes of the network's weights, in their order in a block."""
    with torch.device("meta"):
        return {name: weight.shape for name, weight in Nano(shape).named_parameters()}


def views(block: Tensor, sizes: dict[str, torch.Size]) -> dict[str, Tensor]:
    """The weights that a block holds."""
    pieces = block.split([size.numel() for size in sizes.values()])
    return {name: piece.view(size) for (name, size), piece in zip(sizes.items(), pieces, strict=True)}


def reserve(shape: Shape, workers: int, device: torch.device) -> Memory:
    """Empty blocks, shared with other processes where there are any."""
    count = sum(size.numel() for size in layout(shape).values())

    def block() -> Tensor:
        made = torch.zeros(count, device=device)
        return made.share_memory_() if device.type == "cpu" else made

    return Memory(block(), block(), block(), [block() for _ in range(workers)])
