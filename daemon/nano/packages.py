"""The fetched packages: what each is, under which licence, and its source files."""

from __future__ import annotations

import email
import email.message
import json
import re
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from settings import FETCH, HERE

SUFFIXES = {
    ".py": "python", ".ts": "typescript", ".tsx": "typescript", ".mts": "typescript", ".js": "typescript",
    ".mjs": "typescript", ".jsx": "typescript", ".rs": "rust", ".go": "go", ".lua": "lua", ".sql": "sql",
    ".c": "c", ".h": "c", ".cc": "c", ".cpp": "c", ".cxx": "c", ".hh": "c", ".hpp": "c", ".hxx": "c", ".inl": "c", ".ipp": "c",
}  # fmt: skip
NATIVE = tuple(suffix for suffix, language in SUFFIXES.items() if language in ("c", "sql"))
PERMISSIVE = re.compile(
    r"\b(mit|mit-0|bsd|0bsd|bsd-[23]-clause|apache|apache-2\.0|isc|psf|psf-2\.0|python-2\.0|python software foundation|"
    r"unlicense|zlib|cc0|cc0-1\.0|hpnd|blueoak-1\.0\.0|zpl|expat|bsl-1\.0|boost|postgresql|public-domain|openssl|curl)\b",
    re.I,
)
COPYLEFT = re.compile(r"\b[al]?gpl|\bmpl\b|mozilla|\bepl\b|\bcddl\b|\beupl\b|\bsspl\b|\bbusl\b|commons clause|elastic", re.I)


@dataclass
class Package:
    """One package and what the corpus kept of it."""

    origin: str
    name: str
    version: str
    licence: str
    split: str = "train"
    files: int = 0
    languages: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    @property
    def bytes(self) -> int:
        """Characters kept, all languages."""
        return sum(self.languages.values())

    @property
    def language(self) -> str:
        """The one with most of it."""
        return max(self.languages, key=lambda name: self.languages[name], default="")


def permissive(licence: str) -> bool:
    """Whether a licence text lets us use the package: of what is joined by "and" every part must, of what is joined by "or" one."""
    plain = re.sub(r"[- ]or[- ](later|newer)", "+", licence, flags=re.I)
    parts = [re.split(r"\bor\b|/", part, flags=re.I) for part in re.split(r"\band\b|;", plain, flags=re.I)]
    refused = any(all(COPYLEFT.search(choice) for choice in choices) for choices in parts)
    return bool(PERMISSIVE.search(licence)) and not refused


def wheels() -> Iterator[tuple[Package, Iterator[tuple[str, str]]]]:
    for wheel in sorted((FETCH / "pypi").glob("*.whl")):
        archive = zipfile.ZipFile(wheel)
        meta_name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        meta = email.message_from_bytes(archive.read(meta_name))
        licence = licence_of(meta)
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


def native() -> Iterator[tuple[Package, Iterator[tuple[str, str]]]]:
    """The C and C++ that crates wrap."""
    for folder in sorted((FETCH / "native" / "vendor").iterdir()):
        meta = tomllib.loads((folder / "Cargo.toml").read_text()).get("package", {})
        yield Package("native", meta["name"], meta.get("version", ""), meta.get("license", "")), tree(folder, NATIVE)


def sdists() -> Iterator[tuple[Package, Iterator[tuple[str, str]]]]:
    """C, C++ and SQL of source archives; their Python comes from the wheels."""
    for path in sorted((FETCH / "sdists").glob("*.tar.gz")):
        name, version = path.name.removesuffix(".tar.gz").rsplit("-", 1)

        def texts(path: Path = path) -> Iterator[tuple[str, str]]:
            with tarfile.open(path) as archive:
                for member in archive:
                    relative = member.name.partition("/")[2]
                    if member.isfile() and relative.endswith(NATIVE) and member.size < 400_000:
                        content = archive.extractfile(member)
                        yield relative, content.read().decode("utf-8", "ignore") if content else ""

        with tarfile.open(path) as archive:
            members = (member for member in archive if member.name.count("/") == 1 and member.name.endswith("/PKG-INFO"))
            content = archive.extractfile(next(members))
            meta = email.message_from_bytes(content.read() if content else b"")
        yield Package("sdist", name.lower().replace("_", "-"), version, licence_of(meta)), texts()


def licence_of(meta: email.message.Message) -> str:
    """The licence that a Python package's metadata names."""
    classifiers = [value.split("::")[-1].strip() for value in meta.get_all("Classifier", []) if value.startswith("License")]
    return meta.get("License-Expression") or "; ".join(classifiers) or (meta.get("License") or "").split("\n")[0][:80]


def debian_licence(text: str) -> tuple[str, list[str]]:
    """The licence of a Debian package's files, and patterns of the files in it that have a copyleft one."""
    if not text.startswith("Format:"):
        phrases = {"MIT": "Permission is hereby granted, free of charge", "BSD-3-Clause": "Redistribution and use in source and binary",
                   "Apache-2.0": "Apache License", "BSL-1.0": "Boost Software License", "GPL": "General Public License"}  # fmt: skip
        return " and ".join(name for name, phrase in phrases.items() if phrase.lower() in " ".join(text.split()).lower()), []
    whole, refused = "", []
    for paragraph in re.split(r"\n\s*\n", text):
        files = re.search(r"^Files:((?:.*\n)(?:[ \t].*\n)*)", paragraph + "\n", re.M)
        licence = re.search(r"^License:[ \t]*(.*)$", paragraph, re.M)
        patterns = files.group(1).split() if files else []
        if not patterns or not licence or all(pattern.startswith("debian/") for pattern in patterns):
            continue
        if "*" in patterns:
            whole = licence.group(1).strip()
        elif not permissive(licence.group(1)):
            refused += patterns
    return whole, refused


def debs() -> Iterator[tuple[Package, Iterator[tuple[str, str]]]]:
    known = tomllib.loads((HERE / "sources.toml").read_text())["licences"]
    for package in sorted((FETCH / "deb").glob("*.deb")):
        name, version, _ = package.name.split("_")
        folder = FETCH / "deb" / name
        notice = folder / "usr" / "share" / "doc" / name / "copyright"
        if not notice.exists() or notice.is_symlink():
            notice = next(iter(sorted(folder.glob("usr/share/doc/*/copyright"))), notice)
        licence, refused = debian_licence(notice.read_text("utf-8", "ignore")) if notice.exists() else ("", [])
        licence = known.get(name, licence)
        suffixes = (".rs",) if name == "rust-src" else (".go",) if name.startswith("golang") else (*NATIVE, ".lua")

        def texts(folder: Path = folder, suffixes: tuple[str, ...] = suffixes, refused: list[str] = refused) -> Iterator[tuple[str, str]]:
            for path, text in tree(folder, suffixes):
                if not any(fnmatch(path, "*" + pattern) for pattern in refused):
                    yield path, text

        yield Package("debian", name, version.replace("%3a", ":"), licence), texts()
