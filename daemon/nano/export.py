"""Writes a checkpoint as a model folder in MLX's own format, whole or not at all.

The folder is built beside its place and renamed, so that a reader never finds half a model.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

from card import card
from fakequant import bits_of
from model import Nano, published
from settings import HERE, WORK, load, shape
from tokens import PATH, SPECIALS

TEMPLATE = (
    "{% if tools %}<|im_start|>system\n{% if messages[0].role == 'system' %}{{ messages[0].content }}\n\n{% endif %}"
    "# Tools\n\n<tools>\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}</tools><|im_end|>\n{% endif %}"
    "{% for message in messages %}"
    "{% if message.role == 'tool' %}<|im_start|>user\n<tool_response>\n{{ message.content }}\n</tool_response><|im_end|>\n"
    "{% elif not (tools and loop.first and message.role == 'system') %}<|im_start|>{{ message.role }}\n{{ message.content or '' }}"
    "{% for call in message.tool_calls or [] %}{% set tool_call = call.function or call %}"
    '<tool_call>\n{"name": "{{ tool_call.name }}", "arguments": '
    "{{ tool_call.arguments if tool_call.arguments is string else tool_call.arguments | tojson }}}\n</tool_call>"
    "{% endfor %}<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def pack(weight: Tensor, bits: int, group: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """MLX affine quantization: (packed uint32, scales, biases), little-endian bit order within each word."""
    lead = weight.shape[:-1]
    rows = weight.reshape(-1, weight.shape[-1] // group, group)
    low, high = rows.amin(-1), rows.amax(-1)
    levels = 2**bits - 1
    scale = ((high - low) / levels).clamp(min=1e-7)
    side = low.abs() > high.abs()
    scale = torch.where(side, scale, -scale)
    edge = torch.where(side, low, high)
    zero = (edge / scale).round()
    scale = torch.where(zero != 0, edge / zero, scale)
    bias = torch.where(zero != 0, edge, torch.zeros_like(edge))
    codes = ((rows - bias[..., None]) / scale[..., None]).round().clamp(0, levels).reshape(-1, 32 // bits).numpy().astype(np.uint32)
    shifts = np.arange(0, 32, bits, dtype=np.uint32)
    words = np.bitwise_or.reduce(codes << shifts, axis=1)
    return words.reshape(*lead, -1), scale.numpy().reshape(*lead, -1), bias.numpy().reshape(*lead, -1)


def mlx_name(name: str) -> str:
    """The parameter's path in mlx-lm's qwen3_moe, without `.weight`."""
    for part in ("gate_proj", "up_proj", "down_proj"):
        name = name.replace(f"mlp.{part}", f"mlp.switch_mlp.{part}")
    return f"model.{name}"


def tensors(model: Nano, export: dict[str, Any], quantize: bool) -> dict[str, np.ndarray]:
    """Every tensor of the folder's safetensors file."""
    out: dict[str, np.ndarray] = {}
    for name, weight in published(model.shape, model.named_parameters()):
        path = mlx_name(name)
        value = weight.detach().float()
        bits = bits_of(name, export) if quantize else None
        if bits:
            out[f"{path}.weight"], out[f"{path}.scales"], out[f"{path}.biases"] = pack(value, bits, export["group"])
        else:
            out[f"{path}.weight"] = value.numpy()
    return {name: np.ascontiguousarray(value) for name, value in sorted(out.items())}


def model_config(config: dict[str, Any], quantize: bool) -> dict[str, Any]:
    sizes, export = shape(config), config["export"]
    out: dict[str, Any] = {
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe",
        "attention_bias": False,
        "bos_token_id": None,
        "decoder_sparse_step": 1,
        "eos_token_id": SPECIALS.index("<|endoftext|>"),
        "hidden_act": "silu",
        "intermediate_size": sizes.moe_intermediate_size * sizes.num_experts_per_tok,
        "mlp_only_layers": [],
        "norm_topk_prob": True,
        "rope_scaling": None,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "use_cache": True,
    } | {key: getattr(sizes, key) for key in sizes.__dataclass_fields__}
    if quantize:
        base = {"group_size": export["group"], "bits": export["bits"], "mode": "affine"}
        paths: dict[str, Any] = {"model.embed_tokens": base | {"bits": export["embedding_bits"]}}
        paths |= {f"model.layers.{layer}.mlp.gate": False for layer in range(sizes.num_hidden_layers)}
        out["quantization"] = base | paths
        out["quantization_config"] = out["quantization"]
    return dict(sorted(out.items()))


def tokenizer_config(config: dict[str, Any]) -> dict[str, Any]:
    return {
        "added_tokens_decoder": {
            str(index): {"content": name, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
            for index, name in enumerate(SPECIALS)
        },
        "additional_special_tokens": list(SPECIALS[1:]),
        "add_prefix_space": False,
        "bos_token": None,
        "chat_template": TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|endoftext|>",
        "fim_suffix_first": True,  # Demolish reads this; other loaders pass over it
        "model_max_length": config["model"]["max_position_embeddings"],
        "pad_token": "<|fim_pad|>",
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": None,
    }


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write(folder: Path, model: Nano, config: dict[str, Any], quantize: bool = True, readme: str | None = None) -> None:
    """Writes the folder beside its place and swaps it in."""
    fresh, old = folder.with_name(folder.name + ".fresh"), folder.with_name(folder.name + ".old")
    for stale in (fresh, old):
        shutil.rmtree(stale, ignore_errors=True)
    fresh.mkdir(parents=True)
    save_file(tensors(model, config["export"], quantize), fresh / "model.safetensors", metadata={"format": "mlx"})
    (fresh / "model.safetensors").chmod(0o644)
    write_json(fresh / "config.json", model_config(config, quantize))
    write_json(fresh / "tokenizer_config.json", tokenizer_config(config))
    ends = [SPECIALS.index("<|endoftext|>"), SPECIALS.index("<|im_end|>")]
    write_json(fresh / "generation_config.json", {"eos_token_id": ends, "pad_token_id": SPECIALS.index("<|fim_pad|>")})
    (fresh / "chat_template.jinja").write_text(TEMPLATE)
    shutil.copy(PATH, fresh / "tokenizer.json")
    if readme:
        (fresh / "README.md").write_text(readme)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def unpack(folder: Path, model: Nano, export: dict[str, Any]) -> None:
    """Fills a model with the weights of an exported folder, as far as their rounding lets them be known."""
    stored = load_file(folder / "model.safetensors")
    with torch.no_grad():
        for name, weight in published(model.shape, model.named_parameters()):
            path = mlx_name(name)
            value = torch.from_numpy(stored[f"{path}.weight"] if f"{path}.weight" in stored else stored[path])
            if f"{path}.scales" in stored:
                bits = bits_of(name, export)
                shifts = torch.arange(0, 32, bits or 32)
                codes = (value.view(torch.int32).long().unsqueeze(-1) >> shifts) & (2 ** (bits or 32) - 1)
                groups = codes.reshape(*value.shape[:-1], -1, export["group"]).float()
                scales, biases = (torch.from_numpy(stored[f"{path}.{part}"]).unsqueeze(-1) for part in ("scales", "biases"))
                value = (groups * scales + biases).flatten(-2)
            weight.copy_(value)


def restore(config: dict[str, Any], checkpoint: Path) -> tuple[Nano, dict[str, Any]]:
    """A model and its training record out of a checkpoint, or out of an exported folder, which has no record."""
    model = Nano(shape(config))
    if checkpoint.is_dir():
        unpack(checkpoint, model, config["export"])
        return model.eval(), {"step": 0, "rows": 0, "tokens": 0, "seconds": 0.0}
    saved = torch.load(checkpoint, weights_only=False, map_location="cpu")
    model.load_state_dict(saved["model"])
    return model.eval(), saved["meta"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=WORK / "run" / "latest.pt")
    parser.add_argument("--to", type=Path, default=HERE / "model")
    parser.add_argument("--plain", action="store_true", help="float32 without quantization, for comparison")
    args = parser.parse_args()
    config = load()
    model, meta = restore(config, args.checkpoint)
    write(args.to, model, config, not args.plain, card(config, model, meta))
    size = (args.to / "model.safetensors").stat().st_size
    print(f"{args.to}: step {meta['step']}, {meta['tokens'] / 1e6:.1f} M tokens, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
