"""Multi-head latent attention: deepseek_v3, deepseek_v32, kimi_k2, kimi_k25, glm_moe_dsa (5.1 and 5.2), glm4_moe_lite."""

import dataclasses

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
        num_hidden_layers=6, num_attention_heads=2, num_key_value_heads=2, first_k_dense_replace=3, moe_router_dtype="float32",
        mlp_layer_types=["dense"] * 3 + ["sparse"] * 3, indexer_types=["full", "full", "shared", "shared", "full", "shared"],
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
    made |= axes("deepseek_v3-dense", deepseek_v3(args, **dense), only=("bf16",))
    derived = glm_52(args, num_hidden_layers=8, indexer_types=None, mlp_layer_types=None, index_topk_freq=4, index_skip_topk_offset=3)
    patterned = glm_52(args, indexer_types=None, index_topk_pattern="FSFSSF")
    affine = dict(AFFINE4, quant_predicate=high_ends)
    return made | {
        "deepseek_v3-whole-query": Case(deepseek_v3(args, q_lora_rank=None, attention_bias=True, n_group=2, topk_group=1, moe_layer_freq=2)),
        "deepseek_v3-plain-rope": Case(deepseek_v3(args, rope_scaling=None), AFFINE4),
        "glm_moe_dsa_52-demolition": Case(glm_52(args, num_hidden_layers=4, n_routed_experts=59, num_experts_per_tok=8), affine, **glm52),
        "glm_moe_dsa_52-q3a4": Case(glm_52(args), dict(AFFINE4, quant_predicate=experts_3bit), **glm52),
        "glm_moe_dsa_52-q3": Case(glm_52(args), dict(group_size=32, bits=3), **glm52),
        "glm_moe_dsa_52-q8": Case(glm_52(args), dict(group_size=32, bits=8), **glm52),
        "glm_moe_dsa_52-plain-indexer": Case(glm_52(args), dict(AFFINE4, quant_predicate=plain_indexer), **glm52),
        "glm_moe_dsa_52-derived": Case(derived, affine, **glm52),
        "glm_moe_dsa_52-pattern": Case(patterned, affine, **glm52),
        "glm_moe_dsa_52-dense": Case(glm_52(args, index_topk=64), affine, **glm52),
    }
