"""A layer that drafts, behind the last one of checkpoints that are there, and what it drafts. mlx-lm has no such layers, so this is
written after DeepSeek-V3's report (section 2.2) and vLLM's order of operations, with mlx-lm's decoder layer as the block.

    .tools/oracle/bin/python tests/engine/make_mtp.py [--out DIR] [--fixtures DIR] [--seed N]

A directory holds its checkpoint's files with the new layer in them, and to its `ref.safetensors` come
    mtp            [N, V]   logits of the drafted tokens behind the prompt's last token, which the model itself has not read
    mtp_drafts     [N]      the tokens, each the likeliest
"""

import argparse
import json
import math
import pathlib
import shutil

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map_with_path
from mlx_lm.models import deepseek_v3, glm4_moe
from mlx_lm.models.base import create_causal_mask
from mlx_lm.utils import load_model

from . import corrections
from .make import write_json

# The layers that draft are like the last ones of these.
BLOCKS = {"glm4_moe-q4": glm4_moe.DecoderLayer, "deepseek_v3-q4": deepseek_v3.DeepseekV3DecoderLayer}
DRAFT_LEN = 4
PACKING = dict(group_size=32, bits=4)


class Mtp(nn.Module):
    def __init__(self, args, block):
        super().__init__()
        self.enorm = nn.RMSNorm(args.hidden_size, args.rms_norm_eps)
        self.hnorm = nn.RMSNorm(args.hidden_size, args.rms_norm_eps)
        self.eh_proj = nn.Linear(2 * args.hidden_size, args.hidden_size, bias=False)
        self.block = block(args, args.num_hidden_layers)
        self.norm = nn.RMSNorm(args.hidden_size, args.rms_norm_eps)

    def __call__(self, embedded, before):
        joint = self.eh_proj(mx.concatenate([self.enorm(embedded), self.hnorm(before)], axis=-1))
        return self.block(joint, create_causal_mask(joint.shape[1]))


def draw(path, value):
    if path.endswith("norm.weight"):
        return 1 + 0.2 * mx.random.normal(value.shape)
    if path.endswith("e_score_correction_bias"):
        return 0.5 * mx.random.normal(value.shape) - 0.6
    if path.endswith(".bias"):
        return 0.3 * mx.random.normal(value.shape)
    return mx.random.normal(value.shape) * (1.3 / math.sqrt(value.shape[-1]))


def make(base, block, out, seed):
    mx.random.seed(seed)
    model, config = load_model(base)
    mtp = Mtp(model.args, block)
    mtp.update(tree_map_with_path(draw, mtp.parameters()))
    mtp.norm.weight = model.model.norm.weight * mtp.norm.weight
    # As the base: mlx-lm's routers are no linear maps and stay as they are.
    nn.quantize(mtp, **PACKING, class_predicate=lambda path, module: hasattr(module, "to_quantized"))
    ref = dict(mx.load(str(base / "ref.safetensors")))
    ref |= drafts(model, mtp, ref["prompt"].tolist())
    layer = f"model.layers.{config['num_hidden_layers']}."
    names = {"block.": layer, "norm.": f"{layer}shared_head.norm."}
    weights = dict(mx.load(str(base / "model.safetensors")))
    for name, value in tree_flatten(mtp.parameters()):
        start = next((start for start in names if name.startswith(start)), "")
        weights[names.get(start, layer) + name[len(start) :]] = value
    out.mkdir(parents=True, exist_ok=True)
    for file in base.iterdir():
        shutil.copy(file, out)
    mx.save_safetensors(str(out / "model.safetensors"), weights, metadata={"format": "mlx"})
    mx.save_safetensors(str(out / "ref.safetensors"), ref)
    write_json(out / "config.json", {**json.loads((base / "config.json").read_text()), "num_nextn_predict_layers": 1})


def drafts(model, mtp, prompt):
    """Everything anew for each token. The model reads all of the prompt but its last token."""
    inner = model.model
    made = inner(mx.array(prompt[:-1])[None])
    before = mx.concatenate([mx.zeros_like(made[:, :1]), made], axis=1)
    tokens, rows = list(prompt), []
    for _ in range(DRAFT_LEN):
        hidden = mtp(inner.embed_tokens(mx.array(tokens)[None]), before)
        rows.append(model.lm_head(mtp.norm(hidden))[0, -1])
        tokens.append(int(mx.argmax(rows[-1])))
        before = mx.concatenate([before, hidden[:, -1:]], axis=1)
    return {"mtp": mx.stack(rows), "mtp_drafts": mx.array(tokens[len(prompt) :], dtype=mx.int32)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    folder = pathlib.Path(__file__).parent.parent / "fixtures"
    parser.add_argument("--out", type=pathlib.Path, default=folder)
    parser.add_argument("--fixtures", type=pathlib.Path, default=folder)
    parser.add_argument("--seed", type=int, default=20)
    args = parser.parse_args()
    mx.set_default_device(mx.cpu)
    corrections.apply()
    for name, block in BLOCKS.items():
        make(args.fixtures / name, block, args.out / f"{name}-mtp", args.seed)
