//! The memory of a gated delta net: a state that every token changes, and the inputs that the convolution still looks at.
//!
//! It does not grow, and it cannot be cut back. Its arrays are never written again, so a checkpoint is a pair of references.

use mlx_rs::{Array, transforms::eval};

use super::places::Places;

/// Bytes that a sequence takes at most, if its layers take `checkpoint` together: the state, and the places that it remembers.
pub(crate) fn bytes_max(checkpoint: u64) -> u64 {
    let places = Places::<State>::within(CHECKPOINT_BYTES_MAX, checkpoint).count_max();
    checkpoint * (1 + places as u64)
}

/// So many checkpoints are written to a file, beside the state.
const SAVED_PLACES_MAX: usize = 4;

/// Bytes that the checkpoints of a sequence, of all its layers together, may take. The latest ones are kept in any case.
const CHECKPOINT_BYTES_MAX: u64 = 1 << 30;

/// What a delta net remembers.
#[derive(Clone)]
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
    /// Of a model whose layers take `checkpoint` bytes together at every place that they remember.
    pub(crate) fn new(checkpoint: u64) -> Recurrent {
        let places = Places::within(CHECKPOINT_BYTES_MAX, checkpoint);
        Recurrent { len: 0, now: None, places }
    }

    /// The sequence rests: nobody goes back a few tokens.
    pub(crate) fn rest(&mut self) {
        self.places.rest();
    }

    pub(crate) fn now(&self) -> Option<&State> {
        self.now.as_ref()
    }

    /// The state, which whoever takes it brings up to date and hands back ([`Recurrent::advance`]). Checkpoints may hold it too.
    pub(crate) fn take(&mut self) -> Option<State> {
        self.now.take()
    }

    /// Takes on the state after `len` tokens.
    pub(crate) fn advance(&mut self, len: i32, state: State) {
        self.len = len;
        self.now = Some(state);
    }

    /// The arrays of the state.
    pub(crate) fn current(&self) -> Vec<&Array> {
        self.now.iter().flat_map(State::arrays).collect()
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
        let all = self.saved().into_iter().chain([(self.len, now)]).enumerate();
        all.flat_map(|(index, (len, state))| {
            [
                (format!("{index}.len"), Array::from_slice(&[len], &[1])),
                (format!("{index}.conv"), state.conv.clone()),
                (format!("{index}.memory"), state.memory.clone()),
            ]
        })
        .collect()
    }

    /// Of the checkpoints the oldest, the newest, and some between.
    fn saved(&self) -> Vec<(i32, &State)> {
        let older: Vec<_> = self.places.entries().filter(|&(len, _)| len < self.len).collect();
        let count = older.len().min(SAVED_PLACES_MAX);
        let pick = |index: usize| older[index * (older.len() - 1) / (count - 1).max(1)];
        (0..count).map(pick).collect()
    }

    /// The lengths that it can come back to from a file.
    pub(crate) fn saved_places(&self) -> Vec<i32> {
        self.saved().into_iter().map(|(len, _)| len).collect()
    }

    /// Takes back what [`Recurrent::save`] gave, having seen nothing.
    pub(crate) fn load(&mut self, take: &mut dyn FnMut(&str) -> Option<Array>) {
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::cache::places::RECENT_PLACES_MAX;

    fn state(value: i32) -> State {
        let array = |shape: &[i32]| Array::from_slice(&[value as f32; 6], shape);
        State { conv: array(&[1, 3, 2]), memory: array(&[1, 1, 2, 3]) }
    }

    fn value(recurrent: &Recurrent) -> Option<f32> {
        let memory = &recurrent.now()?.memory;
        Some(memory.try_as_slice::<f32>().unwrap()[0])
    }

    fn fed(lens: &[i32]) -> Recurrent {
        let mut recurrent = Recurrent::new(1);
        for &len in lens {
            recurrent.advance(len, state(len));
            recurrent.checkpoint();
        }
        recurrent
    }

    #[test]
    fn it_comes_back_to_checkpoints_alone() {
        let mut recurrent = fed(&[4, 9, 10]);
        recurrent.advance(15, state(15));
        assert_eq!(recurrent.truncate(20), 15, "nothing is to be forgotten");
        assert_eq!((recurrent.truncate(14), value(&recurrent)), (10, Some(10.0)));
        assert_eq!((recurrent.truncate(9), value(&recurrent)), (9, Some(9.0)));
        assert_eq!((recurrent.truncate(3), value(&recurrent)), (0, None));
    }

    #[test]
    fn a_file_brings_back_the_state_and_some_checkpoints() {
        let lens: Vec<i32> = (1..=50).map(|index| index * 3).collect();
        let mut saved = fed(&lens);
        saved.advance(155, state(155));
        let mut file: HashMap<String, Array> = saved.save().into_iter().collect();
        assert_eq!(file.len(), 3 * (SAVED_PLACES_MAX + 1));
        let mut loaded = Recurrent::new(1);
        loaded.load(&mut |name| file.remove(name));
        assert_eq!((loaded.truncate(1000), value(&loaded)), (155, Some(155.0)));
        let places = saved.saved_places();
        assert_eq!((places.len(), places[0], places[SAVED_PLACES_MAX - 1]), (4, 3, 150));
        for &place in places.iter().rev() {
            let mut loaded = loaded.clone();
            assert_eq!((loaded.truncate(place), value(&loaded)), (place, Some(place as f32)));
        }
        assert_eq!((loaded.clone().truncate(154), saved.clone().truncate(154)), (150, 150));
        assert_eq!(
            (loaded.truncate(5), value(&loaded)),
            (3, Some(3.0)),
            "the oldest is among them"
        );
        assert!(Recurrent::new(1).save().is_empty());
    }

    #[test]
    fn bytes_bound_the_checkpoints() {
        let mut recurrent = Recurrent::new(CHECKPOINT_BYTES_MAX);
        for len in 1..100 {
            recurrent.advance(len, state(len));
            recurrent.checkpoint();
        }
        // The last one's arrays are those of the state.
        assert_eq!(recurrent.arrays().len(), 2 * (RECENT_PLACES_MAX + 1));
        recurrent.rest();
        assert!(recurrent.arrays().len() < 2 * RECENT_PLACES_MAX);
    }
}
