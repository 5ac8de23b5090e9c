//! The baseline: an interpolated Witten-Bell n-gram, over tokens or bytes (Witten and Bell 1991, method C).
//!
//! `p(w | h) = (c(h, w) + T(h) · p(w | shorter h)) / (c(h) + T(h))`, where `T(h)` is how many different symbols came behind `h`; the
//! shortest history falls back to all symbols alike. It is `daemon/nano/ngram.py` with exact histories in the place of hashes: only
//! histories that the measured texts have are counted, so the training text may be as long as it likes.

use std::collections::HashMap;

/// Symbols of the longest n-gram.
pub(super) const ORDER: usize = 5;
/// Bits of a symbol in a history; enough for every vocabulary.
const SYMBOL_BITS: u32 = 24;

/// What came behind one history.
#[derive(Debug, Clone, Default)]
struct Seen {
    total: u64,
    next: HashMap<u32, u64>,
}

/// Counts of the histories that some texts have.
#[derive(Debug, Clone)]
pub(super) struct WittenBell {
    alphabet: usize,
    /// By length of the history.
    tables: Vec<HashMap<u128, Seen>>,
}

impl WittenBell {
    /// A model that will be asked for these texts, of symbols below `alphabet`. It has seen nothing yet.
    pub(super) fn for_texts(texts: &[Vec<u32>], alphabet: usize) -> WittenBell {
        let mut tables: Vec<HashMap<u128, Seen>> = vec![HashMap::new(); ORDER];
        for text in texts {
            for (length, table) in tables.iter_mut().enumerate() {
                for end in length..text.len() {
                    table.entry(key(&text[end - length..end])).or_default();
                }
            }
        }
        WittenBell { alphabet, tables }
    }

    /// Counts a text. Its first symbols have shorter histories.
    pub(super) fn learn(&mut self, text: &[u32]) {
        for (end, &symbol) in text.iter().enumerate() {
            for (length, table) in self.tables.iter_mut().enumerate().take(end + 1) {
                // Whatever ends in a history that nobody asks for is not asked for either.
                let Some(seen) = table.get_mut(&key(&text[end - length..end])) else { break };
                seen.total += 1;
                *seen.next.entry(symbol).or_default() += 1;
            }
        }
    }

    /// The probability of `symbol` behind `history`, of which the last symbols count.
    #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub(super) fn chance(&self, history: &[u32], symbol: u32) -> f64 {
        let mut chance = 1.0 / self.alphabet as f64;
        for (length, table) in self.tables.iter().enumerate().take(history.len() + 1) {
            let seen = table.get(&key(&history[history.len() - length..]));
            let Some(seen) = seen.filter(|seen| seen.total > 0) else { break };
            let (total, kinds) = (seen.total as f64, seen.next.len() as f64);
            let count = seen.next.get(&symbol).copied().unwrap_or(0) as f64;
            chance = (count + kinds * chance) / (total + kinds);
        }
        chance
    }

    /// Bits that a text costs.
    pub(super) fn bits(&self, text: &[u32]) -> f64 {
        let chance = |end: usize| self.chance(&text[end.saturating_sub(ORDER - 1)..end], text[end]);
        (0..text.len()).map(|end| -chance(end).log2()).sum()
    }
}

/// A history as a number; its length is known.
fn key(history: &[u32]) -> u128 {
    history.iter().fold(0, |key, symbol| (key << SYMBOL_BITS) | u128::from(*symbol))
}
