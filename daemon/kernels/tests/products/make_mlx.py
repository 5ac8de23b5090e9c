"""Writes mlx.bin: small random matrices in every mode, and what MLX's CPU computes with them in fp32.

    .tools/oracle/bin/python daemon/kernels/tests/products/make_mlx.py
"""

import struct
from pathlib import Path

import mlx.core as mx
import numpy as np

MODES = [("affine", bits, group) for bits, group in [(2, 64), (3, 32), (4, 64), (4, 128), (5, 64), (6, 32), (8, 64)]]
MODES += [("mxfp4", 4, 32), ("nvfp4", 4, 16), ("mxfp8", 8, 32)]
KINDS = {"affine": 0, "mxfp4": 1, "nvfp4": 2, "mxfp8": 3}
OUT, INNER, ROWS = 19, 128, 3


def main():
    mx.set_default_device(mx.cpu)
    mx.random.seed(7)
    with open(Path(__file__).with_name("mlx.bin"), "wb") as file:
        for mode, bits, group in MODES:
            weights = mx.random.normal((OUT, INNER))
            packed, scales, *biases = mx.quantize(weights, group_size=group, bits=bits, mode=mode)
            x = mx.random.normal((ROWS, INNER))
            biases = biases[0] if biases else None
            y = mx.quantized_matmul(x, packed, scales, biases, transpose=True, group_size=group, bits=bits, mode=mode)
            parts = [np.array(part).tobytes() if part is not None else b"" for part in (packed, scales, biases, x, y)]
            file.write(struct.pack("<8I", KINDS[mode], bits, group, *(len(part) for part in parts)))
            file.write(b"".join(parts))


main()
