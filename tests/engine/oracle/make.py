"""Makes a case's directory: weights, configuration, tokenizer, and the reference's logits."""

import contextlib
import importlib
import io
import json
import math
import time

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map, tree_map_with_path
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import MODEL_REMAPPING, quantize_model

from .packed import packed_reference
from .tokens import SPECIALS, TEMPLATE, VOCABULARY, make_tokenizer

# The length of the pieces that a prompt is fed in, for the logits of chunked prefill.
CHUNK_LEN = 7
# Seeds that are tried for a model whose greedy tokens vary; one in a loop would test little.
ATTEMPTS_MAX = 8
# How far apart the last chosen and the first dropped expert (or position of sparse attention) have to be in fp32, so that other
# arithmetic than mlx-lm's chooses the same.
MARGIN_MIN = 1e-5


def make(name, case, out, args):
    """Writes the directory `out`; returns a line about it."""
    start = time.monotonic()
    for attempt in range(ATTEMPTS_MAX):
        mx.random.seed(args.seed + 1000 * attempt)
        model, config = build(case)
        prompt = [int(token) for token in mx.random.randint(0, VOCABULARY, (case.prompt or args.prompt,))]
        ref = reference(model, prompt, case.decode or args.decode)
        distinct = len(set(ref["greedy"].tolist()))
        if case.dtype == mx.float32:
            ref["noise"] = noise(model, prompt, ref["prefill"])
        is_clear = case.dtype != mx.float32 or float(ref["margin"]) > MARGIN_MIN and float(ref["noise"]) < noise_max(case)
        if 2 * distinct > len(ref["greedy"]) and is_clear:
            break
    if case.packed:
        ref |= packed_reference(model, prompt, ref["greedy"].tolist())
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("model*"):
        old.unlink()
    save(model, config, out, case)
    write_config(config, case, out)
    mx.save_safetensors(str(out / "ref.safetensors"), ref)
    size = sum(file.stat().st_size for file in out.iterdir())
    std = float(mx.std(ref["prefill"]))
    assert math.isfinite(std), name
    return f"{name}: {size >> 10} KiB, logits std {std:.2f}, {distinct} distinct greedy tokens, {time.monotonic() - start:.1f} s"


def noise(model, prompt, prefill):
    """How far the logits move when every weight is rounded otherwise in its last bit: what other arithmetic may move them by."""
    weights = model.parameters()
    worst = mx.array(0.0)
    for _ in range(2):
        rounded = lambda value: value * (1 + 6e-8 * mx.random.normal(value.shape)) if value.dtype == mx.float32 else value
        model.update(tree_map(rounded, weights))
        logits = model(mx.array(prompt)[None], cache=make_prompt_cache(model))[0].astype(mx.float32)
        worst = mx.maximum(worst, mx.abs(logits - prefill).max())
        mx.eval(worst)
    model.update(weights)
    return worst


def noise_max(case):
    """Half of what the tests allow other arithmetic; nothing is asked of it where values are rounded to 4 bits."""
    if case.config["model_type"].startswith("deepseek_v41"):
        return math.inf
    return 2.5e-4 if case.config["model_type"].startswith(("qwen3_next", "qwen3_5")) else 5e-5


def build(case):
    """The random model, quantized, and its `config.json`."""
    kind = case.config["model_type"]
    if case.classes:
        model_class, args_class = case.classes()
    else:
        architecture = importlib.import_module(f"mlx_lm.models.{MODEL_REMAPPING.get(kind, kind)}")
        model_class, args_class = architecture.Model, architecture.ModelArgs
    model, config = model_class(args_class.from_dict(case.config)), case.config
    randomise(model, case)
    if case.quantization:
        # mlx-lm reports the bits per weight.
        with contextlib.redirect_stdout(io.StringIO()):
            model, config = quantize_model(model, config, **case.quantization)
    if case.settle:
        settled = case.settle(dict(tree_flatten(model.parameters())))
        model.load_weights(list(settled.items()), strict=False)
    model.eval()
    return model, config


def randomise(model, case):
    """Weights that make experts, heads and positions matter: mlx-lm's own initialisation gives near-ties everywhere, and a
    greedy test without meaning."""

    def draw(path, value):
        own = case.draw(path, value) if case.draw else None
        if own is not None:
            return own
        if path.endswith("norm.weight"):
            return 1 + 0.2 * mx.random.normal(value.shape)
        if path.endswith("e_score_correction_bias"):
            # Many scores are negative with it: then it matters that experts of dropped groups are out of the question.
            return 0.5 * mx.random.normal(value.shape) - 0.6
        if path.endswith((".bias", "sinks")):
            return 0.3 * mx.random.normal(value.shape)
        return mx.random.normal(value.shape) * (1.3 / math.sqrt(value.shape[-1]))

    model.update(tree_map_with_path(draw, model.parameters()))
    logits = model(mx.random.randint(0, VOCABULARY, (1, 64)))
    final = final_norm(model)
    scale = case.logit_std / mx.std(logits)
    model.update(tree_map_with_path(lambda path, value: value * scale if path == final else value, model.parameters()))
    keep = getattr(model, "cast_predicate", lambda path: True)
    model.update(tree_map_with_path(lambda path, value: value.astype(case.dtype) if keep(path) else value, model.parameters()))
    mx.eval(model.parameters())


def final_norm(model):
    """The path of the norm before the head, whose scale is that of the logits."""
    paths = [path for path, _ in tree_flatten(model.parameters())]
    finals = [path for path in paths if path.endswith("model.norm.weight") and "layers." not in path]
    assert len(finals) == 1, finals
    return finals[0]


def reference(model, prompt, decode_len):
    """
    prompt         [L]      token ids
    prefill        [L, V]   logits of one pass over the prompt
    chunked        [L, V]   the same when the prompt is fed in chunks of 7
    greedy         [N]      the tokens that greedy decoding finds
    decode         [N, V]   the logits that each of them was taken from
    margin         []       the least difference of scores that decided what was chosen
    noise          []       how far the logits move with the last bits of fp32 weights (added by `make`)
    """
    margins = []
    with recorded_margins(margins):
        floats, greedy = logits_of(model, prompt, decode_len)
        floats["margin"] = mx.min(mx.array([math.inf] + [float(mx.min(margin)) for margin in margins]))
    return {
        "prompt": mx.array(prompt, dtype=mx.int32), "greedy": mx.array(greedy, dtype=mx.int32),
        **{name: value.astype(mx.float32) for name, value in floats.items()},
    }


@contextlib.contextmanager
def recorded_margins(margins):
    """Notes at each choice how far apart the numbers on both sides of its border are."""
    choose = mx.argpartition

    def noting(a, kth, axis=-1, **keys):
        ordered = mx.moveaxis(mx.sort(a.astype(mx.float32), axis=axis), axis, -1)
        # Whoever takes the k best of -scores gives k - 1, whoever takes the last k gives -k.
        border = kth + 1 if kth >= 0 else ordered.shape[-1] + kth
        if 0 < border < ordered.shape[-1]:
            gap = ordered[..., border] - ordered[..., border - 1]
            margins.append(mx.where(mx.isfinite(gap), gap, math.inf))
        return choose(a, kth, axis=axis, **keys)

    mx.argpartition = noting
    try:
        yield
    finally:
        mx.argpartition = choose


def logits_of(model, prompt, decode_len):
    ids = mx.array(prompt)[None]
    prefill = model(ids, cache=make_prompt_cache(model))[0]
    cache = make_prompt_cache(model)
    chunked = []
    for start in range(0, len(prompt), CHUNK_LEN):
        chunked.append(model(ids[:, start : start + CHUNK_LEN], cache=cache)[0])
        mx.eval(chunked[-1])
    chunked = mx.concatenate(chunked)
    decode, greedy = [], []
    logits = chunked[-1]
    for _ in range(decode_len):
        decode.append(logits)
        greedy.append(int(mx.argmax(logits)))
        logits = model(mx.array([[greedy[-1]]]), cache=cache)[0, -1]
    return dict(prefill=prefill, chunked=chunked, decode=mx.stack(decode)), greedy


def save(model, config, out, case):
    weights, shards = dict(tree_flatten(model.parameters())), case.shards
    if config.get("tie_word_embeddings"):
        weights.pop("lm_head.weight", None)
    if case.layout:
        weights = case.layout(weights)
    files = {}
    names = sorted(weights)
    for place, name in enumerate(names):
        files.setdefault(file_of(name, place, len(names), shards), {})[name] = weights[name]
    index = {}
    for file, part in files.items():
        mx.save_safetensors(str(out / file), part, metadata={"format": "mlx"})
        index.update({name: file for name in part})
    if shards != 1:
        write_json(out / "model.safetensors.index.json", {"metadata": {}, "weight_map": index})


def file_of(name, place, count, shards):
    if shards == "layers":
        _, _, rest = name.partition(".layers.")
        return f"model-layer-{int(rest.partition('.')[0]):05}.safetensors" if rest else "model-extra.safetensors"
    if shards == 1:
        return "model.safetensors"
    return f"model-{place // -(-count // shards) + 1:05}-of-{shards:05}.safetensors"


def write_config(config, case, out):
    family = "glm" if "glm" in config["model_type"] else "qwen"
    tokenizer = make_tokenizer(family)
    eos = [tokenizer.token_to_id(special) for special in SPECIALS[family][:3]]
    config = {**config, "architectures": ["Tiny"], "eos_token_id": eos[0], **case.spelled}
    write_json(out / "config.json", {key: value for key, value in config.items() if key not in case.spelled or value is not None})
    write_json(out / "generation_config.json", {"eos_token_id": eos[:2]})
    tokenizer.save(str(out / "tokenizer.json"), pretty=False)
    write_json(out / "tokenizer_config.json", {"eos_token": SPECIALS[family][2], "chat_template": TEMPLATE})


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1) + "\n")
