"""What mlx-lm makes of a checkpoint, against what `demolish model quantize` made of it.

    quantize.py SRC OURS LOGITS --bits 4 --group 32 [--mode affine] [--recipe mixed_4_6]

Converts SRC with mlx_lm itself, compares names, types, shapes and bytes of all tensors and the entry `quantization` of config.json, and
writes the logits that mlx-lm computes with OURS, position by position, for the tokens 1 to 12, as float32 into LOGITS. Prints what
differs; exits with 1 if anything does."""

import argparse
import json
import pathlib
import sys
import tempfile

import mlx.core as mx

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from oracle import corrections  # noqa: E402

from mlx_lm import utils  # noqa: E402
from mlx_lm.convert import mixed_quant_predicate_builder  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("ours", type=pathlib.Path)
    parser.add_argument("logits", type=pathlib.Path)
    parser.add_argument("--bits", type=int)
    parser.add_argument("--group", type=int)
    parser.add_argument("--mode", default="affine")
    parser.add_argument("--recipe")
    args = parser.parse_args()
    mx.set_default_device(mx.cpu)
    corrections.apply()
    with tempfile.TemporaryDirectory() as folder:
        theirs = pathlib.Path(folder) / "theirs"
        config = convert(args, theirs)
        wrong = differences(tensors(theirs), tensors(args.ours))
    said = json.loads((args.ours / "config.json").read_text())
    for key in ("quantization", "quantization_config"):
        if named(said[key]) != named(config[key]):
            wrong.append(f"config.json {key}: {said[key]} is not {config[key]}")
    model, _ = utils.load_model(args.ours, lazy=False)
    logits = model(mx.array([list(range(1, 13))])).astype(mx.float32)
    mx.eval(logits)
    args.logits.write_bytes(bytes(memoryview(logits)))
    print("\n".join(wrong))
    sys.exit(bool(wrong))


def convert(args, target):
    """As mlx_lm.convert does it, without the tokenizer."""
    # Not strict: some sources have a layer of another kind behind the last one, which mlx-lm drops where it knows its number alone.
    model, config = utils.load_model(args.source, lazy=True, strict=False)
    dtype = config.get("torch_dtype") or config.get("text_config", {}).get("dtype")
    if dtype:
        keep = getattr(model, "cast_predicate", lambda _: True)
        cast = lambda k, v: v.astype(getattr(mx, dtype)) if keep(k) and mx.issubdtype(v.dtype, mx.floating) else v
        from mlx.utils import tree_map_with_path

        model.update(tree_map_with_path(cast, model.parameters()))
    predicate = mixed_quant_predicate_builder(args.recipe, model, args.group) if args.recipe else None
    model, config = utils.quantize_model(model, config, args.group, args.bits, mode=args.mode, quant_predicate=predicate)
    utils.save_model(target, model)
    return config


def tensors(folder):
    found = {}
    for path in sorted(folder.glob("model*.safetensors")):
        found.update(mx.load(str(path)))
    return found


def differences(theirs, ours):
    wrong = [f"{name} is missing" for name in theirs.keys() - ours.keys()]
    wrong += [f"{name} is too many" for name in ours.keys() - theirs.keys()]
    for name in sorted(theirs.keys() & ours.keys()):
        one, other = theirs[name], ours[name]
        if (one.dtype, one.shape) != (other.dtype, other.shape):
            wrong.append(f"{name}: {other.dtype} {other.shape} is not {one.dtype} {one.shape}")
        elif not mx.array_equal(one.view(mx.uint8), other.view(mx.uint8)):
            wrong.append(f"{name} differs")
    return wrong


def named(quantization):
    """mlx-lm leaves the mode out where it is affine."""
    usual = lambda entry: {"mode": "affine", **entry} if isinstance(entry, dict) else entry
    return {key: usual(entry) for key, entry in quantization.items()}


if __name__ == "__main__":
    main()
