//! `demolish model logits`: what a model computes, for comparisons with other implementations.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::Path;

use engine::{Compute, LoadOptions, TokenId};
use serde_json::json;

use super::super::{Exit, Failure, Outcome, block_on, print, print_json};
use super::meter::loading;
use super::{Which, settings};
use crate::model;

/// A list of tokens that is longer than this is no prompt.
const TOKENS_BYTES_MAX: u64 = 64 << 20;
/// How many of the likeliest tokens are shown to people.
const SHOWN: usize = 10;

/// What is to be computed.
pub(super) struct Asked<'a> {
    pub(super) which: &'a Which,
    pub(super) tokens: &'a [TokenId],
    pub(super) adapter: Option<&'a Path>,
    pub(super) compute: Compute,
}

impl Asked<'_> {
    fn options(&self) -> LoadOptions {
        LoadOptions { compute: self.compute, ..model::options(&settings()) }
    }
}

/// The tokens that were given, or those of a file.
pub(super) fn tokens(given: &[TokenId], from: Option<&Path>) -> Result<Vec<TokenId>, Failure> {
    let Some(path) = from else { return Ok(given.to_vec()) };
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(TOKENS_BYTES_MAX).read_to_string(&mut text)
    } else {
        std::fs::File::open(path)
            .and_then(|file| file.take(TOKENS_BYTES_MAX).read_to_string(&mut text))
    };
    let wrong = |reason: String| Failure::bad(format!("{}: {reason}", path.display()));
    read.map_err(|error| {
        let is_forbidden = error.kind() == std::io::ErrorKind::PermissionDenied;
        wrong(format!("{error}{}", if is_forbidden { "; make it readable" } else { "" }))
    })?;
    // An array of JSON is a list, too.
    let list = text.trim().trim_start_matches('[').trim_end_matches(']');
    let words = list.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
    let tokens: Result<Vec<TokenId>, Failure> = words
        .map(|word| {
            word.parse().map_err(|_| wrong(format!("{word:?} is not the number of a token")))
        })
        .collect();
    tokens.and_then(|tokens| {
        if tokens.is_empty() { Err(wrong("no tokens in it".to_owned())) } else { Ok(tokens) }
    })
}

/// The logits after the last token.
pub(super) fn last(asked: &Asked<'_>, json: bool) -> Outcome {
    let dir = asked.which.dir()?;
    let engine = loading(|watch| model::load_watched(&dir, asked.options(), watch))
        .map_err(|reason| asked.which.failed(reason))?;
    let logits = block_on(async {
        let soul = match asked.adapter {
            Some(adapter) => Some(engine.mount(adapter).await.map_err(Failure::bad)?),
            None => None,
        };
        engine.logits_with(soul, asked.tokens.to_vec()).await.map_err(Failure::bad)
    })??;
    numbers(&logits, asked.tokens.len().saturating_sub(1))?;
    if json {
        print_json(&json!({"logits": logits}));
        return Ok(Exit::Done);
    }
    let mut ranked: Vec<(usize, f32)> = logits.into_iter().enumerate().collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut text = String::new();
    for (token, logit) in ranked.into_iter().take(SHOWN) {
        let shown = TokenId::try_from(token)
            .map(|token| engine.tokenizer().decode(&[token]))
            .unwrap_or_default();
        let _ = writeln!(text, "{logit:>10.4}  {token:>7}  {shown:?}");
    }
    print(&text);
    Ok(Exit::Done)
}

/// JSON has no word for what is no number, and nobody could compare it.
fn numbers(logits: &[f32], position: usize) -> Result<(), Failure> {
    if logits.iter().all(|logit| logit.is_finite()) {
        Ok(())
    } else {
        Err(Failure::bad(format!("the model's logits at position {position} are not numbers")))
    }
}

#[cfg(not(feature = "mlx"))]
pub(super) fn all(_: &Asked<'_>, _: bool) -> Outcome {
    Err(Failure::missing("this build has no MLX backend"))
}

/// The logits of every position, computed in one pass where the model's chunks allow it.
#[cfg(feature = "mlx")]
pub(super) fn all(asked: &Asked<'_>, json: bool) -> Outcome {
    let dir = asked.which.dir()?;
    let mut model = loading(|watch| engine::Bare::load_watched(&dir, asked.options(), watch))
        .map_err(Failure::bad)?;
    if let Some(adapter) = asked.adapter {
        model.wear(adapter).map_err(Failure::bad)?;
    }
    let logits = model.feed(asked.tokens).map_err(Failure::bad)?;
    let rows: Vec<&[f32]> = logits.chunks(model.vocabulary()).collect();
    rows.iter().enumerate().try_for_each(|(position, row)| numbers(row, position))?;
    if json {
        print_json(&json!({"logits": rows}));
        return Ok(Exit::Done);
    }
    let likeliest =
        |row: &&[f32]| row.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
    let mut text = String::new();
    for (token, (next, logit)) in asked.tokens.iter().zip(rows.iter().filter_map(likeliest)) {
        let _ = writeln!(text, "after {token:>7}: {next:>7} with {logit:.4}");
    }
    print(&text);
    Ok(Exit::Done)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the test writes a file")]
mod tests {
    use super::*;

    #[test]
    fn logits_that_are_no_numbers_are_refused_with_their_position() {
        assert!(numbers(&[0.0, -1e30], 0).is_ok());
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let said = numbers(&[0.0, wrong], 7).map_err(|failure| failure.message);
            assert_eq!(said.unwrap_err(), "the model's logits at position 7 are not numbers");
        }
    }

    #[test]
    fn tokens_come_from_lists_of_any_kind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            tokens(&[], Some(&path)).map_err(|failure| failure.message)
        };
        assert_eq!(read("1,2, 3\n4\t5\n").unwrap(), [1, 2, 3, 4, 5]);
        assert_eq!(read("[7, 8]\n").unwrap(), [7, 8]);
        assert!(read("1 two").unwrap_err().contains("\"two\" is not the number of a token"));
        assert!(read("[]").unwrap_err().ends_with("no tokens in it"));
        assert_eq!(tokens(&[9], None).unwrap_or_default(), [9]);
    }
}
