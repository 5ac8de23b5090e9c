//! Finds loops in a growing tape, in constant time per token.
//!
//! The tape is compared with itself at one distance at a time. Where it does not go on as it did `lag` tokens before, the latest
//! place where its last four tokens stood gives the next distance to try. An exact loop is found this way as soon as its second
//! round has four tokens.
//!
//! How long a repetition has to be was measured on 180 MB of code, tables and logs of this machine's packages (docs/architecture.md): code
//! repeats itself honestly. What reads like a table with a running number, or like a passage that is copied with small changes, is
//! found in honest code as long as one likes, so no rule here looks for it. Nor does one look at the model's entropy: the loops of a small
//! model have 0.2 to 1.4 nats per token, and an honest copy by a large one has none.

use std::{collections::VecDeque, sync::Arc};

use super::kinds::{Material, TokenKinds};
use crate::job::TokenId;

/// The longest period that is looked for.
const LAG_MAX: usize = 192;
/// So many tokens say where to look.
const CONTEXT_LEN: usize = 4;
/// Places that are remembered, a power of two: later ones push out earlier ones with the same hash.
const PLACES: usize = 4096;
/// Repeated tokens that make a loop, for periods up to [`SHORT_LAG_MAX`]; with the first round this is under 200 tokens.
const RUN_SHORT: usize = 184;
/// Periods that are short.
const SHORT_LAG_MAX: usize = 12;
/// Repeated tokens that make a loop with longer periods.
const RUN_LONG: usize = 198;
/// The same for lists of equals: 1,137 tokens have been seen.
const RUN_LIST: usize = 1280;
/// The same for data with a period of one or two: 303 zeros have been seen.
const RUN_ONE: usize = 400;
/// The same for long words: 456 tokens of base64 have been seen.
const RUN_BLOB: usize = 1024;
/// The same for other data: tables of one value have been seen with 5,899.
const RUN_DATA: usize = 8192;
/// How often a repetition is weighed that has the least length.
const WEIGH_EVERY: usize = 8;
/// Tokens in which so few different ones are no text any more.
const SALAD_LEN: usize = 176;
/// So few.
const SALAD_DISTINCT_MAX: usize = 8;
/// The share of words in such a salad; the rest may be signs.
const SALAD_WORDS_MIN: f32 = 0.3;
/// How often such a salad has to go on otherwise than before.
const SALAD_TURNS_MIN: usize = 16;
/// How often it is looked for.
const SALAD_EVERY: usize = 16;
/// How much of a tape is looked at again after a rewind.
const REPLAY_LEN: usize = 1024;

/// A tape that has collapsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Collapse {
    /// Tokens of one round; 1 where a few tokens come in no order.
    pub period: usize,
    /// Where the second round begins: what comes from here on says nothing new.
    pub second: usize,
}

/// Looks at one tape.
#[derive(Debug, Clone)]
pub struct Detector {
    kinds: Arc<TokenKinds>,
    /// Where four tokens ended that have this hash, plus one.
    places: Box<[u32]>,
    lag: usize,
    run: usize,
    /// Where the tape did not go on as before, as far back as a salad is looked for.
    turns: VecDeque<usize>,
}

impl Detector {
    /// For a tape that is empty.
    pub fn new(kinds: Arc<TokenKinds>) -> Detector {
        Detector { kinds, places: vec![0; PLACES].into(), lag: 0, run: 0, turns: VecDeque::new() }
    }

    /// How many of the latest tokens repeat earlier ones.
    pub fn repeating(&self) -> usize {
        self.run
    }

    /// Looks at the last token of `tape`, which is the tape of the call before and one token more.
    pub fn push(&mut self, tape: &[TokenId]) -> Option<Collapse> {
        self.compare(tape);
        self.exact(tape).or_else(|| self.salad(tape))
    }

    /// The tape was cut to this.
    pub fn rewind(&mut self, tape: &[TokenId]) {
        self.places.fill(0);
        (self.lag, self.run) = (0, 0);
        self.turns.clear();
        for len in tape.len().saturating_sub(REPLAY_LEN) + 1..=tape.len() {
            self.compare(&tape[..len]);
        }
    }

    fn compare(&mut self, tape: &[TokenId]) {
        let Some((&token, before)) = tape.split_last() else { return };
        let at = before.len();
        if self.turns.front().is_some_and(|turn| turn + SALAD_LEN <= at) {
            self.turns.pop_front();
        }
        let goes_on = self.lag > 0 && before.get(at.wrapping_sub(self.lag)) == Some(&token);
        if goes_on {
            self.run += 1;
        }
        let Some(context) = before.last_chunk::<CONTEXT_LEN>() else { return };
        let place = &mut self.places[hash(context)];
        let seen = std::mem::replace(place, at as u32 + 1) as usize;
        if goes_on {
            return;
        }
        self.run = 0;
        self.turns.push_back(at);
        let Some(seen) = seen.checked_sub(1).filter(|&seen| at > seen && at - seen <= LAG_MAX)
        else {
            return;
        };
        if before[seen] == token && before[..seen].ends_with(context) {
            self.lag = at - seen;
            let pairs = tape.iter().rev().zip(tape[..=seen].iter().rev());
            self.run = pairs.take(RUN_DATA).take_while(|(token, earlier)| token == earlier).count();
        }
    }

    fn exact(&self, tape: &[TokenId]) -> Option<Collapse> {
        let least = if self.lag <= SHORT_LAG_MAX { RUN_SHORT } else { RUN_LONG };
        // A longer period has to come twice as well.
        let least = least.max(self.lag);
        if self.run < least || !(self.run - least).is_multiple_of(WEIGH_EVERY) {
            return None;
        }
        let enough = match self.kinds.material(&tape[tape.len() - self.lag..]) {
            Material::Words => least,
            Material::List => RUN_LIST,
            Material::Blob => RUN_BLOB,
            Material::Data if self.lag <= 2 => RUN_ONE,
            Material::Data => RUN_DATA,
        };
        let second = tape.len() - self.run;
        (self.run >= enough).then_some(Collapse { period: self.lag, second })
    }

    /// A few tokens over and over, in whatever order.
    fn salad(&self, tape: &[TokenId]) -> Option<Collapse> {
        // What repeats itself in order is for `exact` to judge.
        if !tape.len().is_multiple_of(SALAD_EVERY) || self.turns.len() < SALAD_TURNS_MIN {
            return None;
        }
        let latest = &tape[tape.len().checked_sub(SALAD_LEN)?..];
        let mut distinct = [0; SALAD_DISTINCT_MAX];
        let mut count = 0;
        for token in latest {
            if !distinct[..count].contains(token) {
                *distinct.get_mut(count)? = *token;
                count += 1;
            }
        }
        let is_text = self.kinds.long_words(latest) >= SALAD_WORDS_MIN;
        is_text.then_some(Collapse { period: 1, second: tape.len() - SALAD_LEN })
    }
}

fn hash(context: &[TokenId; CONTEXT_LEN]) -> usize {
    let mixed = context.iter().fold(0u64, |mixed, &token| {
        (mixed ^ u64::from(token)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
    });
    (mixed >> 40) as usize % PLACES
}
