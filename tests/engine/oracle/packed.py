"""What mlx-lm computes with a cache whose keys and values are packed."""

import mlx.core as mx
from mlx_lm.models import base as mlx_lm_base, gpt_oss
from mlx_lm.models.cache import KVCache, QuantizedKVCache, make_prompt_cache


def packed_reference(model, prompt, greedy):
    """
    packed8, packed4   [L + N - 1, V]   logits of one pass over the prompt, and behind each of the greedy tokens but the last, with a
                                        cache of so many bits
    """
    made = {}
    for bits in (8, 4):
        cache = [pack(layer, bits, model) for layer in make_prompt_cache(model)]
        rows = [model(mx.array(prompt)[None], cache=cache)[0]]
        for token in greedy[:-1]:
            rows.append(model(mx.array([[token]]), cache=cache)[0])
            mx.eval(rows[-1])
        made[f"packed{bits}"] = mx.concatenate(rows).astype(mx.float32)
    return made


def pack(layer, bits, model):
    """Windows stay as they are."""
    if type(layer) is not KVCache:
        return layer
    dim = model.args.head_dim or model.args.hidden_size // model.args.num_attention_heads
    return QuantizedKVCache(group_size=64 if dim % 64 == 0 else 32, bits=bits)


def with_sinks():
    """gpt_oss with a packed cache, which mlx-lm refuses: the sinks are one more column of the scores, as in MLX's own kernel."""
    plain = mlx_lm_base.scaled_dot_product_attention

    def attend(queries, keys, values, cache, scale, mask, sinks=None):
        if not hasattr(cache, "bits"):
            return plain(queries, keys, values, cache, scale, mask, sinks)
        _, heads, tokens, dim = queries.shape
        kv_heads = keys[0].shape[-3]
        queries = (queries * scale).reshape(1, kv_heads, heads // kv_heads, tokens, dim)
        packing = dict(group_size=cache.group_size, bits=cache.bits)
        scores = mx.quantized_matmul(queries, *[part[:, :, None] for part in keys], transpose=True, **packing)
        if tokens > 1:
            rows = scores.shape[-1]
            seen = mx.arange(rows - tokens, rows)[:, None] >= mx.arange(rows)[None]
            scores = mx.where(seen, scores, mx.finfo(scores.dtype).min)
        column = mx.broadcast_to(sinks.reshape(1, kv_heads, -1, 1, 1), (*scores.shape[:-1], 1)).astype(scores.dtype)
        scores = mx.softmax(mx.concatenate([column, scores], axis=-1), axis=-1, precise=True)[..., 1:]
        out = mx.quantized_matmul(scores, *[part[:, :, None] for part in values], transpose=False, **packing)
        return out.reshape(1, heads, tokens, dim)

    gpt_oss.scaled_dot_product_attention = attend
    return gpt_oss.Model, gpt_oss.ModelArgs
