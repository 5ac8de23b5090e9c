"""Checks what the recipe promises and a wrong number would hide. Run: python -m unittest, in this folder."""

from __future__ import annotations

import json
import random
import re
import tomllib
import unittest

import numpy as np
import torch

from attention import Causal
from calls import SCHEMAS, transcript
from data import Seen, copyleft, unfit
from experts import Grouped
from export import pack
from fakequant import affine
from ngram import WittenBell
from packages import debian_licence, permissive
from samples import cut, from_line_start
from settings import HERE, load, shape

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


class Gradients(unittest.TestCase):
    """Our own backward passes against those that the library derives."""

    def compare(self, ours: torch.Tensor, reference: torch.Tensor, inputs: list[torch.Tensor], tolerance: float) -> None:
        torch.testing.assert_close(ours, reference, atol=tolerance, rtol=1e-5)
        flow = torch.randn(ours.shape, generator=torch.Generator().manual_seed(2), dtype=ours.dtype)
        for one, other in zip(torch.autograd.grad(ours, inputs, flow), torch.autograd.grad(reference, inputs, flow), strict=True):
            torch.testing.assert_close(one, other, atol=tolerance, rtol=1e-5)

    def test_experts(self) -> None:
        draw = torch.Generator().manual_seed(1)
        rows, gate_up, down = (torch.randn(shape, generator=draw, requires_grad=True) for shape in ((40, 16), (3, 24, 16), (3, 16, 12)))
        counts = [10, 0, 30]
        parts = []
        for piece, into, back in zip(rows.split(counts), gate_up, down, strict=True):
            gate, up = (piece @ into.T).chunk(2, -1)
            parts.append((torch.nn.functional.silu(gate) * up) @ back.T)
        self.compare(Grouped.apply(rows, gate_up, down, counts), torch.cat(parts), [rows, gate_up, down], 1e-3)

    def test_attention(self) -> None:
        draw = torch.Generator().manual_seed(1)
        q, k, v = (torch.randn(shape, generator=draw, requires_grad=True) for shape in ((2, 3, 300, 8), (2, 300, 8), (2, 300, 8)))
        shared = (each[:, None].expand(2, 3, 300, 8) for each in (k, v))
        reference = torch.nn.functional.scaled_dot_product_attention(q, *shared, is_causal=True)
        self.compare(Causal.apply(q, k, v), reference, [q, k, v], 1e-4)


class Conversations(unittest.TestCase):
    def test_a_call_is_what_the_agent_reads(self) -> None:
        files = [{"path": "pkg/a.py", "text": TEXT}, {"path": "b.sql", "text": "select 1;\n" * 20}]
        for seed in range(200):
            pieces = transcript(random.Random(seed), files)
            said = next(text for text, learned in pieces if learned)
            found = re.fullmatch(r"<tool_call>\n(.*)\n</tool_call><\|im_end\|>", said)
            self.assertIsNotNone(found, said)
            call = json.loads(found.group(1)) if found else {}
            self.assertEqual(list(call), ["name", "arguments"])
            self.assertLessEqual(set(call["arguments"]), set(SCHEMAS[call["name"]]))


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
        mixed = ("MPL-2.0 AND MIT", "LGPL-3.0-or-later AND MIT", "GPLv2 or later; MIT License")
        for bad in ("GPL-3.0", "LGPL", "MPL-2.0", "", "Proprietary", *mixed):
            self.assertFalse(permissive(bad), bad)

    def test_a_files_own_notice_counts(self) -> None:
        self.assertTrue(copyleft("/* under the terms of the GNU General\n Public License */"))
        self.assertFalse(copyleft("/* licensed under both the GPLv2 and the Apache 2.0 License */"))
        self.assertFalse(copyleft("/* the GNU General Public License, version 2 */ /* Licensed under the Apache License, Version 2.0 */"))
        self.assertFalse(copyleft(TEXT))

    def test_near_copies_are_duplicates(self) -> None:
        lines = [f"value_{number} = compute(number_{number})" for number in range(200)]
        seen = Seen()
        self.assertFalse(seen.duplicate("\n".join(lines)))
        self.assertTrue(seen.duplicate("\n".join([*lines[:150], "one_more = 1", *lines[150:]])))
        self.assertFalse(seen.duplicate("\n".join(f"other_{number} = {number}" for number in range(200))))

    def test_no_package_is_both_held_out_and_fitted_on(self) -> None:
        sources = tomllib.loads((HERE / "sources.toml").read_text())
        held, fitted = ([name for names in sources[split].values() for name in names] for split in ("holdout", "validation"))
        self.assertEqual(len(held + fitted), len({*held, *fitted}))
        rows = [json.loads(line) for line in (HERE / "data.lock").read_text().splitlines()]
        for row in rows:
            wanted = "heldout" if row["name"] in held else "valid" if row["name"] in fitted else "train"
            self.assertEqual(row["split"], wanted, row["name"])

    def test_debian_notices(self) -> None:
        files = {"*": "Expat\n text", "debian/*": "GPL-2+", "src/a.c\n src/b/*": "LGPL-2.1"}
        notice = "Format: x\n" + "".join(f"\nFiles: {pattern}\nLicense: {licence}\n" for pattern, licence in files.items())
        self.assertEqual(debian_licence(notice), ("Expat", ["src/a.c", "src/b/*"]))
        self.assertEqual(debian_licence("Permission is hereby granted,\nfree of charge"), ("MIT", []))
        self.assertFalse(permissive(debian_licence("the GNU General Public License, or the Apache License")[0]))

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
