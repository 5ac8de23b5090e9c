"""The baseline the model must beat: an interpolated Witten-Bell n-gram, over bytes or over tokens.

p(w | h) = (c(h, w) + T(h) p(w | shorter h)) / (c(h) + T(h)), where T(h) is how many different symbols followed h; the
shortest history falls back to the uniform distribution. Histories are 64-bit hashes in sorted arrays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FACTOR = np.uint64(0x9E3779B97F4A7C15)
Symbols = np.ndarray


@dataclass
class Order:
    """Counts of one history length."""

    pairs: np.ndarray
    pair_counts: np.ndarray
    histories: np.ndarray
    totals: np.ndarray
    types: np.ndarray


def keys(symbols: Symbols, history: int) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of each history of a length, and of the history with its next symbol; position i is symbol i + history."""
    count = len(symbols) - history
    key = np.full(count, history + 1, dtype=np.uint64)
    for offset in range(history):
        key = (key ^ (symbols[offset : offset + count].astype(np.uint64) + np.uint64(1))) * FACTOR
        key ^= key >> np.uint64(29)
    pair = (key ^ (symbols[history:].astype(np.uint64) + np.uint64(1))) * FACTOR
    return key, pair ^ (pair >> np.uint64(31))


def find(table: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    place = np.searchsorted(table, wanted).clip(max=len(table) - 1)
    return np.where(table[place] == wanted, values[place], 0).astype(np.float64)


class WittenBell:
    """Counts of one stream of symbols."""

    def __init__(self, symbols: Symbols, order: int, alphabet: int) -> None:
        self.order, self.alphabet = order, alphabet
        self.tables: list[Order] = []
        for history in range(order):
            key, pair = keys(symbols, history)
            pairs, first, counts = np.unique(pair, return_index=True, return_counts=True)
            histories, totals = np.unique(key, return_counts=True)
            _, types = np.unique(key[first], return_counts=True)
            self.tables.append(Order(pairs, counts, histories, totals, types))

    def bits(self, symbols: Symbols) -> float:
        """-log2 of the probability of a text, its start with the shorter histories there are."""
        chance = np.full(len(symbols), 1.0 / self.alphabet)
        for history, table in enumerate(self.tables):
            if len(symbols) <= history:
                break
            key, pair = keys(symbols, history)
            total, types = find(table.histories, table.totals, key), find(table.histories, table.types, key)
            seen = find(table.pairs, table.pair_counts, pair)
            longer = (seen + types * chance[history:]) / np.maximum(total + types, 1)
            chance[history:] = np.where(total > 0, longer, chance[history:])
        return float(-np.log2(chance).sum())
