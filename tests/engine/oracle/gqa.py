"""Grouped-query attention: llama, qwen2, qwen3, qwen3_moe, glm4_moe."""

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


def mixed(path, module):
    """Head unquantized, routers 8 bit, everything of layer 0 8 bit in small groups."""
    if path == "lm_head":
        return False
    if path.endswith("mlp.gate"):
        return {"bits": 8, "group_size": 64}
    if ".layers.0." in path:
        return {"bits": 8, "group_size": 32}
    return True


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
    return made | {
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
