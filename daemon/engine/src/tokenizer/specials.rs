//! Tokens that are not text, and what follows from that.

use std::collections::BTreeMap;

use crate::job::TokenId;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Its bytes are text.
    Text,
    /// It structures an answer (`<think>`, `<tool_call>`): no text, but the model may mean it as such inside an argument.
    Mark,
    /// It structures the conversation (`<|im_end|>`): never text.
    Control,
}

/// The tokens that are not text.
#[derive(Debug, Clone, Default)]
pub(super) struct Specials {
    by_name: BTreeMap<String, TokenId>,
    /// By the first byte of the name, longer names first.
    by_first: BTreeMap<u8, Vec<(String, TokenId)>>,
    roles: Vec<Role>,
    /// Tokens that take white space with them from the text before, and after.
    takes: BTreeMap<TokenId, (bool, bool)>,
}

impl Specials {
    /// Of a vocabulary with `len` ids.
    pub(super) fn new(
        tokens: impl IntoIterator<Item = (String, TokenId, Role)>,
        len: usize,
    ) -> Specials {
        let mut specials = Specials { roles: vec![Role::Text; len], ..Specials::default() };
        for (name, token, role) in tokens {
            if role == Role::Text || name.is_empty() {
                continue;
            }
            if let Some(place) = specials.roles.get_mut(token as usize) {
                *place = role;
            }
            let first = specials.by_first.entry(name.as_bytes()[0]).or_default();
            first.push((name.clone(), token));
            first.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
            specials.by_name.insert(name, token);
        }
        specials
    }

    pub(super) fn set_takes(&mut self, token: TokenId, before: bool, after: bool) {
        if before || after {
            self.takes.insert(token, (before, after));
        }
    }

    pub(super) fn takes(&self, token: TokenId) -> (bool, bool) {
        self.takes.get(&token).copied().unwrap_or_default()
    }

    pub(super) fn get(&self, name: &str) -> Option<TokenId> {
        self.by_name.get(name).copied()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    pub(super) fn role(&self, token: TokenId) -> Role {
        self.roles.get(token as usize).copied().unwrap_or(Role::Text)
    }

    /// The special token whose name `text` begins with; the one with the longest name.
    pub(super) fn at_start(&self, text: &str) -> Option<(&str, TokenId)> {
        let candidates = self.by_first.get(text.as_bytes().first()?)?;
        let found = candidates.iter().find(|(name, _)| text.starts_with(name.as_str()));
        found.map(|(name, token)| (name.as_str(), *token))
    }

    /// The next special token in `text`, with its place.
    pub(super) fn find(&self, text: &str) -> Option<(usize, &str, TokenId)> {
        text.char_indices().find_map(|(at, _)| {
            let (name, token) = self.at_start(&text[at..])?;
            Some((at, name, token))
        })
    }
}

/// Whether the name of an added token that is not declared special is a mark nevertheless: Qwen and GLM list their
/// `<tool_call>` and `<|fim_prefix|>` as ordinary. Runs of blanks and whole words, which others add, are text.
pub(super) fn is_mark(name: &str) -> bool {
    let pairs = [('<', '>'), ('[', ']'), ('｜', '｜')];
    let has = |(open, close): (char, char)| {
        name.starts_with(open) && name.ends_with(close) && name.chars().count() > 2
    };
    pairs.into_iter().any(has) && !name.contains(char::is_whitespace)
}
