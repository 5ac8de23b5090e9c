//! A server as it was found.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    ask::{Ask, Prompt},
    capabilities::Capabilities,
    fault::Fault,
    hear::{Heard, Piece},
    http::Client,
    kind::Kind,
    stream::whole,
    tried::Tried,
    words::Lexicon,
};
use crate::{grammar::Grammar, job::TokenId};

/// The logit that makes a token come: the greatest that servers take.
const FORCED: f32 = 100.0;
/// The most texts that a request asks a server to stop at.
const STOPS_MAX: usize = 4;

/// Whom to ask, and how.
pub(crate) struct Server {
    pub(crate) client: Arc<Client>,
    pub(crate) kind: Kind,
    pub(crate) model: String,
    pub(crate) lexicon: Lexicon,
    pub(crate) capabilities: Capabilities,
    /// How many tokens callers see.
    pub(crate) vocabulary: usize,
    /// How many of the likeliest tokens it lists at most.
    pub(crate) top_len_max: usize,
    /// It answers requests for streams.
    pub(crate) streams: bool,
    /// What is tried when a job needs it.
    pub(crate) tried: Arc<Tried>,
}

impl Server {
    pub(crate) fn body(&self, ask: &Ask) -> Value {
        self.kind.body(ask, &self.model)
    }

    pub(crate) fn takes_bias(&self) -> bool {
        self.capabilities.logit_bias && self.lexicon.is_shared
    }

    /// The names of tokens to stop at, for servers that are told of texts alone.
    pub(crate) fn stops(&self, tokens: &[TokenId]) -> Vec<String> {
        if matches!(self.kind, Kind::LlamaCpp | Kind::Vllm | Kind::Sglang) {
            return Vec::new();
        }
        let tokenizer = &self.lexicon.tokenizer;
        let names =
            tokens.iter().filter(|&&token| tokenizer.is_special(token)).filter_map(|&token| {
                std::str::from_utf8(tokenizer.token_bytes(token)).ok().map(str::to_owned)
            });
        names.take(STOPS_MAX).collect()
    }

    /// The log-probability of every token of a continuation.
    pub(crate) async fn score(
        &self,
        prompt: &[TokenId],
        continuation: &[TokenId],
    ) -> Result<Vec<f32>, Fault> {
        if self.kind == Kind::LlamaCpp {
            return self.score_forced(prompt, continuation).await;
        }
        let all = [prompt, continuation].concat();
        let ask = Ask { top_len: 1, ..Ask::greedy(Prompt::Tokens(all), 1) };
        let mut body = self.body(&ask);
        body["echo"] = json!(true);
        let heard = whole(&self.client, self.kind, &body).await?;
        let pieces = heard.into_iter().filter_map(|heard| match heard {
            Heard::Piece(piece) => Some(piece),
            _ => None,
        });
        let pieces: Vec<Piece> = pieces.collect();
        let scores: Option<Vec<f32>> = pieces
            .get(prompt.len()..prompt.len() + continuation.len())
            .and_then(|pieces| pieces.iter().map(|piece| piece.logprob).collect());
        scores.ok_or_else(|| Fault::garbage("an echo without the probabilities of its tokens"))
    }

    /// llama.cpp tells the probability of what it draws alone: token by token, each made to come. What stands before is not
    /// computed again.
    async fn score_forced(
        &self,
        prompt: &[TokenId],
        continuation: &[TokenId],
    ) -> Result<Vec<f32>, Fault> {
        let mut all = prompt.to_vec();
        let mut scores = Vec::with_capacity(continuation.len());
        for &token in continuation {
            let ask = Ask {
                top_len: 1,
                bias: vec![(token, FORCED)],
                ..Ask::greedy(Prompt::Tokens(all.clone()), 1)
            };
            let heard = whole(&self.client, self.kind, &self.body(&ask)).await?;
            let logprob = heard.iter().find_map(|heard| match heard {
                Heard::Piece(piece) if piece.id == Some(token) => piece.logprob,
                _ => None,
            });
            scores.push(logprob.ok_or_else(|| {
                Fault::garbage(format!(
                    "token {token} did not come, though nothing else was allowed"
                ))
            })?);
            all.push(token);
        }
        Ok(scores)
    }
}

/// A grammar as the fields of requests have it.
pub(crate) fn value_of(grammar: &Grammar) -> Value {
    match grammar {
        Grammar::Json(schema) => schema.clone(),
        Grammar::Regex(text) | Grammar::Gbnf(text) | Grammar::Lark(text) => json!(text),
    }
}
