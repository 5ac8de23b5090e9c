"""Lays out real packages as projects that language servers can open: `demolish bench replay` types their files in, `bench steer` writes in them.

A project is `projects/<language>/<package>`, with the file that marks its root and with what it imports beside it, so that what a server
finds wrong in it is wrong. Packages that no training has seen are named in `projects/heldout.json`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import fetch
from settings import FETCH, HERE, WORK

PROJECTS = WORK / "projects"
HEADERS = (".h", ".hh", ".hpp", ".hxx", ".inl", ".ipp")
INCLUDES_MAX = 60
TSCONFIG = {
    "compilerOptions": {
        "strict": True, "noEmit": True, "skipLibCheck": True, "target": "es2023", "module": "esnext", "moduleResolution": "bundler",
        "lib": ["es2023", "dom", "dom.iterable"], "jsx": "preserve", "types": ["node"], "allowImportingTsExtensions": True,
    }
}  # fmt: skip


def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (HERE / "data.lock").read_text().splitlines() if line.startswith("{")]


def fresh(language: str, package: str) -> Path:
    """An empty folder for a package; a scope is part of its name."""
    folder = PROJECTS / language / package.replace("/", "+")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def python() -> None:
    """Wheels, each unpacked alone; what they import lies beside them, once."""
    environment = PROJECTS / "python" / ".environment"
    wheels = sorted((FETCH / "pypi").glob("*.whl"))
    if not environment.is_dir():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    site = next(iter(environment.glob("lib/python3*/site-packages")))
    if not (site / "six.py").exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target", str(site)]
        subprocess.run([*pip, "-r", str(HERE / "requirements-projects.txt")], check=True)
    for wheel in wheels:
        name = wheel.name.split("-")[0].lower().replace("_", "-")
        folder = fresh("python", name)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
            archive.extractall(site)
        for extra in [*folder.glob("*.dist-info"), *folder.glob("*.data")]:
            shutil.rmtree(extra)
        root = f'[project]\nname = "{name}"\nversion = "0"\n\n[tool.ty.environment]\npython-version = "3.13"\npython = "{environment}"\n'
        (folder / "pyproject.toml").write_text(root)


def typescript(names: list[str]) -> None:
    """Packages that ship their sources, with all that npm installs for them."""
    root = PROJECTS / "typescript"
    root.mkdir(parents=True, exist_ok=True)
    pins = fetch.locked("npm")
    manifest = {"name": "projects", "private": True, "dependencies": {name: pins[name] for name in names}}
    text = json.dumps(manifest, indent=2) + "\n"
    if not (root / "node_modules").is_dir() or (root / "package.json").read_text() != text:
        (root / "package.json").write_text(text)
        quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--legacy-peer-deps", "--loglevel=error")
        subprocess.run(["npm", "install", *quiet], cwd=root, check=True)
    for name in names:
        if name.startswith("@types/"):
            continue
        folder = fresh("typescript", name)
        shutil.copytree(root / "node_modules" / name, folder, ignore=shutil.ignore_patterns("node_modules"), dirs_exist_ok=True)
        for declared in folder.rglob("*.d.ts"):
            source = declared.with_name(declared.name.replace(".d.ts", ".ts"))
            if source.exists():
                declared.unlink()
        (folder / "tsconfig.json").write_text(json.dumps(TSCONFIG, indent=2) + "\n")


def rust(names: list[tuple[str, str]]) -> None:
    """Crates without their development dependencies, which resolve against what `cargo vendor` brings."""
    vendored = PROJECTS / "rust" / ".vendor"
    fetch.crates(names, vendored)
    vendor = vendored / "vendor"
    for crate in sorted(vendor.iterdir()):
        meta = tomllib.loads((crate / "Cargo.toml").read_text())
        if meta["package"]["name"] not in dict(names):
            continue
        folder = fresh("rust", meta["package"]["name"])
        skipped = shutil.ignore_patterns("tests", "benches", "examples", "fuzz", ".cargo-checksum.json", "Cargo.lock", ".cargo*")
        shutil.copytree(crate, folder, ignore=skipped, dirs_exist_ok=True)
        (folder / "Cargo.toml").write_text(alone((crate / "Cargo.toml").read_text()))
        (folder / ".cargo").mkdir()
        source = f'[source.crates-io]\nreplace-with = "vendored"\n\n[source.vendored]\ndirectory = "{vendor}"\n\n[net]\noffline = true\n'
        (folder / ".cargo" / "config.toml").write_text(source)
        shutil.copy(vendored / "Cargo.lock", folder / "Cargo.lock")


def alone(manifest: str) -> str:
    """A manifest that is a workspace of its own, without what only its tests need."""
    kept, keeps = [], True
    for line in manifest.splitlines():
        if line.startswith("["):
            table = line.strip("[] ")
            keeps = "dev-dependencies" not in table and table.split(".")[0] not in ("test", "bench", "example", "lints", "workspace")
        if keeps:
            kept.append(line)
    return "\n".join([*kept, "", "[workspace]", ""])


def go() -> None:
    """Debian's packages as the modules of one workspace, in which they find each other."""
    root = PROJECTS / "go"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    used = []
    for package in sorted((FETCH / "deb").glob("golang-*_*.deb")):
        name = package.name.split("_")[0]
        base = FETCH / "deb" / name / "usr" / "share" / "gocode" / "src"
        module = module_of(base)
        if module is None:
            continue
        folder = fresh("go", name)
        shutil.copytree(base / module, folder, dirs_exist_ok=True, symlinks=True, ignore_dangling_symlinks=True)
        for inner in folder.rglob("go.*"):
            if inner.name in ("go.mod", "go.sum", "go.work"):
                inner.unlink()
        (folder / "go.mod").write_text(f"module {module}\n\ngo 1.21\n")
        used.append(f"\t./{name}")
    (root / "go.work").write_text("\n".join(["go 1.21", "", "use (", *used, ")", ""]))


def module_of(base: Path) -> str | None:
    """The import path of the one module below; the shortest folder that holds Go files."""
    found = sorted({path.parent.relative_to(base) for path in base.rglob("*.go")}, key=lambda path: (len(path.parts), path))
    modules = sorted({path.parent.relative_to(base) for path in base.rglob("go.mod")}, key=lambda path: (len(path.parts), path))
    if modules:
        return modules[0].as_posix()
    if not found:
        return None
    common = os.path.commonpath([path.as_posix() for path in found])
    return common or None


def native(cpp: list[str]) -> None:
    """C and C++ with flags that find their own headers."""
    sources: dict[str, Path] = {}
    for path in sorted((FETCH / "sdists").glob("*.tar.gz")):
        name = path.name.rsplit("-", 1)[0].replace("_", "-")
        if name.startswith("dbt-"):
            continue
        sources[name] = FETCH / "sdists" / name
        if not sources[name].is_dir():
            with tarfile.open(path) as archive:
                archive.extractall(sources[name], filter="data")
    for crate in sorted((FETCH / "native" / "vendor").iterdir()):
        sources[crate.name] = crate
    for name in ("libspdlog-dev", "nlohmann-json3-dev"):
        sources[name] = FETCH / "deb" / name
    for name, source in sources.items():
        files = [path for path in source.rglob("*") if path.suffix in (*HEADERS, ".c", ".cc", ".cpp", ".cxx")]
        if not files:
            continue
        folder = fresh("cpp" if name in cpp else "c", name)
        shutil.copytree(source, folder, dirs_exist_ok=True, symlinks=True, ignore_dangling_symlinks=True)
        headers = {path.parent for path in folder.rglob("*") if path.suffix in HEADERS}
        above = {parent for header in headers for parent in header.parents if parent.is_relative_to(folder)}
        includes = sorted(headers | above, key=lambda path: (len(path.parts), path))[:INCLUDES_MAX]
        flags = ["-xc++", "-std=c++17"] if name in cpp else ["-std=gnu11"]
        flags += [f"-I{path}" for path in [*includes, Path(sysconfig.get_paths()["include"])]]
        (folder / "compile_flags.txt").write_text("\n".join(flags) + "\n")


def main() -> None:
    more = tomllib.loads((HERE / "projects.toml").read_text())
    sources = tomllib.loads((HERE / "sources.toml").read_text())
    apart = fetch.held_out(sources)
    locked = {(row["from"], row["name"]): row["version"].split("+")[0] for row in rows()}
    PROJECTS.mkdir(parents=True, exist_ok=True)

    fetch.pypi(apart["pypi"] | {"names": apart["pypi"]["names"] + more["pypi"]})
    fetch.sdists(apart["sdists"])
    fetch.debian({"names": apart["debian"]["names"] + more["debian"]})
    fetch.crates([*apart["native"], *((name, "=" + locked["native", name]) for name in more["native"])], FETCH / "native")
    python()
    typescript(apart["npm"]["names"] + more["npm"])
    rust([*apart["crates"], *((name, "=" + locked["crates", name]) for name in more["crates"])])
    go()
    native(more["cpp"])
    held = {name for names in sources["holdout"].values() for name in names}
    (PROJECTS / "heldout.json").write_text(json.dumps(sorted(name.replace("/", "+") for name in held), indent=1) + "\n")


if __name__ == "__main__":
    main()
