"""Fetches the corpus packages with their ordinary clients, so that nothing but pip, npm, cargo and apt is trusted."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

from settings import HERE, WORK

FETCH = WORK / "fetch"


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


def pypi(source: dict[str, list[str] | str]) -> None:
    folder = FETCH / "pypi"
    if any(folder.glob("*.whl")):
        return
    pins = locked("pypi")
    names = [f"{name}=={pins[name]}" if name in pins else name for name in source["names"]]
    platforms = [word for platform in source["platforms"] for word in ("--platform", platform)]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    run(folder, *pip, "--python-version", str(source["python"]), *platforms, "-d", ".", *names)


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


def crates(source: dict[str, str]) -> None:
    folder = FETCH / "crates"
    if (folder / "vendor").is_dir():
        return
    (folder / "src").mkdir(parents=True, exist_ok=True)
    (folder / "src" / "lib.rs").write_text("")
    lines = ["[package]", 'name = "corpus"', 'version = "0.0.0"', 'edition = "2024"', "", "[workspace]", "", "[dependencies]"]
    lines += [f'{name} = "{version}"' for name, version in source.items()]
    (folder / "Cargo.toml").write_text("\n".join(lines) + "\n")
    run(folder, "cargo", "vendor", "--quiet", "vendor")


def debian(source: dict[str, list[str]]) -> None:
    folder = FETCH / "deb"
    if not any(folder.glob("*.deb")):
        run(folder, "apt-get", "download", *source["names"])
    for package in sorted(folder.glob("*.deb")):
        target = folder / package.name.split("_")[0]
        if not target.is_dir():
            run(folder, "dpkg-deb", "-x", package.name, target.name)


def main() -> None:
    sources = tomllib.loads((HERE / "sources.toml").read_text())
    pypi(sources["pypi"])
    npm(sources["npm"])
    crates(sources["crates"])
    debian(sources["debian"])


if __name__ == "__main__":
    main()
