"""DeepSeek-V4.1: hyper-connections, a window beside compressed keys and values, an indexer."""

import mlx.core as mx

from .case import axes
from .tokens import VOCABULARY

YARN = dict(type="yarn", factor=4.0, original_max_position_embeddings=64, beta_fast=32, beta_slow=1)


def deepseek_v41(args, **extra):
    """Six layers: the window alone, groups of 1, 4 and 2, choices of their own and of the layers before."""
    config = dict(
        model_type="deepseek_v41", vocab_size=VOCABULARY, hidden_size=args.hidden, num_hidden_layers=6, num_attention_heads=4, head_dim=32,
        q_lora_rank=32, qk_rope_head_dim=16, o_groups=2, o_lora_rank=32, moe_intermediate_size=32, n_routed_experts=args.experts,
        num_experts_per_tok=2, sliding_window=8, compress_ratios=[0, 1, 4, 2, 2, 2], kv_source_layer_ids=[1, 2, 3],
        index_source_layer_ids=[1, 2, 3, 4], candidate_source_layer_id=3, candidate_topk_blocks=4, candidate_block_size=2, index_n_heads=16,
        index_head_dim=32, index_topk=5, rope_scaling=YARN, max_position_embeddings=512, hc_mult=2, hc_sinkhorn_iters=4,
    )
    return {**config, **extra}


def draw(path, value):
    """Hyper-connections are scaled down, as trained ones are: else the streams blow up or die out over the layers."""
    if path.endswith("_hc.scale"):
        return 0.3 + 0.1 * mx.random.normal(value.shape)
    if path.endswith("e_score_correction_bias"):
        return 0.3 * mx.random.normal(value.shape)
    if path.endswith("_hc.base"):
        return 0.3 * mx.random.normal(value.shape)
    return None


def cases(args):
    sparse = deepseek_v41(args)
    other = deepseek_v41(args, scoring_func="sigmoid", swiglu_limit=0.5, candidate_source_layer_id=-1, rope_scaling=None, num_hidden_layers=4, gate_temp=1.5)
    return {
        **axes("deepseek_v41", sparse, committed=("q4",), without=("bf16",), draw=draw),
        **axes("deepseek_v41-plain", other, only=("f32",), draw=draw),
    }
