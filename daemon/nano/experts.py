"""The experts' products for tokens sorted by expert: one dense product per expert, and what lies between as one piece of work.

Gradients of all experts are written into one tensor each, where a graph of slices would copy them several times.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def gated(joint: Tensor) -> Tensor:
    """SwiGLU of [rows, 2 * inner]: the gate, then what it lets through."""
    gate, up = joint.float().chunk(2, -1)
    return (F.silu(gate) * up).to(joint.dtype)


def gated_gradient(joint: Tensor, flow: Tensor) -> Tensor:
    """The gradient of `gated`."""
    gate, up = joint.float().chunk(2, -1)
    flow = flow.float()
    chance = gate.sigmoid()
    through = gate * chance
    return torch.cat([flow * up * (chance + through * (1 - chance)), flow * through], -1).to(joint.dtype)


def mixed(ordered: Tensor, shares: Tensor) -> Tensor:
    """Sums what the k experts of each token say, [tokens * k, hidden], by their shares [tokens, k]."""
    return (ordered.view(*shares.shape, -1).float() * shares.unsqueeze(-1)).sum(1).to(ordered.dtype)


def fuse() -> None:
    """Compiles what is memory traffic."""
    global gated, gated_gradient, mixed
    gated, gated_gradient, mixed = (torch.compile(part, dynamic=False) for part in (gated, gated_gradient, mixed))


class Grouped(torch.autograd.Function):
    """rows [n, hidden] sorted by expert, gate_up [experts, 2 * inner, hidden], down [experts, hidden, inner]; gives [n, hidden]."""

    @staticmethod
    def forward(ctx, rows: Tensor, gate_up: Tensor, down: Tensor, counts: list[int]) -> Tensor:  # noqa: ANN001
        pieces = rows.split(counts)
        joint = rows.new_empty(rows.shape[0], gate_up.shape[1])
        for piece, weight, out in zip(pieces, gate_up, joint.split(counts), strict=True):
            torch.mm(piece, weight.T, out=out)
        inner = gated(joint)
        result = torch.empty_like(rows)
        for piece, weight, out in zip(inner.split(counts), down, result.split(counts), strict=True):
            torch.mm(piece, weight.T, out=out)
        ctx.save_for_backward(rows, gate_up, down, joint, inner)
        ctx.counts = counts
        return result

    @staticmethod
    def backward(ctx, flow: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # noqa: ANN001
        rows, gate_up, down, joint, inner = ctx.saved_tensors
        counts = ctx.counts
        grad_inner, grad_rows = torch.empty_like(inner), torch.empty_like(rows)
        grad_gate_up, grad_down = torch.empty_like(gate_up), torch.empty_like(down)
        flows = flow.split(counts)
        for expert, (into, out, piece) in enumerate(zip(flows, grad_inner.split(counts), inner.split(counts), strict=True)):
            torch.mm(into, down[expert], out=out)
            torch.mm(into.T, piece, out=grad_down[expert])
        grad_joint = gated_gradient(joint, grad_inner)
        for expert, (into, out, piece) in enumerate(
            zip(grad_joint.split(counts), grad_rows.split(counts), rows.split(counts), strict=True)
        ):
            torch.mm(into, gate_up[expert], out=out)
            torch.mm(into.T, piece, out=grad_gate_up[expert])
        return grad_rows, grad_gate_up, grad_down, None
