"""Conversations with one call of a tool, in the agent's format: so that the default model knows what a call looks like.

They are made of corpus files and a random number alone. The tools are a few of the agent's, with shortened schemas; the format is that
of the family (`grammars/toolcall/qwen3.toml`): a JSON object between two tags, the name first.
"""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass
from typing import Any

File = dict[str, str]
Piece = tuple[str, bool]  # text, and whether the assistant says it

NAME = re.compile(r"\b(?:def|fn|func|function|class|struct|interface|type|impl|enum)\s+([A-Za-z_]\w{3,})")
WORD = re.compile(r"\b([A-Za-z_]\w{3,})")
LINES_OF_ANSWER = 12


@dataclass(frozen=True)
class Call:
    """What a user wants, the tool for it, and what comes of it."""

    wish: str
    tool: str
    arguments: dict[str, Any]
    result: str
    answer: str


SCHEMAS: dict[str, dict[str, str]] = {
    "read_file": {"uri": "string", "start": "integer", "end": "integer"},
    "find_files": {"glob": "string"},
    "grep": {"pattern": "string", "glob": "string"},
    "symbols": {"query": "string"},
    "references": {"symbol": "string"},
    "edit_file": {"path": "string", "edits": "array"},
    "run_tests": {"selector": "array"},
    "diagnostics": {"scope": "string", "path": "string"},
}


def schema(tool: str) -> str:
    """A tool as the chat template lists it."""
    properties = {name: {"type": kind} for name, kind in SCHEMAS[tool].items()}
    parameters = {"type": "object", "properties": properties, "required": [next(iter(properties))]}
    return json.dumps({"type": "function", "function": {"name": tool, "parameters": parameters}})


def excerpt(text: str, start: int, count: int = LINES_OF_ANSWER) -> str:
    return "\n".join(text.split("\n")[start : start + count])


def read(rng: random.Random, file: File) -> Call:
    lines = file["text"].count("\n") + 1
    start = rng.randrange(max(1, lines - LINES_OF_ANSWER))
    wish = rng.choice(["Show me lines {} to {} of {}.", "What is in lines {} to {} of {}?"]).format(
        start + 1, start + LINES_OF_ANSWER, file["path"]
    )
    arguments = {"uri": file["path"], "start": start + 1, "end": start + LINES_OF_ANSWER}
    return Call(wish, "read_file", arguments, excerpt(file["text"], start), "These are the lines.")


def find(rng: random.Random, file: File) -> Call:
    name = file["path"].rsplit("/", 1)[-1]
    return Call(
        rng.choice(["Where is {}?", "Find the file {}."]).format(name),
        "find_files",
        {"glob": f"**/{name}"},
        file["path"],
        f"It is {file['path']}.",
    )


def defined(rng: random.Random, file: File) -> tuple[str, int, str]:
    """Something that the file defines: its name, its line (from 0) and the line's text."""
    found = list(NAME.finditer(file["text"])) or list(WORD.finditer(file["text"]))  # SQL and Lua tables name things otherwise
    if not found:
        return "main", 0, excerpt(file["text"], 0, 1)
    one = rng.choice(found)
    line = file["text"].count("\n", 0, one.start())
    return one.group(1), line, excerpt(file["text"], line, 1).strip()


def search(rng: random.Random, file: File) -> Call:
    name, line, text = defined(rng, file)
    wish = rng.choice(["Where is {} used?", "Search for {}.", "Which lines mention {}?"]).format(name)
    glob = "**/*." + file["path"].rsplit(".", 1)[-1]
    return Call(
        wish,
        "grep",
        {"pattern": name, "glob": glob},
        f"{file['path']}:{line + 1}: {text}",
        f"{name} is in {file['path']}, line {line + 1}.",
    )


def symbols(rng: random.Random, file: File) -> Call:
    name, line, text = defined(rng, file)
    wish = rng.choice(["Where is {} defined?", "Find the definition of {}."]).format(name)
    return Call(
        wish, "symbols", {"query": name}, f"{file['path']}:{line + 1} {text}", f"{name} is defined in {file['path']}, line {line + 1}."
    )


def references(rng: random.Random, file: File) -> Call:
    name, line, text = defined(rng, file)
    return Call(
        f"Who calls {name}?",
        "references",
        {"symbol": name},
        f"{file['path']}:{line + 1}: {text}",
        f"One place: {file['path']}, line {line + 1}.",
    )


def edit(rng: random.Random, file: File) -> Call:
    name, _, text = defined(rng, file)
    new = f"{name}_{rng.choice(['v2', 'once', 'checked', 'all'])}"
    change = {"path": file["path"], "edits": [{"old": text, "new": text.replace(name, new)}]}
    return Call(f"In {file['path']}, call {name} {new} where it is defined.", "edit_file", change, '{"applied": 1}', f"It is {new} now.")


def tests(rng: random.Random, file: File) -> Call:
    count = rng.randint(1, 40)
    wish = rng.choice(["Run the tests of {}.", "Do the tests in {} pass?"]).format(file["path"])
    return Call(
        wish,
        "run_tests",
        {"selector": [file["path"]]},
        json.dumps({"passed": count, "failed": 0}),
        f"{count} passed, none failed, says the runner.",
    )


def diagnostics(rng: random.Random, file: File) -> Call:
    wish = rng.choice(["Are there errors in {}?", "Check {}."]).format(file["path"])
    arguments = {"scope": "file", "path": file["path"]}
    return Call(wish, "diagnostics", arguments, '{"state": "clean"}', f"The language server finds nothing in {file['path']}.")


KINDS = (read, find, search, symbols, references, edit, tests, diagnostics)


def transcript(rng: random.Random, files: list[File]) -> list[Piece]:
    """A conversation about one of the files (path, text)."""
    call = rng.choice(KINDS)(rng, rng.choice(files))
    others = rng.sample([tool for tool in SCHEMAS if tool != call.tool], rng.randint(0, 2))
    listed = [call.tool, *others]
    rng.shuffle(listed)
    tools = "\n".join(map(schema, listed))
    system = f"<|im_start|>system\n# Tools\n\n<tools>\n{tools}\n</tools><|im_end|>\n"
    spoken = json.dumps({"name": call.tool, "arguments": call.arguments}, ensure_ascii=False)
    return [
        (
            f"{system}<|im_start|>user\n{call.wish}<|im_end|>\n<|im_start|>assistant\n",
            False,
        ),
        (f"<tool_call>\n{spoken}\n</tool_call><|im_end|>", True),
        (f"\n<|im_start|>user\n<tool_response>\n{call.result}\n</tool_response><|im_end|>\n<|im_start|>assistant\n", False),
        (f"{call.answer}<|im_end|>", True),
        ("<|endoftext|>", True),
    ]
