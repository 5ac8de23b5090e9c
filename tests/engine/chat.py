"""Renders chat templates as transformers does, and keeps what comes out for the engine's fast test.

    .tools/oracle/bin/python tests/engine/chat.py          writes tests/engine/chat/cases.json
    .tools/oracle/bin/python tests/engine/chat.py --check   fails if that file is not what would be written

The templates are the built-in ones (daemon/engine/chat_templates) and those of tests/engine/chat/templates, which use what published
templates use of Jinja2 and Python. Where transformers refuses, the engine must refuse too.
"""

import datetime
import json
import sys
from pathlib import Path

from transformers.utils import chat_template_utils

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
OUT = HERE / "chat" / "cases.json"
NOW = datetime.datetime(2026, 2, 3, 4, 5, 6)

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "edit_file",
            "description": "Replaces text in a file.\nThe text must occur once — „exactly“.",
            "parameters": {
                "type": "object",
                "properties": {
                    "path": {"type": "string", "description": "Where."},
                    "old": {"type": "string"},
                    "items": {"type": "array", "items": {"type": "integer"}, "default": [1, 2.5, None, True]},
                    "get": {"type": ["string", "null"], "enum": ["a", "b<c>"]},
                    "options": {"type": "object", "properties": {"dry": {"type": "boolean", "default": False}}},
                },
                "required": ["path", "old"],
            },
        },
    },
    {"type": "function", "function": {"name": "now", "description": "The time.", "parameters": {"type": "object", "properties": {}}}},
]


def call(name, arguments, id=None):
    made = {"type": "function", "function": {"name": name, "arguments": arguments}}
    return {"id": id, **made} if id else made


ARGUMENTS = {
    "path": "src/ünï.py",
    "old": "    if a < b:\n\treturn \"x\" + 'y' \\ z\n",
    "items": [1, -2, 3.0, 1e-05, 1e16, 1.5],
    "options": {"dry": True, "deep": {"none": None, "list": [], "map": {}}},
}

CONVERSATIONS = {
    "one": [{"role": "user", "content": "Hello"}],
    "system": [{"role": "system", "content": "Be brief.\n"}, {"role": "user", "content": "  Wie geht’s? 日本 🦀  "}],
    "turns": [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nanswer", },
        {"role": "user", "content": "second <b>&amp;</b>"},
        {"role": "assistant", "content": "", "reasoning_content": "let me see\n"},
        {"role": "user", "content": ""},
    ],
    "calls": [
        {"role": "user", "content": "do it"},
        {"role": "assistant", "content": "I will.", "reasoning_content": "I must edit.", "tool_calls": [call("edit_file", ARGUMENTS, "functions.edit_file:0")]},
        {"role": "tool", "content": "done: {\"ok\": true}\n", "name": "edit_file", "tool_call_id": "functions.edit_file:0"},
        {"role": "assistant", "content": "", "reasoning_content": "And now?", "tool_calls": [call("now", {}, "functions.now:1")]},
        {"role": "tool", "content": "12:00", "name": "now", "tool_call_id": "functions.now:1"},
    ],
    "two_calls": [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "both"},
        {"role": "assistant", "content": None, "tool_calls": [call("now", {}), call("edit_file", {"path": "a", "old": ""})]},
        {"role": "tool", "content": "1"},
        {"role": "tool", "content": "2"},
        {"role": "assistant", "content": "Both done."},
        {"role": "user", "content": "thanks"},
    ],
    "parts": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
    "odd_role": [{"role": "narrator", "content": "Once upon a time"}],
}

VARIABLES = {
    "plain": {},
    "tools": {"tools": TOOLS},
    "thinking": {"enable_thinking": True, "thinking": True, "tools": TOOLS, "reasoning_effort": "high", "clear_thinking": False},
    "silent": {"enable_thinking": False, "thinking": False},
}

NAMES = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


def render(template, messages, variables):
    """As PreTrainedTokenizerBase.apply_chat_template calls it."""
    variables = dict(variables)
    tools = variables.pop("tools", None)
    rendered, _ = chat_template_utils.render_jinja_template(
        conversations=[messages], tools=tools, chat_template=template, add_generation_prompt=True, **NAMES, **variables
    )
    return rendered[0]


def cases():
    chat_template_utils.datetime = Clock
    files = sorted((ROOT / "daemon/engine/chat_templates").glob("*.jinja")) + sorted((HERE / "chat/templates").glob("*.jinja"))
    for file in files:
        template = file.read_text()
        for conversation, messages in CONVERSATIONS.items():
            for setting, variables in VARIABLES.items():
                try:
                    outcome = {"text": render(template, messages, variables)}
                except Exception as error:
                    outcome = {"error": type(error).__name__}
                yield {"template": str(file.relative_to(ROOT)), "conversation": conversation, "setting": setting, **outcome}


def main():
    document = {
        "now": int(NOW.replace(tzinfo=datetime.timezone.utc).timestamp()),
        "names": NAMES,
        "conversations": CONVERSATIONS,
        "variables": VARIABLES,
        "cases": list(cases()),
    }
    text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
    if "--check" in sys.argv:
        sys.exit(0 if OUT.exists() and OUT.read_text() == text else f"{OUT} is not what {__file__} writes")
    OUT.write_text(text)
    outcomes = document["cases"]
    print(f"{len(outcomes)} cases, {sum('error' in case for case in outcomes)} refused")


if __name__ == "__main__":
    main()
