"""Gated delta nets: qwen3_next, qwen3_5, qwen3_5_moe."""

import mlx.core as mx

from .case import Case, axes, base


def shape(args, **extra):
    """Two kinds of layers in turn: two with a delta net, and one with full attention. Key heads serve two value heads each."""
    delta = dict(
        num_hidden_layers=3, full_attention_interval=3, linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=16,
        linear_value_head_dim=16, linear_conv_kernel_dim=4, partial_rotary_factor=0.25, head_dim=16,
    )
    return base(args, **{**delta, **extra})


def moe(args, **extra):
    return dict(
        num_experts=args.experts, num_experts_per_tok=3, moe_intermediate_size=32, shared_expert_intermediate_size=32, norm_topk_prob=True,
        decoder_sparse_step=1, mlp_only_layers=[], **extra,
    )


def qwen3_next(args, **extra):
    return shape(args, model_type="qwen3_next", **{**moe(args), **extra})


def qwen3_5(args, kind="qwen3_5", **extra):
    """The text model is nested, and its positions are those of transformers 5."""
    text = shape(args, model_type=f"{kind}_text", **{"head_dim": 32, **extra})
    partial, theta = text.pop("partial_rotary_factor"), text.pop("rope_theta")
    text["rope_parameters"] = dict(
        rope_type="default", rope_theta=theta, partial_rotary_factor=partial, mrope_section=[2, 1, 1], mrope_interleaved=True
    )
    return dict(model_type=kind, text_config=text, vision_config=dict(depth=1), image_token_id=1)


def draw(path, value):
    """States that remember for tens of tokens, some longer and some shorter."""
    if path.endswith("A_log"):
        return 0.7 * mx.random.normal(value.shape) - 1.0
    if path.endswith("dt_bias"):
        return mx.random.normal(value.shape) - 1.0
    if path.endswith("conv1d.weight"):
        return 0.6 * mx.random.normal(value.shape)
    return None


NORMS = (".input_layernorm.weight", ".post_attention_layernorm.weight", "model.norm.weight", ".q_norm.weight", ".k_norm.weight")


def common(weights):
    """What Hugging Face's files have otherwise: norms without the one that is added to them, and the convolution's axes."""
    made = {}
    for name, value in weights.items():
        if name.endswith(NORMS):
            value = value - 1.0
        if name.endswith("conv1d.weight"):
            value = value.moveaxis(1, 2)
        made[name] = value
    return made


def scattered(weights):
    """A tensor for each expert, and the weights of a multi-token head that nobody needs."""
    made = {}
    for name, value in common(weights).items():
        before, found, after = name.partition(".switch_mlp.")
        if found:
            made |= {f"{before}.experts.{index}.{after}": expert for index, expert in enumerate(value)}
        else:
            made[name] = value
    return made | {"mtp.norm.weight": mx.zeros(8), "mtp.layers.0.input_layernorm.weight": mx.zeros(8)}


def fused(weights):
    """Gate and up of all experts in one tensor; the names of the model with images."""
    weights = common(weights)
    made = {}
    for name, value in weights.items():
        before, _, after = name.partition(".switch_mlp.")
        if after == "gate_proj.weight":
            value = mx.concatenate([value, weights[f"{before}.switch_mlp.up_proj.weight"]], axis=1)
            name = f"{before}.experts.gate_up_proj"
        elif after == "up_proj.weight":
            continue
        elif after == "down_proj.weight":
            name = f"{before}.experts.down_proj"
        made[name.replace("language_model.model.", "model.language_model.").replace("language_model.lm_head", "lm_head")] = value
    return made | {"model.visual.patch_embed.weight": mx.zeros(8), "mtp.norm.weight": mx.zeros(8)}


def cases(args):
    tiny = dict(
        num_hidden_layers=2, full_attention_interval=2, num_attention_heads=2, num_key_value_heads=1, head_dim=16, linear_num_key_heads=1,
        linear_num_value_heads=2, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=8, shared_expert_intermediate_size=8,
        tie_word_embeddings=True,
    )
    here = dict(committed=True, decode=8)
    keys = dict(draw=draw, prompt=36)
    made = {
        "qwen3_next-hf": Case(qwen3_next(args, **tiny), layout=scattered, **keys, **here),
        "qwen3_next-dense": Case(qwen3_next(args, mlp_only_layers=[1], norm_topk_prob=False, attention_bias=True), shards=2, **keys),
        "qwen3_next-wide": Case(qwen3_next(args, linear_num_key_heads=1, linear_key_head_dim=64, linear_conv_kernel_dim=3), **keys),
        "qwen3_5-hf": Case(qwen3_5(args, tie_word_embeddings=True), layout=fused, **keys),
        "qwen3_5_moe-hf": Case(qwen3_5(args, "qwen3_5_moe", **{**moe(args), **tiny}), layout=fused, **keys, **here),
        "qwen3_5_moe-untied-hf": Case(qwen3_5(args, "qwen3_5_moe", **moe(args)), layout=fused, **keys),
    }
    experts = dict(without=("bf16",), **keys)
    made |= axes("qwen3_next", qwen3_next(args), committed=("q4", "q4-bf16"), **experts)
    made |= axes("qwen3_5_moe", qwen3_5(args, "qwen3_5_moe", **moe(args)), committed=("nvfp4",), **experts)
    made |= axes("qwen3_5", qwen3_5(args, tie_word_embeddings=True), committed=("mixed",), **keys)
    return made
