//! What the workspace adds to the model: the same text with the model alone, with the workspace beside it, and with the workspace alone.
//!
//! The text is the start of a window, written at the end of what stands before it, with the prompt and the mixture that a completion
//! there has; each token is scored behind the right ones. The model alone has the same prompt, with the same chunks of the workspace.

use decode::CompleteRequest;
use decode::score::{SCORED_TOKENS_MAX, score};
use engine::{Engine, TokenId};
use recall::cache::{Cache, Limits};

use super::corpus::Held;
use super::projects::Projects;
use super::score::Window;

/// Bytes of the text, of whole lines: few enough for what is scored at once.
const PIECE_BYTES_MAX: usize = 400;
/// What the workspace's tokens leave for all others at the least: sums of thousands of shares are not exact.
const LEFT_MIN: f64 = 1e-6;

/// Bits of the same texts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Mixed {
    pub(super) bytes: usize,
    pub(super) alone: f64,
    pub(super) mixed: f64,
    /// Of the workspace's tokens without a model.
    pub(super) cache: f64,
}

impl Mixed {
    /// The share of the bits that the workspace spares.
    pub(super) fn gain(&self) -> f64 {
        if self.alone > 0.0 { 1.0 - self.mixed / self.alone } else { 0.0 }
    }

    pub(super) fn and(self, other: Mixed) -> Mixed {
        Mixed {
            bytes: self.bytes + other.bytes,
            alone: self.alone + other.alone,
            mixed: self.mixed + other.mixed,
            cache: self.cache + other.cache,
        }
    }
}

/// What the starts of these windows cost.
///
/// # Errors
/// The engine fails: one sentence.
pub(super) async fn mixed(
    engine: &Engine,
    held: &Held,
    windows: &[Window<'_>],
    projects: &Projects,
) -> Result<Mixed, String> {
    let mut total = Mixed::default();
    for window in windows {
        let Some(piece) = piece(engine, window) else { continue };
        let before = &window.file.text[..window.begin];
        let request = projects.request(engine, window.file, before.into(), before.len());
        let by_itself = CompleteRequest { mixing: None, ..request.clone() };
        let alone = bits(engine, by_itself, piece).await?;
        let mixed = bits(engine, request, piece).await?;
        let cache = cache_bits(engine, held, window, piece);
        total = total.and(Mixed { bytes: piece.len(), alone, mixed, cache });
    }
    Ok(total)
}

/// The first lines of a window, as many as are scored at once.
fn piece<'w>(engine: &Engine, window: &'w Window<'_>) -> Option<&'w str> {
    let text = window.text();
    let ends: Vec<usize> = text
        .match_indices('\n')
        .map(|(at, _)| at + 1)
        .take_while(|end| *end <= PIECE_BYTES_MAX)
        .collect();
    let fits = |end: &&usize| engine.tokenizer().encode(&text[..**end]).len() < SCORED_TOKENS_MAX;
    ends.iter().rev().find(fits).map(|end| &text[..*end])
}

/// Bits of `piece`, without its end: files go on.
async fn bits(engine: &Engine, request: CompleteRequest, piece: &str) -> Result<f64, String> {
    let scored = score(engine, request, piece).await.map_err(|error| error.to_string())?;
    let eos = engine.tokenizer().eos();
    let of_text = scored.iter().filter(|one| !eos.contains(&one.token));
    Ok(of_text.map(|one| -f64::from(one.logprob) / std::f64::consts::LN_2).sum())
}

/// The same of the workspace's tokens alone; what they leave is for all tokens alike.
#[allow(clippy::cast_precision_loss, reason = "a vocabulary")]
fn cache_bits(engine: &Engine, held: &Held, window: &Window<'_>, piece: &str) -> f64 {
    let tokenizer = engine.tokenizer();
    let mut cache = Cache::new(Limits::default());
    for file in held.beside(window.file) {
        cache.insert(&file.path, &tokenizer.encode(&file.text));
    }
    let mut context: Vec<TokenId> = tokenizer.encode(&window.file.text[..window.begin]);
    cache.insert(&window.file.path, &context);
    let vocabulary = engine.info().vocabulary as f64;
    let mut bits = 0.0;
    for token in tokenizer.encode(piece) {
        let prediction = cache.next(&window.file.path, &context);
        let left = (1.0 - f64::from(prediction.mass())).max(LEFT_MIN);
        bits -= (f64::from(prediction.of(token)) + left / vocabulary).log2();
        context.push(token);
    }
    bits
}
