//! What the engine thread asks of a model. Two implementations: `mlx` computes, `scripted` replays.
//!
//! A backend lives on the engine thread and is never sent anywhere, so it may hold what is not `Send`.

#[cfg(feature = "mlx")]
pub(crate) mod mlx;
pub(crate) mod scripted;

use crate::job::{EngineError, TokenId};

/// Which rows of logits a forward pass hands back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rows {
    /// None: the pass only fills the cache.
    None,
    /// The row of the last token, `[vocabulary]`.
    Last,
    /// One row per token, `[tokens × vocabulary]`.
    All,
}

/// A model on the engine thread.
pub(crate) trait Backend {
    /// The cache of one sequence: everything that the model remembers of the tokens it was fed.
    type State;

    /// A cache that has seen nothing.
    fn fresh(&mut self) -> Self::State;

    /// A second cache that has seen the first `len` tokens of `state`.
    fn fork(&mut self, state: &Self::State, len: usize) -> Self::State;

    /// Feeds `tokens` (not empty, at most [`Backend::chunk_len_max`]) after what `state` has seen.
    fn forward(
        &mut self,
        state: &mut Self::State,
        tokens: &[TokenId],
        rows: Rows,
    ) -> Result<Vec<f32>, EngineError>;

    /// Forgets all but the first `len` tokens.
    fn truncate(&mut self, state: &mut Self::State, len: usize);

    /// The most tokens to feed at once, so that a more urgent job waits for one such pass at most.
    fn chunk_len_max(&self) -> usize;

    /// Bytes that the cache holds.
    fn bytes(&self, state: &Self::State) -> u64;
}
