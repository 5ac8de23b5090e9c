//! Keys and values of every token.
//!
//! It is cut back by moving the sequence's length: what lies beyond is overwritten later. A fork shares its arrays with the
//! original until one of the two writes, which then costs that one a copy.

use mlx_rs::{Array, error::Exception, ops};

use crate::ops::{slice, slice_update};

/// Room is made for so many tokens at a time.
const GROWTH: i32 = 256;

/// Keys and values, `[1, heads, capacity, dim]`; the two may have different dimensions.
#[derive(Clone, Default)]
pub(crate) struct Full {
    arrays: Option<(Array, Array)>,
}

#[allow(dead_code, reason = "for the families and the disk tier that follow")]
impl Full {
    pub(crate) fn arrays(&self) -> Vec<&Array> {
        self.arrays.iter().flat_map(|(keys, values)| [keys, values]).collect()
    }

    /// Appends the keys and values of new tokens after the first `len`, and hands back all of them.
    pub(crate) fn append(
        &mut self,
        len: i32,
        keys: &Array,
        values: &Array,
    ) -> Result<(Array, Array), Exception> {
        let end = len + keys.dim(2);
        let (old_keys, old_values) = match self.arrays.take() {
            Some((old_keys, old_values)) if old_keys.dim(2) >= end => (old_keys, old_values),
            old => {
                let (old_keys, old_values) =
                    old.map_or((None, None), |(keys, values)| (Some(keys), Some(values)));
                (grown(old_keys, keys, len, end)?, grown(old_values, values, len, end)?)
            }
        };
        let keys = written(old_keys, keys, len, end)?;
        let values = written(old_values, values, len, end)?;
        let seen = (first(&keys, end)?, first(&values, end)?);
        self.arrays = Some((keys, values));
        Ok(seen)
    }

    /// The arrays of the first `len` tokens, for a file.
    pub(crate) fn save(&self, len: i32) -> Result<Vec<(String, Array)>, Exception> {
        let Some((keys, values)) = &self.arrays else { return Ok(Vec::new()) };
        Ok(vec![("keys".to_owned(), first(keys, len)?), ("values".to_owned(), first(values, len)?)])
    }

    /// Takes back what [`Full::save`] gave.
    pub(crate) fn load(&mut self, take: &mut dyn FnMut(&str) -> Option<Array>) {
        self.arrays = take("keys").zip(take("values"));
    }
}

/// An array with room for `end` tokens that begins with the first `len` of `old`.
pub(super) fn grown(
    old: Option<Array>,
    like: &Array,
    len: i32,
    end: i32,
) -> Result<Array, Exception> {
    let kept = old.filter(|_| len > 0).map(|old| first(&old, len)).transpose()?;
    let room = (end + GROWTH - 1) / GROWTH * GROWTH - if kept.is_some() { len } else { 0 };
    let zeros = ops::zeros_dtype(&[1, like.dim(1), room, like.dim(3)], like.dtype())?;
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
