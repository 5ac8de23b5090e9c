//! Where in a text the latest tokens occurred before: an index over its tokens that grows and shrinks at the end.
//!
//! For every place the last few tokens before it are hashed, and places with the same hash are chained, the latest first. That is done
//! for several numbers of tokens ([`ORDERS`]), so that a long match is found among few candidates. A token costs the same to add
//! or to take away wherever it stands (the table doubles now and then), and a search looks at [`CANDIDATES_MAX`] places per order at most.

use crate::job::TokenId;

/// So many tokens before a place are hashed, the longest first. The last one is the shortest match.
const ORDERS: [usize; 3] = [8, 4, 2];
/// Matches are not measured beyond this length.
pub(crate) const MATCH_LEN_MAX: usize = 32;
/// So many places with the same hash are compared, the latest ones.
const CANDIDATES_MAX: usize = 8;
/// No place.
const NONE: u32 = u32::MAX;
/// Places that a table has room for at first.
const ROOM: usize = 64;

/// A place in a text that is preceded by the latest tokens of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Match {
    /// The index of the token that came next there.
    pub(crate) next: usize,
    /// How many tokens before it are the same.
    pub(crate) len: usize,
}

/// The index. The tokens themselves lie with the caller, who passes the same text every time, as far as it was indexed.
#[derive(Debug, Clone)]
pub(crate) struct Suffixes {
    /// Tokens before this index are not looked at.
    start: usize,
    /// Tokens before this index are known.
    end: usize,
    chains: [Chain; ORDERS.len()],
}

#[derive(Debug, Clone)]
struct Chain {
    order: usize,
    /// The latest place of each hash.
    heads: Vec<u32>,
    /// The place before each place, from `start` on.
    before: Vec<u32>,
}

impl Suffixes {
    /// Of a text from `start` on.
    pub(crate) fn new(start: usize) -> Suffixes {
        Suffixes::with_room(start, ROOM)
    }

    /// With tables for `room` places, a power of two. They never shrink: in a wider one fewer hashes share a slot, so that more of the
    /// [`CANDIDATES_MAX`] that are compared are matches.
    fn with_room(start: usize, room: usize) -> Suffixes {
        let chain = |order| Chain { order, heads: vec![NONE; room], before: Vec::new() };
        Suffixes { start, end: start, chains: ORDERS.map(chain) }
    }

    /// How many tokens of the text are known, with those that are not looked at.
    pub(crate) fn end(&self) -> usize {
        self.end
    }

    /// Goes on to know `text`, up to `end`.
    pub(crate) fn grow(&mut self, text: &[TokenId], end: usize) {
        for place in self.end..end.min(text.len()) {
            for chain in &mut self.chains {
                chain.push(text, self.start, place);
            }
            self.end = place + 1;
        }
    }

    /// Forgets what comes after the first `len` tokens of `text`, which still holds all that is known.
    pub(crate) fn cut(&mut self, text: &[TokenId], len: usize) {
        while self.end > len.max(self.start) {
            self.end -= 1;
            for chain in &mut self.chains {
                chain.pop(text, self.start, self.end);
            }
        }
    }

    /// The longest of the latest matches of the end of `context`.
    pub(crate) fn find(&self, text: &[TokenId], context: &[TokenId]) -> Option<Match> {
        self.chains.iter().find_map(|chain| chain.find(text, self.start, context))
    }
}

impl Chain {
    /// The place `place` of `text` becomes known: the token there, which follows those that are hashed.
    fn push(&mut self, text: &[TokenId], start: usize, place: usize) {
        let mut before = NONE;
        if place >= start + self.order {
            if place - start >= self.heads.len() {
                self.widen(text, start, place);
            }
            let slot = self.slot(&text[place - self.order..place]);
            before = std::mem::replace(&mut self.heads[slot], place as u32);
        }
        self.before.push(before);
    }

    /// The last place, `place`, is forgotten.
    fn pop(&mut self, text: &[TokenId], start: usize, place: usize) {
        let before = self.before.pop().unwrap_or(NONE);
        if place >= start + self.order {
            let slot = self.slot(&text[place - self.order..place]);
            self.heads[slot] = before;
        }
    }

    /// Doubles the table, which knows the places before `end`.
    fn widen(&mut self, text: &[TokenId], start: usize, end: usize) {
        self.heads = vec![NONE; 2 * self.heads.len()];
        for place in start + self.order..end {
            let slot = self.slot(&text[place - self.order..place]);
            self.before[place - start] = std::mem::replace(&mut self.heads[slot], place as u32);
        }
    }

    fn slot(&self, tokens: &[TokenId]) -> usize {
        let mix = |hash: u64, &token: &TokenId| {
            (hash ^ u64::from(token)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
        };
        let hash = tokens.iter().fold(self.order as u64, mix);
        (hash >> 7) as usize & (self.heads.len() - 1)
    }

    fn find(&self, text: &[TokenId], start: usize, context: &[TokenId]) -> Option<Match> {
        let from = context.len().checked_sub(self.order)?;
        let mut place = self.heads[self.slot(&context[from..])];
        let mut best: Option<Match> = None;
        for _ in 0..CANDIDATES_MAX {
            if place == NONE {
                break;
            }
            let next = place as usize;
            let pairs = text[start..next].iter().rev().zip(context.iter().rev());
            let len = pairs.take(MATCH_LEN_MAX).take_while(|(one, other)| one == other).count();
            if len >= self.order && best.is_none_or(|best| best.len < len) {
                best = Some(Match { next, len });
            }
            place = self.before[next - start];
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same by looking everywhere; `None` where more places share an order's tokens than are compared.
    fn longest(text: &[TokenId], context: &[TokenId]) -> usize {
        let len = |next: usize| {
            let pairs = text[..next].iter().rev().zip(context.iter().rev());
            pairs.take(MATCH_LEN_MAX).take_while(|(one, other)| one == other).count()
        };
        (0..text.len()).map(len).max().unwrap_or(0)
    }

    #[test]
    fn the_longest_match_wins_and_the_latest_of_equals() {
        let text = [1, 2, 3, 4, 9, 2, 3, 5, 9, 2, 3, 6];
        let mut suffixes = Suffixes::new(0);
        suffixes.grow(&text, text.len());
        assert_eq!(suffixes.find(&text, &[1, 2, 3]), Some(Match { next: 3, len: 3 }));
        assert_eq!(suffixes.find(&text, &[7, 2, 3]), Some(Match { next: 11, len: 2 }));
        assert_eq!(suffixes.find(&text, &[7, 3]), None);
        assert_eq!(suffixes.find(&text, &[3]), None);
        suffixes.cut(&text, 11);
        assert_eq!(suffixes.find(&text, &[7, 2, 3]), Some(Match { next: 7, len: 2 }));
    }

    #[test]
    fn what_comes_before_the_start_is_not_there() {
        let text = [1, 2, 3, 4, 1, 2, 5, 6];
        let mut suffixes = Suffixes::new(4);
        suffixes.grow(&text, text.len());
        assert_eq!(suffixes.find(&text, &[4, 1, 2]), Some(Match { next: 6, len: 2 }));
        assert_eq!(suffixes.find(&text, &[2, 3]), None);
    }

    /// Places of two tokens that share a slot with those looked for hide them in a narrow table, not in a wide one.
    #[test]
    fn a_table_that_was_wider_finds_as_much_after_a_cut() {
        let mut text = vec![0, 3, 2, 0, 0, 0, 0, 1, 0, 1, 0];
        text.resize(ROOM + 1, 0);
        let mut suffixes = Suffixes::new(0);
        suffixes.grow(&text, text.len());
        suffixes.cut(&text, 17);
        assert_eq!(suffixes.find(&text, &[3, 2]), Some(Match { next: 3, len: 2 }));
        let mut narrow = Suffixes::new(0);
        narrow.grow(&text, 17);
        assert_eq!(narrow.find(&text, &[3, 2]), None);
    }

    proptest! {
        /// After any growing and cutting it is as if the text had been indexed at once, in tables as wide.
        #[test]
        fn cutting_undoes_growing(
            text in prop::collection::vec(0u32..4, 0..300),
            cuts in prop::collection::vec((0usize..300, 0usize..300), 0..8),
            context in prop::collection::vec(0u32..4, 0..12),
        ) {
            let mut suffixes = Suffixes::new(0);
            for (grown, cut) in cuts {
                suffixes.grow(&text, grown);
                suffixes.cut(&text, cut);
            }
            let end = suffixes.end();
            let mut fresh = Suffixes::with_room(0, suffixes.chains[0].heads.len());
            fresh.grow(&text, end);
            prop_assert_eq!(suffixes.find(&text, &context), fresh.find(&text, &context));
            suffixes.grow(&text, text.len());
            fresh.grow(&text, text.len());
            prop_assert_eq!(suffixes.find(&text, &context), fresh.find(&text, &context));
        }

        /// Where few places share their last tokens, the longest match of all is found.
        #[test]
        fn among_few_candidates_the_longest_is_found(
            text in prop::collection::vec(0u32..200, 0..400),
            at in 0usize..400,
            len in 2usize..20,
        ) {
            let end = at.min(text.len());
            let context = &text[end.saturating_sub(len)..end];
            let mut suffixes = Suffixes::new(0);
            suffixes.grow(&text, text.len());
            let found = suffixes.find(&text, context).map_or(0, |found| found.len);
            let longest = longest(&text, context);
            prop_assert_eq!(found, if longest >= 2 { longest } else { 0 });
        }
    }
}
