"""Tiny random checkpoints as Hugging Face publishes them, and what `transformers` computes with them in fp32.

    cd tests/engine
    PYTHONPATH=$(echo ../../.tools/oracle/lib/python3*/site-packages) ../../.tools/nano/bin/python -m oracle.second --out DIR [--only NAME …]

Those in the repository are made with `--out second --small` and `--only` their names. mlx-lm deviates from the models' references
in places (docs/models/deviations.md), and reads some configurations wrongly. So the engine is also compared with `transformers`: its
spelling of config.json, its layout of the weights, its logits. Runs with a Python that has torch and transformers, not MLX.
"""

import argparse
import fnmatch
import json
import math
import pathlib
import sys
import time
import traceback

import torch
import transformers
from safetensors.torch import save_file

from .tokens import SPECIALS, TEMPLATE, VOCABULARY, make_tokenizer

# The standard deviation of the logits.
LOGIT_STD = 2.5
# Seeds that are tried until the chosen experts and positions are chosen clearly.
ATTEMPTS_MAX = 8
MARGIN_MIN = 2e-5

SHARED = dict(
    vocab_size=VOCABULARY, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=512, tie_word_embeddings=False, pad_token_id=None, bos_token_id=None, eos_token_id=0,
)
EXPERTS = dict(moe_intermediate_size=32, num_experts_per_tok=2)
LATENT = dict(
    q_lora_rank=32, kv_lora_rank=32, qk_nope_head_dim=16, qk_rope_head_dim=16, v_head_dim=16, num_key_value_heads=4,
    n_routed_experts=16, n_shared_experts=1, first_k_dense_replace=1, num_hidden_layers=3, **EXPERTS,
)
INDEXER = dict(index_n_heads=16, index_head_dim=32, index_topk=16)
PLAIN_ROPE = dict(rope_type="default", rope_theta=25000.0)
YARN = dict(
    rope_type="yarn", rope_theta=25000.0, factor=8.0, original_max_position_embeddings=64, beta_fast=32.0, beta_slow=1.0,
)
LINEAR = dict(
    linear_num_value_heads=4, linear_num_key_heads=2, linear_key_head_dim=16, linear_value_head_dim=16, linear_conv_kernel_dim=4,
    head_dim=16, num_hidden_layers=4,
)
# For the checkpoints that are in the repository.
SMALL = dict(hidden_size=32, intermediate_size=32, moe_intermediate_size=16, n_routed_experts=8, num_local_experts=4)


def cases():
    """name: (configuration class, keys)"""
    return {
        "llama-llama3": ("LlamaConfig", dict(rope_parameters=dict(
            rope_type="llama3", rope_theta=25000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64))),
        "llama-yarn": ("LlamaConfig", dict(rope_parameters=YARN)),
        "llama-linear": ("LlamaConfig", dict(rope_parameters=dict(rope_type="linear", rope_theta=25000.0, factor=4.0))),
        "mistral-window": ("MistralConfig", dict(rope_parameters=PLAIN_ROPE, sliding_window=16, head_dim=16)),
        "qwen2-window": ("Qwen2Config", dict(
            rope_parameters=PLAIN_ROPE, use_sliding_window=True, sliding_window=16, max_window_layers=1, num_hidden_layers=3)),
        "qwen3_moe-window": ("Qwen3MoeConfig", dict(
            rope_parameters=PLAIN_ROPE, head_dim=16, num_experts=8, use_sliding_window=True, sliding_window=16, **EXPERTS)),
        "qwen2": ("Qwen2Config", dict(rope_parameters=PLAIN_ROPE, tie_word_embeddings=True)),
        "qwen3": ("Qwen3Config", dict(rope_parameters=PLAIN_ROPE, head_dim=16)),
        "qwen3_moe": ("Qwen3MoeConfig", dict(rope_parameters=PLAIN_ROPE, head_dim=16, num_experts=8, norm_topk_prob=True, **EXPERTS)),
        "qwen3_moe-yarn": ("Qwen3MoeConfig", dict(rope_parameters=YARN, head_dim=16, num_experts=8, **EXPERTS)),
        "glm4_moe-yarn": ("Glm4MoeConfig", dict(
            rope_parameters=dict(YARN, partial_rotary_factor=0.5), head_dim=16, n_routed_experts=8, n_shared_experts=1, n_group=1, topk_group=1,
            first_k_dense_replace=1, **EXPERTS)),
        "glm4_moe-groups": ("Glm4MoeConfig", dict(
            rope_parameters=dict(PLAIN_ROPE, partial_rotary_factor=0.5), head_dim=16, n_routed_experts=16, n_shared_experts=1, n_group=4,
            topk_group=2, first_k_dense_replace=1, use_qk_norm=True, attention_bias=True, routed_scaling_factor=1.5, **EXPERTS)),
        "deepseek_v3-groups": ("DeepseekV3Config", dict(
            LATENT, n_group=4, topk_group=2, routed_scaling_factor=2.5, rope_parameters=dict(YARN, mscale=1.0, mscale_all_dim=1.0))),
        "deepseek_v32": ("DeepseekV32Config", dict(LATENT, **INDEXER, n_group=4, topk_group=2, rope_parameters=dict(YARN, mscale=1.0, mscale_all_dim=1.0))),
        # With the epsilon that transformers takes for the latents' norms in any case; mlx-lm and the engine take the configuration's.
        "glm4_moe_lite": ("Glm4MoeLiteConfig", dict(
            LATENT, n_group=1, topk_group=1, routed_scaling_factor=1.8, rope_parameters=PLAIN_ROPE, rms_norm_eps=1e-6)),
        "glm_moe_dsa-own": ("GlmMoeDsaConfig", dict(
            LATENT, **INDEXER, n_group=1, topk_group=1, rope_parameters=PLAIN_ROPE, indexer_types=["full"] * 3)),
        "glm_moe_dsa-shared": ("GlmMoeDsaConfig", dict(
            LATENT, **INDEXER, num_hidden_layers=6, n_group=1, topk_group=1, rope_parameters=PLAIN_ROPE,
            indexer_types=["full", "full", "full", "shared", "shared", "full"])),
        "qwen3_next": ("Qwen3NextConfig", dict(
            LINEAR, num_experts=8, shared_expert_intermediate_size=32, norm_topk_prob=True,
            rope_parameters=dict(PLAIN_ROPE, partial_rotary_factor=0.25), **EXPERTS)),
        "qwen3_5": ("Qwen3_5TextConfig", dict(LINEAR, rope_parameters=dict(PLAIN_ROPE, partial_rotary_factor=0.25))),
        "qwen3_5_moe": ("Qwen3_5MoeTextConfig", dict(
            LINEAR, num_experts=8, shared_expert_intermediate_size=32, rope_parameters=dict(PLAIN_ROPE, partial_rotary_factor=0.25), **EXPERTS)),
        "gpt_oss-yarn": ("GptOssConfig", dict(
            head_dim=16, num_local_experts=8, num_experts_per_tok=2, sliding_window=16, num_hidden_layers=4,
            layer_types=["sliding_attention", "full_attention"] * 2,
            rope_parameters=dict(YARN, truncate=False))),
        "minimax_m2": ("MiniMaxM2Config", dict(
            head_dim=16, num_local_experts=8, num_experts_per_tok=2, rope_parameters=dict(PLAIN_ROPE, partial_rotary_factor=0.5))),
    }


def randomise(model, seed):
    """Weights that make experts, heads and positions matter."""
    generator = torch.Generator().manual_seed(seed)

    def draw(shape, scale):
        return torch.randn(shape, generator=generator) * scale

    with torch.no_grad():
        for path, value in list(model.named_parameters()) + list(model.named_buffers()):
            shape = value.shape
            if "rotary" in path or "inv_freq" in path:
                continue
            if path.endswith("e_score_correction_bias"):
                # Many scores are negative with it: then it matters that experts of dropped groups are out of the question.
                value.copy_(draw(shape, 0.5) - 0.6)
            elif path.endswith((".bias", "_bias", "sinks")):
                value.copy_(draw(shape, 0.3))
            elif path.endswith("A_log"):
                value.copy_(draw(shape, 0.5))
            elif path.endswith("dt_bias"):
                value.copy_(1 + draw(shape, 0.5))
            elif "norm" in path and path.endswith("weight"):
                # Qwen 3.5 and its kin keep the distance from 1; a weight that begins with zeros is one.
                value.copy_((value.abs().max() > 0).float() + draw(shape, 0.2))
            elif path.endswith("conv1d.weight"):
                value.copy_(draw(shape, 0.6))
            else:
                # Stacked experts of gpt_oss are [experts, in, out], all others [.., out, in].
                inner = shape[-2] if getattr(model.config, "model_type", "") == "gpt_oss" and "experts" in path else shape[-1]
                value.copy_(draw(shape, 1.3 / math.sqrt(inner)))


def logits_of(model, tokens):
    with torch.no_grad():
        return model(torch.tensor([tokens]), use_cache=False).logits[0].float()


def make(name, out, args):
    start = time.monotonic()
    kind, keys = cases()[name]
    keys = {**SHARED, **keys}
    if args.small:
        keys |= {key: small for key, small in SMALL.items() if key in keys}
    for attempt in range(ATTEMPTS_MAX):
        seed = args.seed + 1000 * attempt
        config = getattr(transformers, kind)(**keys)
        config._attn_implementation = "eager"
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        randomise(model, seed)
        scale_logits(model)
        prompt = torch.randint(0, VOCABULARY, (args.prompt,)).tolist()
        margins = []
        with recorded_margins(margins):
            prefill, decode, greedy = reference(model, prompt, args.decode)
        margin = min(margins, default=math.inf)
        if 2 * len(set(greedy)) > len(greedy) and margin > MARGIN_MIN:
            break
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("model*"):
        old.unlink()
    model.save_pretrained(out)
    write_tokenizer(out, config)
    tensors = dict(
        prompt=torch.tensor(prompt, dtype=torch.int32), greedy=torch.tensor(greedy, dtype=torch.int32), prefill=prefill, decode=decode,
        margin=torch.tensor(margin),
    )
    save_file({key: value.clone() for key, value in tensors.items()}, out / "ref.safetensors")
    size = sum(file.stat().st_size for file in out.iterdir())
    return f"{name}: {size >> 10} KiB, logits std {prefill.std():.2f}, {len(set(greedy))} distinct greedy tokens, margin {margin:.1e}, {time.monotonic() - start:.1f} s"


def reference(model, prompt, decode_len):
    """Logits of every position, and those that each greedy token was taken from; all without a cache."""
    tokens = list(prompt)
    for _ in range(decode_len):
        tokens.append(int(logits_of(model, tokens)[-1].argmax()))
    logits = logits_of(model, tokens)
    greedy = tokens[len(prompt) :]
    return logits[: len(prompt)], logits[len(prompt) - 1 : -1], greedy


class recorded_margins:
    """Notes at each top-k how far apart the last taken and the first dropped are."""

    def __init__(self, margins):
        self.margins = margins

    def __enter__(self):
        self.stock = torch.topk, torch.Tensor.topk
        noting = lambda a, k, *rest, **keys: self.note(a, k, *rest, **keys)
        torch.topk, torch.Tensor.topk = noting, noting

    def __exit__(self, *_):
        torch.topk, torch.Tensor.topk = self.stock

    def note(self, a, k, dim=-1, **keys):
        ordered = a.float().sort(dim=dim, descending=True).values.movedim(dim, -1)
        if k < ordered.shape[-1]:
            gap = ordered[..., k - 1] - ordered[..., k]
            # What is masked does not compete.
            gap = gap[torch.isfinite(gap) & (ordered[..., k] > -1e30)]
            if gap.numel():
                self.margins.append(float(gap.min()))
        return self.stock[1](a, k, dim=dim, **keys)


def scale_logits(model):
    """By the norm before the head."""
    norms = [value for path, value in model.named_parameters() if path.endswith("norm.weight") and "layers." not in path]
    assert len(norms) == 1, len(norms)
    with torch.no_grad():
        scale = LOGIT_STD / logits_of(model, torch.randint(0, VOCABULARY, (64,)).tolist()).std()
        if model.config.model_type.startswith(("qwen3_next", "qwen3_5")):
            norms[0].copy_((1 + norms[0]) * scale - 1)
        else:
            norms[0].mul_(scale)


def write_tokenizer(out, config):
    family = "glm" if "glm" in config.model_type else "qwen"
    make_tokenizer(family).save(str(out / "tokenizer.json"), pretty=False)
    text = json.dumps({"eos_token": SPECIALS[family][2], "chat_template": TEMPLATE}, indent=1)
    (out / "tokenizer_config.json").write_text(text + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--only", action="append", metavar="NAME", help="make these cases alone (a pattern; may be repeated)")
    parser.add_argument("--small", action="store_true", help="as small as the ones in the repository")
    parser.add_argument("--prompt", type=int, default=40)
    parser.add_argument("--decode", type=int, default=12)
    args = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(2)
    failed = []
    for name in cases():
        if args.only and not any(fnmatch.fnmatch(name, pattern) for pattern in args.only):
            continue
        try:
            print(make(name, args.out / name, args), flush=True)
        except Exception:
            print(f"{name}: {traceback.format_exc()}", file=sys.stderr, flush=True)
            failed.append(name)
    if failed:
        sys.exit(f"not made: {' '.join(failed)}")


if __name__ == "__main__":
    main()
