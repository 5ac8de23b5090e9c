#!/usr/bin/env python3
"""Makes tiny checkpoints with a layer that drafts, and what that drafts: see `oracle/mtp.py`.

    .tools/oracle/bin/python tests/engine/make_mtp.py [--out DIR] [--fixtures DIR] [--seed N]
"""

from oracle.mtp import main

if __name__ == "__main__":
    main()
