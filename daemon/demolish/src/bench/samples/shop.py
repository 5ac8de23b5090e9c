"""A small shop: items, a cart, and what it costs."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path


@dataclass(frozen=True)
class Item:
    """Something that can be bought."""

    name: str
    price: float
    tags: tuple[str, ...] = ()

    def discounted(self, percent: float) -> Item:
        price = round(self.price * (1 - percent / 100), 2)
        return Item(self.name, price, self.tags)


@dataclass
class Cart:
    """What somebody wants to buy."""

    owner: str
    lines: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, count: int = 1) -> None:
        if count < 1:
            raise ValueError(f"count must be positive, not {count}")
        self.lines[name] = self.lines.get(name, 0) + count

    def remove(self, name: str) -> bool:
        if name not in self.lines:
            return False
        del self.lines[name]
        return True

    def is_empty(self) -> bool:
        return len(self.lines) == 0


class Shop:
    """Knows the items and their stock."""

    def __init__(self, items: list[Item]) -> None:
        self.items = {item.name: item for item in items}
        self.stock: dict[str, int] = defaultdict(int)

    def total(self, cart: Cart) -> float:
        result = 0.0
        for name, count in cart.lines.items():
            item = self.items[name]
            result += item.price * count
        return round(result, 2)

    def missing(self, cart: Cart) -> list[str]:
        names = []
        for name, count in cart.lines.items():
            if self.stock[name] < count:
                names.append(name)
        return sorted(names)

    def deliver(self, cart: Cart, today: date) -> date:
        if self.missing(cart):
            return today + timedelta(days=14)
        for name, count in cart.lines.items():
            self.stock[name] -= count
        return today + timedelta(days=2)

    def by_tag(self) -> dict[str, list[Item]]:
        groups: dict[str, list[Item]] = {}
        for item in self.items.values():
            for tag in item.tags:
                groups.setdefault(tag, []).append(item)
        return groups


def load(path: Path) -> list[Item]:
    with path.open(encoding="utf-8") as file:
        rows = json.load(file)
    return [Item(row["name"], float(row["price"]), tuple(row.get("tags", []))) for row in rows]


def report(shop: Shop, carts: list[Cart]) -> str:
    lines = []
    for cart in carts:
        total = shop.total(cart)
        lines.append(f"{cart.owner}: {total:.2f}")
    return "\n".join(lines)
