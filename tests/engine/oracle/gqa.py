"""Grouped-query attention: llama, qwen2, qwen3, qwen3_moe, glm4_moe."""

import mlx.core as mx

from .case import Case, axes, base


def qwen3_moe(args, **extra):
    moe = dict(
        model_type="qwen3_moe", num_experts=args.experts, num_experts_per_tok=2, decoder_sparse_step=1, mlp_only_layers=[1],
        moe_intermediate_size=32, norm_topk_prob=True, num_hidden_layers=3,
    )
    return base(args, **{**moe, **extra})


def glm4_moe(args, **extra):
    moe = dict(
        model_type="glm4_moe", moe_intermediate_size=32, norm_topk_prob=True, n_group=1, topk_group=1, n_shared_experts=1,
        n_routed_experts=args.experts, routed_scaling_factor=2.5, num_experts_per_tok=2, first_k_dense_replace=1,
        rope_scaling=None, use_qk_norm=True, attention_bias=True, partial_rotary_factor=0.5, rms_norm_eps=1e-5, num_hidden_layers=3,
    )
    return base(args, **{**moe, **extra})


LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)


# Half of a head's pairs get a longer period, each another.
LONG = dict(
    rope_type="longrope", original_max_position_embeddings=64, short_factor=[1.0] * 8, long_factor=[1.0, 1.0, 1.1, 1.3, 1.7, 2.5, 4.0, 8.0],
)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=64, beta_fast=8.0, beta_slow=1.0)


def ropes(args):
    """Every scaling of rotary positions; the growing base sets in with the first decoded token, as chunks would change it."""
    scalings = {
        "linear": dict(type="linear", factor=4.0),
        "dynamic": dict(rope_type="dynamic", factor=4.0),
        "yarn": YARN,
        "yarn-exact": dict(YARN, truncate=False),
        "yarn-mscale": dict(YARN, mscale=1.3, mscale_all_dim=0.7),
        "longrope": LONG,
    }
    two = dict(num_hidden_layers=2)
    made = {}
    for name, scaling in scalings.items():
        extra = dict(max_position_embeddings=args.prompt) if name == "dynamic" else {}
        config = base(args, **two, model_type="llama", rope_theta=500.0, rope_scaling=scaling, **extra)
        quantization = dict(bits=4, group_size=32) if name in ("dynamic", "longrope", "yarn-exact") else None
        made[f"llama-{name}"] = Case(config, quantization, committed=name in ("longrope", "yarn-exact"))
    made["llama-interleaved"] = Case(base(args, **two, model_type="llama", rope_traditional=True))
    made["qwen3-yarn"] = Case(base(args, **two, model_type="qwen3", rope_scaling=YARN))
    made["qwen2-yarn-interleaved"] = Case(base(args, **two, model_type="qwen2", rope_traditional=True, rope_scaling=YARN))
    made["qwen3_moe-yarn"] = Case(qwen3_moe(args, rope_scaling=YARN), dict(bits=4, group_size=32))
    made["glm4_moe-linear"] = Case(glm4_moe(args, rope_scaling=dict(rope_type="linear", factor=4.0)), dict(bits=4, group_size=32))
    return made


def mixed(path, module):
    """Head unquantized, routers 8 bit, everything of layer 0 8 bit in small groups."""
    if path == "lm_head":
        return False
    if path.endswith("mlp.gate"):
        return {"bits": 8, "group_size": 64}
    if ".layers.0." in path:
        return {"bits": 8, "group_size": 32}
    return True


def around_zero(weights):
    """Biases that make affine packing whole numbers around zero."""
    return {name: -8 * weights[name.replace(".biases", ".scales")] for name in weights if name.endswith(".biases")}


def compressed(weights):
    """The layout of compressed-tensors, and a tensor for each expert."""
    made = {}
    for name, value in weights.items():
        before, found, after = name.partition(".switch_mlp.")
        parts = {f"{before}.experts.{index}.{after}": expert for index, expert in enumerate(value)} if found else {name: value}
        for part, tensor in parts.items():
            path, _, kind = part.rpartition(".")
            if f"{name.rpartition('.')[0]}.scales" not in weights:
                made[part] = tensor
            elif kind == "weight":
                made[f"{path}.weight_packed"] = tensor.view(mx.int32)
                made[f"{path}.weight_shape"] = mx.array([tensor.shape[0], 8 * tensor.shape[1]], dtype=mx.int32)
            elif kind == "scales":
                made[f"{path}.weight_scale"] = tensor
    return made


COMPRESSED = dict(
    quantization=None,
    quantization_config=dict(
        quant_method="compressed-tensors", format="pack-quantized", ignore=["lm_head"],
        config_groups=dict(group_0=dict(
            targets=["Linear"], weights=dict(num_bits=4, group_size=32, symmetric=True, type="int", strategy="group"))),
    ),
)


def maps_alone(path, module):
    return not path.endswith(("embed_tokens", "lm_head", "mlp.gate"))


def packings(args):
    """Every width of affine packing in wider groups, and 16-bit floats of the other kind."""
    wide = base(args, hidden_size=2 * args.hidden, intermediate_size=4 * args.hidden, head_dim=2 * args.hidden // 4)
    made = {}
    for bits, group in [(2, 64), (2, 128), (3, 128), (4, 64), (4, 128), (5, 64), (5, 128), (6, 128), (8, 64), (8, 128)]:
        kind = "qwen3" if group == 64 else "llama"
        made[f"{kind}-q{bits}g{group}"] = Case({**wide, "model_type": kind}, dict(bits=bits, group_size=group))
    made["qwen3_moe-compressed"] = Case(
        qwen3_moe(args, num_hidden_layers=2), dict(bits=4, group_size=32, quant_predicate=maps_alone), settle=around_zero,
        layout=compressed, spelled=COMPRESSED)
    made["llama-f16"] = Case({**wide, "model_type": "llama"}, dtype=mx.float16)
    made["qwen3_moe-q4-f16"] = Case(qwen3_moe(args), dict(bits=4, group_size=32), dtype=mx.float16)
    return made


def cases(args):
    q4 = dict(bits=4, group_size=32)
    two = dict(num_hidden_layers=2)
    here = dict(committed=True)
    tied = dict(tie_word_embeddings=True)
    made = axes("qwen3_moe", qwen3_moe(args), committed=("q4", "q4-bf16", "mxfp4"), without=("bf16", "f32", "mixed"))
    made |= axes("qwen3_moe-untied", qwen3_moe(args), only=("f32", "mixed"))
    made |= axes("glm4_moe", glm4_moe(args), committed=("nvfp4",), without=("bf16", "f32", "q4"))
    made |= axes("qwen3", base(args, **tied, model_type="qwen3"), committed=("mxfp8",))
    made |= axes("qwen2", base(args, model_type="qwen2"), committed=("q4",))
    made |= axes("llama", base(args, model_type="llama", rope_scaling=LLAMA3), committed=("mixed",))
    return made | ropes(args) | packings(args) | {
        "qwen3_moe-f32": Case(qwen3_moe(args, **two, **tied, mlp_only_layers=[]), **here),
        "qwen3_moe-mixed": Case(
            qwen3_moe(args, norm_topk_prob=False, decoder_sparse_step=2, mlp_only_layers=[]), dict(q4, quant_predicate=mixed), shards=3, **here
        ),
        "glm4_moe-f32": Case(glm4_moe(args, **two, num_experts_per_tok=3, n_group=4, topk_group=2), **here),
        "glm4_moe-q4": Case(glm4_moe(args, use_qk_norm=False), q4, **here),
        "glm4_moe-q3": Case(glm4_moe(args, n_group=2, topk_group=1), dict(bits=3, group_size=32), **here),
        "qwen3-q8-tied": Case(base(args, **two, **tied, model_type="qwen3"), dict(bits=8, group_size=32), **here),
        "llama-q6": Case(base(args, **two, model_type="llama", rope_scaling=LLAMA3), dict(bits=6, group_size=32), **here),
    }
