"""Multi-head latent attention: deepseek_v3, deepseek_v32, kimi_k2, kimi_k25, glm_moe_dsa (5.1 and 5.2), glm4_moe_lite."""

import dataclasses

import mlx.core as mx
from mlx_lm.models import glm_moe_dsa
from mlx_lm.models.cache import CacheList, KVCache
from mlx_lm.models.deepseek_v32 import Indexer

from .case import AFFINE4, Case, axes, base, high_ends

YARN = dict(
    type="yarn", factor=4.0, original_max_position_embeddings=64, beta_fast=32, beta_slow=1, mscale=1.0, mscale_all_dim=0.7,
)


def latent(args, **extra):
    """The keys that all of them share. Few heads and thin experts, so that eight kinds of models stay small."""
    config = dict(
        num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=4, q_lora_rank=32, kv_lora_rank=32, qk_nope_head_dim=32,
        qk_rope_head_dim=8, v_head_dim=32, intermediate_size=64, moe_intermediate_size=32, n_routed_experts=args.experts,
        n_shared_experts=1, num_experts_per_tok=2, first_k_dense_replace=1, moe_layer_freq=1, n_group=1, topk_group=1,
        topk_method="noaux_tc", scoring_func="sigmoid", norm_topk_prob=True, routed_scaling_factor=2.5, attention_bias=False,
    )
    config = base(args, **{**config, **extra})
    del config["head_dim"]
    return config


def deepseek_v3(args, **extra):
    grouped = dict(model_type="deepseek_v3", n_group=4, topk_group=2, num_experts_per_tok=3, rope_scaling=YARN)
    return latent(args, **{**grouped, **extra})


def kimi_k2(args, **extra):
    kimi = dict(model_type="kimi_k2", routed_scaling_factor=2.827, rope_theta=50000.0, rope_scaling=dict(YARN, mscale_all_dim=1.0))
    return latent(args, **{**kimi, **extra})


def kimi_k25(args, **extra):
    config = dict(model_type="kimi_k25", text_config=kimi_k2(args, **extra), vision_config=dict(hidden_size=32), ignore_index=-100)
    return dict(config, tie_word_embeddings=False)


def sparse(args, **extra):
    """With an indexer. With few heads the scores would have ties (at 0), and the order of equals is nobody's promise."""
    return latent(args, **{**dict(index_n_heads=16, index_head_dim=16, index_topk=16), **extra})


def deepseek_v32(args, **extra):
    return sparse(args, **{**dict(model_type="deepseek_v32", rope_scaling=YARN, n_group=4, topk_group=2), **extra})


def glm_51(args, **extra):
    glm = dict(
        model_type="glm_moe_dsa", rope_parameters=dict(rope_theta=1000000.0, rope_type="default"), indexer_rope_interleave=True,
        rms_norm_eps=1e-5,
    )
    config = sparse(args, **{**glm, **extra})
    del config["rope_theta"]
    return config


def glm_52(args, **extra):
    shared = dict(
        num_hidden_layers=4, num_attention_heads=2, num_key_value_heads=2, first_k_dense_replace=2, moe_router_dtype="float32",
        mlp_layer_types=["dense"] * 2 + ["sparse"] * 2, indexer_types=["full", "full", "shared", "shared"],
        rope_parameters=dict(rope_theta=8000000.0, rope_type="default"),
    )
    return glm_51(args, **{**shared, **extra})


def glm4_moe_lite(args, **extra):
    return latent(args, **{**dict(model_type="glm4_moe_lite", routed_scaling_factor=1.8, rms_norm_eps=1e-5, rope_theta=1000000.0), **extra})


# GLM-5.2, which mlx-lm does not have: its GLM-5.1 where some layers reuse the tokens that the indexer of an earlier layer chose.


@dataclasses.dataclass
class SharedArgs(glm_moe_dsa.ModelArgs):
    indexer_types: list | None = None
    index_topk_pattern: str | None = None
    index_topk_freq: int = 1
    index_skip_topk_offset: int = 2

    def has_indexer(self):
        """Per layer."""
        if self.indexer_types:
            return [kind == "full" for kind in self.indexer_types]
        if self.index_topk_pattern:
            return [kind == "F" for kind in self.index_topk_pattern]
        places = range(self.num_hidden_layers)
        return [max(place - self.index_skip_topk_offset + 1, 0) % self.index_topk_freq == 0 for place in places]


class Chosen:
    """What the last indexer of the pass chose."""

    tokens = None


class Choosing(Indexer):
    """An indexer that tells others."""

    def __init__(self, args, chosen):
        super().__init__(args)
        self._chosen = chosen

    def __call__(self, x, qr, mask, cache=None):
        self._chosen.tokens = super().__call__(x, qr, mask, cache)
        return self._chosen.tokens


class Following:
    """Stands in a layer without an indexer."""

    def __init__(self, chosen):
        self.chosen = chosen

    def __call__(self, x, qr, mask, cache=None):
        if cache is not None:
            # The attention makes its keys depend on these.
            cache.keys = cache.values = x[:, :1, :1]
        return self.chosen.tokens


class SharedModel(glm_moe_dsa.Model):
    def __init__(self, args):
        super().__init__(args)
        chosen = Chosen()
        for layer, is_full in zip(self.layers, args.has_indexer()):
            layer.self_attn.indexer = Choosing(args, chosen) if is_full else Following(chosen)

    def make_cache(self):
        return [CacheList(KVCache(), KVCache()) for _ in self.layers]


def shared_classes():
    return SharedModel, SharedArgs


def experts_3bit(path, module):
    """The recipe of the first Demolition model: experts 3 bit, all else 4."""
    return {"group_size": 32, "bits": 3} if "switch_mlp" in path else True


def plain_indexer(path, module):
    return False if ".indexer." in path else high_ends(path, module)


# Weights as Hugging Face has them.


def published(weights, prefix=""):
    """Keys and values of all heads in one matrix, experts one by one; and what is not needed: a layer that predicts two tokens, positions."""
    files = {f"{prefix}model.layers.{place}.self_attn.rotary_emb.inv_freq": mx.ones((4,)) for place in range(2)}
    files[f"{prefix}model.layers.77.eh_proj.weight"] = mx.zeros((8, 8))
    for name, value in weights.items():
        path, _, kind = name.rpartition(".")
        if path.endswith("embed_q"):
            if kind == "weight":
                files |= joined(weights, path.removesuffix(".embed_q"))
        elif ".switch_mlp." in path:
            files |= {f"{path.replace('switch_mlp', f'experts.{expert}')}.{kind}": part for expert, part in enumerate(value)}
        elif not path.endswith("unembed_out"):
            files[name] = value
    return files


def joined(weights, path):
    """`kv_b_proj`, packed if its parts are; their values must be such that packing changes nothing (`on_grid`)."""
    is_packed = f"{path}.embed_q.scales" in weights

    def part(name):
        parts = [weights.get(f"{path}.{name}.{kind}") for kind in ("weight", "scales", "biases")]
        return mx.dequantize(*parts, **AFFINE4) if is_packed else parts[0]

    whole = mx.concatenate([part("embed_q").swapaxes(-1, -2), part("unembed_out")], axis=1).flatten(0, 1)
    parts = mx.quantize(whole, **AFFINE4) if is_packed else [whole]
    return {f"{path}.kv_b_proj.{kind}": value for kind, value in zip(("weight", "scales", "biases"), parts)}


def on_grid(path, value):
    """Numbers of 4 bits, with both ends of the range in every row and column, so that packing them along either is exact."""
    if not path.endswith(("embed_q.weight", "unembed_out.weight")):
        return None
    numbers = mx.random.randint(-8, 8, value.shape)
    ends = mx.eye(value.shape[-1], dtype=mx.bool_)
    numbers = mx.where(ends, 7, mx.where(mx.roll(ends, 1, axis=0), -8, numbers))
    return numbers / 32


# 8 bits in blocks with a scale each, as DeepSeek publishes its models.

BLOCK = 128


def block_scales(shape):
    """Powers of two, another one for each block, so that packing is exact."""
    rows, columns = [-(-size // BLOCK) for size in shape]
    return 2.0 ** -(5 + mx.arange(rows)[:, None] + 2 * mx.arange(columns)).astype(mx.float32)


def spread(scales, shape):
    return mx.repeat(mx.repeat(scales, BLOCK, axis=0), BLOCK, axis=1)[: shape[0], : shape[1]]


def is_blocked(path):
    return path.endswith(("proj.weight", "proj_with_mqa.weight"))


def in_blocks(path, value):
    """Numbers that 8 bits and a scale per block hold. The parts of `kv_b_proj`, whose blocks are others, are left at one scale."""
    if path.endswith(("embed_q.weight", "unembed_out.weight")):
        return mx.from_fp8(mx.to_fp8(4 * mx.random.normal(value.shape)), dtype=mx.float32) / 32
    if not is_blocked(path):
        return None
    shape = value.shape[-2:]
    return mx.from_fp8(mx.to_fp8(4 * mx.random.normal(value.shape)), dtype=mx.float32) * spread(block_scales(shape), shape)


def blocked(weights):
    files = {}
    for name, value in published(weights).items():
        if not is_blocked(name):
            files[name] = value
            continue
        scales = mx.full((-(-value.shape[0] // BLOCK), 1), 1 / 32) if "kv_b_proj" in name else block_scales(value.shape)
        files[name] = mx.to_fp8(value / spread(scales, value.shape))
        files[f"{name}_scale_inv"] = scales
    return files


FP8 = dict(quant_method="fp8", fmt="e4m3", activation_scheme="dynamic", weight_block_size=[BLOCK, BLOCK])


def cases(args):
    glm52 = dict(shards="layers", classes=shared_classes)
    made = axes("deepseek_v3", deepseek_v3(args), committed=("q4",), without=("bf16",))
    made |= axes("kimi_k2", kimi_k2(args), only=("f32", "q4", "mxfp4"))
    made |= axes("kimi_k25", kimi_k25(args, num_hidden_layers=2), committed=("q4a4h6",), without=("bf16",))
    made |= axes("deepseek_v32", deepseek_v32(args), committed=("nvfp4",), without=("bf16",))
    made |= axes("glm_moe_dsa", glm_51(args), committed=("q4",), without=("bf16",))
    made |= axes("glm_moe_dsa_52", glm_52(args, n_routed_experts=4), committed=("q4a4h6",), without=("bf16",), prompt=32, **glm52)
    made |= axes("glm4_moe_lite", glm4_moe_lite(args, num_hidden_layers=2), committed=("mixed",), without=("bf16",))
    # Not a mixture of experts, so that MLX's CPU can multiply all of it in half precision.
    dense = dict(n_routed_experts=None, n_shared_experts=None)
    absent = dict.fromkeys(["routed_scaling_factor", "num_experts_per_tok", "norm_topk_prob", "topk_group", "n_group", "n_routed_experts"])
    made |= axes("deepseek_v3-dense", deepseek_v3(args, **dense), only=("bf16",))
    derived = glm_52(args, indexer_types=None, mlp_layer_types=None, index_topk_freq=2, index_skip_topk_offset=1)
    patterned = glm_52(args, indexer_types=None, index_topk_pattern="FSSF")
    affine = dict(AFFINE4, quant_predicate=high_ends)
    return made | {
        "deepseek_v3-whole-query": Case(deepseek_v3(args, q_lora_rank=None, attention_bias=True, n_group=2, topk_group=1, moe_layer_freq=2)),
        "deepseek_v3-hf": Case(deepseek_v3(args, num_hidden_layers=2), layout=published, draw=on_grid),
        "deepseek_v3-hf-q4": Case(deepseek_v3(args, num_hidden_layers=2), AFFINE4, layout=published, draw=on_grid, committed=True),
        "deepseek_v3-fp8": Case(
            deepseek_v3(args, **dense, num_hidden_layers=1, qk_nope_head_dim=64), layout=blocked, draw=in_blocks, prompt=24, decode=6,
            spelled=dict(absent, quantization_config=FP8), committed=True,
        ),
        "kimi_k25-hf": Case(
            kimi_k25(args, num_hidden_layers=2), layout=lambda weights: published(weights, "language_model.") | {"vision_tower.patch.weight": mx.zeros((4, 4))}
        ),
        "deepseek_v3-plain-rope": Case(deepseek_v3(args, rope_scaling=None), AFFINE4),
        "glm_moe_dsa_52-demolition": Case(glm_52(args, n_routed_experts=59, num_experts_per_tok=8), affine, **glm52),
        "glm_moe_dsa_52-q3a4": Case(glm_52(args), dict(AFFINE4, quant_predicate=experts_3bit), **glm52),
        "glm_moe_dsa_52-q3": Case(glm_52(args), dict(group_size=32, bits=3), **glm52),
        "glm_moe_dsa_52-q8": Case(glm_52(args), dict(group_size=32, bits=8), **glm52),
        "glm_moe_dsa_52-plain-indexer": Case(glm_52(args), dict(AFFINE4, quant_predicate=plain_indexer), **glm52),
        "glm_moe_dsa_52-derived": Case(derived, affine, **glm52),
        "glm_moe_dsa_52-pattern": Case(patterned, affine, **glm52),
        "glm_moe_dsa_52-dense": Case(glm_52(args, index_topk=64), affine, **glm52),
    }
