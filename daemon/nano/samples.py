"""Makes training rows: plain files and fill-in-the-middle samples in the two layouts the daemon asks with.

Cuts are made between characters, and prefix, suffix and middle are tokenised apart, as at inference. A row depends on the
seed and its number alone, so that a resumed run sees what an uninterrupted one would.
"""

from __future__ import annotations

import json
import random
import re
from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from calls import transcript
from data import CORPUS
from settings import LANGUAGES
from siblings import Siblings
from tokens import SPECIALS

END, PREFIX, SUFFIX, MIDDLE, PAD, FILE = (SPECIALS.index(f"<|{name}|>") for name in (
    "endoftext", "fim_prefix", "fim_suffix", "fim_middle", "fim_pad", "file_sep"))  # fmt: skip
CHARS_PER_TOKEN = 3.0
PATH_NAMES, HEADER_TOKENS = 3, 24
CONTEXT_ROOM = 200  # with less than this, siblings would leave too little of the file itself
SPANS = re.compile(r"\w+|\([^()\n]+\)|\"[^\"\n]+\"|\[[^\[\]\n]+\]")


@dataclass(frozen=True)
class Hole:
    """A file with a piece cut out."""

    path: str
    prefix: str
    middle: str
    suffix: str


def indent_of(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))


def cut(path: str, text: str, rng: random.Random) -> Hole:
    """Cuts what an editor usually asks for: mostly the rest of a line, else lines, a short block, a name or an argument."""
    start = rng.randrange(len(text))
    begin = text.rfind("\n", 0, start) + 1
    end = text.find("\n", start)
    end = len(text) if end < 0 else end
    line = text[begin:end]
    for _ in range(4):  # blank lines say little
        if line.strip():
            break
        begin, end = end + 1, text.find("\n", end + 1)
        end = len(text) if end < 0 else end
        line = text[begin:end]
    kind = rng.random()
    first = begin + indent_of(line)
    if kind < 0.45 and line.strip():
        points = [first + found.end() for found in re.finditer(r"[.(=,:\[{ ]|\w\b", text[first:end])]
        if points and rng.random() < 0.4:
            first = rng.choice(points)
        elif rng.random() < 0.85:
            first = rng.randint(first, end - 1)
        stop = end
    elif kind < 0.70:
        count = rng.randint(1, 3) if kind < 0.58 else rng.randint(2, 8)
        if rng.random() < 0.2:
            first = begin
        elif rng.random() < 0.3:
            first = rng.randint(first, max(first, end - 1))
        stop = end
        for _ in range(count - 1):
            following = text.find("\n", stop + 1)
            if following < 0:
                break
            body = text[stop + 1 : following]
            if body.strip() and indent_of(body) < indent_of(line):
                break
            stop = following
        stop = begin + len(text[begin:stop].rstrip())
    elif kind < 0.95:
        spans = list(SPANS.finditer(line))
        if spans:
            span = rng.choice(spans)
            inner = span.group()[0] in '(["'
            first, stop = begin + span.start() + inner, begin + span.end() - inner
            if not inner and rng.random() < 0.5:
                first = rng.randint(first, stop - 1)
        else:
            stop = end
    else:
        first = start
        stop = min(len(text), first + rng.randint(1, 200))
    stop = max(stop, first)
    return Hole(path, text[:first], text[first:stop], text[stop:])


class Packer:
    """Fills rows of a fixed length with samples of one corpus split."""

    def __init__(self, tokenizer: Tokenizer, config: dict[str, Any], fim: float, split: str = "train") -> None:
        self.tokenizer, self.fim = tokenizer, fim
        self.seed, self.middle_weight = config["train"]["seed"], config["train"]["middle_weight"]
        self.shares = config["samples"]
        self.mix = [config["data"]["mix"][language] for language in LANGUAGES]
        self.files: list[list[tuple[str, str, str]]] = []
        self.ends: list[list[int]] = []
        self.siblings: list[Siblings] = []
        for language in LANGUAGES:
            rows = [json.loads(line) for line in (CORPUS / f"{language}.{split}.jsonl").open()]
            self.files.append([(row["package"], row["path"], row["text"]) for row in rows])
            self.ends.append(list(accumulate(min(len(row["text"]), 60_000) for row in rows)))
            self.siblings.append(Siblings(self.files[-1]))

    def pick(self, rng: random.Random) -> tuple[int, str, str, str]:
        """A language and a file of it: package, path, text."""
        language = rng.choices(range(len(LANGUAGES)), self.mix)[0]
        ends = self.ends[language]
        return (language, *self.files[language][bisect_left(ends, rng.randrange(1, ends[-1] + 1))])

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def header(self, path: str) -> list[int]:
        """A path as the daemon gives it."""
        return [FILE, *self.encode("/".join(path.split("/")[-PATH_NAMES:]) + "\n")[-HEADER_TOKENS:]]

    def plain(self, path: str, text: str, room: int, rng: random.Random) -> tuple[list[int], list[float]]:
        size = int(room * 4.5)
        start = 0 if len(text) <= size or rng.random() < 0.3 else rng.randrange(len(text) - size // 2)
        start = text.rfind("\n", 0, start) + 1
        ids = [*self.header(path), *self.encode(text[start : start + size])]
        if start + size >= len(text):
            ids.append(END)
        return ids[:room], [1.0] * min(len(ids), room)

    def context(self, language: int, package: str, hole: Hole, room: int, rng: random.Random) -> list[int]:
        """Chunks of sibling files in front of everything, in at most so many tokens."""
        ids: list[int] = []
        for chunk in reversed(self.siblings[language].near(package, hole.path, hole.prefix, hole.suffix, rng.randint(1, 3), rng)):
            more = [*self.header(chunk.path), *self.encode(chunk.text + "\n")]
            if len(ids) + len(more) <= room:
                ids = more + ids
        return ids

    def hole(self, language: int, package: str, hole: Hole, room: int, rng: random.Random) -> tuple[list[int], list[float]]:
        middle = self.encode(hole.middle[:1200])
        if len(hole.middle) > 1200 or len(middle) > room // 2:
            return [], []
        header = self.header(hole.path) if rng.random() < 0.95 else []
        room -= len(middle) + len(header) + 4
        around: list[int] = []
        if room >= CONTEXT_ROOM and rng.random() < self.shares["context"]:
            around = self.context(language, package, hole, int(room * rng.uniform(0.2, 0.45)), rng)
            room -= len(around)
        suffix_room = 0 if rng.random() < 0.15 else int(room * rng.uniform(0.05, 0.35))
        suffix = self.encode(hole.suffix[: int(suffix_room * 4.5)])[:suffix_room]
        prefix_room = max(room - len(suffix), 0)
        prefix = self.encode(from_line_start(hole.prefix, int(prefix_room * CHARS_PER_TOKEN)))
        prefix = prefix[max(len(prefix) - prefix_room, 0) :]
        if rng.random() < self.shares["prefix_first"]:
            context = [*around, PREFIX, *header, *prefix, SUFFIX, *suffix, MIDDLE]
        else:
            context = [*around, SUFFIX, *suffix, PREFIX, *header, *prefix, MIDDLE]
        ids = [*context, *middle, END]
        return ids, [1.0] * len(context) + [self.middle_weight] * (len(middle) + 1)

    def call(self, language: int, package: str, room: int, rng: random.Random) -> tuple[list[int], list[float]]:
        """A conversation with one call of a tool, in the agent's format; what the assistant says is learned."""
        rows = [{"path": path, "text": text} for path, text in self.siblings[language].packages[package][:64]]
        ids, weights = [], []
        for text, learned in transcript(rng, rows):
            more = self.tokenizer.encode(text, add_special_tokens=False).ids  # special tokens by their names
            ids += more
            weights += [1.0 if learned else 0.1] * len(more)
        return (ids, weights) if len(ids) <= room else ([], [])

    def sample(self, room: int, rng: random.Random) -> tuple[list[int], list[float]]:
        language, package, path, text = self.pick(rng)
        kind = rng.random()
        if kind < self.shares["calls"]:
            return self.call(language, package, room, rng)
        if kind > self.fim:
            return self.plain(path, text, room, rng)
        size = rng.random()
        if size < self.shares["short"]:  # short ones too, for many holes in a row
            room = min(room, rng.randint(48, 160))
        elif size < self.shares["short"] + self.shares["middling"]:
            room = min(room, rng.randint(160, 420))
        return self.hole(language, package, cut(path, text, rng), room, rng)

    def row(self, number: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Row `number`: length + 1 tokens and the loss weight of each as a target."""
        rng = random.Random(f"{self.seed}/{number}")
        ids: list[int] = []
        weights: list[float] = []
        while (room := length + 1 - len(ids)) >= 48:
            more, weight = self.sample(room, rng)
            if 1 < len(more) <= room:
                weight[0] = 0.0  # what a sample starts with cannot be foreseen
                ids += more
                weights += weight
        lack = length + 1 - len(ids)
        return np.array(ids + [PAD] * lack, dtype=np.int64), np.array(weights + [0.0] * lack, dtype=np.float32)


def from_line_start(prefix: str, size: int) -> str:
    """The end of a prefix, at most `size` characters, from the start of a line where there is one."""
    if len(prefix) <= size:
        return prefix
    tail = prefix[len(prefix) - size :]
    found = tail.find("\n")
    return tail[found + 1 :] if 0 <= found < size // 2 else tail
