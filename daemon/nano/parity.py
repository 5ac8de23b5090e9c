"""Writes an unquantized export and the trainer's own logits for it, which verify_mlx.py compares with mlx-lm's."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from export import restore, write
from samples import Packer
from settings import WORK, load
from tokens import open_tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=WORK / "run" / "latest.pt")
    args = parser.parse_args()
    config = load()
    torch.set_num_threads(2)
    model, _ = restore(config, args.checkpoint)
    write(WORK / "float", model, config, quantize=False)
    packer = Packer(open_tokenizer(), config, 1.0, "heldout")
    tokens = torch.from_numpy(np.stack([packer.row(number, 255)[0] for number in range(2)]))
    with torch.no_grad():
        logits = model.logits(tokens)
    np.savez(WORK / "parity.npz", tokens=tokens.numpy(), logits=logits.numpy())


if __name__ == "__main__":
    main()
