"""Where mlx-lm deviates from the models' references and the engine follows these (docs/models/deviations.md).

`apply` changes mlx-lm in this process; `--stock` leaves it as it is, to measure a deviation.
"""

import importlib
import math
import sys

import mlx.core as mx
from mlx_lm.models import rope_utils


def choose_in_groups(gates, e_score_correction_bias, top_k, n_group, topk_group, routed_scaling_factor, norm_topk_prob):
    """Experts of dropped groups are out of the question, where mlx-lm gives them a score of 0."""
    plain = mx.sigmoid(gates.astype(mx.float32))
    scores = plain + e_score_correction_bias
    if n_group > topk_group:
        grouped = mx.unflatten(scores, axis=-1, shape=(n_group, -1))
        best = mx.topk(grouped, 2, axis=-1).sum(axis=-1, keepdims=True)
        dropped = n_group - topk_group
        worst = mx.argpartition(best, kth=dropped - 1, axis=-2)[..., :dropped, :]
        grouped = mx.put_along_axis(grouped, mx.stop_gradient(worst), mx.array(-math.inf), axis=-2)
        scores = mx.flatten(grouped, -2, -1)
    experts = mx.stop_gradient(mx.argpartition(-scores, kth=top_k - 1, axis=-1)[..., :top_k])
    weights = mx.take_along_axis(plain, experts, axis=-1)
    if top_k > 1 and norm_topk_prob:
        weights = weights / weights.sum(axis=-1, keepdims=True)
    return experts, weights * routed_scaling_factor


def exact_yarn(dims, base, traditional, scaling_config=None, max_position_embeddings=None):
    """`truncate: false` leaves the bounds of yarn's ramp between whole dimensions; mlx-lm rounds them always."""
    rope = mlx_lm_rope(dims, base, traditional, scaling_config, max_position_embeddings)
    if isinstance(rope, rope_utils.YarnRoPE) and scaling_config.get("truncate") is False:
        original = scaling_config.get("original_max_position_embeddings", 4096)

        def bound(rotations):
            return dims * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(base))

        low = max(bound(scaling_config.get("beta_fast", 32)), 0)
        high = min(bound(scaling_config.get("beta_slow", 1)), dims - 1)
        ramp = mx.clip((mx.arange(dims // 2, dtype=mx.float32) - low) / (high - low or 0.001), 0, 1)
        plain = base ** (mx.arange(0, dims, 2, dtype=mx.float32) / dims)
        stretched = scaling_config["factor"] * plain
        rope._freqs = (stretched * plain) / (stretched * (1.0 - ramp) + plain * ramp)
    return rope


mlx_lm_rope = rope_utils.initialize_rope


def scaled_positions(attention):
    """Scales the positions of a class of attention that takes no notice of `rope_scaling`."""
    stock = attention.__init__

    def init(self, args, *rest, **keys):
        stock(self, args, *rest, **keys)
        scaling = getattr(args, "rope_scaling", None)
        if scaling:
            self.rope = exact_yarn(self.rope.dims, args.rope_theta, False, scaling, args.max_position_embeddings)

    attention.__init__ = init


def apply():
    grouped = ["deepseek_v3", "deepseek_v32", "glm4_moe", "glm4_moe_lite"]
    for name in grouped:
        importlib.import_module(f"mlx_lm.models.{name}").group_expert_select = choose_in_groups
    rope_utils.initialize_rope = exact_yarn
    for module in list(sys.modules.values()):
        if getattr(module, "initialize_rope", None) is mlx_lm_rope:
            module.initialize_rope = exact_yarn
    for module, name in [("qwen3_moe", "Attention"), ("glm4_moe", "Attention")]:
        scaled_positions(getattr(importlib.import_module(f"mlx_lm.models.{module}"), name))
    correct_indexer()


def correct_indexer():
    """The indexer's layer norm has an epsilon of 1e-6."""
    sparse = importlib.import_module("mlx_lm.models.deepseek_v32")
    stock = sparse.Indexer.__init__

    def init(self, *args, **keys):
        stock(self, *args, **keys)
        self.k_norm.eps = 1e-6

    sparse.Indexer.__init__ = init
