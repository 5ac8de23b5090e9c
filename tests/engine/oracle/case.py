"""What a case is, and the quantizations that every architecture is made with.

A family is a module with `cases(args)`, which gives `{name: Case}`; `families.py` lists them. `axes` gives an architecture in
every quantization. A name is `ARCHITECTURE-QUANTIZATION`; cases beside the axes have names of their own.
"""

import dataclasses
from collections.abc import Callable

import mlx.core as mx

from .tokens import VOCABULARY


@dataclasses.dataclass
class Case:
    # The `config.json`, without its quantization.
    config: dict
    # None or the keywords of `mlx_lm.utils.quantize_model`: group_size, bits, mode, quant_predicate.
    quantization: dict | None = None
    dtype: mx.Dtype = mx.float32
    # A number of files; "layers" for a file per layer and one for the rest, as the Demolition repositories have them.
    shards: int | str = 1
    # Belongs to the fixtures in the repository (a run without --all makes these alone).
    committed: bool = False
    # Gives (Model, ModelArgs) where they are not those of `mlx_lm.models.{model_type}`.
    classes: Callable[[], tuple[type, type]] | None = None
    # Draws a parameter of (path, value) otherwise than `randomise` does; None: as `randomise` does.
    draw: Callable[[str, mx.array], mx.array | None] | None = None
    # What is written as `config.json` beside or instead of `config`'s keys: for other spellings of the same model. A value of None removes the key.
    spelled: dict = dataclasses.field(default_factory=dict)
    # Gives {name: weight} as the files have them, of {name: weight} as mlx-lm has them: for other layouts of the same model.
    layout: Callable[[dict], dict] | None = None
    # Gives {name: weight} that replaces weights of the quantized model, of {name: weight}.
    settle: Callable[[dict], dict] | None = None
    # Whether the reference holds what a packed cache makes of it (packed.py).
    packed: bool = False
    # Lengths where those of the command line do not do.
    prompt: int | None = None
    decode: int | None = None
    # The scale of the greatest logits.
    logit_std: float = 2.5


def base(args, **extra):
    """The keys that all architectures share."""
    config = dict(
        hidden_size=args.hidden, num_hidden_layers=2, intermediate_size=2 * args.hidden, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, vocab_size=VOCABULARY, rms_norm_eps=1e-6, rope_theta=10000.0,
        max_position_embeddings=512, tie_word_embeddings=False,
    )
    config.update(extra)
    return config


# The last part of a module's path: bits. Each width occurs in every architecture.
MIXED_BITS = {
    "q_proj": 2, "k_proj": 3, "v_proj": 4, "o_proj": 5, "gate_proj": 6, "up_proj": 8, "down_proj": 3, "embed_tokens": 6,
    "q_a_proj": 5, "q_b_proj": 2, "kv_a_proj_with_mqa": 3, "embed_q": 4, "unembed_out": 8, "wq_b": 2, "wk": 5,
    "in_proj_qkvz": 5, "in_proj_ba": 8, "in_proj_qkv": 5, "in_proj_z": 2, "in_proj_a": 8, "in_proj_b": 8, "out_proj": 6,
}


def mixed(path, module):
    """Another width for each kind of projection, routers 8 bit in wide groups, head and shared experts of layer 1 plain."""
    name = path.rpartition(".")[2]
    if name == "lm_head" or (".layers.1." in path and "shared_expert" in path):
        return False
    group = 64 if ".layers.1." in path or name in ("gate", "router") else 32
    if module.weight.shape[-1] % group:
        group = 32
    bits = 8 if name in ("gate", "router", "shared_expert_gate") else MIXED_BITS.get(name, 4)
    return {"group_size": group, "bits": bits}


def attention_affine(path, module):
    """Experts in the top-level mode and all else affine, as published mxfp4 models are."""
    if "switch_mlp" in path or ".experts." in path or "experts" not in path and path.endswith(("up_proj", "down_proj")):
        return True
    return {"group_size": 32, "bits": 8}


def high_ends(path, module):
    """The recipe of the Demolition models: 4 bit, and 6 bit for embedding and head."""
    return {"group_size": 32, "bits": 6} if path.endswith(("embed_tokens", "lm_head")) else True


AFFINE4 = dict(group_size=32, bits=4)
QUANTIZATIONS = {
    "f32": (None, mx.float32),
    "bf16": (None, mx.bfloat16),
    "q4": (AFFINE4, mx.float32),
    "q4-bf16": (AFFINE4, mx.bfloat16),
    "mixed": (dict(AFFINE4, quant_predicate=mixed), mx.float32),
    "q4a4h6": (dict(AFFINE4, quant_predicate=high_ends), mx.float32),
    "mxfp4": (dict(group_size=32, bits=4, mode="mxfp4", quant_predicate=attention_affine), mx.float32),
    "mxfp4-bf16": (dict(group_size=32, bits=4, mode="mxfp4"), mx.bfloat16),
    "nvfp4": (dict(group_size=16, bits=4, mode="nvfp4"), mx.float32),
    "mxfp8": (dict(group_size=32, bits=8, mode="mxfp8"), mx.float32),
}


def axes(name, config, committed=(), without=(), only=None, **keys):
    """An architecture in every quantization: those `without`, or `only` some. MLX's CPU multiplies unquantized experts in
    fp32 alone, so a mixture of experts goes without "bf16". `keys` are those of Case."""
    made = {}
    for axis, (quantization, dtype) in QUANTIZATIONS.items():
        if axis in without or (only is not None and axis not in only):
            continue
        made[f"{name}-{axis}"] = Case(dict(config), quantization, dtype, committed=axis in committed, **keys)
    return made
