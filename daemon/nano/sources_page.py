"""Writes SOURCES.md, the readable form of data.lock."""

from __future__ import annotations

import json
from collections import defaultdict

from settings import HERE, LANGUAGES


def page() -> str:
    rows = [json.loads(line) for line in (HERE / "data.lock").read_text().splitlines()]
    lines = [
        "# Sources of the training corpus",
        "",
        "Written by `sources_page.py` from `data.lock`. Every package was fetched with its ordinary client; `data.py` refuses",
        "licences that are not permissive, generated and minified files, duplicates and files with secrets. *Held out* packages are",
        "for measuring only.",
        "",
    ]
    for language in LANGUAGES:
        group = [row for row in rows if row["language"] == language]
        totals: dict[str, int] = defaultdict(int)
        for row in group:
            totals[row["split"]] += row["bytes"]
        lines += [
            f"## {language.capitalize()}",
            "",
            f"{len(group)} packages, {totals['train'] / 1e6:.1f} MB for training, {totals['heldout'] / 1e6:.1f} MB held out.",
            "",
            "| package | version | from | licence | files | kB | |",
            "|---|---|---|---|---|---|---|",
        ]
        for row in group:
            licence = row["licence"].replace("|", "/").replace("\n", " ")[:70]
            held = "held out" if row["split"] == "heldout" else ""
            size = f"{row['bytes'] / 1e3:.0f}"
            lines.append(f"| {row['name']} | {row['version']} | {row['from']} | {licence} | {row['files']} | {size} | {held} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    (HERE / "SOURCES.md").write_text(page())
