//! A set of tokens as bits: what a mask allows, what a penalty leaves alone.

use crate::job::TokenId;

/// A set of tokens. Tokens beyond its length are not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenSet {
    words: Vec<u32>,
}

impl TokenSet {
    /// The set whose token `i` is bit `i % 32` of word `i / 32`, which is how grammar engines write their masks.
    pub fn from_words(words: Vec<u32>) -> TokenSet {
        TokenSet { words }
    }

    /// Whether `token` is in it.
    pub fn contains(&self, token: TokenId) -> bool {
        let word = self.words.get(token as usize / 32);
        word.is_some_and(|word| word >> (token % 32) & 1 == 1)
    }

    /// Puts `token` in.
    pub fn insert(&mut self, token: TokenId) {
        let word = token as usize / 32;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (token % 32);
    }

    /// Bans every token that is not in the set. The set may be shorter than the logits (a tokenizer knows fewer tokens than a padded
    /// model has rows), and then the rest is banned; it may be longer, and then its rest says nothing.
    pub fn allow_only(&self, logits: &mut [f32]) {
        for (index, chunk) in logits.chunks_mut(32).enumerate() {
            let word = self.words.get(index).copied().unwrap_or(0);
            if word == 0 {
                chunk.fill(f32::NEG_INFINITY);
            } else if word != u32::MAX {
                for (bit, logit) in chunk.iter_mut().enumerate() {
                    if word >> bit & 1 == 0 {
                        *logit = f32::NEG_INFINITY;
                    }
                }
            }
        }
    }
}

impl FromIterator<TokenId> for TokenSet {
    fn from_iter<I: IntoIterator<Item = TokenId>>(tokens: I) -> Self {
        let mut set = TokenSet::default();
        tokens.into_iter().for_each(|token| set.insert(token));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_of_another_length_bans_what_it_does_not_name() {
        let set: TokenSet = [1, 33].into_iter().collect();
        let mut logits = [0.0; 70];
        set.allow_only(&mut logits);
        let left: Vec<usize> = (0..70).filter(|&token| logits[token] == 0.0).collect();
        assert_eq!(left, [1, 33]);
        let mut few = [0.0; 2];
        TokenSet::from_words(vec![u32::MAX; 100]).allow_only(&mut few);
        assert_eq!(few, [0.0; 2]);
        TokenSet::default().allow_only(&mut few);
        assert_eq!(few, [f32::NEG_INFINITY; 2]);
        assert!(set.contains(33) && !set.contains(32) && !set.contains(TokenId::MAX));
    }
}
