#!/usr/bin/env python3
"""Makes LoRA adapters for the committed checkpoints, and what mlx-lm computes with them: see `oracle/souls.py`."""

from oracle.souls import main

if __name__ == "__main__":
    main()
