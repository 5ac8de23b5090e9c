//! Bits per byte: what the model gives to the tokens that the author wrote, window by window.

use std::path::Path;

use engine::{Class, Engine, Scored, TokenId};

use super::corpus::{File, Held};
use crate::bench::draw::hash;

/// Bytes of one window, of whole lines: about half a thousand tokens.
const WINDOW_BYTES_MAX: usize = 1536;
/// Windows with fewer bytes say little.
const WINDOW_BYTES_MIN: usize = 200;
/// Lines of a file that a window at its end may still have.
const LAST_LINES: usize = 40;
/// The names of a path that the model is told, as in training.
const PATH_NAMES: usize = 3;

/// A piece of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window<'h> {
    pub(super) file: &'h File,
    /// In bytes of the file.
    pub(super) begin: usize,
    pub(super) end: usize,
}

/// What the windows of a language cost.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Cost {
    /// Bytes of the texts.
    pub(super) bytes: usize,
    /// Tokens of them.
    pub(super) tokens: usize,
    /// Bits under the model alone.
    pub(super) model: f64,
}

impl Window<'_> {
    pub(super) fn text(&self) -> &str {
        &self.file.text[self.begin..self.end]
    }
}

impl Cost {
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    pub(super) fn per_byte(&self, bits: f64) -> f64 {
        bits / self.bytes.max(1) as f64
    }
}

/// Up to `count` windows: one of each file, from a line that a hash of the file's name chooses.
pub(super) fn windows(held: &Held, count: usize) -> Vec<Window<'_>> {
    held.files.iter().filter_map(window).take(count).collect()
}

fn window(file: &File) -> Option<Window<'_>> {
    let starts: Vec<usize> =
        std::iter::once(0).chain(file.text.match_indices('\n').map(|(at, _)| at + 1)).collect();
    let choices = starts.len().saturating_sub(LAST_LINES).max(1) as u64;
    let chosen = usize::try_from(hash(&["window", &file.package, &file.path]) % choices).ok()?;
    let begin = starts[chosen];
    let fits = |end: &&usize| **end - begin <= WINDOW_BYTES_MAX;
    let end = starts[chosen..].iter().take_while(fits).last().copied()?;
    (end - begin >= WINDOW_BYTES_MIN).then_some(Window { file, begin, end })
}

/// The tokens in front of a window: the file's name.
pub(super) fn header(engine: &Engine, file: &File) -> Vec<TokenId> {
    let tokenizer = engine.tokenizer();
    let names: Vec<&str> = file.path.split('/').collect();
    let name = names[names.len().saturating_sub(PATH_NAMES)..].join("/");
    match tokenizer.fim().and_then(|fim| fim.file_sep) {
        Some(separator) => {
            std::iter::once(separator).chain(tokenizer.encode(&format!("{name}\n"))).collect()
        }
        None => tokenizer.eos().first().copied().into_iter().collect(),
    }
}

/// What the model thinks of each token of a text behind `header`. A text that is longer than the context is read in pieces, each behind
/// half a context of what stands before it.
///
/// # Errors
/// The engine fails: one sentence.
pub(super) async fn opinions(
    engine: &Engine,
    header: &[TokenId],
    text: &[TokenId],
) -> Result<Vec<Scored>, String> {
    let room = engine.info().context_max.min(engine.info().context_fits);
    let mut scored = Vec::with_capacity(text.len());
    while scored.len() < text.len() {
        let done = scored.len();
        let before = if done == 0 {
            header.to_vec()
        } else {
            text[done.saturating_sub(room / 2)..done].to_vec()
        };
        let len = (text.len() - done).min(room.saturating_sub(before.len()));
        if before.is_empty() || len == 0 {
            return Err(format!(
                "{} has a context of {room} tokens, too short to be measured",
                engine.info().name
            ));
        }
        let piece = vec![text[done..done + len].to_vec()];
        let rows = engine.opinions(before, piece, Class::Fix).await;
        scored.extend(rows.map_err(|error| error.to_string())?.into_iter().flatten());
    }
    Ok(scored)
}

/// What the windows cost under the model alone.
///
/// # Errors
/// The engine fails: one sentence.
pub(super) async fn cost(engine: &Engine, windows: &[Window<'_>]) -> Result<Cost, String> {
    let mut cost = Cost::default();
    for window in windows {
        let tokens = engine.tokenizer().encode(window.text());
        let scored = opinions(engine, &header(engine, window.file), &tokens).await?;
        cost.bytes += window.text().len();
        cost.tokens += tokens.len();
        cost.model += scored.iter().map(bits).sum::<f64>();
    }
    Ok(cost)
}

fn bits(scored: &Scored) -> f64 {
    -f64::from(scored.logprob) / std::f64::consts::LN_2
}

/// A name for exactly these windows and this model's tokens.
pub(super) fn fingerprint(windows: &[Window<'_>], tokens: &[Vec<TokenId>]) -> String {
    let texts: Vec<&str> = windows.iter().map(Window::text).collect();
    let numbers: String = tokens.iter().flatten().map(|token| format!("{token} ")).collect();
    format!("{:016x}", hash(&[&texts.concat(), &numbers]))
}

/// Whether a path is a model's folder.
pub(super) fn is_model(dir: &Path) -> bool {
    dir.join("config.json").is_file()
}
