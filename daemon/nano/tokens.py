"""The tokenizer: byte-level BPE whose tokens never carry one line's text into the next.

Line-level steering cuts at line ends, so a newline may be followed by indentation inside a token, and by nothing else.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from data import CORPUS
from settings import LANGUAGES, WORK, load

SPECIALS = (
    "<|endoftext|>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|fim_pad|>",
    "<|file_sep|>", "<|repo_name|>", "<|im_start|>", "<|im_end|>",
)  # fmt: skip
PIECES = r"\r?\n[ \t]*| ?[\p{L}_]+|\p{N}| ?[^\s\p{L}\p{N}_]+|[^\S\n]+(?!\S)|[^\S\n]+"
PATH = WORK / "tokenizer.json"


def sample(language: str, size: int, rng: random.Random) -> list[str]:
    """About `size` bytes of one language's training files."""
    texts = [json.loads(line)["text"] for line in (CORPUS / f"{language}.train.jsonl").open()]
    rng.shuffle(texts)
    taken: list[str] = []
    for text in texts:
        if size <= 0:
            break
        taken.append(text[:20_000])
        size -= len(taken[-1])
    return taken


def train() -> None:
    config = load()
    rng = random.Random(config["train"]["seed"])
    texts = [text for lang in LANGUAGES for text in sample(lang, int(config["tokenizer"]["bytes"] * config["data"]["mix"][lang]), rng)]
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PIECES), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config["model"]["vocab_size"],
        special_tokens=[AddedToken(name, special=True, normalized=False) for name in SPECIALS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        max_token_length=24,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    check(tokenizer)
    tokenizer.save(str(PATH))


def check(tokenizer: Tokenizer) -> None:
    """Proves the promise about line ends for every token, and that text survives the round trip."""
    for token in range(tokenizer.get_vocab_size()):
        text = tokenizer.decode([token], skip_special_tokens=False)
        if "\n" in text and text.strip(" \t\r\n"):
            raise AssertionError(f"token {token} crosses a line end: {text!r}")
        if text.count("\n") > 1:
            raise AssertionError(f"token {token} holds two line ends: {text!r}")
    odd = "def f(a):\n\n    return a  # ümlaut 🦀\t\r\n  x = 12.5\n \n\n"
    if tokenizer.decode(tokenizer.encode(odd).ids) != odd:
        raise AssertionError("the round trip loses text")


def open_tokenizer(path: Path = PATH) -> Tokenizer:
    return Tokenizer.from_file(str(path))


if __name__ == "__main__":
    train()
