#!/usr/bin/env python3
"""Makes tiny random checkpoints with mlx-lm's own classes, and what mlx-lm computes with them.

    python3 -m venv .tools/oracle && .tools/oracle/bin/pip install -r tests/engine/requirements.txt
    .tools/oracle/bin/python tests/engine/make_fixtures.py [--out DIR] [--seed N] [--only NAME] [--hidden N …]

Each case is a model directory that any MLX engine can load, plus `ref.safetensors`:
    prompt         [L]      token ids
    prefill        [L, V]   logits of one pass over the prompt
    chunked        [V]      logits of its last position when the prompt is fed in chunks of 7
    greedy         [N]      the tokens that greedy decoding finds
    decode         [N, V]   the logits that each of them was taken from
The committed fixtures are those of the default arguments; `cargo test -p engine` compares the engine with them. mlx-lm 0.32.1
and 0.32.2 cannot run quantized experts on MLX 0.32.2, hence 0.32.0.
"""

import argparse
import importlib
import json
import math
import pathlib

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map_with_path
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import quantize_model
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

SPECIALS = {
    "qwen": ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|file_sep|>"],
    "glm": ["<|endoftext|>", "<|user|>", "<|assistant|>", "<|observation|>", "<|code_prefix|>", "<|code_middle|>", "<|code_suffix|>", "<|system|>"],
}
MERGES = [("Ġ", "Ġ"), ("ĠĠ", "ĠĠ"), ("r", "e"), ("re", "t"), ("i", "n"), ("e", "r"), ("d", "e"), ("de", "f")]
# 256 bytes, the merges, the special tokens.
VOCABULARY = 256 + len(MERGES) + 8
# mlx-lm's default initialisation gives near-ties everywhere, and a greedy test without meaning.
LOGIT_STD = 2.5


def base(args, **extra):
    config = dict(
        hidden_size=args.hidden, num_hidden_layers=3, intermediate_size=2 * args.hidden, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, vocab_size=VOCABULARY, rms_norm_eps=1e-6, rope_theta=10000.0,
        max_position_embeddings=512, tie_word_embeddings=False,
    )
    config.update(extra)
    return config


def qwen3_moe(args, **extra):
    moe = dict(
        model_type="qwen3_moe", num_experts=args.experts, num_experts_per_tok=2, decoder_sparse_step=1, mlp_only_layers=[1],
        moe_intermediate_size=32, norm_topk_prob=True,
    )
    return base(args, **{**moe, **extra})


def glm4_moe(args, **extra):
    moe = dict(
        model_type="glm4_moe", moe_intermediate_size=32, norm_topk_prob=True, n_group=1, topk_group=1, n_shared_experts=1,
        n_routed_experts=args.experts, routed_scaling_factor=2.5, num_experts_per_tok=2, first_k_dense_replace=1,
        rope_scaling=None, use_qk_norm=True, attention_bias=True, partial_rotary_factor=0.5, rms_norm_eps=1e-5,
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
    """name: (config, quantization or None, shards, dtype)"""
    q4 = dict(bits=4, group_size=32)
    return {
        "qwen3_moe-f32": (qwen3_moe(args, num_hidden_layers=2, mlp_only_layers=[], tie_word_embeddings=True), None, 1, mx.float32),
        "qwen3_moe-q4": (qwen3_moe(args), q4, 1, mx.float32),
        "qwen3_moe-mixed": (qwen3_moe(args, norm_topk_prob=False, decoder_sparse_step=2, mlp_only_layers=[]), dict(q4, predicate=mixed), 3, mx.float32),
        "qwen3_moe-q4-bf16": (qwen3_moe(args), q4, 1, mx.bfloat16),
        "glm4_moe-f32": (glm4_moe(args, num_hidden_layers=2, num_experts_per_tok=3, n_group=4, topk_group=2), None, 1, mx.float32),
        "glm4_moe-q4": (glm4_moe(args, use_qk_norm=False), q4, 1, mx.float32),
        "glm4_moe-q3": (glm4_moe(args, n_group=2, topk_group=1), dict(bits=3, group_size=32), 1, mx.float32),
        "qwen3-q8-tied": (base(args, model_type="qwen3", num_hidden_layers=2, tie_word_embeddings=True), dict(bits=8, group_size=32), 1, mx.float32),
        "qwen2-q4": (base(args, model_type="qwen2", num_hidden_layers=2), q4, 1, mx.float32),
        "llama-q6": (base(args, model_type="llama", num_hidden_layers=2, rope_scaling=LLAMA3), dict(bits=6, group_size=32), 1, mx.float32),
    }


def make_tokenizer(family):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(alphabet + [a + b for a, b in MERGES])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=MERGES))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    # Published tokenizers do not call their fill-in-the-middle tokens special.
    tokenizer.add_tokens([AddedToken(name, special="fim" not in name and "code" not in name) for name in SPECIALS[family]])
    return tokenizer


def randomise(model, dtype):
    """Weights that make experts, heads and positions matter."""

    def draw(path, value):
        if path.endswith("norm.weight"):
            return 1 + 0.2 * mx.random.normal(value.shape)
        if path.endswith("e_score_correction_bias"):
            return 0.3 * mx.random.normal(value.shape)
        if path.endswith(".bias"):
            return 0.3 * mx.random.normal(value.shape)
        return mx.random.normal(value.shape) * (1.3 / math.sqrt(value.shape[-1]))

    model.update(tree_map_with_path(draw, model.parameters()))
    logits = model(mx.random.randint(0, VOCABULARY, (1, 64)))
    model.model.norm.weight = model.model.norm.weight * (LOGIT_STD / mx.std(logits))
    keep = getattr(model, "cast_predicate", lambda path: True)
    model.update(tree_map_with_path(lambda path, value: value.astype(dtype) if keep(path) else value, model.parameters()))
    mx.eval(model.parameters())


def reference(model, prompt, decode_len):
    ids = mx.array(prompt)[None]
    prefill = model(ids, cache=make_prompt_cache(model))[0]
    cache = make_prompt_cache(model)
    for start in range(0, len(prompt), 7):
        chunked = model(ids[:, start : start + 7], cache=cache)[0, -1]
    decode, greedy = [], []
    logits = chunked
    for _ in range(decode_len):
        decode.append(logits)
        greedy.append(int(mx.argmax(logits)))
        logits = model(mx.array([[greedy[-1]]]), cache=cache)[0, -1]
    floats = dict(prefill=prefill, chunked=chunked, decode=mx.stack(decode))
    return {
        "prompt": mx.array(prompt, dtype=mx.int32), "greedy": mx.array(greedy, dtype=mx.int32),
        **{name: value.astype(mx.float32) for name, value in floats.items()},
    }


def save(model, config, out, shards):
    weights = dict(tree_flatten(model.parameters()))
    if config.get("tie_word_embeddings"):
        weights.pop("lm_head.weight", None)
    names = sorted(weights)
    size = -(-len(names) // shards)
    index = {}
    for shard in range(shards):
        name = "model.safetensors" if shards == 1 else f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = {key: weights[key] for key in names[shard * size : (shard + 1) * size]}
        index.update({key: name for key in part})
        mx.save_safetensors(str(out / name), part, metadata={"format": "mlx"})
    if shards > 1:
        write_json(out / "model.safetensors.index.json", {"metadata": {}, "weight_map": index})


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1) + "\n")


def make(name, config, quantization, shards, dtype, out, args):
    mx.random.seed(args.seed)
    architecture = importlib.import_module(f"mlx_lm.models.{config['model_type']}")
    model = architecture.Model(architecture.ModelArgs.from_dict(config))
    randomise(model, dtype)
    if quantization:
        bits, group = quantization["bits"], quantization["group_size"]
        predicate = quantization.get("predicate")
        model, config = quantize_model(model, config, group, bits, quant_predicate=predicate)
    model.eval()
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("model*"):
        old.unlink()
    save(model, config, out, shards)
    family = "glm" if "glm" in config["model_type"] else "qwen"
    tokenizer = make_tokenizer(family)
    assert tokenizer.get_vocab_size() == VOCABULARY
    eos = [tokenizer.token_to_id(special) for special in SPECIALS[family][:3]]
    config.update(architectures=["Tiny"], eos_token_id=eos[0])
    write_json(out / "config.json", config)
    write_json(out / "generation_config.json", {"eos_token_id": eos[:2]})
    tokenizer.save(str(out / "tokenizer.json"), pretty=False)
    template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
    write_json(out / "tokenizer_config.json", {"eos_token": SPECIALS[family][2], "chat_template": template})
    prompt = [int(token) for token in mx.random.randint(0, VOCABULARY, (args.prompt,))]
    ref = reference(model, prompt, args.decode)
    mx.save_safetensors(str(out / "ref.safetensors"), ref)
    size = sum(file.stat().st_size for file in out.iterdir())
    distinct = len(set(ref["greedy"].tolist()))
    print(f"{name}: {size >> 10} KiB, logits std {float(mx.std(ref['prefill'])):.2f}, {distinct} distinct greedy tokens")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent / "fixtures")
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--only", help="make this case alone")
    parser.add_argument("--hidden", type=int, default=64, help="a multiple of 64")
    parser.add_argument("--experts", type=int, default=8, help="a multiple of 4")
    parser.add_argument("--prompt", type=int, default=40, help="length of the prompt")
    parser.add_argument("--decode", type=int, default=12, help="number of greedy tokens")
    args = parser.parse_args()
    mx.set_default_device(mx.cpu)
    for name, case in cases(args).items():
        if args.only in (None, name):
            make(name, *case, args.out / name, args)


if __name__ == "__main__":
    main()
