"""Fetches the corpus packages with their ordinary clients, so that nothing but pip, npm, cargo and apt is trusted."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pip._internal.configuration import Configuration
from pip._internal.exceptions import ConfigurationError
from pip._internal.index.collector import LinkCollector
from pip._internal.index.package_finder import PackageFinder
from pip._internal.models.format_control import FormatControl
from pip._internal.models.index import PyPI
from pip._internal.models.search_scope import SearchScope
from pip._internal.models.selection_prefs import SelectionPreferences
from pip._internal.network.session import PipSession
from pip._vendor.packaging.specifiers import SpecifierSet

from settings import FETCH, HERE


def locked(ecosystem: str) -> dict[str, str]:
    """Versions that data.lock pins for one ecosystem."""
    lock = HERE / "data.lock"
    if not lock.exists():
        return {}
    rows = (json.loads(line) for line in lock.read_text().splitlines() if line.startswith("{"))
    return {row["name"]: row["version"] for row in rows if row["from"] == ecosystem}


def run(folder: Path, *command: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(command, cwd=folder, check=True)


def missing(wanted: list[str], there: list[str]) -> list[str]:
    """Names of PyPI that have no archive yet."""
    known = {re.sub(r"[-_.]+", "-", name).lower() for name in there}
    return [name for name in wanted if re.sub(r"[-_.]+", "-", name).lower() not in known]


def pypi(source: dict[str, list[str] | str]) -> None:
    folder = FETCH / "pypi"
    pins = locked("pypi")
    names = missing(list(source["names"]), [path.name.split("-")[0] for path in folder.glob("*.whl")])
    names = [f"{name}=={pins[name]}" if name in pins else name for name in names]
    platforms = [word for platform in source["platforms"] for word in ("--platform", platform)]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    if names:
        run(folder, *pip, "--python-version", str(source["python"]), *platforms, "-d", ".", *names)


def sdists(source: dict[str, list[str]]) -> None:
    """Source archives, straight from the index that pip uses: pip's own download would build them."""
    folder = FETCH / "sdists"
    folder.mkdir(parents=True, exist_ok=True)
    pins = locked("sdist")
    names = missing(source["names"], [path.name.rsplit("-", 1)[0] for path in folder.glob("*.tar.gz")])
    scope = SearchScope.create(find_links=[], index_urls=[index_address()], no_index=False)
    with PipSession() as session:
        choice = SelectionPreferences(allow_yanked=False, format_control=FormatControl(no_binary={":all:"}), ignore_requires_python=True)
        finder = PackageFinder.create(link_collector=LinkCollector(session=session, search_scope=scope), selection_prefs=choice)
        for name in names:
            wanted = SpecifierSet(f"=={pins[name]}") if name in pins else SpecifierSet()
            best = finder.find_best_candidate(name, wanted).best_candidate
            if best is None:
                raise SystemExit(f"{name}: no source archive; take it out of [sdists] in sources.toml")
            answer = session.get(best.link.url_without_fragment)
            answer.raise_for_status()
            best.link.as_hashes().check_against_chunks(iter([answer.content]))
            (folder / best.link.filename).write_bytes(answer.content)


def index_address() -> str:
    """The index that pip is set to."""
    settings = Configuration(isolated=False)
    settings.load()
    try:
        return settings.get_value("global.index-url")
    except ConfigurationError:
        return PyPI.simple_url


def npm(source: dict[str, list[str]]) -> None:
    folder = FETCH / "npm"
    if (folder / "node_modules").is_dir():
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text('{"name": "corpus", "version": "0.0.0", "private": true}\n')
    pins = locked("npm")
    names = [f"{name}@{pins[name]}" if name in pins else name for name in source["names"]]
    quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--legacy-peer-deps", "--loglevel=error")
    run(folder, "npm", "install", *quiet, *names)


def crates(source: Iterable[tuple[str, str]], folder: Path) -> None:
    """Crates and all that they depend on, as a workspace would vendor them."""
    if (folder / "vendor").is_dir():
        return
    (folder / "src").mkdir(parents=True, exist_ok=True)
    (folder / "src" / "lib.rs").write_text("")
    lines = ["[package]", 'name = "corpus"', 'version = "0.0.0"', 'edition = "2024"', "", "[workspace]", "", "[dependencies]"]
    lines += [f'c{index} = {{ package = "{name}", version = "{version}" }}' for index, (name, version) in enumerate(source)]
    (folder / "Cargo.toml").write_text("\n".join(lines) + "\n")
    run(folder, "cargo", "vendor", "--quiet", "vendor")


def debian(source: dict[str, list[str]]) -> None:
    folder = FETCH / "deb"
    folder.mkdir(parents=True, exist_ok=True)
    there = {package.name.split("_")[0] for package in folder.glob("*.deb")}
    names = [name for name in source["names"] if name not in there]
    if names:
        run(folder, "apt-get", "download", "-q", *names)
    for package in sorted(folder.glob("*.deb")):
        target = folder / package.name.split("_")[0]
        if not target.is_dir():
            run(folder, "dpkg-deb", "-x", package.name, target.name)


def held_out(sources: dict[str, Any]) -> dict[str, Any]:
    """Of all sources the packages that are kept apart, at the versions of data.lock."""
    rows = [json.loads(line) for line in (HERE / "data.lock").read_text().splitlines() if line.startswith("{")]
    apart = [row for row in rows if row["split"] in ("heldout", "valid")]

    def names(ecosystem: str) -> list[str]:
        return [row["name"] for row in apart if row["from"] == ecosystem]

    def exact(ecosystem: str) -> list[tuple[str, str]]:
        return [(row["name"], "=" + row["version"].split("+")[0]) for row in apart if row["from"] == ecosystem]

    return {
        "pypi": sources["pypi"] | {"names": names("pypi")}, "sdists": {"names": names("sdist")}, "npm": {"names": names("npm")},
        "crates": exact("crates"), "native": exact("native"), "debian": {"names": names("debian")},
    }  # fmt: skip


def main() -> None:
    sources = tomllib.loads((HERE / "sources.toml").read_text())
    sources |= {name: list(sources[name].items()) for name in ("crates", "native")}
    if "--held-out" in sys.argv:
        sources = held_out(sources)
    pypi(sources["pypi"])
    sdists(sources["sdists"])
    npm(sources["npm"])
    crates(sources["crates"], FETCH / "crates")
    crates(sources["native"], FETCH / "native")
    debian(sources["debian"])


if __name__ == "__main__":
    main()
