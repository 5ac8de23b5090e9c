//! Text to tokens and back. The rest of the engine sees tokens alone.
//!
//! `encode` takes text as text: what looks like a special token in a user's file is spelled out, never obeyed. Special tokens
//! are put into a prompt by id ([`Tokenizer::special`], [`Tokenizer::fim`]), or by [`Tokenizer::encode_prompt`] in text that the
//! daemon itself made, such as a rendered chat template.

mod chat;
mod fim;
mod guard;
mod hf;
mod plain;
mod specials;
mod stop;
mod stream;
mod templates;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, path::Path, time::SystemTime};

use serde_json::Value;

pub use chat::{ChatError, ChatMessage};
pub use fim::FimTokens;
pub(crate) use hf::read_json;
pub(crate) use plain::PlainVocabulary;
pub use stop::{STOP_LEN_MAX, STOP_TEXTS_MAX, Shown, StopError, StopMatcher};
pub use stream::{Piece, TextStream};

use crate::{info::LoadError, job::TokenId, profile::Profile};
use specials::{Role, Specials};
use templates::Templates;

/// A model's tokenizer.
pub struct Tokenizer {
    kind: Kind,
    /// The bytes that each token stands for.
    bytes: Vec<Box<[u8]>>,
    specials: Specials,
    eos: Vec<TokenId>,
    fim: Option<FimTokens>,
    templates: Templates,
    chat_names: Vec<(String, String)>,
    profile: Profile,
}

enum Kind {
    Hf(Box<hf::Hf>),
    Plain(PlainVocabulary),
}

/// Where a text stands in its prompt: some tokenizers put a blank before texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// At its beginning.
    First,
    /// Right after a special token.
    AfterSpecial,
    /// Anywhere; what stands before it is text.
    Within,
}

impl Tokenizer {
    /// Reads tokenizer.json, tokenizer_config.json and a chat template from `dir`. `eos` are the end-of-text tokens that the
    /// model's own configuration names.
    pub fn load(dir: &Path, eos: &[TokenId]) -> Result<Tokenizer, LoadError> {
        hf::load(dir, eos)
    }

    pub(crate) fn plain(vocabulary: PlainVocabulary) -> Tokenizer {
        let bytes = vocabulary.bytes();
        let tokens =
            vocabulary.specials().into_iter().map(|(name, token)| (name, token, Role::Control));
        let specials = Specials::new(tokens, bytes.len());
        let eos = specials.get("<|endoftext|>").into_iter().collect();
        let fim = FimTokens::find(|name| specials.get(name), true);
        let kind = Kind::Plain(vocabulary);
        Tokenizer {
            kind,
            bytes,
            specials,
            eos,
            fim,
            templates: Templates::default(),
            chat_names: Vec::new(),
            profile: Profile::scripted(),
        }
    }

    /// The tokens of `text`, none of them special, and without a blank before it where the tokenizer has such a habit: the text
    /// may stand anywhere.
    pub fn encode(&self, text: &str) -> Vec<TokenId> {
        self.encode_at(text, Place::Within)
    }

    fn encode_at(&self, text: &str, place: Place) -> Vec<TokenId> {
        match &self.kind {
            Kind::Hf(hf) => hf.encode(text, place),
            Kind::Plain(plain) => plain.encode(text),
        }
    }

    /// The tokens of a text in which the names of special tokens stand for these. Only for text that the daemon made.
    pub fn encode_prompt(&self, text: &str) -> Vec<TokenId> {
        self.encode_broken(text, None)
    }

    /// The tokens of a whole prompt. `breaker` is in no name of a special token, and is no part of the text.
    fn encode_broken(&self, text: &str, breaker: Option<char>) -> Vec<TokenId> {
        let mut tokens = Vec::new();
        let mut rest = text;
        let mut place = Place::First;
        loop {
            let found = self.specials.find(rest);
            let (mut plain, next) = match found {
                Some((at, name, token)) => (&rest[..at], Some((&rest[at + name.len()..], token))),
                None => (rest, None),
            };
            if next.is_some_and(|(_, token)| self.specials.takes(token).0) {
                plain = plain.trim_end();
            }
            if !plain.is_empty() {
                let whole = breaker
                    .filter(|breaker| plain.contains(*breaker))
                    .map(|breaker| plain.replace(breaker, ""));
                tokens.extend(self.encode_at(whole.as_deref().unwrap_or(plain), place));
            }
            let Some((after, token)) = next else {
                return tokens;
            };
            tokens.push(token);
            rest = if self.specials.takes(token).1 { after.trim_start() } else { after };
            place = Place::AfterSpecial;
        }
    }

    /// The text of `tokens`, special ones left out. Bytes that are not UTF-8 become U+FFFD.
    pub fn decode(&self, tokens: &[TokenId]) -> String {
        let mut bytes = Vec::new();
        for &token in tokens.iter().filter(|&&token| !self.is_special(token)) {
            bytes.extend_from_slice(self.token_bytes(token));
        }
        String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    /// Text from tokens that arrive one by one.
    pub fn stream(&self) -> TextStream<'_> {
        TextStream::new(self)
    }

    /// The bytes that a token stands for; its name if it is special, nothing if it does not exist.
    pub fn token_bytes(&self, token: TokenId) -> &[u8] {
        self.bytes.get(token as usize).map_or(&[], |bytes| bytes)
    }

    /// The number of token ids.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are no tokens at all.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The special token of that name.
    pub fn special(&self, name: &str) -> Option<TokenId> {
        self.specials.get(name)
    }

    /// The names of all special tokens.
    pub fn special_names(&self) -> impl Iterator<Item = &str> {
        self.specials.names()
    }

    /// Where the name of a special token stands in `text`, spelled out in ordinary ones, and which.
    pub fn find_special(&self, text: &str) -> Option<(usize, &str)> {
        let (at, _, token) = self.specials.find(text)?;
        std::str::from_utf8(self.token_bytes(token)).ok().map(|name| (at, name))
    }

    /// The name of a special token that stands in `text`.
    pub(crate) fn special_in(&self, text: &str) -> Option<&str> {
        self.find_special(text).map(|(_, name)| name)
    }

    /// Whether the token is not text.
    pub fn is_special(&self, token: TokenId) -> bool {
        self.specials.role(token) != Role::Text
    }

    /// The tokens of fill-in-the-middle prompts, where the model has them.
    pub fn fim(&self) -> Option<FimTokens> {
        self.fim
    }

    /// The first thing that another tokenizer sees differently, in words; `None`: texts are the same tokens.
    #[cfg(feature = "mlx")]
    pub(crate) fn difference(&self, other: &Tokenizer) -> Option<String> {
        if self.len() != other.len() {
            return Some(format!("{} tokens against {}", other.len(), self.len()));
        }
        let token = (0..self.len() as TokenId)
            .find(|&token| self.token_bytes(token) != other.token_bytes(token))?;
        let words = |tokenizer: &Tokenizer| {
            String::from_utf8_lossy(tokenizer.token_bytes(token)).into_owned()
        };
        Some(format!("token {token} is {:?} against {:?}", words(other), words(self)))
    }

    /// The tokens that end a text: those of config.json, generation_config.json, the tokenizer and the family together.
    pub fn eos(&self) -> &[TokenId] {
        &self.eos
    }

    /// What is known of the model beside its files.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The source of the template that conversations without tools are rendered with; how the model calls tools can be told by it.
    pub fn template_source(&self) -> Option<&str> {
        self.templates.choose(true).map(|template| template.source.as_str())
    }

    /// The prompt of a conversation: the chat template's text as tokens. What looks like a special token in a message, in a
    /// tool's description or in an argument is text, except for the marks of the assistant's own reasoning.
    pub fn chat(
        &self,
        messages: &[ChatMessage],
        variables: &BTreeMap<String, Value>,
    ) -> Result<Vec<TokenId>, ChatError> {
        let Some(guarded) = guard::guard(messages, variables, &self.specials) else {
            return Err(ChatError::Breakers);
        };
        let text = self.chat_template(&guarded.messages, &guarded.variables)?;
        Ok(self.encode_broken(&text, Some(guarded.breaker)))
    }

    /// Renders the model's chat template; `variables` are what the template reads beside the messages (`tools`,
    /// `enable_thinking`, …). The result ends where the assistant's answer begins.
    pub fn chat_template(
        &self,
        messages: &[ChatMessage],
        variables: &BTreeMap<String, Value>,
    ) -> Result<String, ChatError> {
        let has_tools =
            variables.get("tools").and_then(Value::as_array).is_some_and(|tools| !tools.is_empty());
        let template = self.templates.choose(has_tools).ok_or(ChatError::Missing)?;
        // What the model's profile says stands behind what the caller says.
        let mut all = self.profile.variables().clone();
        all.extend(variables.iter().map(|(name, value)| (name.clone(), value.clone())));
        let surroundings =
            chat::Surroundings { names: &self.chat_names, variables: &all, now: SystemTime::now() };
        chat::render(template, messages, &surroundings)
    }
}
