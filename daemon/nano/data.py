"""Turns fetched packages into a clean corpus: licences, generated files, secrets and duplicates are dropped here.

Held-out packages are split off whole, before anything else is learnt from them.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

from packages import SUFFIXES, Package, debs, native, node_modules, permissive, sdists, stdlib, vendored, wheels
from settings import HERE, LANGUAGES, WORK, load

CORPUS = WORK / "corpus"
SPLITS = ("train", "valid", "heldout")
GENERATED = re.compile(
    r"@generated|do not (edit|modify)|auto-?generated|automatically generated|code generated|generated (by|from|file)", re.I
)
SECRETS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}|\bxox[baprs]-[0-9A-Za-z-]{20,}|"
    r"\bsk-[A-Za-z0-9]{32,}|\bsk_live_[0-9A-Za-z]{16,}|\bAIza[0-9A-Za-z_-]{35}|\beyJ[A-Za-z0-9_-]{20,}\.eyJ[A-Za-z0-9_-]{20,}"
)
MAIL = re.compile(r"[\w.+-]+@(?!example\.)[\w-]+\.[a-z]{2,}", re.I)
SKIP_PARTS = re.compile(
    r"(^|/)(vendor|_vendor|_vendored|third_party|external|locale|locales|fixtures|testdata|test_data|snapshots|__snapshots__|"
    r"dist/cjs|cjs|umd|min|migrations|_pb2|node_modules/.*/node_modules)(/|$)|\.min\.|_pb2|\.pb\.go$|zz_generated|/tables?\.(go|rs)$"
)
TESTS = re.compile(r"(^|/)(tests?|__tests__|testing|benches)(/|$)|(_test|\.test|\.spec)\.\w+$|(^|/)test_")

NOTICE = 3000  # characters in which a file's own licence is looked for
FOREIGN = re.compile(
    r"GNU (Lesser |Library |Affero )?General Public|\b[AL]?GPL[- ]?v?[23]|SPDX-License-Identifier: [^\n]{0,40}[GM]PL|Mozilla Public License"
)
CHOICE = re.compile(
    r"licensed under both|dual[- ]licen[cs]|may select|choose between|relicen[cs]e|Licensed under the Apache License|\bOR [AL]?GPL|"
    r"GPL[-\w. ]* OR \b|(BSD|MIT|Apache)[^.]{0,60}\bor\b[^.]{0,30}GPL",
    re.I,
)


def unfit(path: str, text: str) -> str | None:
    """The reason to drop a file, or nothing."""
    if SKIP_PARTS.search(path.replace("fixtures/", "") if path.endswith(".sql") else path):  # SQL in packages is mostly there
        return "path"
    if len(text) < 160:
        return "short"
    if GENERATED.search(text[:1500]) or "sourceMappingURL=data:" in text:
        return "generated"
    lines = text.split("\n")
    if max(map(len, lines)) > 600 or len(text) / len(lines) > 90 or len(text) / len(lines) < 6:
        return "minified or data"
    letters = sum(map(str.isalpha, text))
    digits = sum(map(str.isdigit, text))
    if letters < 0.35 * len(text) or digits > 0.12 * len(text) or (not text.isprintable() and "\0" in text):
        return "minified or data"
    if sum(ord(char) > 127 for char in text[:4000]) > 200:
        return "not plain text"
    if SECRETS.search(text):
        return "secret"
    return None


def copyleft(raw: str) -> bool:
    """Whether a file's own notice, before it is taken off, names a copyleft licence and offers no other."""
    notice = " ".join(raw[:NOTICE].split())
    return bool(FOREIGN.search(notice)) and not CHOICE.search(notice)


class Seen:
    """Exact and near duplicates: shingles of three lines, a sample of whose hashes is remembered."""

    def __init__(self) -> None:
        self.files: set[int] = set()
        self.shingles: set[int] = set()

    def duplicate(self, text: str) -> bool:
        body = [line.strip() for line in text.split("\n") if len(line.strip()) > 2]
        whole = hash("\n".join(body))
        if whole in self.files:
            return True
        self.files.add(whole)
        sampled = {value for value in map(hash, zip(body, body[1:], body[2:], strict=False)) if value % 4 == 0}
        known = len(sampled & self.shingles)
        self.shingles |= sampled
        return len(sampled) > 3 and known > 0.5 * len(sampled)


def clean(text: str) -> str:
    """One line ending, no byte-order mark, no licence header."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")
    lines = text.split("\n")
    head = 0
    while head < len(lines) and re.match(r"\s*(#|//|/\*|\*)", lines[head]) and not lines[head].startswith(("#!", "#[")):
        head += 1
    header = "\n".join(lines[:head])
    if head and re.search(r"copyright|licen[cs]e|spdx", header, re.I) and "*/" not in "\n".join(lines[head : head + 30]).split("/*")[0]:
        lines = lines[head:]
    return "\n".join(line.rstrip() for line in lines).strip("\n") + "\n"


def prepared(job: tuple[Package, list[tuple[str, str]], dict[str, Any]]) -> tuple[Package, list[tuple[str, str, str]]]:
    """A package's fit files as (language, path, clean text), in the order in which they are taken."""
    package, files, config = job
    order = sorted(files, key=lambda file: hash_name(file[0]))
    typed = {path for path, _ in files if path.endswith((".ts", ".tsx", ".mts")) and ".d." not in path}
    taken: list[tuple[str, str, str]] = []
    for path, raw in order:
        language = SUFFIXES["." + path.rsplit(".", 1)[-1]]
        if typed and len(typed) > 3 and path not in typed:  # the package carries its sources: skip what was built from them
            package.dropped["built"] += 1
            continue
        if language != "sql" and TESTS.search(path) and hash_name(path) % 100 >= config["tests_percent"]:
            package.dropped["tests"] += 1
            continue
        text = clean(raw)
        if reason := ("licence" if copyleft(raw) else unfit(path, text)):
            package.dropped[reason] += 1
            continue
        taken.append((language, path, MAIL.sub("user@example.com", text)))
    return package, taken


def jobs(config: dict[str, Any], splits: dict[str, str]) -> Iterator[tuple[Package, list[tuple[str, str]], dict[str, Any]]]:
    """Every package that may be used, with its files: held-out ones first, since a copy of one in training is the duplicate."""
    every = [item for source in (stdlib, wheels, node_modules, vendored, native, sdists, debs) for item in source()]
    every.sort(key=lambda item: ("heldout", "valid", "train").index(splits.get(item[0].name, "train")))
    for package, texts in every:
        package.split = splits.get(package.name, "train") if permissive(package.licence) else "licence"
        yield package, list(texts) if package.split != "licence" else [], config


def collect(held_only: bool = False) -> None:
    """Writes the corpus; with `held_only` no more than what the measurement and what is fitted behind the training need."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        raise SystemExit("duplicates are found by Python's own hashes: set PYTHONHASHSEED=0, so that every run keeps the same files")
    config = load()["data"]
    sources = tomllib.loads((HERE / "sources.toml").read_text())
    splits = {name: "heldout" for names in sources["holdout"].values() for name in names}
    splits |= {name: "valid" for names in sources["validation"].values() for name in names}
    fresh = CORPUS.with_name("corpus.new")
    fresh.mkdir(parents=True, exist_ok=True)
    written = SPLITS[1:] if held_only else SPLITS
    outputs = {(lang, split): (fresh / f"{lang}.{split}.jsonl").open("w") for lang in LANGUAGES for split in written}
    seen = Seen()
    packages: list[Package] = []
    with multiprocessing.get_context("fork").Pool(max(1, (os.cpu_count() or 2) // 2)) as pool:
        for package, files in pool.imap(prepared, jobs(config, splits), chunksize=1):
            packages.append(package)
            if held_only and package.split not in written:
                continue
            budget = config["caps"].get(package.name, config["cap"])
            for language, path, text in files:
                if seen.duplicate(text):
                    package.dropped["duplicate"] += 1
                    continue
                if package.bytes + len(text) > budget * (0.3 if ".d." in path else 1.0):
                    package.dropped["cap"] += 1
                    continue
                row = {"package": package.name, "path": short(path), "text": text}
                outputs[language, package.split].write(json.dumps(row) + "\n")
                package.languages[language] = package.languages.get(language, 0) + len(text)
                package.files += 1
    for output in outputs.values():
        output.close()
    if not held_only:
        report(packages)
    shutil.rmtree(CORPUS, ignore_errors=True)
    fresh.rename(CORPUS)


def short(path: str) -> str:
    """A path as an editor would give it, relative to a project."""
    path = re.sub(r"^usr/(share|lib)/(gocode/src/|go-1\.19/src/|src/rustc-[\d.]+/)", "", path)
    return path.split(".data/purelib/")[-1]


def hash_name(name: str) -> int:
    """A hash that is the same in every run, unlike Python's own."""
    value = 2166136261
    for byte in name.encode():
        value = (value ^ byte) * 16777619 % 2**32
    return value


def report(packages: list[Package]) -> None:
    """data.lock for machines, totals for whoever watches."""
    used = [package for package in packages if package.bytes]
    rows = []
    for package in sorted(used, key=lambda item: (item.language, item.name, item.version)):
        row = asdict(replace(package, dropped={}))
        row["from"] = row.pop("origin")
        row |= {"language": package.language, "bytes": package.bytes}
        row["dropped"] = dict(sorted(package.dropped.items()))
        rows.append(json.dumps(row, sort_keys=True))
    (HERE / "data.lock").write_text("\n".join(rows) + "\n")
    totals: dict[tuple[str, str], int] = defaultdict(int)
    for package in used:
        for language, size in package.languages.items():
            totals[language, package.split] += size
    for (language, split), size in sorted(totals.items()):
        print(f"{language:11} {split:8} {size / 1e6:7.1f} MB")
    reasons: dict[str, int] = defaultdict(int)
    for package in packages:
        for reason, count in package.dropped.items():
            reasons[reason] += count
    print("files dropped:", dict(reasons))
    print("refused for their licence:", [f"{p.name} ({p.licence})" for p in packages if p.split == "licence"])


if __name__ == "__main__":
    collect(held_only="--held-out" in sys.argv)
