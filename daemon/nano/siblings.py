"""Repository context as the daemon gives it: pieces of sibling files that share names with what is around the cursor.

The daemon's index knows more (definitions, recent edits); what matters for training is that what stands before the file
is often, but not always, of use.
"""

from __future__ import annotations

import random
import re
from collections import OrderedDict
from dataclasses import dataclass

NAME = re.compile(r"[A-Za-z_]\w{2,}")
CHUNK_LINES = 16
CANDIDATES = 8
CHUNKS_OF_FILE = 24
KEPT_FILES = 4000
NEAR_LINES_BEFORE, NEAR_LINES_AFTER = 20, 4


@dataclass(frozen=True)
class Chunk:
    """Some whole lines of a file and the names in them."""

    path: str
    text: str
    names: frozenset[str]


class Siblings:
    """The files of each package, cut into chunks as they are asked for."""

    def __init__(self, rows: list[tuple[str, str, str]]) -> None:
        self.packages: dict[str, list[tuple[str, str]]] = {}
        for package, path, text in rows:
            self.packages.setdefault(package, []).append((path, text))
        self.kept: OrderedDict[tuple[str, str], list[Chunk]] = OrderedDict()

    def chunks(self, package: str, path: str, text: str) -> list[Chunk]:
        known = self.kept.get((package, path))
        if known is not None:
            self.kept.move_to_end((package, path))
            return known
        lines = text.split("\n")
        spread = max(1, -(-len(lines) // (CHUNK_LINES * CHUNKS_OF_FILE)))
        starts = range(0, len(lines), CHUNK_LINES * spread)
        pieces = ["\n".join(lines[start : start + CHUNK_LINES]).rstrip() for start in starts]
        made = [Chunk(path, piece, frozenset(NAME.findall(piece))) for piece in pieces]
        self.kept[package, path] = made
        if len(self.kept) > KEPT_FILES:
            self.kept.popitem(last=False)
        return made

    def near(self, package: str, path: str, prefix: str, suffix: str, count: int, rng: random.Random) -> list[Chunk]:
        """The `count` chunks that share most names with the cursor's surroundings, the best one last."""
        files = self.packages[package]
        folder = path.rpartition("/")[0]
        others = [file for file in files if file[0] != path]
        beside = [file for file in others if file[0].rpartition("/")[0] == folder]
        picked = rng.sample(beside, min(len(beside), CANDIDATES // 2))
        picked += rng.sample(others, min(len(others), CANDIDATES - len(picked)))
        wanted = set(NAME.findall("\n".join(prefix[-2000:].split("\n")[-NEAR_LINES_BEFORE:])))
        wanted |= set(NAME.findall("\n".join(suffix[:400].split("\n")[:NEAR_LINES_AFTER])))
        found = [chunk for name, text in dict(picked).items() for chunk in self.chunks(package, name, text)]
        scored = [(len(chunk.names & wanted) / (len(chunk.names) + 20) ** 0.5, place) for place, chunk in enumerate(found)]
        best = sorted((score, place) for score, place in scored if score > 0)[-count:]
        return [found[place] for _, place in best]
