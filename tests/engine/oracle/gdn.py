"""Gated delta nets: qwen3_next, qwen3_5."""


def cases(args):
    return {}
