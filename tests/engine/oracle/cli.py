"""The command line."""

import argparse
import concurrent.futures
import fnmatch
import multiprocessing.util
import os
import pathlib
import shutil
import sys
import tempfile
import traceback

import mlx.core as mx

from . import corrections
from .families import cases
from .make import make


def main(doc):
    args = parse(doc)
    names = [name for name, case in cases(args).items() if wanted(name, case, args)]
    if args.list:
        print("\n".join(names))
        return
    if not names:
        sys.exit("no case of this name")
    if args.jobs == 1 or len(names) == 1:
        begin(args)
        failed = [name for name in names if not one(name, args)]
    else:
        with concurrent.futures.ProcessPoolExecutor(args.jobs, initializer=begin, initargs=(args,)) as pool:
            failed = [name for name, is_made in zip(names, pool.map(one, names, [args] * len(names))) if not is_made]
    if failed:
        sys.exit(f"not made: {' '.join(failed)}")


def wanted(name, case, args):
    if args.only:
        return any(fnmatch.fnmatch(name, pattern) for pattern in args.only)
    return case.committed or args.all


def begin(args):
    # Processes that compile the same kernel at the same time would read each other's half-written libraries.
    own = tempfile.mkdtemp(prefix="oracle-")
    multiprocessing.util.Finalize(None, shutil.rmtree, (own, True), exitpriority=0)
    os.environ["TMPDIR"] = own
    mx.set_default_device(mx.cpu)
    if not args.stock:
        corrections.apply()


def one(name, args):
    try:
        print(make(name, cases(args)[name], args.out / name, args), flush=True)
        return True
    except Exception:
        print(f"{name}: {traceback.format_exc()}", file=sys.stderr, flush=True)
        return False


def parse(doc):
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent.parent / "fixtures")
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--only", action="append", metavar="NAME", help="make these cases alone (a pattern such as 'llama-*'; may be repeated)")
    parser.add_argument("--all", action="store_true", help="make every case, not the committed ones alone")
    parser.add_argument("--list", action="store_true", help="print the names of the cases that would be made")
    parser.add_argument("--jobs", type=int, default=1, help="make so many cases at a time")
    parser.add_argument("--stock", action="store_true", help="mlx-lm as it is, with its deviations from the references")
    parser.add_argument("--hidden", type=int, default=64, help="a multiple of 64")
    parser.add_argument("--experts", type=int, default=8, help="a multiple of 4")
    parser.add_argument("--prompt", type=int, default=40, help="length of the prompt")
    parser.add_argument("--decode", type=int, default=12, help="number of greedy tokens")
    return parser.parse_args()
