//! Prompts no two of which begin alike, so that no cache of beginnings answers for the model.

use engine::{Engine, TokenId};

use super::{Chance, TEXT};

/// Makes prompts for one engine. Each begins with another token.
pub(super) struct Prompts {
    text: Vec<TokenId>,
    /// What may be in a prompt: every token but the ends of text.
    tokens: Vec<TokenId>,
    made: usize,
}

impl Prompts {
    /// Those for an engine.
    pub(super) fn of(engine: &Engine) -> Prompts {
        let tokenizer = engine.tokenizer();
        let count = TokenId::try_from(tokenizer.len().min(engine.info().vocabulary));
        Prompts::new(tokenizer.encode(TEXT), count.unwrap_or(TokenId::MAX), tokenizer.eos())
    }

    fn new(text: Vec<TokenId>, count: TokenId, ends: &[TokenId]) -> Prompts {
        let tokens = (0..count).filter(|token| !ends.contains(token)).collect();
        Prompts { text, tokens, made: 0 }
    }

    /// The next prompt of `len` tokens: all but the first are those of a program's text.
    pub(super) fn text(&mut self, len: usize) -> Vec<TokenId> {
        let first = self.first();
        let rest = self.text.iter().cycle().skip(self.made * 7).copied();
        first.into_iter().chain(rest).take(len).collect()
    }

    /// The next prompt of `len` tokens, each of them any: a tokenizer that does not know the text's words makes one token of them
    /// all, which is routed to the same experts.
    #[allow(clippy::cast_possible_truncation, reason = "less than the number of tokens")]
    pub(super) fn random(&mut self, len: usize) -> Vec<TokenId> {
        let first = self.first();
        let mut chance = Chance::of(self.made as u64);
        let count = self.tokens.len().max(1) as u64;
        let any = (1..len).filter_map(|_| self.tokens.get((chance.next() % count) as usize));
        first.into_iter().chain(any.copied()).take(len).collect()
    }

    fn first(&mut self) -> Option<TokenId> {
        self.made += 1;
        self.tokens.get((self.made - 1) % self.tokens.len().max(1)).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_prompts_begin_alike() {
        // As of a tokenizer that knows no word of the text.
        let mut prompts = Prompts::new(vec![0; 500], 256, &[3, 255]);
        let mut firsts = HashSet::new();
        for round in 0..40 {
            for len in [1, 32, 128, 512] {
                let prompt = if round % 2 == 0 { prompts.text(len) } else { prompts.random(len) };
                assert_eq!(prompt.len(), len);
                assert!(!prompt.contains(&3) && !prompt.contains(&255), "{prompt:?}");
                assert!(firsts.insert(prompt[0]), "two begin with {}", prompt[0]);
            }
        }
        let several: HashSet<_> = prompts.random(512).into_iter().collect();
        assert!(several.len() > 200, "{several:?}");
    }
}
