//! Latents of every token, for multi-head latent attention.
//!
//! Keys and values of all heads are made of one latent, and all heads share one rotated key; a layer that chooses tokens keeps the
//! key that it chooses by as well. All of it is cut back by moving the sequence's length, like [`Full`].

use mlx_rs::{Array, error::Exception};

use super::{
    Full,
    full::{first, grown, written},
};

/// Latents `[1, 1, capacity, latent]` and rotated keys `[1, 1, capacity, rotated]`, and the indexer's keys `[1, 1, capacity, dim]`
/// where there is one.
#[derive(Clone, Default)]
pub(crate) struct Latent {
    latents: Full,
    index: Option<Array>,
}

impl Latent {
    pub(crate) fn arrays(&self) -> Vec<&Array> {
        let mut arrays = self.latents.arrays();
        arrays.extend(&self.index);
        arrays
    }

    /// Appends latents and rotated keys of new tokens after the first `len`, and hands back all of them.
    pub(crate) fn append(
        &mut self,
        len: i32,
        latents: &Array,
        keys: &Array,
    ) -> Result<(Array, Array), Exception> {
        self.latents.append(len, latents, keys)
    }

    /// The same with the indexer's keys.
    pub(crate) fn append_index(&mut self, len: i32, keys: &Array) -> Result<Array, Exception> {
        let end = len + keys.dim(2);
        let old = match self.index.take() {
            Some(old) if old.dim(2) >= end => old,
            old => grown(old, keys, len, end)?,
        };
        let all = written(old, keys, len, end)?;
        let seen = first(&all, end)?;
        self.index = Some(all);
        Ok(seen)
    }

    /// The arrays of the first `len` tokens, for a file.
    pub(crate) fn save(&self, len: i32) -> Result<Vec<(String, Array)>, Exception> {
        let mut arrays = self.latents.save(len)?;
        if let Some(index) = &self.index {
            arrays.push(("index".to_owned(), first(index, len)?));
        }
        Ok(arrays)
    }

    /// Takes back what [`Latent::save`] gave.
    pub(crate) fn load(&mut self, take: &mut dyn FnMut(&str) -> Option<Array>) {
        self.latents.load(take);
        self.index = take("index");
    }
}
