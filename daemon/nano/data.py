"""Turns fetched packages into a clean corpus: licences, generated files, secrets and duplicates are dropped here.

Held-out packages are split off whole, before anything else is learnt from them.
"""

from __future__ import annotations

import email
import json
import os
import re
import sys
import sysconfig
import tomllib
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from fetch import FETCH
from settings import HERE, LANGUAGES, WORK, load

CORPUS = WORK / "corpus"
SUFFIXES = {
    ".py": "python", ".ts": "typescript", ".tsx": "typescript", ".mts": "typescript", ".js": "typescript",
    ".mjs": "typescript", ".jsx": "typescript", ".rs": "rust", ".go": "go",
}  # fmt: skip
PERMISSIVE = re.compile(
    r"\b(mit|mit-0|bsd|0bsd|bsd-[23]-clause|apache|apache-2\.0|isc|psf|psf-2\.0|python-2\.0|python software foundation|"
    r"unlicense|zlib|cc0|cc0-1\.0|hpnd|blueoak-1\.0\.0|zpl)\b",
    re.I,
)
COPYLEFT = re.compile(r"\b[al]?gpl|\bmpl\b|mozilla|\bepl\b|\bcddl\b|\beupl\b|\bsspl\b|\bbusl\b|commons clause|elastic", re.I)
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


@dataclass
class Package:
    """One package and what the corpus kept of it."""

    origin: str
    name: str
    version: str
    licence: str
    language: str = ""
    split: str = "train"
    files: int = 0
    bytes: int = 0
    dropped: dict[str, int] = field(default_factory=lambda: defaultdict(int))


def permissive(licence: str) -> bool:
    """Whether a licence text lets us use the package; a dual licence with one permissive half does."""
    if re.search(r"\bor\b|/", licence, re.I) and PERMISSIVE.search(licence):
        return True
    return bool(PERMISSIVE.search(licence)) and not COPYLEFT.search(licence)


def wheels() -> Iterator[tuple[Package, Iterator[tuple[str, str]]]]:
    for wheel in sorted((FETCH / "pypi").glob("*.whl")):
        archive = zipfile.ZipFile(wheel)
        meta_name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        meta = email.message_from_bytes(archive.read(meta_name))
        classifiers = [value.split("::")[-1].strip() for value in meta.get_all("Classifier", []) if value.startswith("License")]
        licence = meta.get("License-Expression") or "; ".join(classifiers) or (meta.get("License") or "").split("\n")[0][:80]
        name = (meta["Name"] or wheel.name).lower().replace("_", "-").replace(".", "-")

        def texts(archive: zipfile.ZipFile = archive) -> Iterator[tuple[str, str]]:
            for info in archive.infolist():
                if info.filename.endswith(".py") and 0 < info.file_size < 400_000 and ".data/" not in info.filename:
                    yield info.filename, archive.read(info).decode("utf-8", "ignore")

        yield Package("pypi", name, meta["Version"] or "", licence), texts()


def tree(folder: Path, suffixes: tuple[str, ...], nested: str = "") -> Iterator[tuple[str, str]]:
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if nested and f"/{nested}/" in f"/{relative}":
            continue
        if path.suffix in suffixes and path.is_file() and not path.is_symlink() and path.stat().st_size < 400_000:
            yield relative, path.read_text("utf-8", "ignore")


def stdlib() -> Iterator[tuple[Package, Iterator[tuple[str, str]]]]:
    folder = Path(sysconfig.get_paths()["stdlib"])

    def texts() -> Iterator[tuple[str, str]]:
        for relative, text in tree(folder, (".py",), "site-packages"):
            if not relative.startswith(("test/", "idlelib/", "lib2to3/", "config-")):
                yield relative, text

    version = ".".join(map(str, sys.version_info[:3]))
    yield Package("cpython", "python-standard-library", version, "PSF-2.0"), texts()


def node_modules() -> Iterator[tuple[Package, Iterator[tuple[str, str]]]]:
    root = FETCH / "npm" / "node_modules"
    folders = [path for path in sorted(root.iterdir()) if path.is_dir() and path.name[0] not in "@."]
    folders += [path for scope in sorted(root.glob("@*")) for path in sorted(scope.iterdir()) if path.is_dir()]
    for folder in folders:
        manifest = folder / "package.json"
        if not manifest.exists():
            continue
        meta = json.loads(manifest.read_text())
        licence = meta.get("license") or "; ".join(item.get("type", "") for item in meta.get("licenses", []))
        licence = licence.get("type", "") if isinstance(licence, dict) else str(licence)
        texts = tree(folder, (".ts", ".tsx", ".mts", ".js", ".mjs", ".jsx"), "node_modules")
        yield Package("npm", meta.get("name", folder.name), meta.get("version", ""), licence), texts


def vendored() -> Iterator[tuple[Package, Iterator[tuple[str, str]]]]:
    for folder in sorted((FETCH / "crates" / "vendor").iterdir()):
        meta = tomllib.loads((folder / "Cargo.toml").read_text()).get("package", {})
        if not meta.get("name", "").startswith(("windows", "winapi", "web-sys", "objc2", "icu_", "linux-raw-sys")):
            yield Package("crates", meta["name"], meta.get("version", ""), meta.get("license", "")), tree(folder, (".rs",))


def debs() -> Iterator[tuple[Package, Iterator[tuple[str, str]]]]:
    licences = {"rust-src": "MIT OR Apache-2.0", "golang-google-grpc-dev": "Apache-2.0", "golang-github-gin-gonic-gin-dev": "MIT",
                "golang-github-prometheus-client-golang-dev": "Apache-2.0", "golang-github-sirupsen-logrus-dev": "MIT",
                "golang-github-spf13-cobra-dev": "Apache-2.0", "golang-github-stretchr-testify-dev": "MIT"}  # fmt: skip
    for package in sorted((FETCH / "deb").glob("*.deb")):
        name, version, _ = package.name.split("_")
        texts = tree(FETCH / "deb" / name, (".rs",) if name == "rust-src" else (".go",))
        yield Package("debian", name, version.replace("%3a", ":"), licences.get(name, "BSD-3-Clause")), texts


def unfit(path: str, text: str) -> str | None:
    """The reason to drop a file, or nothing."""
    if SKIP_PARTS.search(path):
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


def collect() -> None:
    if os.environ.get("PYTHONHASHSEED") != "0":
        raise SystemExit("duplicates are found by Python's own hashes: set PYTHONHASHSEED=0, so that every run keeps the same files")
    config = load()["data"]
    holdout = tomllib.loads((HERE / "sources.toml").read_text())["holdout"]
    CORPUS.mkdir(parents=True, exist_ok=True)
    outputs = {(lang, split): (CORPUS / f"{lang}.{split}.jsonl").open("w") for lang in LANGUAGES for split in ("train", "heldout")}
    seen = Seen()
    packages: list[Package] = []
    every = [item for source in (stdlib, wheels, node_modules, vendored, debs) for item in source()]
    held = {name for names in holdout.values() for name in names}
    every.sort(key=lambda item: item[0].name not in held)  # held-out first: a copy of it in training is the duplicate
    for package, texts in every:
        packages.append(package)
        if not permissive(package.licence):
            package.split = "licence"
            continue
        package.split = "heldout" if package.name in held else "train"
        budget = config["caps"].get(package.name, config["cap"])
        files = list(texts)
        order = sorted(range(len(files)), key=lambda index: hash_name(files[index][0]))
        typed = {path for path, _ in files if path.endswith((".ts", ".tsx", ".mts")) and ".d." not in path}
        for index in order:
            path, raw = files[index]
            language = SUFFIXES["." + path.rsplit(".", 1)[-1]]
            if typed and len(typed) > 3 and path not in typed:  # the package carries its sources: skip what was built from them
                package.dropped["built"] += 1
                continue
            if TESTS.search(path) and hash_name(path) % 100 >= config["tests_percent"]:
                package.dropped["tests"] += 1
                continue
            text = clean(raw)
            reason = unfit(path, text) or ("duplicate" if seen.duplicate(text) else None)
            if reason:
                package.dropped[reason] += 1
                continue
            text = MAIL.sub("user@example.com", text)
            if package.bytes + len(text) > budget * (0.3 if ".d." in path else 1.0):
                package.dropped["cap"] += 1
                continue
            outputs[language, package.split].write(json.dumps({"package": package.name, "path": short(path), "text": text}) + "\n")
            package.language = language
            package.files += 1
            package.bytes += len(text)
    for output in outputs.values():
        output.close()
    report(packages)


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
        row["dropped"] = dict(sorted(package.dropped.items()))
        rows.append(json.dumps(row, sort_keys=True))
    (HERE / "data.lock").write_text("\n".join(rows) + "\n")
    totals: dict[tuple[str, str], int] = defaultdict(int)
    for package in used:
        totals[package.language, package.split] += package.bytes
    for (language, split), size in sorted(totals.items()):
        print(f"{language:11} {split:8} {size / 1e6:7.1f} MB")
    reasons: dict[str, int] = defaultdict(int)
    for package in packages:
        for reason, count in package.dropped.items():
            reasons[reason] += count
    print("files dropped:", dict(reasons))
    print("refused for their licence:", [f"{p.name} ({p.licence})" for p in packages if p.split == "licence"])


if __name__ == "__main__":
    collect()
