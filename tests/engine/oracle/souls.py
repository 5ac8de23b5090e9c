"""LoRA adapters for checkpoints that are there, as mlx-lm trains and loads them, and what mlx-lm computes with them.

    .tools/oracle/bin/python tests/engine/make_souls.py [--out DIR] [--fixtures DIR] [--seed N] [--only NAME]

Each case is a directory with `adapters.safetensors` and `adapter_config.json`, as mlx-lm saves them, and `ref.safetensors` as a
checkpoint has it (`make.py`). It is called after the checkpoint that it lies on.
"""

import argparse
import pathlib

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map_with_path
from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear
from mlx_lm.tuner.utils import linear_to_lora_layers, load_adapters
from mlx_lm.utils import load_model

from . import corrections
from .make import reference, write_json
from .tokens import VOCABULARY

LINEAR = (nn.Linear, nn.QuantizedLinear, SwitchLinear, QuantizedSwitchLinear)
# What an adapter changes should be seen in every logit, and leave the text as varied as before.
STRENGTH = 0.6

# The checkpoint, the layers from the last one on, the rank, and what is left out.
CASES = {
    "qwen3_moe-q4": (3, 4, ()),
    "qwen3_moe-mixed": (1, 2, ()),
    "glm4_moe-f32": (2, 3, ()),
    "llama-q6": (2, 8, ("self_attn.k_proj",)),
    "deepseek_v3-q4": (2, 4, ()),
    "gpt_oss-mxfp4": (2, 4, ()),
    "qwen3_next-q4": (4, 4, ()),
}


def make(name, base, out, seed):
    layers, rank, without = CASES[name]
    mx.random.seed(seed)
    model, config = load_model(base)
    every = [path for path, module in model.layers[-1].named_modules() if isinstance(module, LINEAR)]
    for layer in model.layers:
        every += [path for path, module in layer.named_modules() if isinstance(module, LINEAR)]
    keys = sorted(set(every) - set(without)) + ([] if config.get("tie_word_embeddings") else ["lm_head"])
    parameters = {"rank": rank, "scale": 4.0, "dropout": 0.0, "keys": keys}
    model.freeze()
    linear_to_lora_layers(model, layers, parameters)
    weights = dict(tree_flatten(tree_map_with_path(draw, model.trainable_parameters())))
    out.mkdir(parents=True, exist_ok=True)
    mx.save_safetensors(str(out / "adapters.safetensors"), weights)
    write_json(out / "adapter_config.json", {"fine_tune_type": "lora", "num_layers": layers, "lora_parameters": parameters})
    model, _ = load_model(base)
    plain = reference(model, [1, 2, 3], 1)["prefill"]
    load_adapters(model, str(out))
    model.eval()
    assert float(mx.max(mx.abs(reference(model, [1, 2, 3], 1)["prefill"] - plain))) > 0.1, name
    prompt = [int(token) for token in mx.random.randint(0, VOCABULARY, (40,))]
    ref = reference(model, prompt, 8)
    mx.save_safetensors(str(out / "ref.safetensors"), ref)
    distinct = len(set(ref["greedy"].tolist()))
    size = sum(file.stat().st_size for file in out.iterdir())
    return f"{name}: {size >> 10} KiB, {len(weights) // 2} overlays, {distinct} distinct greedy tokens, margin {float(ref['margin']):.1e}"


def draw(path, value):
    """Both halves are drawn: mlx-lm begins with a `lora_b` of zeros, which would change nothing."""
    deviation = STRENGTH / value.shape[-1] ** 0.5 if path.endswith("lora_a") else STRENGTH / 10
    return mx.random.normal(value.shape) * deviation


def main():
    here = pathlib.Path(__file__).parent.parent / "fixtures"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=here / "souls")
    parser.add_argument("--fixtures", type=pathlib.Path, default=here)
    parser.add_argument("--seed", type=int, default=21)
    parser.add_argument("--only")
    args = parser.parse_args()
    mx.set_default_device(mx.cpu)
    corrections.apply()
    for name in CASES:
        if args.only in (None, name):
            print(make(name, args.fixtures / name, args.out / name, args.seed), flush=True)
