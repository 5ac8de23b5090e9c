"""Measures a checkpoint on held-out packages: bits per byte against n-gram baselines, and exact completions of lines.

Greedy decoding gives exactly the held-out text if and only if every token of it, and the end after it, is the likeliest
one given what is before; so one pass over the right answer decides, and nothing needs to be generated.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from card import MEASURED
from data import CORPUS
from export import restore
from fakequant import rounded
from model import Nano
from ngram import WittenBell
from samples import END, FILE, MIDDLE, PAD, PREFIX, SUFFIX, from_line_start, indent_of
from settings import LANGUAGES, WORK, load
from tokens import open_tokenizer

WINDOW = 512
BASELINE = WORK / "run" / "baseline.json"


def held_out(language: str, rng: random.Random) -> list[dict[str, str]]:
    """Held-out files, shuffled, one package after another in turn, so that the biggest does not decide."""
    rows = [json.loads(line) for line in (CORPUS / f"{language}.heldout.jsonl").open()]
    rng.shuffle(rows)
    groups: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault(row["package"], []).append(row)
    turns = [(place, name, row) for name, group in sorted(groups.items()) for place, row in enumerate(group)]
    return [row for _, _, row in sorted(turns, key=lambda item: item[:2])]


def windows(language: str, count: int, encode: Any, seed: int) -> list[tuple[list[int], str]]:
    """(header ids, text) pairs whose text fills a window."""
    rng = random.Random(seed)
    out = []
    for row in held_out(language, rng):
        header = [FILE, *encode(row["path"] + "\n")]
        lines = row["text"].splitlines(keepends=True)
        begin = rng.randrange(max(1, len(lines) - 40))
        text, size = "", len(header)
        for line in lines[begin:]:
            size += len(encode(line)) + 1
            if size > WINDOW:
                break
            text += line
        if len(text) > 200:
            out.append((header, text))
        if len(out) == count:
            break
    return out


@torch.no_grad()
def model_bits(model: Nano, items: list[tuple[list[int], str]], encode: Any) -> float:
    """Bits of all windows' texts under the model."""
    bits = 0.0
    for start in range(0, len(items), 8):
        batch = [(header, encode(text)) for header, text in items[start : start + 8]]
        width = max(len(header) + len(ids) for header, ids in batch)
        rows = torch.full((len(batch), width), PAD)
        for index, (header, ids) in enumerate(batch):
            rows[index, : len(header) + len(ids)] = torch.tensor(header + ids)
        chances = model.logits(rows).log_softmax(-1)
        for index, (header, ids) in enumerate(batch):
            begin = len(header)
            part = chances[index, begin - 1 : begin - 1 + len(ids)]
            bits -= part.gather(1, torch.tensor(ids)[:, None]).sum().item() / np.log(2)
    return bits


def baselines(language: str, items: list[tuple[list[int], str]], encode: Any, limit: int, vocabulary: int) -> dict[str, float]:
    """Bits per byte of the two n-grams on the same windows."""
    rng = random.Random(1)
    texts = [json.loads(line)["text"] for line in (CORPUS / f"{language}.train.jsonl").open()]
    rng.shuffle(texts)
    taken, size = [], 0
    for text in texts:
        if size > limit:
            break
        taken.append(text)
        size += len(text)
    total = sum(len(text.encode()) for _, text in items)
    over_bytes = WittenBell(np.frombuffer("\n".join(taken).encode(), dtype=np.uint8), 5, 256)
    bits = sum(over_bytes.bits(np.frombuffer(text.encode(), dtype=np.uint8)) for _, text in items)
    del over_bytes
    stream = np.concatenate([np.array([*encode(text), END], dtype=np.uint32) for text in taken])
    over_tokens = WittenBell(stream, 5, vocabulary)
    token_bits = sum(over_tokens.bits(np.array(encode(text), dtype=np.uint32)) for _, text in items)
    return {"bytes5": bits / total, "tokens5": token_bits / total}


def holes(language: str, count: int, seed: int) -> list[tuple[str, str, str, str]]:
    """(path, prefix, rest of a line, suffix) at random places of held-out files."""
    rng = random.Random(seed)
    out: list[tuple[str, str, str, str]] = []
    rows = held_out(language, rng)
    while len(out) < count:
        row = rows[len(out) % len(rows)] if len(rows) < count else rows[rng.randrange(min(len(rows), 4 * count))]
        text = row["text"]
        place = rng.randrange(len(text))
        begin, end = text.rfind("\n", 0, place) + 1, text.find("\n", place)
        line = text[begin:end]
        if end < 0 or not line.strip() or line.strip().startswith(("#", "//", "*", "/*", '"""')):
            continue
        cut = rng.randint(begin + indent_of(line), end - 1)
        if len(text[cut:end].strip()) >= 2:
            out.append((row["path"], text[:cut], text[cut:end], text[end:]))
    return out


@torch.no_grad()
def fim(model: Nano, cases: list[tuple[str, str, str, str]], layout: str, encode: Any) -> tuple[float, float]:
    """Shares of exactly completed lines and of right first tokens."""
    prepared = []
    for path, prefix, middle, suffix in cases:
        head = [FILE, *encode(path + "\n"), *encode(from_line_start(prefix, 1000))[-300:]]
        tail = [] if layout == "no_suffix" else encode(suffix[:500])[:120]
        context = [SUFFIX, *tail, PREFIX, *head, MIDDLE] if layout == "spm" else [PREFIX, *head, SUFFIX, *tail, MIDDLE]
        prepared.append((context, [*encode(middle), END]))
    prepared.sort(key=lambda item: len(item[0]) + len(item[1]))
    exact = first = 0
    for start in range(0, len(prepared), 8):
        batch = prepared[start : start + 8]
        width = max(len(context) + len(ids) for context, ids in batch)
        rows = torch.full((len(batch), width), PAD)
        for index, (context, ids) in enumerate(batch):
            rows[index, : len(context) + len(ids)] = torch.tensor(context + ids)
        hidden, _, _ = model(rows, torch.float32)
        for index, (context, ids) in enumerate(batch):
            begin = len(context) - 1
            best = (hidden[index, begin : begin + len(ids)] @ model.embed_tokens.T).argmax(-1)
            right = best == torch.tensor(ids)
            exact += bool(right.all())
            first += bool(right[0])
    return exact / len(cases), first / len(cases)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=WORK / "run" / "latest.pt")
    parser.add_argument("--threads", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="fewer samples")
    args = parser.parse_args()
    config = load()
    torch.set_num_threads(args.threads)
    settings = config["evaluate"]
    model, meta = restore(config, args.checkpoint)
    tokenizer = open_tokenizer()

    def encode(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False).ids

    known = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    scale = 4 if args.quick else 1
    record: dict[str, Any] = {"tokens": meta["tokens"], "window": WINDOW, "baseline_bytes": settings["baseline_bytes"],
                              "fim_count": settings["holes"] // scale, "bits_per_byte": {}, "fim": {}}  # fmt: skip
    for language in LANGUAGES:
        items = windows(language, settings["windows"], encode, 7)
        if language not in known:
            known[language] = baselines(language, items, encode, settings["baseline_bytes"], config["model"]["vocab_size"])
            BASELINE.write_text(json.dumps(known, indent=2))
        total = sum(len(text.encode()) for _, text in items)
        cases = holes(language, settings["holes"] // scale, 11)
        plain = model_bits(model, items, encode) / total
        with rounded(model, config["export"], True):
            row = {"model": model_bits(model, items, encode) / total, "float": plain, "text_bytes": total, **known[language]}
            scores = {layout: fim(model, cases, layout, encode) for layout in ("psm", "spm", "no_suffix")}
        record["bits_per_byte"][language] = row
        record["fim"][language] = {layout: {"exact": score[0], "first": score[1]} for layout, score in scores.items()}
        print(language, json.dumps(row), json.dumps(record["fim"][language]), flush=True)
    if not args.quick:
        MEASURED.write_text(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
