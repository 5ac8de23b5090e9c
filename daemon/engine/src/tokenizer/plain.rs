//! The vocabulary of scripted models: the 256 bytes, a few words, and the special tokens of a fill-in-the-middle model.

use std::collections::BTreeMap;

use crate::job::TokenId;

/// Special tokens, in the order of their ids after bytes and words.
const SPECIALS: [&str; 8] = [
    "<|endoftext|>",
    "<|fim_prefix|>",
    "<|fim_suffix|>",
    "<|fim_middle|>",
    "<|fim_pad|>",
    "<|file_sep|>",
    "<|im_start|>",
    "<|im_end|>",
];

/// Token `b` is byte `b`; words come next, then the special tokens.
#[derive(Debug, Clone, Default)]
pub(crate) struct PlainVocabulary {
    pub(crate) words: Vec<String>,
    /// There is no special token but the end of text.
    pub(crate) is_bare: bool,
}

impl PlainVocabulary {
    pub(crate) fn len(&self) -> usize {
        256 + self.words.len() + self.named().len()
    }

    fn named(&self) -> &'static [&'static str] {
        if self.is_bare { &SPECIALS[..1] } else { &SPECIALS }
    }

    pub(crate) fn bytes(&self) -> Vec<Box<[u8]>> {
        let bytes = (0..=255u8).map(|byte| Box::from([byte]));
        let words = self.words.iter().map(|word| Box::from(word.as_bytes()));
        bytes
            .chain(words)
            .chain(self.named().iter().map(|name| Box::from(name.as_bytes())))
            .collect()
    }

    pub(crate) fn specials(&self) -> BTreeMap<String, TokenId> {
        let first = 256 + self.words.len();
        self.named()
            .iter()
            .enumerate()
            .map(|(index, name)| ((*name).to_owned(), (first + index) as TokenId))
            .collect()
    }

    /// The longest word at every place, else the byte.
    pub(crate) fn encode(&self, text: &str) -> Vec<TokenId> {
        let mut tokens = Vec::new();
        let mut rest = text.as_bytes();
        while let Some(&byte) = rest.first() {
            let words =
                self.words.iter().enumerate().filter(|(_, word)| rest.starts_with(word.as_bytes()));
            let (token, len) = match words.max_by_key(|(_, word)| word.len()) {
                Some((index, word)) if !word.is_empty() => (256 + index as TokenId, word.len()),
                _ => (TokenId::from(byte), 1),
            };
            tokens.push(token);
            rest = &rest[len..];
        }
        tokens
    }
}
