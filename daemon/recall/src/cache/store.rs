//! The row of tokens, and the chains through it.

use std::sync::Arc;

/// So many tokens before a place are hashed for each of the chains, the longest first. The last one is the shortest match.
pub(super) const ORDERS: [usize; 2] = [5, 2];
/// No place: the row begins with a token that belongs to nobody.
pub(super) const NONE: u32 = 0;
/// Bits of the greatest table of hashes.
const HEAD_BITS_MAX: u32 = 21;
/// Bits of the smallest one.
const HEAD_BITS_MIN: u32 = 8;

/// The tokens of one file in the row.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) path: Arc<str>,
    /// The number of its directory.
    pub(super) directory: u32,
    /// The place of its first token.
    start: u32,
    /// The place behind its last one.
    end: u32,
    is_alive: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Store {
    /// The most tokens.
    room: usize,
    tokens: Vec<u32>,
    chains: [Chain; ORDERS.len()],
    /// By their places.
    segments: Vec<Segment>,
    /// All before this index are waste.
    first_alive: usize,
    live: usize,
}

/// For every place the one before it with the same hash of what stands before.
#[derive(Debug, Clone)]
struct Chain {
    order: usize,
    /// The latest place of each hash.
    heads: Vec<u32>,
    before: Vec<u32>,
}

impl Store {
    pub(super) fn new(room: usize) -> Store {
        // Never more than a place's number holds.
        let room = room.min((u32::MAX - 2) as usize);
        let bits = (room.max(2).ilog2()).saturating_sub(1).clamp(HEAD_BITS_MIN, HEAD_BITS_MAX);
        // Memory that nobody has touched is none: room is kept for all, so that nothing is copied when it grows.
        let with_room = || {
            let mut row = Vec::with_capacity(room + 1);
            row.push(NONE);
            row
        };
        let chain = |order| Chain { order, heads: vec![NONE; 1 << bits], before: with_room() };
        Store {
            room,
            tokens: with_room(),
            chains: ORDERS.map(chain),
            segments: Vec::new(),
            first_alive: 0,
            live: 0,
        }
    }

    /// Tokens that are there, with waste.
    pub(super) fn len(&self) -> usize {
        self.tokens.len() - 1
    }

    /// Tokens that count.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    pub(super) fn has_room(&self, len: usize) -> bool {
        self.len() + len <= self.room
    }

    pub(super) fn bytes(&self) -> usize {
        let words = self.tokens.len()
            + self.chains.iter().map(|chain| chain.before.len() + chain.heads.len()).sum::<usize>();
        let paths: usize = self.segments.iter().map(|segment| segment.path.len()).sum();
        words * size_of::<u32>() + self.segments.capacity() * size_of::<Segment>() + paths
    }

    /// The first segment that counts.
    pub(super) fn oldest(&mut self) -> Option<usize> {
        while self.segments.get(self.first_alive).is_some_and(|segment| !segment.is_alive) {
            self.first_alive += 1;
        }
        (self.first_alive < self.segments.len()).then_some(self.first_alive)
    }

    pub(super) fn path(&self, index: usize) -> Arc<str> {
        self.segments[index].path.clone()
    }

    pub(super) fn segment(&self, index: usize) -> &Segment {
        &self.segments[index]
    }

    pub(super) fn living(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().filter(|segment| segment.is_alive)
    }

    pub(super) fn tokens(&self, segment: &Segment) -> &[u32] {
        &self.tokens[segment.start as usize..segment.end as usize]
    }

    /// The segment that a place lies in, if it counts.
    pub(super) fn alive_at(&self, place: u32) -> Option<&Segment> {
        let behind = self.segments.partition_point(|segment| segment.start <= place);
        let segment = self.segments.get(behind.checked_sub(1)?)?;
        (segment.is_alive && place < segment.end).then_some(segment)
    }

    /// From a place to the end of its segment.
    pub(super) fn after(&self, place: u32) -> &[u32] {
        self.alive_at(place)
            .map_or(&[], |segment| &self.tokens[place as usize..segment.end as usize])
    }

    /// Puts a file's tokens at the end; hands back the index of their segment.
    pub(super) fn push(&mut self, path: Arc<str>, directory: u32, tokens: &[u32]) -> usize {
        let start = self.tokens.len();
        self.tokens.extend_from_slice(tokens);
        let end = self.tokens.len();
        for chain in &mut self.chains {
            chain.grow(&self.tokens, start);
        }
        self.live += tokens.len();
        let (start, end) = (start as u32, end as u32);
        self.segments.push(Segment { path, directory, start, end, is_alive: true });
        self.segments.len() - 1
    }

    /// Has a segment count no more.
    pub(super) fn kill(&mut self, index: usize) {
        let segment = &mut self.segments[index];
        if std::mem::replace(&mut segment.is_alive, false) {
            self.live -= (segment.end - segment.start) as usize;
        }
    }

    /// The places behind the same last tokens as those of `context`, by one of the chains, the newest first; others may be among them.
    pub(super) fn places(&self, chain: usize, context: &[u32]) -> Places<'_> {
        let chain = &self.chains[chain];
        let head = context.len().checked_sub(chain.order);
        let at = head.map_or(NONE, |from| chain.heads[chain.slot(&context[from..])]);
        Places { before: &chain.before, at }
    }

    /// How many of the last tokens of `context` stand before a place, at most `most`; nothing is known of whose they are.
    pub(super) fn common_len(&self, place: u32, context: &[u32], most: usize) -> usize {
        let before = self.tokens[..place as usize].iter().rev();
        before.zip(context.iter().rev()).take(most).take_while(|(a, b)| a == b).count()
    }

    /// How many tokens of its own segment stand before a place.
    pub(super) fn reach(place: u32, segment: &Segment) -> usize {
        (place - segment.start) as usize
    }
}

impl Chain {
    /// Chains the places of a segment that begins at `start` and ends where the tokens do.
    fn grow(&mut self, tokens: &[u32], start: usize) {
        self.before.resize(tokens.len(), NONE);
        for place in start + self.order..tokens.len() {
            let slot = self.slot(&tokens[place - self.order..place]);
            self.before[place] = std::mem::replace(&mut self.heads[slot], place as u32);
        }
    }

    fn slot(&self, context: &[u32]) -> usize {
        let mut hash = 0x9e37_79b9_7f4a_7c15_u64;
        for &token in context {
            hash = (hash ^ u64::from(token)).wrapping_mul(0xff51_afd7_ed55_8ccd);
            hash ^= hash >> 32;
        }
        hash as usize & (self.heads.len() - 1)
    }
}

/// A walk along a chain.
pub(super) struct Places<'a> {
    before: &'a [u32],
    at: u32,
}

impl Iterator for Places<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let place = self.at;
        self.at = *self.before.get(place as usize)?;
        (place != NONE).then_some(place)
    }
}
