//! Text from tokens that arrive one by one.

use super::{Tokenizer, specials::Role};
use crate::job::TokenId;

/// Text from tokens that arrive one by one: bytes are held back until they are whole characters.
pub struct TextStream<'t> {
    tokenizer: &'t Tokenizer,
    held: Vec<u8>,
}

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece<'t> {
    /// Text; never empty.
    Text(String),
    /// A token that is not text.
    Mark {
        /// What it is called: `<tool_call>`.
        name: &'t str,
        /// It structures the conversation, not the answer, and so is no part of any value.
        is_control: bool,
    },
}

impl<'t> TextStream<'t> {
    pub(super) fn new(tokenizer: &'t Tokenizer) -> TextStream<'t> {
        TextStream { tokenizer, held: Vec::new() }
    }

    /// The text that `token` completes; empty while a character is incomplete, and for special tokens.
    pub fn push(&mut self, token: TokenId) -> String {
        if !self.tokenizer.is_special(token) {
            self.held.extend_from_slice(self.tokenizer.token_bytes(token));
        }
        self.take_whole()
    }

    /// As `push`, with the tokens that are not text. A character that one of them interrupts is U+FFFD.
    pub fn pieces(&mut self, token: TokenId) -> impl Iterator<Item = Piece<'t>> + use<'t> {
        let role = self.tokenizer.specials.role(token);
        let mut text = self.push(token);
        let mark = (role != Role::Text).then(|| {
            text.push_str(&String::from_utf8_lossy(&std::mem::take(&mut self.held)));
            let name = std::str::from_utf8(self.tokenizer.token_bytes(token)).unwrap_or_default();
            Piece::Mark { name, is_control: role == Role::Control }
        });
        let text = (!text.is_empty()).then_some(Piece::Text(text));
        text.into_iter().chain(mark)
    }

    /// What is left when no token follows: the beginning of a character that never came, as U+FFFD.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.held).into_owned()
    }

    fn take_whole(&mut self) -> String {
        let mut text = String::new();
        loop {
            match std::str::from_utf8(&self.held) {
                Ok(whole) => {
                    text.push_str(whole);
                    self.held.clear();
                    return text;
                }
                Err(error) => {
                    let (whole, rest) = self.held.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(whole));
                    let broken = error.error_len();
                    let rest = rest[broken.unwrap_or(0)..].to_vec();
                    self.held = rest;
                    if broken.is_none() {
                        return text;
                    }
                    text.push(char::REPLACEMENT_CHARACTER);
                }
            }
        }
    }
}
