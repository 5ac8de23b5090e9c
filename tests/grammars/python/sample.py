"""A module that uses most of what the language has.

It has (unbalanced brackets in a docstring.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Iterator

LIMITS = {"rows": 10, 'columns': [1, 2, 3], "text": "a # b", "quote": 'it\'s ('}
PATTERN = r"\d+[(\"]"


@dataclass(frozen=True)
class Point:
    """A point."""

    x: float  # a comment (
    y: float = 0.0
    names: list[str] = field(default_factory=list)

    @property
    def length(self) -> float:
        return (
            self.x ** 2
            + self.y ** 2
        ) ** 0.5

    def label(self, digits: int = 2, *rest: int, **more: str) -> str:
        first = f"({self.x:.{digits}f}, {self.y!r}) {{braces}} {more['a']}"
        if not first:
            return ""
        elif digits > 3:
            return first.strip()
        else:
            pass
        return f'''{first}
            over lines'''


def walk(points: list[Point]) -> Iterator[float]:
    total = 0
    for index, point in enumerate(points):
        try:
            total += point.length
        except (ValueError, TypeError) as error:
            raise RuntimeError("bad") from error
        finally:
            index += 1
        while total > 10:
            total -= 1
            continue
        yield total
    match points:
        case [Point(x=0), *others]:
            yield len(others)
        case _:
            yield -1


async def main() -> None:
    async with asyncio.Lock() as lock:
        await asyncio.sleep(0.1)
    values = [value * 2 for value in walk([]) if value]
    chosen = sorted(values, key=lambda value: (value, -value))
    print(chosen, {**LIMITS}, lock, sep="\n", end='"""')
    x = 1; y = 2
    assert x < y, \
        "order"


if __name__ == "__main__":
    asyncio.run(main())
