"""Reads config.toml, so that every size of an edition is data and a bigger model is one file away."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORK = Path(os.environ.get("NANO_WORK", ROOT / ".tools" / "nano-data"))
FETCH = WORK / "fetch"
LANGUAGES = ("python", "typescript", "rust", "go", "c", "sql", "lua")


@dataclass(frozen=True)
class Shape:
    """The sizes of the network; names follow the Hugging Face configuration."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    num_experts: int
    num_experts_per_tok: int
    moe_intermediate_size: int
    max_position_embeddings: int
    rope_theta: float
    rms_norm_eps: float


def load(path: Path | None = None) -> dict[str, Any]:
    """The whole configuration of an edition (NANO_CONFIG or config.toml)."""
    chosen = path or Path(os.environ.get("NANO_CONFIG", HERE / "config.toml"))
    return tomllib.loads(chosen.read_text())


def shape(config: dict[str, Any]) -> Shape:
    """The network's sizes out of a configuration."""
    return Shape(**config["model"])
