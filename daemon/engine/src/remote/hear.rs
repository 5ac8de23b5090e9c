//! What each kind of server says, in one set of words.

use std::time::Duration;

use serde_json::Value;

use super::{fault::Fault, kind::Kind};
use crate::job::TokenId;

/// The most of the likeliest tokens that are taken in of those that a server lists at one place.
const TOP_LEN_MAX: usize = crate::sampling::TOP_LEN_MAX as usize + 1;

/// What is told of an answer that ends and does not say why.
pub(crate) const NO_REASON: &str = "it does not say why";

/// Some text of an answer: a token of the server's, or as many as it would not tell apart.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Piece {
    /// The server's number of the token.
    pub(crate) id: Option<TokenId>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) logprob: Option<f32>,
    /// The likeliest tokens at its place.
    pub(crate) top: Vec<Likely>,
}

impl Piece {
    /// Its bytes from `len` on: no token of the server's any more, and what could have stood there is not known.
    pub(crate) fn without(mut self, len: usize) -> Piece {
        self.bytes.drain(..len.min(self.bytes.len()));
        Piece { id: None, top: Vec::new(), ..self }
    }
}

/// A token that could have stood there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Likely {
    pub(crate) id: Option<TokenId>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) logprob: f32,
}

/// Something that was said.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Heard {
    Piece(Piece),
    /// So many tokens of the prompt it has read.
    Read(usize),
    /// How many tokens the prompt had, and how many of them were not computed again.
    Usage {
        prompt: usize,
        cached: Option<usize>,
    },
    /// The model has no more to say.
    Stopped,
    /// It may not say more.
    Full,
}

/// What one event, or a whole answer, says.
pub(crate) fn hear(kind: Kind, said: &Value) -> Result<Vec<Heard>, Fault> {
    if let Some(error) = said.get("error").filter(|error| !error.is_null()) {
        let message = error["message"].as_str().or(error.as_str());
        let said = message.map_or_else(|| error.to_string(), str::to_owned);
        let code = error["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(500);
        return Err(Fault::Status { code, said, retry_after: None::<Duration> });
    }
    match kind {
        Kind::LlamaCpp => llama_cpp(said),
        _ => completions(said),
    }
}

fn llama_cpp(said: &Value) -> Result<Vec<Heard>, Fault> {
    if let Some(progress) = said.get("prompt_progress") {
        let number = |name: &str| progress[name].as_u64().map(|number| number as usize);
        let Some(read) = number("processed") else { return Ok(Vec::new()) };
        let mut heard = vec![Heard::Read(read)];
        if number("total") == Some(read) {
            heard.push(Heard::Usage { prompt: read, cached: number("cache") });
        }
        return Ok(heard);
    }
    let Some(content) = said["content"].as_str() else {
        return Err(Fault::garbage(said));
    };
    let ids = tokens(&said["tokens"]);
    let probabilities: Vec<Piece> =
        list(&said["completion_probabilities"]).map(described).collect();
    let mut heard = pieces(content, &ids, probabilities);
    if said["stop"] == true {
        if let Some(prompt) = said["tokens_evaluated"].as_u64() {
            let cached = said["timings"]["cache_n"].as_u64().map(|cached| cached as usize);
            heard.push(Heard::Usage { prompt: prompt as usize, cached });
        }
        heard.push(end_of_llama_cpp(said)?);
    }
    Ok(heard)
}

/// Why it ended: in one word, or of older ones in three flags.
fn end_of_llama_cpp(said: &Value) -> Result<Heard, Fault> {
    match said["stop_type"].as_str() {
        Some("limit") => Ok(Heard::Full),
        Some("eos" | "word") => Ok(Heard::Stopped),
        Some(other) => Err(Fault::Ended(other.to_owned())),
        None if said["stopped_limit"] == true => Ok(Heard::Full),
        None if said["stopped_eos"] == true || said["stopped_word"] == true => Ok(Heard::Stopped),
        None => Err(Fault::Ended(NO_REASON.to_owned())),
    }
}

fn completions(said: &Value) -> Result<Vec<Heard>, Fault> {
    let Some(choices) = said["choices"].as_array() else {
        return Err(Fault::garbage(said));
    };
    let mut heard = Vec::new();
    for choice in choices.iter().filter(|choice| choice["index"].as_u64().unwrap_or(0) == 0) {
        let text = choice["text"].as_str().unwrap_or_default();
        let logprobs = &choice["logprobs"];
        let probabilities = match logprobs["content"].as_array() {
            Some(content) => content.iter().map(described).collect(),
            None => columns(logprobs),
        };
        heard.extend(pieces(text, &tokens(&choice["token_ids"]), probabilities));
        match choice["finish_reason"].as_str() {
            None | Some("") => {}
            Some("length") => heard.push(Heard::Full),
            Some("stop") => heard.push(Heard::Stopped),
            Some(other) => return Err(Fault::Ended(other.to_owned())),
        }
    }
    if let Some(prompt) = said["usage"]["prompt_tokens"].as_u64() {
        let details = &said["usage"]["prompt_tokens_details"];
        let cached = details["cached_tokens"].as_u64().map(|cached| cached as usize);
        heard.insert(0, Heard::Usage { prompt: prompt as usize, cached });
    }
    Ok(heard)
}

/// The text, cut into tokens as far as the server tells them.
fn pieces(text: &str, ids: &[TokenId], probabilities: Vec<Piece>) -> Vec<Heard> {
    if !ids.is_empty() {
        let mut known = probabilities.into_iter().map(Some).collect::<Vec<_>>();
        let aligned = known.len() == ids.len();
        let piece = |(index, &id): (usize, &TokenId)| {
            let found = if aligned { known[index].take() } else { None };
            let mut piece = found.unwrap_or_default();
            piece.id = Some(id);
            // Where nobody says whose text is whose, the first one has it all.
            if index == 0 && !text.is_empty() && (!aligned || ids.len() == 1) {
                piece.bytes = text.as_bytes().to_vec();
            }
            Heard::Piece(piece)
        };
        return ids.iter().enumerate().map(piece).collect();
    }
    let joined: Vec<u8> = probabilities.iter().flat_map(|piece| piece.bytes.clone()).collect();
    if !probabilities.is_empty() && joined == text.as_bytes() {
        return probabilities.into_iter().map(Heard::Piece).collect();
    }
    let ids: Option<Vec<TokenId>> = probabilities.iter().map(|piece| piece.id).collect();
    if let Some(ids) = ids.filter(|ids| ids.len() > 1) {
        // Their names are not their texts, but their numbers are known.
        let nameless = |piece: Piece| Piece { bytes: Vec::new(), ..piece };
        let mut heard = pieces(text, &ids, probabilities.into_iter().map(nameless).collect());
        if let Some(Heard::Piece(first)) = heard.first_mut() {
            first.bytes = text.as_bytes().to_vec();
        }
        return heard;
    }
    if text.is_empty() {
        return Vec::new();
    }
    let mut piece = Piece { bytes: text.as_bytes().to_vec(), ..Piece::default() };
    match <[Piece; 1]>::try_from(probabilities) {
        // One token, whose name is not its text.
        Ok([one]) => (piece.id, piece.logprob, piece.top) = (one.id, one.logprob, one.top),
        Err(several) => {
            let all: Option<f32> = several.iter().map(|one| one.logprob).sum();
            piece.logprob = all.filter(|_| !several.is_empty());
        }
    }
    vec![Heard::Piece(piece)]
}

/// `{"token", "bytes", "id", "logprob", "top_logprobs": […]}`.
fn described(row: &Value) -> Piece {
    let likely = |row: &Value| {
        let logprob = logprob(&row["logprob"])?;
        Some(Likely { id: token(&row["id"]), bytes: bytes(row), logprob })
    };
    Piece {
        id: token(&row["id"]),
        bytes: bytes(row),
        logprob: logprob(&row["logprob"]),
        top: list(&row["top_logprobs"]).filter_map(likely).take(TOP_LEN_MAX).collect(),
    }
}

/// `{"tokens": […], "token_logprobs": […], "top_logprobs": [{…}, …]}`.
fn columns(logprobs: &Value) -> Vec<Piece> {
    let piece = |(index, name): (usize, &Value)| Piece {
        id: None,
        bytes: name.as_str().unwrap_or_default().as_bytes().to_vec(),
        logprob: logprob(&logprobs["token_logprobs"][index]),
        top: logprobs["top_logprobs"][index]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(name, logprob)| {
                let logprob = self::logprob(logprob)?;
                Some(Likely { id: None, bytes: name.as_bytes().to_vec(), logprob })
            })
            .take(TOP_LEN_MAX)
            .collect(),
    };
    list(&logprobs["tokens"]).enumerate().map(piece).collect()
}

/// The logarithm of a probability; none is greater than that of certainty, whatever a server says.
fn logprob(value: &Value) -> Option<f32> {
    let logprob = value.as_f64()? as f32;
    logprob.is_finite().then_some(logprob.min(0.0))
}

fn bytes(row: &Value) -> Vec<u8> {
    let exact = row["bytes"]
        .as_array()
        .map(|bytes| bytes.iter().filter_map(|byte| u8::try_from(byte.as_u64()?).ok()).collect());
    exact.unwrap_or_else(|| row["token"].as_str().unwrap_or_default().as_bytes().to_vec())
}

fn tokens(value: &Value) -> Vec<TokenId> {
    list(value).filter_map(token).collect()
}

fn token(value: &Value) -> Option<TokenId> {
    value.as_u64().and_then(|id| TokenId::try_from(id).ok())
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_an_end_that_the_model_meant_is_one() {
        let completion = |reason: &str| {
            hear(Kind::Vllm, &json!({"choices": [{"text": "", "finish_reason": reason}]}))
        };
        assert_eq!(completion("stop"), Ok(vec![Heard::Stopped]));
        assert_eq!(completion("length"), Ok(vec![Heard::Full]));
        assert_eq!(completion(""), Ok(Vec::new()));
        for reason in ["abort", "content_filter", "tool_calls"] {
            assert_eq!(completion(reason), Err(Fault::Ended(reason.to_owned())));
        }
        let llama = |mut said: Value| {
            (said["content"], said["stop"]) = (json!(""), json!(true));
            hear(Kind::LlamaCpp, &said)
        };
        for (said, end) in [
            (json!({"stop_type": "eos"}), Heard::Stopped),
            (json!({"stop_type": "word"}), Heard::Stopped),
            (json!({"stop_type": "limit"}), Heard::Full),
            (json!({"stopped_eos": true}), Heard::Stopped),
            (json!({"stopped_limit": true}), Heard::Full),
        ] {
            assert_eq!(llama(said), Ok(vec![end]));
        }
        assert_eq!(llama(json!({"stop_type": "none"})), Err(Fault::Ended("none".to_owned())));
        assert_eq!(llama(json!({})), Err(Fault::Ended(NO_REASON.to_owned())));
    }

    #[test]
    fn no_probability_is_greater_than_one_and_no_list_is_endless() {
        let likely = json!({"id": 1, "token": "a", "logprob": 1e300});
        let row =
            json!({"id": 1, "token": "a", "logprob": 7.5, "top_logprobs": vec![likely; 1000]});
        assert_eq!((described(&row).logprob, described(&row).top.len()), (Some(0.0), 0));
        let likely = json!({"id": 1, "token": "a", "logprob": -1.0});
        let row = json!({"top_logprobs": vec![likely; 1000]});
        assert_eq!(described(&row).top.len(), TOP_LEN_MAX);
    }

    #[test]
    fn the_rest_of_a_piece_is_no_token_of_the_servers() {
        let likely = Likely { id: Some(7), bytes: b"x".to_vec(), logprob: -1.0 };
        let whole =
            Piece { id: Some(7), bytes: "☃a".into(), logprob: Some(-0.5), top: vec![likely] };
        let rest = Piece { bytes: vec![0x83, b'a'], logprob: Some(-0.5), ..Piece::default() };
        assert_eq!(whole.without(2), rest);
    }
}
