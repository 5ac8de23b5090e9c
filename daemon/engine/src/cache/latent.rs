//! Latents of every token, for multi-head latent attention.
//!
//! Keys and values of all heads are made of one latent, and all heads share one rotated key; a layer that chooses tokens keeps the
//! key that it chooses by as well. All of it is cut back by moving the sequence's length, like [`Full`].

use mlx_rs::{Array, error::Exception};

use super::{Full, rows::Rows};

/// Latents `[1, 1, tokens, latent]` and rotated keys `[1, 1, tokens, rotated]`, and the indexer's keys `[1, 1, tokens, dim]` where
/// there is one.
#[derive(Clone, Default)]
pub(crate) struct Latent {
    latents: Full,
    /// Instead of these both in one row, where our own kernels attend.
    joined: Rows,
    index: Rows,
}

impl Latent {
    pub(crate) fn arrays(&self) -> Vec<&Array> {
        let mut arrays = self.latents.arrays();
        arrays.extend(self.joined.arrays());
        arrays.extend(self.index.arrays());
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

    /// The same of rows of a latent and a rotated key, `[1, 1, tokens, latent + rotated]`.
    pub(crate) fn append_joined(&mut self, len: i32, rows: &Array) -> Result<Array, Exception> {
        self.joined.append(len, rows)
    }

    /// The same with the indexer's keys.
    pub(crate) fn append_index(&mut self, len: i32, keys: &Array) -> Result<Array, Exception> {
        self.index.append(len, keys)
    }

    /// Copies share the first `len` tokens from now on ([`Rows::share`]).
    pub(crate) fn share(&mut self, len: i32) -> Result<(), Exception> {
        self.latents.share(len)?;
        self.joined.share(len)?;
        self.index.share(len)
    }

    /// The arrays of the first `len` tokens, for a file.
    pub(crate) fn save(&self, len: i32) -> Result<Vec<(String, Array)>, Exception> {
        let mut arrays = self.latents.save(len)?;
        arrays.extend(self.joined.save(len)?.map(|rows| ("joined".to_owned(), rows)));
        arrays.extend(self.index.save(len)?.map(|index| ("index".to_owned(), index)));
        Ok(arrays)
    }

    /// Takes back what [`Latent::save`] gave.
    pub(crate) fn load(&mut self, take: &mut dyn FnMut(&str) -> Option<Array>) {
        self.latents.load(take);
        self.joined.load(take("joined"));
        self.index.load(take("index"));
    }
}
