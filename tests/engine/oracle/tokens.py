"""A tokenizer of bytes, a few merges, and special tokens."""

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

SPECIALS = {
    "qwen": ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|file_sep|>"],
    "glm": ["<|endoftext|>", "<|user|>", "<|assistant|>", "<|observation|>", "<|code_prefix|>", "<|code_middle|>", "<|code_suffix|>", "<|system|>"],
}
MERGES = [("Ġ", "Ġ"), ("ĠĠ", "ĠĠ"), ("r", "e"), ("re", "t"), ("i", "n"), ("e", "r"), ("d", "e"), ("de", "f")]
# 256 bytes, the merges, the special tokens.
VOCABULARY = 256 + len(MERGES) + 8
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"


def make_tokenizer(family):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(alphabet + [a + b for a, b in MERGES])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=MERGES))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    # Published tokenizers do not call their fill-in-the-middle tokens special.
    tokenizer.add_tokens([AddedToken(name, special="fim" not in name and "code" not in name) for name in SPECIALS[family]])
    assert tokenizer.get_vocab_size() == VOCABULARY
    return tokenizer
