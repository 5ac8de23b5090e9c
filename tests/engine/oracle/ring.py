"""Sliding windows and their kin: gpt_oss, minimax, mistral, llama with windows."""

import math

import mlx.core as mx
from mlx_lm.models import llama

from .case import Case, axes, base
from .gqa import qwen3_moe
from .packed import with_sinks

# Less than a prompt, so that the ring has turned before the first token is decoded.
WINDOW = 16
# The rope scaling of the published gpt-oss models, for a shorter context.
YARN = dict(rope_type="yarn", factor=8.0, original_max_position_embeddings=64, beta_fast=16.0, beta_slow=1.0, truncate=False)


def gpt_oss(args, **extra):
    own = dict(
        model_type="gpt_oss", num_local_experts=args.experts, num_experts_per_tok=2, intermediate_size=32, sliding_window=WINDOW,
        layer_types=["sliding_attention", "full_attention"], rope_theta=150000.0, rope_scaling=YARN, rms_norm_eps=1e-5,
        attention_bias=True, swiglu_limit=7.0,
    )
    return base(args, **{**own, **extra})


def beyond_the_clamp(path, value):
    """Some of the experts' gates and ups are greater than 7, where they are cut."""
    if path.endswith(("gate_proj.weight", "up_proj.weight")):
        return mx.random.normal(value.shape) * (3.5 / math.sqrt(value.shape[-1]))


PUBLISHED = dict(quantization=None, quantization_config=dict(quant_method="mxfp4", modules_to_not_convert=["lm_head"]))


def only_experts(path, module):
    return ".experts." in path


def published(weights):
    """gpt_oss as it is on the hub: the rows of gate and up take turns, packed numbers lie in blocks of 16 bytes."""
    turns = {}
    made = {}
    for name, value in weights.items():
        path, _, kind = name.rpartition(".")
        if ".experts." not in path:
            made[name] = value
            continue
        if kind == "weight":
            value = value.view(mx.uint8).reshape(*value.shape[:-1], -1, 16)
        suffix = {"weight": "_blocks", "scales": "_scales", "bias": "_bias"}[kind]
        if path.endswith("down_proj"):
            made[path + suffix] = value
        else:
            turns.setdefault(path.rpartition(".")[0] + ".gate_up_proj" + suffix, {})[path.rpartition(".")[2]] = value
    for name, pair in turns.items():
        both = mx.stack([pair["gate_proj"], pair["up_proj"]], axis=2)
        made[name] = both.flatten(1, 2)
    return made


def minimax(args, **extra):
    own = dict(
        model_type="minimax_m2", num_local_experts=args.experts, num_experts_per_tok=3, intermediate_size=32, rotary_dim=8,
        shared_intermediate_size=0, scoring_func="sigmoid", use_qk_norm=True,
    )
    return base(args, **{**own, **extra})


def all_sliding():
    """Mistral means its window for every layer. mlx-lm's llama has none where the configuration names no kinds of layers, and
    cannot be without a layer of full attention: here one is added, and taken away again."""

    class Model(llama.Model):
        def __init__(self, args):
            args.layer_types = ["sliding_attention"] * args.num_hidden_layers + ["full_attention"]
            super().__init__(args)
            self.model.layers.pop()
            self.model.fa_idx = 0

    return Model, llama.ModelArgs


def cases(args):
    q4 = dict(group_size=32, bits=4)
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    windowed = base(args, model_type="llama", num_hidden_layers=3, layer_types=kinds, sliding_window=WINDOW)
    mistral = base(args, model_type="mistral", sliding_window=WINDOW)
    made = axes("gpt_oss", gpt_oss(args), without=("bf16",), committed=("mxfp4",), draw=beyond_the_clamp)
    made |= axes("minimax", minimax(args), without=("bf16",), committed=("q4", "q4-bf16"))
    made |= axes("llama-window", windowed)
    made |= axes("mistral", mistral, committed=("q4",), classes=all_sliding)
    return made | {
        "minimax-plain": Case(minimax(args, model_type="minimax", use_qk_norm=False, num_experts_per_tok=1), q4),
        "llama-packed": Case(base(args, model_type="llama", head_dim=64, num_hidden_layers=1), q4, packed=True, prompt=30, committed=True),
        "qwen3_moe-packed": Case(qwen3_moe(args, head_dim=32, num_hidden_layers=2), q4, packed=True),
        "qwen3-packed-bf16": Case(base(args, model_type="qwen3", head_dim=32, num_key_value_heads=4), q4, mx.bfloat16, packed=True),
        "minimax-packed": Case(minimax(args, head_dim=32), q4, packed=True),
        "llama-window-packed": Case(dict(windowed, head_dim=32), q4, packed=True),
        "gpt_oss-packed": Case(
            gpt_oss(args, head_dim=32, num_local_experts=4), q4, draw=beyond_the_clamp, packed=True, prompt=30, classes=with_sinks, committed=True,
        ),
        # Each kind of layer twice, prompts shorter and longer than the window, and one that just fills it.
        "gpt_oss-deep": Case(gpt_oss(args, num_hidden_layers=4, layer_types=None), q4, draw=beyond_the_clamp),
        "gpt_oss-short": Case(gpt_oss(args), q4, prompt=11, decode=24),
        "gpt_oss-full": Case(gpt_oss(args), q4, prompt=WINDOW, decode=24),
        "gpt_oss-unscaled": Case(gpt_oss(args, rope_scaling=None), q4),
        "gpt_oss-published-bf16": Case(
            gpt_oss(args), dict(group_size=32, bits=4, mode="mxfp4", quant_predicate=only_experts), mx.bfloat16, draw=beyond_the_clamp,
            layout=published, spelled=PUBLISHED, committed=True,
        ),
        "gpt_oss-published": Case(
            gpt_oss(args), dict(group_size=32, bits=4, mode="mxfp4", quant_predicate=only_experts), draw=beyond_the_clamp,
            layout=published, spelled=PUBLISHED,
        ),
        "gpt_oss-one": Case(gpt_oss(args, num_experts_per_tok=1), q4, prompt=70, decode=2 * WINDOW + 3),
    }
