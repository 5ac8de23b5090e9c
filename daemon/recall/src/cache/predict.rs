//! A distribution over the next token from the places where the latest ones stood before.
//!
//! Contexts are nested twice: the longer in the shorter, and at each length the file in the directory in the project. From the
//! outermost inwards each gives its counts the weight that they earn (Witten and Bell 1991, method C): with `n` places that show `t`
//! different tokens, `P(x) = (count(x) + t · P_outer(x)) / (n + t)`. Outside of all there is nothing, so what is left of one is the
//! chance of a token that did not come behind these before.

use super::gather::{Level, MATCH_LEN_MAX, Match, Matches};

/// The most tokens of a prediction, the likeliest.
pub const CANDIDATES_MAX: usize = 24;
/// Lengths of matches that are contexts of their own.
const LENS: [u8; 9] = [1, 2, 3, 4, 6, 8, 12, 16, MATCH_LEN_MAX as u8];

/// From the outermost inwards.
const LEVELS: [Level; 3] = [Level::Project, Level::Directory, Level::File];

/// What a cache says of the next token.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Prediction {
    /// Tokens with their probabilities, the likeliest first. Together they have at most one; the rest is for all others.
    pub tokens: Vec<(u32, f32)>,
    /// The length of the longest match; 0: there is none.
    pub len: u8,
    /// The nearest level that it is found at.
    pub level: Option<Level>,
    /// How often there was a match of that length.
    pub count: u16,
    /// Which share of those was followed by the commonest token.
    pub share: f32,
}

impl Prediction {
    /// The likeliest token and its probability.
    pub fn top(&self) -> Option<(u32, f32)> {
        self.tokens.first().copied()
    }

    /// What its tokens have together, at most one.
    pub fn mass(&self) -> f32 {
        self.tokens.iter().map(|(_, probability)| probability).sum::<f32>().min(1.0)
    }

    /// What it gives a token.
    pub fn of(&self, token: u32) -> f32 {
        self.tokens.iter().find(|(other, _)| *other == token).map_or(0.0, |(_, known)| *known)
    }
}

/// Memory for the making of a prediction.
#[derive(Debug, Clone, Default)]
pub(super) struct Scratch {
    /// Different tokens.
    symbols: Vec<u32>,
    /// The matches: length, level, index of the symbol.
    rows: Vec<(u8, Level, usize)>,
    chances: Vec<f32>,
    counts: Vec<u16>,
}

impl Matches {
    /// The distribution over what `next` finds at the places, one after the other: their next token, or what stands for it. Places where it finds nothing
    /// do not count.
    pub fn predict(&mut self, next: impl FnMut(Match) -> Option<u32>) -> Prediction {
        let Matches { found, scratch, .. } = self;
        scratch.fill(found, next);
        scratch.predict()
    }
}

impl Scratch {
    fn fill(&mut self, found: &[Match], mut next: impl FnMut(Match) -> Option<u32>) {
        self.symbols.clear();
        self.rows.clear();
        for &found in found {
            let Some(token) = next(found) else { continue };
            let known = self.symbols.iter().position(|symbol| *symbol == token);
            let symbol = known.unwrap_or(self.symbols.len());
            if known.is_none() {
                self.symbols.push(token);
            }
            self.rows.push((found.len, found.level, symbol));
        }
        self.chances.clear();
        self.chances.resize(self.symbols.len(), 0.0);
    }

    fn predict(&mut self) -> Prediction {
        let mut shorter = [0; LEVELS.len()];
        let mut longest = 0;
        for len in LENS {
            let mut outer = 0;
            for (index, level) in LEVELS.into_iter().enumerate() {
                let count = self.count(len, level);
                let is_same = count == shorter[index] || count == outer;
                (shorter[index], outer) = (count, count);
                if count > 0 {
                    longest = len;
                }
                // The same places again say nothing new.
                if count > 0 && !is_same {
                    self.nest(count);
                }
            }
        }
        let best = self.rows.iter().map(|(len, level, _)| (*len, *level)).max();
        let Some((len, level)) = best else { return Prediction::default() };
        // All that count as long as the longest, at every level.
        let count = self.count(longest, Level::Project);
        let most = self.counts.iter().copied().max().unwrap_or(0);
        let mut tokens: Vec<(u32, f32)> =
            self.symbols.iter().copied().zip(self.chances.iter().copied()).collect();
        // Of equals the newest first, as they were found.
        tokens.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        tokens.truncate(CANDIDATES_MAX);
        let share = f32::from(most) / count as f32;
        Prediction { tokens, len, level: Some(level), count: count as u16, share }
    }

    /// Counts what came behind matches of at least `len` tokens that are at least as near as `level`; how many those are.
    fn count(&mut self, len: u8, level: Level) -> usize {
        self.counts.clear();
        self.counts.resize(self.symbols.len(), 0);
        let mut total = 0;
        for &(found, at, symbol) in &self.rows {
            if found >= len && at >= level {
                self.counts[symbol] += 1;
                total += 1;
            }
        }
        total
    }

    /// Puts the counts around what is known already.
    fn nest(&mut self, count: usize) {
        let kinds = self.counts.iter().filter(|count| **count > 0).count() as f32;
        let whole = count as f32 + kinds;
        for (chance, &count) in self.chances.iter_mut().zip(&self.counts) {
            *chance = (f32::from(count) + kinds * *chance) / whole;
        }
    }
}
