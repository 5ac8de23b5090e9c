"""The model card: says in plain words what the exported model is, from the run's own records."""

from __future__ import annotations

import json
from typing import Any

from model import Nano, sizes
from settings import HERE, WORK

MEASURED = WORK / "run" / "measured.json"


def card(config: dict[str, Any], model: Nano, meta: dict[str, Any]) -> str:
    """The text of model/README.md."""
    count, shape = sizes(model), config["model"]
    lines = [
        "# Demolish Nano",
        "",
        "A small Mixture-of-Experts model that fills in code. It is Demolish's default, made so that everything works without a",
        "download; put a bigger model in its place where the machine allows.",
        "",
        "| | |",
        "|---|---|",
        f"| Parameters | {count['total'] / 1e6:.1f} M, of which {count['embedding'] / 1e6:.1f} M are the tied embedding |",
        f"| Active per token | {count['active_without_embedding'] / 1e6:.1f} M without the embedding |",
        f"| Network | qwen3_moe: {shape['num_hidden_layers']} layers, width {shape['hidden_size']}, "
        f"{shape['num_experts']} experts, {shape['num_experts_per_tok']} per token |",
        f"| Vocabulary, context | {shape['vocab_size']} byte-level tokens, {shape['max_position_embeddings']} tokens |",
        f"| Weights | {config['export']['bits']}-bit affine, groups of {config['export']['group']}, float32 scales; embedding "
        f"{config['export']['embedding_bits']}-bit; router and norms float32 |",
        f"| Training | {meta['tokens'] / 1e6:.1f} M tokens, {meta['step']} steps, {meta['seconds'] / 60:.0f} minutes on "
        f"{config['train']['processes']} CPU cores, seed {config['train']['seed']} |",
        "",
    ]
    if MEASURED.exists():
        lines += measured(json.loads(MEASURED.read_text()))
    return "\n".join(lines) + "\n" + (HERE / "card.md").read_text()


def measured(record: dict[str, Any]) -> list[str]:
    """The tables of evaluate.py."""
    lines = [
        "## Measured on packages that training never saw",
        "",
        f"Checkpoint of {record['tokens'] / 1e6:.1f} M tokens, weights quantized as shipped. Bits per byte, lower is better; each file in",
        f"windows of {record['window']} tokens. The baselines are counted on the same training corpus "
        f"({record['baseline_bytes'] / 1e6:.0f} MB per language at most):",
        "interpolated Witten-Bell, order 5 (four symbols of context), over bytes and over this model's own tokens.",
        "",
        "| | model | before quantization | order-5 tokens | order-5 bytes |",
        "|---|---|---|---|---|",
    ]
    for language, row in record["bits_per_byte"].items():
        lines.append(f"| {language} | {row['model']:.3f} | {row['float']:.3f} | {row['tokens5']:.3f} | {row['bytes5']:.3f} |")
    lines += [
        "",
        f"Fill in the middle, greedy, {record['fim_count']} holes per language: the rest of a line from a random place in it, prefix and",
        "suffix given. Exact: all tokens of the rest of the line and the end after it are right. First: the first token is.",
        "",
        "| | suffix first: exact | first | no suffix: exact | first | prefix first: exact | first |",
        "|---|---|---|---|---|---|---|",
    ]
    for language, row in record["fim"].items():
        cells = [f"{row[layout][key]:.1%}" for layout in ("spm", "no_suffix", "psm") for key in ("exact", "first")]
        lines.append(f"| {language} | {' | '.join(cells)} |")
    return [*lines, ""]
