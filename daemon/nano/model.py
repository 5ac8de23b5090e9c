"""The network: qwen3_moe as mlx-lm reads it, written for fast training on a CPU with bfloat16 matrix units.

Weights stay in float32; every matrix product runs in bfloat16. Tokens are sorted by expert, so that each expert
is one dense product, and the loss never holds all logits at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import attention
import experts
from settings import Shape

BF16 = torch.bfloat16


class Permute(torch.autograd.Function):
    """Gathers rows by a permutation; the gradient is a gather as well, where autograd would scatter."""

    @staticmethod
    def forward(ctx, rows: Tensor, order: Tensor, inverse: Tensor) -> Tensor:  # noqa: ANN001
        ctx.save_for_backward(inverse)
        return rows.index_select(0, order)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN001
        (inverse,) = ctx.saved_tensors
        return grad.index_select(0, inverse), None, None


class Spread(torch.autograd.Function):
    """Copies each token to its k experts, already sorted by expert."""

    @staticmethod
    def forward(ctx, tokens: Tensor, order: Tensor, inverse: Tensor, k: int) -> Tensor:  # noqa: ANN001
        ctx.save_for_backward(inverse)
        ctx.k = k
        return tokens.index_select(0, order // k)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: ANN001
        (inverse,) = ctx.saved_tensors
        return grad.index_select(0, inverse).view(-1, ctx.k, grad.shape[-1]).sum(1), None, None, None


def head_gradient(logits: Tensor, targets: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted cross entropy of some rows of logits, and its gradient."""
    logits = logits.float()
    whole = logits.logsumexp(-1, keepdim=True)
    loss = ((whole - logits.gather(1, targets[:, None])).squeeze(1) * row).sum()
    right = torch.arange(logits.shape[1], device=logits.device) == targets[:, None]
    return loss, (((logits - whole).exp() - right.float()) * row[:, None]).to(BF16)


class HeadLoss(torch.autograd.Function):
    """Tied head and cross entropy in chunks; gradients are made on the way forward."""

    @staticmethod
    def forward(ctx, hidden: Tensor, table: Tensor, targets: Tensor, weights: Tensor) -> Tensor:  # noqa: ANN001
        total = torch.zeros((), device=hidden.device)
        scale = 1.0 / weights.sum().clamp(min=1.0)
        grad_hidden = torch.empty_like(hidden)
        grad_table = torch.zeros(table.shape, device=hidden.device)
        for start in range(0, hidden.shape[0], 1024):
            part = slice(start, start + 1024)
            loss, flow = head_gradient(hidden[part] @ table.T, targets[part], weights[part] * scale)
            total += loss
            grad_hidden[part] = flow @ table
            grad_table += (flow.T @ hidden[part]).float()
        ctx.save_for_backward(grad_hidden, grad_table)
        return total

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:  # noqa: ANN001
        grad_hidden, grad_table = ctx.saved_tensors
        return grad_hidden * grad.to(grad_hidden.dtype), (grad_table * grad).to(BF16), None, None


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return F.rms_norm(x.float(), weight.shape, weight, eps).to(x.dtype)


def rotary(length: int, dim: int, theta: float, device: torch.device) -> tuple[Tensor, Tensor]:
    inverse = theta ** (-torch.arange(0, dim, 2, dtype=torch.float32, device=device) / dim)
    angle = torch.outer(torch.arange(length, dtype=torch.float32, device=device), inverse)
    return torch.cat([angle.cos(), angle.cos()], -1), torch.cat([angle.sin(), angle.sin()], -1)


def heads(joint: Tensor, norms: tuple[Tensor, Tensor], turn: tuple[Tensor, Tensor], shape: Shape) -> tuple[Tensor, Tensor, Tensor]:
    """Splits the joint projection into queries, keys and values as `Causal` wants them, normed and rotated (half-split)."""
    batch, length, _ = joint.shape
    count, groups, dim = shape.num_attention_heads, shape.num_key_value_heads, shape.head_dim
    repeats = count // groups
    weight = torch.cat([norms[0].expand(count, dim), norms[1].expand(groups, dim)])
    qk = joint[..., : (count + groups) * dim].reshape(batch, length, count + groups, dim).float()
    qk = qk * torch.rsqrt(qk.square().mean(-1, keepdim=True) + shape.rms_norm_eps) * weight
    half = dim // 2
    turned = torch.cat([-qk[..., half:], qk[..., :half]], -1)
    qk = (qk * turn[0][:, None] + turned * turn[1][:, None]).to(joint.dtype)
    v = joint[..., (count + groups) * dim :].reshape(batch, length, groups, dim)
    q = qk[:, :, :count].transpose(1, 2).reshape(batch * groups, repeats, length, dim)
    k = qk[:, :, count:].transpose(1, 2).reshape(batch * groups, length, dim)
    return q, k, v.transpose(1, 2).reshape(batch * groups, length, dim)


def fuse() -> None:
    """Compiles what is memory traffic and no matrix product; only training gains from it."""
    global heads, rms_norm, head_gradient
    heads, rms_norm, head_gradient = (torch.compile(part, dynamic=False) for part in (heads, rms_norm, head_gradient))
    attention.fuse()
    experts.fuse()


class Attention(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        size, dim = shape.hidden_size, shape.head_dim
        self.qkv_proj = nn.Parameter(torch.empty((shape.num_attention_heads + 2 * shape.num_key_value_heads) * dim, size))
        self.o_proj = nn.Parameter(torch.empty(size, shape.num_attention_heads * dim))
        self.q_norm = nn.Parameter(torch.ones(dim))
        self.k_norm = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], cast: torch.dtype) -> Tensor:
        q, k, v = heads(F.linear(x, self.qkv_proj.to(cast)), (self.q_norm, self.k_norm), turn, self.shape)
        mixed = attention.causal(q, k, v).view(x.shape[0], -1, x.shape[1], self.shape.head_dim)
        return F.linear(mixed.transpose(1, 2).flatten(2), self.o_proj.to(cast))


class Experts(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        size, inner, count = shape.hidden_size, shape.moe_intermediate_size, shape.num_experts
        self.gate = nn.Parameter(torch.empty(count, size))
        self.gate_up_proj = nn.Parameter(torch.empty(count, 2 * inner, size))
        self.down_proj = nn.Parameter(torch.empty(count, size, inner))

    def forward(self, x: Tensor, cast: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        shape = self.shape
        k = shape.num_experts_per_tok
        flat = x.reshape(-1, shape.hidden_size)
        chances = F.linear(flat.float(), self.gate).softmax(-1)
        top, chosen = chances.topk(k, -1)
        top = top / top.sum(-1, keepdim=True)
        order = chosen.flatten().argsort(stable=True)
        inverse = torch.empty_like(order)
        inverse[order] = torch.arange(order.numel(), device=order.device)
        counts = torch.bincount(chosen.flatten(), minlength=shape.num_experts)
        share = counts.float() / order.numel()
        balance = shape.num_experts * (share * chances.mean(0)).sum()
        rows = Spread.apply(flat, order, inverse, k)
        done = experts.Grouped.apply(rows, self.gate_up_proj.to(cast), self.down_proj.to(cast), counts.tolist())
        mixed = experts.mixed(Permute.apply(done, inverse, order), top)
        return mixed.view_as(x), balance, share


class Layer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.eps = shape.rms_norm_eps
        self.input_layernorm = nn.Parameter(torch.ones(shape.hidden_size))
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = nn.Parameter(torch.ones(shape.hidden_size))
        self.mlp = Experts(shape)


class Nano(nn.Module):
    """The whole model. `forward` gives final hidden states, the balance loss and each layer's expert shares."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Parameter(torch.empty(shape.vocab_size, shape.hidden_size))
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_hidden_layers))
        self.norm = nn.Parameter(torch.ones(shape.hidden_size))
        self.reset()

    def reset(self) -> None:
        depth = (2 * self.shape.num_hidden_layers) ** -0.5
        for name, weight in self.named_parameters():
            if weight.dim() < 2:
                continue
            scale = 0.02 if name == "embed_tokens" else weight.shape[-1] ** -0.5 * 0.6
            nn.init.normal_(weight, std=scale * (depth if "o_proj" in name or "down_proj" in name else 1.0))

    def forward(self, tokens: Tensor, cast: torch.dtype = BF16) -> tuple[Tensor, Tensor, Tensor]:
        turn = rotary(tokens.shape[1], self.shape.head_dim, self.shape.rope_theta, tokens.device)
        x = F.embedding(tokens, self.embed_tokens).to(cast)
        balances, shares = [], []
        for layer in self.layers:
            normed = rms_norm(x, layer.input_layernorm, layer.eps)
            x = x + layer.self_attn(normed, turn, cast)
            mixed, balance, share = layer.mlp(rms_norm(x, layer.post_attention_layernorm, layer.eps), cast)
            x = x + mixed
            balances.append(balance)
            shares.append(share)
        return rms_norm(x, self.norm, self.shape.rms_norm_eps), torch.stack(balances).mean(), torch.stack(shares)

    def loss(self, tokens: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden, balance, shares = self(tokens)
        flat = hidden.reshape(-1, self.shape.hidden_size)
        return HeadLoss.apply(flat, self.embed_tokens.to(BF16), targets.flatten(), weights.flatten()), balance, shares

    def logits(self, tokens: Tensor, cast: torch.dtype = torch.float32) -> Tensor:
        hidden, _, _ = self(tokens, cast)
        return (hidden @ self.embed_tokens.to(cast).T).float()


def published(shape: Shape, named: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Weights (or their gradients) under their Hugging Face names: the joint ones as views of their parts."""
    keys = shape.num_key_value_heads * shape.head_dim
    parts = {
        "qkv_proj": (("q_proj", "k_proj", "v_proj"), [shape.num_attention_heads * shape.head_dim, keys, keys]),
        "gate_up_proj": (("gate_proj", "up_proj"), [shape.moe_intermediate_size] * 2),
    }
    for name, weight in named:
        before, _, last = name.rpartition(".")
        if last in parts:
            names, counts = parts[last]
            yield from ((f"{before}.{part}", piece) for part, piece in zip(names, weight.split(counts, -2), strict=True))
        else:
            yield name, weight


def sizes(model: Nano) -> dict[str, int]:
    """Parameter counts as the model card gives them."""
    shape = model.shape
    total = sum(weight.numel() for weight in model.parameters())
    table = model.embed_tokens.numel()
    experts = 3 * shape.hidden_size * shape.moe_intermediate_size * shape.num_hidden_layers
    active = total - table - experts * (shape.num_experts - shape.num_experts_per_tok)
    return {"total": total, "embedding": table, "active_without_embedding": active}
