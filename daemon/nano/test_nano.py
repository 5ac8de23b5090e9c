"""Checks what the recipe promises and a wrong number would hide. Run: python -m unittest, in this folder."""

from __future__ import annotations

import random
import unittest

import numpy as np
import torch

from data import permissive, unfit
from export import pack
from fakequant import affine
from ngram import WittenBell
from samples import cut, from_line_start
from settings import load, shape

TEXT = "import os\n\n\ndef join(a: str, b: str) -> str:\n    if a:\n        return os.path.join(a, b)\n    return b\n" * 3


class Holes(unittest.TestCase):
    def test_nothing_is_lost(self) -> None:
        rng = random.Random(1)
        for _ in range(2000):
            hole = cut("a.py", TEXT, rng)
            self.assertEqual(hole.prefix + hole.middle + hole.suffix, TEXT)

    def test_prefix_keeps_its_end(self) -> None:
        for size in range(1, 90):
            kept = from_line_start(TEXT, size)
            self.assertTrue(TEXT.endswith(kept))
            self.assertLessEqual(len(kept), size)


class Rounding(unittest.TestCase):
    def test_packing_and_fake_quantization_agree(self) -> None:
        weight = torch.randn(6, 128, generator=torch.Generator().manual_seed(1))
        for bits in (4, 8):
            words, scales, biases = pack(weight, bits, 64)
            shifts = np.arange(0, 32, bits, dtype=np.uint32)
            codes = ((words[..., None] >> shifts) & (2**bits - 1)).reshape(6, 2, 64)
            values = codes * scales[..., None] + biases[..., None]
            np.testing.assert_allclose(values.reshape(6, 128), affine(weight, bits, 64).numpy(), atol=1e-6)


class Baseline(unittest.TestCase):
    def test_probabilities_sum_to_one(self) -> None:
        counts = WittenBell(np.frombuffer(TEXT.encode(), dtype=np.uint8), 5, 256)
        for history in (b"def ", b"retu", b"zzzz", b"os"):
            before = counts.bits(np.frombuffer(history, dtype=np.uint8))
            total = sum(2 ** (before - counts.bits(np.frombuffer(history + bytes([byte]), dtype=np.uint8))) for byte in range(256))
            self.assertAlmostEqual(total, 1.0, places=9)


class Corpus(unittest.TestCase):
    def test_licences(self) -> None:
        for good in ("MIT", "BSD License", "Apache-2.0 OR LGPL-2.1", "PSF-2.0", "ISC"):
            self.assertTrue(permissive(good), good)
        for bad in ("GPL-3.0", "LGPL", "MPL-2.0", "MPL-2.0 AND MIT", "", "Proprietary"):
            self.assertFalse(permissive(bad), bad)

    def test_files(self) -> None:
        self.assertIsNone(unfit("a/b.py", TEXT))
        self.assertEqual(unfit("a/b.py", "# @generated\n" + TEXT), "generated")
        self.assertEqual(unfit("a/b.py", TEXT + "key = 'AKIA" + "ABCDEFGHIJKLMNOP'\n"), "secret")
        self.assertEqual(unfit("a/_vendor/b.py", TEXT), "path")

    def test_heads_divide(self) -> None:
        sizes = shape(load())
        self.assertEqual(sizes.num_attention_heads % sizes.num_key_value_heads, 0)
        for width in (sizes.hidden_size, sizes.moe_intermediate_size, sizes.num_attention_heads * sizes.head_dim):
            self.assertEqual(width % load()["export"]["group"], 0)


if __name__ == "__main__":
    unittest.main()
