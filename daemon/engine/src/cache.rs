//! What a sequence remembers of the tokens that it has seen: one memory per layer, of the kind that the layer needs.
//!
//! A mark costs nothing: arrays are never copied for one. Kinds that keep every token are cut back by moving a length; kinds that
//! do not (a window, a recurrent state) come back only to places that they remember, so a cache that is cut back may have seen
//! fewer tokens than was asked for, and the rest is fed again.

mod compressed;
mod full;
mod latent;
pub(crate) mod places;
mod quantized;
pub(crate) mod ring;
mod recurrent;
mod rows;

use mlx_rs::{Array, error::Exception};

use crate::{config::KvPacking, models::mtp::Behind};

pub(crate) use compressed::{Compressed, bytes_max as compressed_bytes_max};
pub(crate) use full::Full;
pub(crate) use latent::Latent;
pub(crate) use quantized::{KvParts, Quantized};
pub(crate) use recurrent::{Recurrent, State, bytes_max as recurrent_bytes_max};
pub(crate) use ring::{Mask, Ring};

/// A sequence's memory.
#[derive(Clone, Default)]
pub(crate) struct Cache {
    pub(crate) layers: Vec<LayerCache>,
    /// Tokens seen.
    pub(crate) len: i32,
    /// What the model made of the last of them, where a layer drafts of that.
    pub(crate) behind: Option<Behind>,
}

/// One layer's memory.
#[derive(Clone)]
pub(crate) enum LayerCache {
    /// Keys and values of every token.
    Full(Full),
    /// What keys and values of every token are made of.
    Latent(Latent),
    /// The latest rows, and groups of earlier ones.
    Compressed(Compressed),
    /// Keys and values of every token, packed.
    Quantized(Quantized),
    /// Keys and values of a window.
    Ring(Ring),
    /// The state of a gated delta net.
    Recurrent(Recurrent),
}

/// What a layer remembers, lent to an operation that appends to it itself. Keys and values are `[1, heads, rows, dim]`.
pub(crate) struct Lent {
    /// Keys and values of the first tokens, to be read alone.
    pub(crate) shared: Vec<(Array, Array)>,
    /// Those of the tokens behind them, with room for new ones.
    pub(crate) keys: Array,
    pub(crate) values: Array,
    /// The token whose row is the first of these.
    pub(crate) start: i32,
    /// A token sees itself and so many less one before it; `None`: all.
    pub(crate) window: Option<i32>,
}

impl Cache {
    pub(crate) fn new(layers: Vec<LayerCache>) -> Self {
        Self { layers, len: 0, behind: None }
    }

    /// All arrays, also those that only checkpoints hold.
    pub(crate) fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.layers.iter().flat_map(LayerCache::arrays).chain(self.behind())
    }

    /// The arrays that a pass makes, for evaluation.
    pub(crate) fn current(&self) -> impl Iterator<Item = &Array> {
        self.layers.iter().flat_map(LayerCache::current).chain(self.behind())
    }

    fn behind(&self) -> Option<&Array> {
        self.behind.as_ref().map(|behind| &behind.rows)
    }

    /// Forgets all but the first `len` tokens, or a few more where a layer cannot come back to just there. [`Cache::len`] says how
    /// many are left.
    pub(crate) fn truncate(&mut self, len: usize) {
        let mut len = self.len.min(len as i32);
        // A layer that goes back further than asked for takes the others along.
        loop {
            let least = self.layers.iter_mut().map(|layer| layer.truncate(self.len, len)).min();
            match least {
                Some(least) if least < len => len = least,
                _ => break,
            }
        }
        self.len = len;
    }

    /// A second cache that has seen the first `len` tokens, or a few less ([`Cache::truncate`]).
    pub(crate) fn fork(&self, len: usize) -> Cache {
        let mut fork = self.clone();
        fork.truncate(len);
        fork
    }

    /// Has copies share the tokens seen so far for as long as they go on for a few tokens only. Layers whose memory does not grow
    /// share it as it is.
    pub(crate) fn share(&mut self) -> Result<(), Exception> {
        let len = self.len;
        self.layers.iter_mut().try_for_each(|layer| layer.share(len))
    }

    /// Has layers that cannot be cut back remember this place.
    pub(crate) fn checkpoint(&mut self) {
        let len = self.len;
        self.layers.iter_mut().for_each(|layer| layer.checkpoint(len));
    }

    /// The sequence rests: nobody goes back a few tokens, so layers need not remember every place.
    pub(crate) fn rest(&mut self) {
        self.layers.iter_mut().for_each(LayerCache::rest);
    }

    /// The arrays to write to a file, by name.
    pub(crate) fn save(&self) -> Result<Vec<(String, Array)>, Exception> {
        let mut all = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            let arrays = layer.save(self.len)?;
            all.extend(arrays.into_iter().map(|(name, array)| (format!("{index}.{name}"), array)));
        }
        Ok(all)
    }

    /// Lengths that it can be cut back to when it was read again: those that no layer stands against.
    pub(crate) fn saved_places(&self) -> Vec<usize> {
        let mut common: Option<Vec<i32>> = None;
        for layer in &self.layers {
            let own = match layer {
                LayerCache::Full(_) | LayerCache::Latent(_) | LayerCache::Quantized(_) => continue,
                LayerCache::Recurrent(recurrent) => recurrent.saved_places(),
                LayerCache::Ring(_) | LayerCache::Compressed(_) => return Vec::new(),
            };
            match &mut common {
                None => common = Some(own),
                Some(common) => common.retain(|place| own.contains(place)),
            }
        }
        common.unwrap_or_default().into_iter().map(|place| place as usize).collect()
    }

    /// Takes back what [`Cache::save`] gave, into a cache that has seen nothing.
    pub(crate) fn load(&mut self, len: i32, mut take: impl FnMut(&str) -> Option<Array>) {
        for (index, layer) in self.layers.iter_mut().enumerate() {
            layer.load(&mut |name| take(&format!("{index}.{name}")));
        }
        self.len = len;
    }
}

impl LayerCache {
    /// Whether it can be lent.
    pub(crate) fn is_lent(&self) -> bool {
        matches!(self, LayerCache::Full(_) | LayerCache::Ring(_))
    }

    /// Keys and values for an operation that appends `tokens` rows of `heads · dim` after the first `seen` itself. What is lent has to
    /// be given back, or the layer remembers nothing.
    pub(crate) fn lend(
        &mut self,
        seen: i32,
        tokens: i32,
        width: (i32, i32),
    ) -> Result<Lent, Exception> {
        match self {
            LayerCache::Full(full) => full.lend(seen, tokens, width),
            LayerCache::Ring(ring) => ring.lend(seen, tokens, width),
            _ => Err(other_kind()),
        }
    }

    /// Takes back what was lent, with the new rows in it.
    pub(crate) fn give(&mut self, keys: Array, values: Array) {
        match self {
            LayerCache::Full(full) => full.give(keys, values),
            LayerCache::Ring(ring) => ring.give(keys, values),
            _ => {}
        }
    }

    /// The latents of a layer with latent attention.
    pub(crate) fn latent(&mut self) -> Result<&mut Latent, Exception> {
        match self {
            LayerCache::Latent(latent) => Ok(latent),
            _ => Err(Exception::custom("the layer's cache is of another kind")),
        }
    }

    /// The window and the groups of a layer that compresses.
    pub(crate) fn compressed(&mut self) -> Result<&mut Compressed, Exception> {
        match self {
            LayerCache::Compressed(compressed) => Ok(compressed),
            _ => Err(other_kind()),
        }
    }

    /// The state of a gated delta net.
    pub(crate) fn recurrent(&mut self) -> Result<&mut Recurrent, Exception> {
        match self {
            LayerCache::Recurrent(recurrent) => Ok(recurrent),
            _ => Err(other_kind()),
        }
    }

    /// Keys and values of all tokens, packed if the configuration says so.
    pub(crate) fn of_keys(kv: Option<KvPacking>) -> LayerCache {
        match kv {
            Some(packing) => LayerCache::Quantized(Quantized::new(packing)),
            None => LayerCache::Full(Full::default()),
        }
    }

    fn share(&mut self, len: i32) -> Result<(), Exception> {
        match self {
            LayerCache::Full(full) => full.share(len),
            LayerCache::Latent(latent) => latent.share(len),
            _ => Ok(()),
        }
    }

    fn current(&self) -> Vec<&Array> {
        match self {
            // Its checkpoints are many, and were all current once.
            LayerCache::Recurrent(recurrent) => recurrent.current(),
            other => other.arrays(),
        }
    }

    fn arrays(&self) -> Vec<&Array> {
        match self {
            LayerCache::Full(full) => full.arrays(),
            LayerCache::Latent(latent) => latent.arrays(),
            LayerCache::Compressed(compressed) => compressed.arrays(),
            LayerCache::Quantized(quantized) => quantized.arrays(),
            LayerCache::Ring(ring) => ring.arrays(),
            LayerCache::Recurrent(recurrent) => recurrent.arrays(),
        }
    }

    /// Goes back from `seen` to `len` tokens, or to the greatest length below that it can have; says which.
    fn truncate(&mut self, seen: i32, len: i32) -> i32 {
        match self {
            LayerCache::Full(_) | LayerCache::Latent(_) | LayerCache::Quantized(_) => len,
            LayerCache::Ring(ring) => ring.truncate(len),
            LayerCache::Compressed(compressed) => compressed.truncate(seen, len),
            LayerCache::Recurrent(recurrent) => recurrent.truncate(len),
        }
    }

    fn checkpoint(&mut self, len: i32) {
        match self {
            LayerCache::Full(_) | LayerCache::Latent(_) | LayerCache::Quantized(_) => {}
            LayerCache::Ring(ring) => ring.checkpoint(len),
            LayerCache::Compressed(compressed) => compressed.checkpoint(len),
            LayerCache::Recurrent(recurrent) => recurrent.checkpoint(),
        }
    }

    fn rest(&mut self) {
        // Other kinds remember less at a place than at a token, or nothing.
        match self {
            LayerCache::Recurrent(recurrent) => recurrent.rest(),
            LayerCache::Compressed(compressed) => compressed.rest(),
            _ => {}
        }
    }

    fn save(&self, len: i32) -> Result<Vec<(String, Array)>, Exception> {
        match self {
            LayerCache::Full(full) => full.save(len),
            LayerCache::Latent(latent) => latent.save(len),
            LayerCache::Compressed(compressed) => Ok(compressed.save()),
            LayerCache::Quantized(quantized) => quantized.save(len),
            LayerCache::Ring(ring) => ring.save(len),
            LayerCache::Recurrent(recurrent) => Ok(recurrent.save()),
        }
    }

    fn load(&mut self, take: &mut dyn FnMut(&str) -> Option<Array>) {
        match self {
            LayerCache::Full(full) => full.load(take),
            LayerCache::Latent(latent) => latent.load(take),
            LayerCache::Compressed(compressed) => compressed.load(take),
            LayerCache::Quantized(quantized) => quantized.load(take),
            LayerCache::Ring(ring) => ring.load(take),
            LayerCache::Recurrent(recurrent) => recurrent.load(take),
        }
    }
}

/// A layer asked for another kind of memory than it made.
fn other_kind() -> Exception {
    Exception::custom("the layer's memory is of another kind")
}
