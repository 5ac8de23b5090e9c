//! The memory of a gated delta net: a state that every token changes, and the inputs that the convolution still looks at.
//!
//! It does not grow, and it cannot be cut back. Its arrays are never written again, so a checkpoint is a pair of references.

use mlx_rs::{Array, transforms::eval};

use super::places::Places;

/// So many checkpoints are written to a file, beside the state.
const SAVED_PLACES_MAX: usize = 4;

/// What a delta net remembers.
#[derive(Clone, Default)]
pub(crate) struct Recurrent {
    /// Tokens seen.
    len: i32,
    /// `None`: nothing was seen.
    now: Option<State>,
    places: Places<State>,
}

/// The memory after some token.
#[derive(Clone)]
pub(crate) struct State {
    /// The last inputs of the convolution, `[1, kernel - 1, channels]`.
    pub(crate) conv: Array,
    /// What was learnt, `[1, value_heads, value_dim, key_dim]`, in fp32.
    pub(crate) memory: Array,
}

impl State {
    fn arrays(&self) -> [&Array; 2] {
        [&self.conv, &self.memory]
    }
}

impl Recurrent {
    pub(crate) fn now(&self) -> Option<&State> {
        self.now.as_ref()
    }

    /// Takes on the state after `len` tokens.
    pub(crate) fn advance(&mut self, len: i32, state: State) {
        self.len = len;
        self.now = Some(state);
    }

    /// The arrays of the state and of all checkpoints, which may be the same.
    pub(crate) fn arrays(&self) -> Vec<&Array> {
        self.places.values().chain(&self.now).flat_map(State::arrays).collect()
    }

    /// Goes back to the greatest checkpoint of at most `len` tokens, or to the beginning; says which.
    pub(crate) fn truncate(&mut self, len: i32) -> i32 {
        if len >= self.len {
            return self.len;
        }
        (self.len, self.now) = match self.places.back_to(len) {
            Some((len, state)) => (len, Some(state)),
            None => (0, None),
        };
        self.len
    }

    /// Remembers this place.
    pub(crate) fn checkpoint(&mut self) {
        if let Some(state) = &self.now {
            self.places.remember(self.len, state.clone());
        }
    }

    /// The arrays for a file: the state, and the checkpoints that a shorter prompt may come back to.
    pub(crate) fn save(&self) -> Vec<(String, Array)> {
        let Some(now) = &self.now else { return Vec::new() };
        let older: Vec<_> = self.places.entries().filter(|&(len, _)| len < self.len).collect();
        // The oldest, the newest, and some between.
        let saved = older.len().min(SAVED_PLACES_MAX);
        let pick = |index: usize| older[index * (older.len() - 1) / (saved - 1).max(1)];
        let all = (0..saved).map(pick).chain([(self.len, now)]).enumerate();
        all.flat_map(|(index, (len, state))| {
            [
                (format!("{index}.len"), Array::from_slice(&[len], &[1])),
                (format!("{index}.conv"), state.conv.clone()),
                (format!("{index}.memory"), state.memory.clone()),
            ]
        })
        .collect()
    }

    /// Takes back what [`Recurrent::save`] gave.
    pub(crate) fn load(&mut self, take: &mut dyn FnMut(&str) -> Option<Array>) {
        *self = Recurrent::default();
        for index in 0..=SAVED_PLACES_MAX {
            let mut part = |name: &str| take(&format!("{index}.{name}"));
            let (Some(len), Some(conv), Some(memory)) = (part("len"), part("conv"), part("memory"))
            else {
                break;
            };
            let Some(len) = number(&len) else { break };
            self.checkpoint();
            self.advance(len, State { conv, memory });
        }
    }
}

/// The one number in an array.
fn number(array: &Array) -> Option<i32> {
    eval([array]).ok()?;
    array.try_as_slice::<i32>().ok()?.first().copied()
}
