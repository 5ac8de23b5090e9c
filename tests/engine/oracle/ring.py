"""Sliding windows and their kin: gpt_oss, minimax, mistral."""


def cases(args):
    return {}
