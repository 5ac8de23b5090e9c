//! The latest rows as they are, and groups of earlier ones compressed to one row each.
//!
//! Closed groups and rows that left the window cannot be had back, so it comes back to remembered places alone. Its arrays are
//! never written to: a place is a set of references.

use mlx_rs::{Array, error::Exception, ops::concatenate};

use super::places::Places;
use crate::models::tokens;

/// One layer's memory; all arrays are `[1, rows, width]`.
#[derive(Clone)]
pub(crate) struct Compressed {
    /// So many rows are kept as they are.
    window_len: i32,
    rows: Rows,
    places: Places<Rows>,
}

#[derive(Clone, Default)]
struct Rows {
    window: Option<Array>,
    /// Closed groups.
    groups: Option<Array>,
    index_keys: Option<Array>,
    /// Latents and gates of the group that is still open.
    open: Option<(Array, Array)>,
}

/// Bytes that a sequence takes at most with all its places, if each of them takes so many.
pub(crate) fn bytes_max(place: u64) -> u64 {
    place * (1 + Places::<Rows>::default().count_max() as u64)
}

/// The names of the arrays in a file.
const NAMES: [&str; 5] = ["window", "groups", "index_keys", "open_latents", "open_gates"];

impl Rows {
    fn arrays(&self) -> [Option<&Array>; 5] {
        let (latents, gates) = self.open.as_ref().map_or((None, None), |(a, b)| (Some(a), Some(b)));
        [self.window.as_ref(), self.groups.as_ref(), self.index_keys.as_ref(), latents, gates]
    }
}

impl Compressed {
    pub(crate) fn new(window_len: i32) -> Compressed {
        Compressed { window_len, rows: Rows::default(), places: Places::default() }
    }

    /// Puts new rows into the window. All that it held and the new ones, and how many it held.
    pub(crate) fn append(&mut self, rows: &Array) -> Result<(Array, i32), Exception> {
        let before = self.rows.window.as_ref().map_or(0, |window| window.dim(1));
        let window = joined(self.rows.window.as_ref(), rows)?;
        let len = window.dim(1);
        self.rows.window = Some(tokens(&window, (len - self.window_len).max(0), len)?);
        Ok((window, before))
    }

    /// The rows of the open group and the new ones behind them, and how many were open.
    pub(crate) fn open(
        &self,
        latents: &Array,
        gates: &Array,
    ) -> Result<(i32, Array, Array), Exception> {
        match &self.rows.open {
            None => Ok((0, latents.clone(), gates.clone())),
            Some((old_latents, old_gates)) => Ok((
                old_latents.dim(1),
                joined(Some(old_latents), latents)?,
                joined(Some(old_gates), gates)?,
            )),
        }
    }

    /// The rows from `start` on wait for their group to be full.
    pub(crate) fn keep_open(
        &mut self,
        latents: &Array,
        gates: &Array,
        start: i32,
    ) -> Result<(), Exception> {
        let end = latents.dim(1);
        self.rows.open = if start < end {
            Some((tokens(latents, start, end)?, tokens(gates, start, end)?))
        } else {
            None
        };
        Ok(())
    }

    pub(crate) fn append_groups(
        &mut self,
        groups: &Array,
        index_keys: Option<&Array>,
    ) -> Result<(), Exception> {
        self.rows.groups = Some(joined(self.rows.groups.as_ref(), groups)?);
        if let Some(keys) = index_keys {
            self.rows.index_keys = Some(joined(self.rows.index_keys.as_ref(), keys)?);
        }
        Ok(())
    }

    pub(crate) fn groups(&self) -> Option<Array> {
        self.rows.groups.clone()
    }

    pub(crate) fn index_keys(&self) -> Option<Array> {
        self.rows.index_keys.clone()
    }

    /// Also those of its places.
    pub(crate) fn arrays(&self) -> Vec<&Array> {
        let all = std::iter::once(&self.rows).chain(self.places.values());
        all.flat_map(Rows::arrays).flatten().collect()
    }

    /// The sequence rests.
    pub(crate) fn rest(&mut self) {
        self.places.rest();
    }

    pub(crate) fn checkpoint(&mut self, len: i32) {
        self.places.remember(len, self.rows.clone());
    }

    /// Goes back to the greatest remembered place of at most `len` tokens; says which.
    pub(crate) fn truncate(&mut self, seen: i32, len: i32) -> i32 {
        if seen <= len {
            return seen;
        }
        let (len, rows) = self.places.back_to(len).unwrap_or_default();
        self.rows = rows;
        len
    }

    pub(crate) fn save(&self) -> Vec<(String, Array)> {
        let named = NAMES.iter().zip(self.rows.arrays());
        named.filter_map(|(name, array)| Some(((*name).to_owned(), array?.clone()))).collect()
    }

    pub(crate) fn load(&mut self, take: &mut dyn FnMut(&str) -> Option<Array>) {
        let [window, groups, index_keys, latents, gates] = NAMES.map(take);
        self.rows = Rows { window, groups, index_keys, open: latents.zip(gates) };
    }
}

fn joined(old: Option<&Array>, new: &Array) -> Result<Array, Exception> {
    old.map_or(Ok(new.clone()), |old| concatenate(&[old, new], 1))
}
