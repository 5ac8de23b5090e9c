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

import numpy as np
from tokenizers import Tokenizer

from data import CORPUS
from settings import LANGUAGES
from tokens import SPECIALS

END, PREFIX, SUFFIX, MIDDLE, PAD, FILE = (SPECIALS.index(f"<|{name}|>") for name in (
    "endoftext", "fim_prefix", "fim_suffix", "fim_middle", "fim_pad", "file_sep"))  # fmt: skip
CHARS_PER_TOKEN = 3.0
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
    if kind < 0.50 and line.strip():
        points = [first + found.end() for found in re.finditer(r"[.(=,:\[{ ]|\w\b", text[first:end])]
        if points and rng.random() < 0.4:
            first = rng.choice(points)
        elif rng.random() < 0.85:
            first = rng.randint(first, end - 1)
        stop = end
    elif kind < 0.80:
        count = rng.randint(1, 3) if kind < 0.66 else rng.randint(2, 8)
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

    def __init__(
        self, tokenizer: Tokenizer, mix: dict[str, float], seed: int, fim: float, middle_weight: float, split: str = "train"
    ) -> None:
        self.tokenizer, self.seed, self.fim, self.middle_weight = tokenizer, seed, fim, middle_weight
        self.mix = [mix[language] for language in LANGUAGES]
        self.files: list[list[tuple[str, str]]] = []
        self.ends: list[list[int]] = []
        for language in LANGUAGES:
            rows = [json.loads(line) for line in (CORPUS / f"{language}.{split}.jsonl").open()]
            self.files.append([(row["path"], row["text"]) for row in rows])
            self.ends.append(list(accumulate(min(len(row["text"]), 60_000) for row in rows)))

    def pick(self, rng: random.Random) -> tuple[str, str]:
        language = rng.choices(range(len(LANGUAGES)), self.mix)[0]
        ends = self.ends[language]
        return self.files[language][bisect_left(ends, rng.randrange(1, ends[-1] + 1))]

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def plain(self, path: str, text: str, room: int, rng: random.Random) -> tuple[list[int], list[float]]:
        size = int(room * 4.5)
        start = 0 if len(text) <= size or rng.random() < 0.3 else rng.randrange(len(text) - size // 2)
        start = text.rfind("\n", 0, start) + 1
        ids = [FILE, *self.encode(path + "\n"), *self.encode(text[start : start + size])]
        if start + size >= len(text):
            ids.append(END)
        return ids[:room], [1.0] * min(len(ids), room)

    def hole(self, hole: Hole, room: int, rng: random.Random) -> tuple[list[int], list[float]]:
        middle = self.encode(hole.middle[:1200])
        if len(hole.middle) > 1200 or len(middle) > room // 2:
            return [], []
        path = self.encode(hole.path + "\n") if rng.random() < 0.9 else []
        header = [FILE, *path] if path else []
        room -= len(middle) + len(header) + 4
        suffix_room = 0 if rng.random() < 0.3 else int(room * rng.uniform(0.05, 0.45))
        suffix = self.encode(hole.suffix[: int(suffix_room * 4.5)])[:suffix_room]
        prefix_room = max(room - len(suffix), 0)
        prefix = self.encode(from_line_start(hole.prefix, int(prefix_room * CHARS_PER_TOKEN)))
        prefix = prefix[max(len(prefix) - prefix_room, 0) :]
        if rng.random() < 0.5:
            context = [PREFIX, *header, *prefix, SUFFIX, *suffix, MIDDLE]
        else:
            context = [SUFFIX, *suffix, PREFIX, *header, *prefix, MIDDLE]
        ids = [*context, *middle, END]
        return ids, [1.0] * len(context) + [self.middle_weight] * (len(middle) + 1)

    def row(self, number: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Row `number`: length + 1 tokens and the loss weight of each as a target."""
        rng = random.Random(f"{self.seed}/{number}")
        ids: list[int] = []
        weights: list[float] = []
        while (room := length + 1 - len(ids)) >= 48:
            path, text = self.pick(rng)
            if rng.random() < self.fim:
                if rng.random() < 0.75:  # short ones too, for many holes in a row
                    room = min(room, rng.randint(48, 144) if rng.random() < 0.67 else rng.randint(144, 320))
                more, weight = self.hole(cut(path, text, rng), room, rng)
            else:
                more, weight = self.plain(path, text, room, rng)
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
