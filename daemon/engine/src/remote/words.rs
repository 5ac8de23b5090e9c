//! Between the server's tokens and those that callers see.

use std::{collections::HashMap, sync::Arc};

use super::{ask::Prompt, capabilities::Prompts, fault::Fault, hear::Piece};
use crate::{job::TokenId, tokenizer::Tokenizer};

/// Tokens as callers see them, and how they get to the server and back.
pub(crate) struct Lexicon {
    pub(crate) tokenizer: Arc<Tokenizer>,
    /// The server's numbers are the same.
    pub(crate) is_shared: bool,
    /// How prompts are sent.
    pub(crate) prompts: Prompts,
    by_bytes: HashMap<Box<[u8]>, TokenId>,
}

/// A token of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Drawn {
    pub(crate) token: TokenId,
    pub(crate) logprob: Option<f32>,
    /// The likeliest tokens at its place.
    pub(crate) top: Vec<(TokenId, f32)>,
}

impl Lexicon {
    pub(crate) fn new(tokenizer: Arc<Tokenizer>, is_shared: bool, prompts: Prompts) -> Lexicon {
        let mut by_bytes: HashMap<Box<[u8]>, TokenId> = HashMap::new();
        for token in 0..tokenizer.len() as TokenId {
            let bytes = tokenizer.token_bytes(token);
            // Of tokens with the same bytes the one counts that a text is cut into.
            let is_usual = || {
                let text = std::str::from_utf8(bytes);
                text.is_ok_and(|text| tokenizer.encode(text) == [token])
            };
            if !by_bytes.contains_key(bytes) || is_usual() {
                by_bytes.insert(Box::from(bytes), token);
            }
        }
        by_bytes.remove(&[][..]);
        Lexicon { tokenizer, is_shared, prompts, by_bytes }
    }

    /// The prompt, and the bytes that the answer has to begin with because they are no whole character.
    pub(crate) fn prompt(&self, tokens: &[TokenId]) -> Result<(Prompt, Vec<u8>), Fault> {
        if self.prompts == Prompts::Tokens {
            return Ok((Prompt::Tokens(tokens.to_vec()), Vec::new()));
        }
        let mut text = Vec::new();
        let mut plain = Vec::new();
        for &token in tokens {
            let bytes = self.tokenizer.token_bytes(token);
            if self.tokenizer.is_special(token) {
                self.check_plain(&plain)?;
                text.append(&mut plain);
                text.extend_from_slice(bytes);
            } else {
                plain.extend_from_slice(bytes);
            }
        }
        self.check_plain(&plain)?;
        text.append(&mut plain);
        let whole = match std::str::from_utf8(&text) {
            Ok(_) => text.len(),
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(_) => text.len(),
        };
        let rest = text.split_off(whole);
        Ok((Prompt::Text(String::from_utf8_lossy(&text).into_owned()), rest))
    }

    /// What looks like a special token would be obeyed by a server that is sent text.
    fn check_plain(&self, plain: &[u8]) -> Result<(), Fault> {
        let text = String::from_utf8_lossy(plain);
        match self.tokenizer.special_in(&text) {
            None => Ok(()),
            Some(name) => Err(Fault::Lacks(format!(
                "the prompt's text has {name} in it, which a server that takes no tokens would obey; use a server that takes prompts as tokens"
            ))),
        }
    }

    /// The tokens of a piece. Where one piece is several tokens, the first one has its probability, and the others follow from it.
    pub(crate) fn drawn(&self, piece: &Piece) -> Result<Vec<Drawn>, Fault> {
        let top = piece.top.iter().filter_map(|likely| {
            let token = self.token(likely.id, &likely.bytes)?;
            likely.logprob.is_finite().then_some((token, likely.logprob))
        });
        if let Some(token) = self.token(piece.id, &piece.bytes) {
            return Ok(vec![Drawn { token, logprob: piece.logprob, top: top.collect() }]);
        }
        if let Some(id) = piece.id.filter(|_| self.is_shared) {
            return Err(Fault::garbage(format!(
                "it drew token {id}, and the tokenizer has {}; name the model's own in `model.remote_tokenizer`",
                self.tokenizer.len()
            )));
        }
        let tokens = match std::str::from_utf8(&piece.bytes) {
            Ok(text) => self.tokenizer.encode(text),
            // The rest of a character: most tokenizers have a token for every byte.
            Err(_) => piece
                .bytes
                .iter()
                .filter_map(|byte| self.by_bytes.get(&[*byte][..]).copied())
                .collect(),
        };
        let certain = |(index, token)| Drawn {
            token,
            logprob: if index == 0 { piece.logprob } else { piece.logprob.map(|_| 0.0) },
            top: Vec::new(),
        };
        Ok(tokens.into_iter().enumerate().map(certain).collect())
    }

    fn token(&self, id: Option<TokenId>, bytes: &[u8]) -> Option<TokenId> {
        match id.filter(|_| self.is_shared) {
            Some(id) => ((id as usize) < self.tokenizer.len()).then_some(id),
            None => self.by_bytes.get(bytes).copied(),
        }
    }
}
