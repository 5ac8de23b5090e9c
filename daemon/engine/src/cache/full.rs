//! Keys and values of every token.
//!
//! It is cut back by moving the sequence's length: what lies beyond is overwritten later.

use mlx_rs::{Array, Dtype, error::Exception, ops};

use super::{Lent, rows::Rows};
use crate::ops::{slice, slice_update};

/// Room is made for so many tokens at a time.
const GROWTH: i32 = 256;
/// An array with more room than this, and than as much again as is used, is not written to: a copy of it may be what is shared with a
/// far longer sequence, and would cost all of that one's room.
const SPARE_MAX: i32 = 1024;

/// Keys and values, `[1, heads, tokens, dim]`; the two may have different dimensions.
#[derive(Clone, Default)]
pub(crate) struct Full {
    keys: Rows,
    values: Rows,
}

impl Full {
    pub(crate) fn arrays(&self) -> Vec<&Array> {
        self.keys.arrays().chain(self.values.arrays()).collect()
    }

    /// Appends the keys and values of new tokens after the first `len`, and hands back all of them.
    pub(crate) fn append(
        &mut self,
        len: i32,
        keys: &Array,
        values: &Array,
    ) -> Result<(Array, Array), Exception> {
        Ok((self.keys.append(len, keys)?, self.values.append(len, values)?))
    }

    /// Both arrays for whoever appends `tokens` rows of `heads · dim` after the first `len` himself.
    pub(crate) fn lend(
        &mut self,
        len: i32,
        tokens: i32,
        width: (i32, i32),
    ) -> Result<Lent, Exception> {
        let (shared_keys, keys) = self.keys.lend(len, tokens, width)?;
        let (shared_values, values) = self.values.lend(len, tokens, width)?;
        let start = shared_keys.iter().map(|part| part.dim(2)).sum();
        let shared = shared_keys.into_iter().zip(shared_values).collect();
        Ok(Lent { shared, keys, values, start, window: None })
    }

    /// Takes back what was lent.
    pub(crate) fn give(&mut self, keys: Array, values: Array) {
        self.keys.give(keys);
        self.values.give(values);
    }

    /// Copies share the first `len` tokens from now on ([`Rows::share`]).
    pub(crate) fn share(&mut self, len: i32) -> Result<(), Exception> {
        self.keys.share(len)?;
        self.values.share(len)
    }

    /// The arrays of the first `len` tokens, for a file.
    pub(crate) fn save(&self, len: i32) -> Result<Vec<(String, Array)>, Exception> {
        let named = [("keys", self.keys.save(len)?), ("values", self.values.save(len)?)];
        Ok(named.into_iter().filter_map(|(name, rows)| Some((name.to_owned(), rows?))).collect())
    }

    /// Takes back what [`Full::save`] gave.
    pub(crate) fn load(&mut self, take: &mut dyn FnMut(&str) -> Option<Array>) {
        self.keys.load(take("keys"));
        self.values.load(take("values"));
    }
}

/// Whether `array` is written to, if `end` tokens are to be in it.
pub(super) fn has_room(array: &Array, end: i32) -> bool {
    (end..=end + end.max(SPARE_MAX)).contains(&array.dim(2))
}

/// Heads and dimensions, and the type of the numbers.
type Like = ((i32, i32), Dtype);

/// What rows like these are made of.
pub(super) fn like(rows: &Array) -> Like {
    ((rows.dim(1), rows.dim(3)), rows.dtype())
}

/// An array with room for `end` tokens that begins with the first `len` of `old`.
pub(super) fn grown(
    old: Option<Array>,
    ((heads, dim), dtype): Like,
    len: i32,
    end: i32,
) -> Result<Array, Exception> {
    if old.is_none() && len > 0 {
        // It was lent and not given back: zeros in its place would be other tokens.
        return Err(Exception::custom("a cache holds fewer tokens than it should"));
    }
    let kept = old.filter(|_| len > 0).map(|old| first(&old, len)).transpose()?;
    let room = (end + GROWTH - 1) / GROWTH * GROWTH - if kept.is_some() { len } else { 0 };
    let zeros = ops::zeros_dtype(&[1, heads, room, dim], dtype)?;
    match kept {
        Some(kept) => ops::concatenate(&[kept, zeros], 2),
        None => Ok(zeros),
    }
}

pub(super) fn written(
    array: Array,
    update: &Array,
    start: i32,
    end: i32,
) -> Result<Array, Exception> {
    let (heads, dim) = (array.dim(1), array.dim(3));
    slice_update(array, update, &[0, 0, start, 0], &[1, heads, end, dim])
}

pub(super) fn first(array: &Array, len: i32) -> Result<Array, Exception> {
    if len == array.dim(2) {
        return Ok(array.clone());
    }
    slice(array, &[0, 0, 0, 0], &[1, array.dim(1), len, array.dim(3)])
}
