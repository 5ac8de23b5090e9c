"""All families' cases."""

from . import deepseek_v41, gdn, gqa, mla, ring


def cases(args):
    made = {}
    for family in (gqa, mla, gdn, ring, deepseek_v41):
        for name, case in family.cases(args).items():
            assert name not in made, name
            made[name] = case
    return made
