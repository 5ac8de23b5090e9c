//! What the engine thread asks of a model. Two implementations: `mlx` computes, `scripted` replays.
//!
//! A backend lives on the engine thread and is never sent anywhere, so it may hold what is not `Send`.

#[cfg(feature = "mlx")]
pub(crate) mod mlx;
pub(crate) mod scripted;

use std::path::Path;

use crate::{
    info::MountError,
    job::{EngineError, SoulId, TokenId},
};

/// Which rows of logits a forward pass hands back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rows {
    /// None: the pass only fills the cache.
    None,
    /// The row of the last token, `[vocabulary]`.
    Last,
    /// The rows of the last so many tokens, `[count × vocabulary]`; not more than there are.
    Tail(usize),
    /// One row per token, `[tokens × vocabulary]`.
    All,
}

/// What one sequence is fed in a pass.
pub(crate) struct Feed<'a, S> {
    /// Its cache.
    pub(crate) state: &'a mut S,
    /// What comes after the tokens that the cache has seen: not empty, at most [`Backend::chunk_len_max`].
    pub(crate) tokens: &'a [TokenId],
    /// The logits that are wanted.
    pub(crate) rows: Rows,
}

/// A part of a cache, as it is written to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TensorHead {
    pub(crate) name: String,
    /// As safetensors calls it.
    pub(crate) dtype: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: u64,
}

/// A model on the engine thread.
pub(crate) trait Backend {
    /// The cache of one sequence: everything that the model remembers of the tokens it was fed.
    type State;

    /// A part of a cache that is written to a file, or was read from one.
    type Tensor;

    /// A cache that has seen nothing.
    fn fresh(&mut self) -> Self::State;

    /// How many tokens a cache has seen.
    fn len(&self, state: &Self::State) -> usize;

    /// A second cache that has seen the first `len` tokens of `state`, or fewer where a layer cannot be cut there: [`Backend::len`]
    /// says how many, and the rest has to be fed again.
    fn fork(&mut self, state: &Self::State, len: usize) -> Self::State;

    /// A fork that goes on for a short while, beside others of the same beginning: all of them, `state` too, hold that beginning once.
    fn branch(&mut self, state: &mut Self::State, len: usize) -> Self::State {
        self.fork(state, len)
    }

    /// Forgets all but the first `len` tokens, or more where a layer cannot be cut there, like [`Backend::fork`].
    fn truncate(&mut self, state: &mut Self::State, len: usize);

    /// Remembers this length as one that [`Backend::truncate`] and [`Backend::fork`] can come back to. Costs references only.
    fn checkpoint(&mut self, state: &mut Self::State);

    /// Nobody writes at this sequence any more: it may forget places that only a few tokens lie between.
    fn rest(&mut self, _state: &mut Self::State) {}

    /// One pass over several sequences, with the adapter `soul`. Hands back the wanted rows of every feed, in their order. `meanwhile`
    /// is called once, while the machine computes where that is possible.
    fn forward(
        &mut self,
        soul: Option<SoulId>,
        feeds: &mut [Feed<'_, Self::State>],
        meanwhile: &mut dyn FnMut(),
    ) -> Result<Vec<Vec<f32>>, EngineError>;

    /// The most tokens to feed at once after `seen` ones with the adapter `soul`, so that a more urgent job waits for one such pass at
    /// most. It depends on the model, the processor, `seen` and whether there is an adapter: results must not depend on how busy the
    /// machine is.
    fn chunk_len_max(&self, soul: Option<SoulId>, seen: usize) -> usize;

    /// Whether the model drafts itself ([`Backend::guess`]).
    fn has_guesses(&self) -> bool {
        false
    }

    /// What the model itself supposes to come behind `token`, which `state` has yet to see: `next` is given one row of logits after the
    /// other and says the token drawn from it, until it wants no more. It is called never where there is nothing to go by. What `state`
    /// has seen stays the same.
    fn guess(
        &mut self,
        _soul: Option<SoulId>,
        _state: &mut Self::State,
        _token: TokenId,
        _next: &mut dyn FnMut(&[f32]) -> Option<TokenId>,
    ) -> Result<(), EngineError> {
        Ok(())
    }

    /// Mounts the adapter of a directory, for passes to wear.
    fn mount(&mut self, dir: &Path) -> Result<SoulId, MountError> {
        Err(MountError { path: dir.to_owned(), reason: "this model takes no adapters".to_owned() })
    }

    /// Takes it off again. `false`: it was not mounted.
    fn unmount(&mut self, _soul: SoulId) -> bool {
        false
    }

    /// Bytes of kept caches that ought to be given up, because the system runs short of memory. Asked after every tick.
    fn shortage(&mut self) -> u64 {
        0
    }

    /// Bytes that these caches hold together. What several share is counted once.
    fn bytes(&self, states: &[&Self::State]) -> u64;

    /// The parts of a cache, to write to a file. Copies nothing.
    fn save(&mut self, state: &Self::State)
    -> Result<Vec<(TensorHead, Self::Tensor)>, EngineError>;

    /// Lengths that a cache can be cut back to after it was written and read, beside its own.
    fn saved_places(&self, _state: &Self::State) -> Vec<usize> {
        Vec::new()
    }

    /// The bytes of a part.
    fn tensor_bytes(&mut self, tensor: &Self::Tensor) -> Result<Vec<u8>, EngineError>;

    /// A part that was read from a file.
    fn tensor(&mut self, head: &TensorHead, bytes: &[u8]) -> Result<Self::Tensor, EngineError>;

    /// A cache that has seen `len` tokens, of all parts that [`Backend::save`] gave.
    fn restore(
        &mut self,
        len: usize,
        tensors: Vec<(String, Self::Tensor)>,
    ) -> Result<Self::State, EngineError>;
}
