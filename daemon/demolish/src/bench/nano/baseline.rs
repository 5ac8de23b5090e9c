//! What the n-grams say of the same windows.
//!
//! They are counted on the recipe's training text, of which a fresh machine has nothing; so figures that were measured are kept in
//! `daemon/nano/baseline.json`, each with the fingerprint of the windows and tokens that it is of. Where the training text is there,
//! it is counted anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use engine::{Engine, TokenId};
use serde::{Deserialize, Serialize};

use super::corpus::{self, Split};
use super::ngram::WittenBell;
use super::score::{self, Window};

/// Bytes of training text that are counted for each language.
const TRAINING_BYTES_MAX: usize = 40_000_000;
/// In how many parts shares of the text are told.
const HUNDREDTHS: usize = 100;
/// Where figures are kept.
const KEPT: &str = "../nano/baseline.json";

/// Figures of one language.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Baseline {
    /// Of exactly which windows and tokens.
    fingerprint: String,
    /// Bytes of the training text that was counted.
    pub(super) training_bytes: usize,
    /// Bits per byte of the order-5 n-gram over the model's tokens.
    pub(super) tokens5: f64,
    /// The same over bytes.
    pub(super) bytes5: f64,
}

/// By language.
pub(super) type Kept = BTreeMap<String, Baseline>;

fn place() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(KEPT)
}

/// The figures that were kept.
#[allow(clippy::disallowed_methods, reason = "the measurement's own data")]
pub(super) fn kept() -> Kept {
    let text = std::fs::read_to_string(place()).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// Keeps figures.
///
/// # Errors
/// The file cannot be written: one sentence.
#[allow(clippy::disallowed_methods, reason = "the measurement's own data")]
pub(super) fn keep(kept: &Kept) -> Result<(), String> {
    let text = serde_json::to_string_pretty(kept).map_err(|error| error.to_string())?;
    std::fs::write(place(), text + "\n").map_err(|error| format!("{KEPT}: {error}"))
}

/// The figures of these windows: those that are kept, or counted now; `None` where there is neither.
///
/// # Errors
/// The training text cannot be read: one sentence.
pub(super) fn of(
    engine: &Engine,
    folder: &Path,
    language: &'static str,
    windows: &[Window<'_>],
    kept: &mut Kept,
) -> Result<Option<Baseline>, String> {
    let tokenizer = engine.tokenizer();
    let tokens: Vec<Vec<TokenId>> =
        windows.iter().map(|window| tokenizer.encode(window.text())).collect();
    let fingerprint = score::fingerprint(windows, &tokens);
    if let Some(known) = kept.get(language).filter(|known| known.fingerprint == fingerprint) {
        return Ok(Some(known.clone()));
    }
    let path = corpus::path_of(folder, language, Split::Training);
    if !path.is_file() {
        return Ok(None);
    }
    let baseline = counted(engine, &path, windows, &tokens, fingerprint)?;
    kept.insert(language.to_owned(), baseline.clone());
    Ok(Some(baseline))
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
fn counted(
    engine: &Engine,
    path: &Path,
    windows: &[Window<'_>],
    tokens: &[Vec<TokenId>],
    fingerprint: String,
) -> Result<Baseline, String> {
    let (tokenizer, end) = (engine.tokenizer(), engine.tokenizer().eos().first().copied());
    let bytes: Vec<Vec<u32>> = windows.iter().map(|window| symbols(window.text())).collect();
    let mut over_tokens = WittenBell::for_texts(tokens, engine.info().vocabulary);
    let mut over_bytes = WittenBell::for_texts(&bytes, 256);
    let mut training_bytes = 0;
    // Of a longer text files from everywhere, as a hash of their names decides.
    let whole = path.metadata().map_or(0, |data| data.len()).max(1);
    let taken = TRAINING_BYTES_MAX.saturating_mul(HUNDREDTHS)
        / usize::try_from(whole).unwrap_or(usize::MAX);
    corpus::each(path, |file| {
        let drawn = crate::bench::draw::hash(&["baseline", &file.package, &file.path]);
        if usize::try_from(drawn % HUNDREDTHS as u64).is_ok_and(|drawn| drawn >= taken) {
            return true;
        }
        let mut learnt = tokenizer.encode(&file.text);
        learnt.extend(end);
        over_tokens.learn(&learnt);
        over_bytes.learn(&symbols(&file.text));
        training_bytes += file.text.len();
        training_bytes < TRAINING_BYTES_MAX
    })?;
    let total = bytes.iter().map(Vec::len).sum::<usize>().max(1) as f64;
    Ok(Baseline {
        fingerprint,
        training_bytes,
        tokens5: tokens.iter().map(|text| over_tokens.bits(text)).sum::<f64>() / total,
        bytes5: bytes.iter().map(|text| over_bytes.bits(text)).sum::<f64>() / total,
    })
}

fn symbols(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}
