//! One forward pass over several sequences.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    time::Instant,
};

use mlx_rs::{
    Array, Dtype, Stream,
    error::Exception,
    ops::concatenate,
    transforms::{async_eval, eval},
    with_stream,
};

use super::{
    super::{Backend, Feed, Rows, TensorHead},
    chunk::Chunk,
};
use crate::{
    cache::Cache,
    info::{LoadOptions, MountError},
    job::{EngineError, SoulId, TokenId},
    memory::{Reservation, pressure::Pressure},
    models::{Model, Sequences, tokens},
    nn::{Floats, soul::Souls},
    ops::{self, address},
};

/// A model on its thread.
pub(crate) struct Mlx {
    pub(super) model: Box<dyn Model>,
    pub(super) stream: Stream,
    pub(super) chunk: Chunk,
    pub(super) floats: Floats,
    pub(super) souls: Souls,
    /// What souls may take, too.
    pub(super) options: LoadOptions,
    /// Bytes that a pass takes beyond its own where a soul is worn.
    pub(super) worn: u64,
    pub(super) pressure: Pressure,
    /// Its share of memory.
    #[allow(dead_code, reason = "held until the weights go")]
    pub(super) reservation: Reservation,
    /// The last to go.
    #[allow(dead_code, reason = "dropped after everything else")]
    pub(super) leftovers: Leftovers,
}

/// What MLX keeps for reuse of the arrays of a model that is unloaded.
pub(super) struct Leftovers;

impl Drop for Leftovers {
    fn drop(&mut self) {
        if let Err(error) = mlx_rs::memory::clear_cache() {
            tracing::debug!("memory of an unloaded model is kept for reuse: {}", error.what());
        }
    }
}

impl Mlx {
    fn run(
        &self,
        feeds: &mut [Feed<'_, Cache>],
        meanwhile: &mut dyn FnMut(),
    ) -> Result<Vec<Vec<f32>>, Exception> {
        let fed: Vec<TokenId> = feeds.iter().flat_map(|feed| feed.tokens).copied().collect();
        let input = Array::from_slice(&fed, &[1, fed.len() as i32]);
        let parts = feeds.iter_mut().map(|feed| (feed.tokens.len(), &mut *feed.state));
        let hidden = self.model.hidden(&input, &mut Sequences::new(parts))?;
        let wanted = wanted(&hidden, feeds)?;
        let logits = wanted
            .map(|hidden| self.model.logits(&hidden)?.as_dtype(Dtype::Float32))
            .transpose()?;
        let results = logits.iter().chain(feeds.iter().flat_map(|feed| feed.state.current()));
        let results: Vec<&Array> = results.collect();
        async_eval(results.iter().copied())?;
        meanwhile();
        eval(results)?;
        let Some(logits) = logits else { return Ok(vec![Vec::new(); feeds.len()]) };
        let vocabulary = logits.dim(2) as usize;
        let logits: &[f32] =
            logits.try_as_slice().map_err(|error| Exception::custom(error.to_string()))?;
        let mut rest = logits;
        let rows = feeds.iter().map(|feed| {
            let (own, others) = rest.split_at(row_count(feed) * vocabulary);
            rest = others;
            own.to_vec()
        });
        Ok(rows.collect())
    }
}

fn failed(error: Exception) -> EngineError {
    EngineError::Backend(error.what().to_owned())
}

/// How many rows of logits a feed wants.
fn row_count(feed: &Feed<'_, Cache>) -> usize {
    match feed.rows {
        Rows::None => 0,
        Rows::Last => 1,
        Rows::Tail(count) => count,
        Rows::All => feed.tokens.len(),
    }
}

/// The positions that get logits, one after the other; `None` when nobody wants any.
fn wanted(hidden: &Array, feeds: &[Feed<'_, Cache>]) -> Result<Option<Array>, Exception> {
    let mut start = 0;
    let mut parts: Vec<(i32, i32)> = Vec::new();
    for feed in feeds {
        let end = start + feed.tokens.len() as i32;
        let first = end - row_count(feed) as i32;
        match parts.last_mut() {
            Some(last) if last.1 == first => last.1 = end,
            _ if first < end => parts.push((first, end)),
            _ => {}
        }
        start = end;
    }
    let whole = hidden.dim(1);
    let mut cut = parts.iter().map(|&(first, end)| match (first, end) {
        (0, end) if end == whole => Ok(hidden.clone()),
        _ => tokens(hidden, first, end),
    });
    match parts.len() {
        0 => Ok(None),
        1 => cut.next().transpose(),
        _ => concatenate(&cut.collect::<Result<Vec<_>, _>>()?, 1).map(Some),
    }
}

impl Backend for Mlx {
    type State = Cache;
    type Tensor = Array;

    fn fresh(&mut self) -> Cache {
        self.model.cache()
    }

    fn len(&self, state: &Cache) -> usize {
        state.len as usize
    }

    fn fork(&mut self, state: &Cache, len: usize) -> Cache {
        state.fork(len)
    }

    fn branch(&mut self, state: &mut Cache, len: usize) -> Cache {
        // Views only. If one fails, the fork pays for a copy at its first token.
        let shared: Result<(), Exception> = with_stream(&self.stream, || {
            state.share()?;
            eval(state.arrays())
        });
        if let Err(error) = shared {
            tracing::warn!("a cache cannot be shared: {}", error.what());
        }
        state.fork(len)
    }

    fn truncate(&mut self, state: &mut Cache, len: usize) {
        state.truncate(len);
    }

    fn checkpoint(&mut self, state: &mut Cache) {
        state.checkpoint();
    }

    fn rest(&mut self, state: &mut Cache) {
        state.rest();
    }

    fn forward(
        &mut self,
        soul: Option<SoulId>,
        feeds: &mut [Feed<'_, Cache>],
        meanwhile: &mut dyn FnMut(),
    ) -> Result<Vec<Vec<f32>>, EngineError> {
        if !self.souls.wear(soul) {
            return Err(EngineError::Refused("its soul is not mounted any more".to_owned()));
        }
        let logits = with_stream(&self.stream, || self.run(feeds, meanwhile));
        logits.map_err(failed)
    }

    fn has_guesses(&self) -> bool {
        self.model.draft_layer().is_some()
    }

    fn guess(
        &mut self,
        soul: Option<SoulId>,
        state: &mut Cache,
        token: TokenId,
        next: &mut dyn FnMut(&[f32]) -> Option<TokenId>,
    ) -> Result<(), EngineError> {
        if !self.souls.wear(soul) {
            return Err(EngineError::Refused("its soul is not mounted any more".to_owned()));
        }
        let guessed = with_stream(&self.stream, || self.model.guess(state, token, next));
        guessed.map_err(failed)
    }

    fn chunk_len_max(&self, soul: Option<SoulId>, seen: usize) -> usize {
        self.chunk.len_max(seen as u64, soul.is_some()) as usize
    }

    fn mount(&mut self, dir: &Path) -> Result<SoulId, MountError> {
        with_stream(&self.stream, || self.souls.mount(dir, self.floats, self.options, self.worn))
    }

    fn unmount(&mut self, soul: SoulId) -> bool {
        self.souls.unmount(soul)
    }

    fn shortage(&mut self) -> u64 {
        let bytes = self.pressure.shortage(Instant::now());
        if bytes > 0 && mlx_rs::memory::clear_cache().is_err() {
            tracing::debug!("MLX keeps what it has for reuse");
        }
        bytes
    }

    fn bytes(&self, states: &[&Cache]) -> u64 {
        let mut counted = HashSet::new();
        let arrays = states.iter().flat_map(|state| state.arrays());
        let own = arrays.filter(|array| counted.insert(address(array)));
        own.map(|array| array.nbytes() as u64).sum()
    }

    fn save(&mut self, state: &Cache) -> Result<Vec<(TensorHead, Array)>, EngineError> {
        let saved = with_stream(&self.stream, || state.save()).map_err(failed)?;
        let head = |(name, array): (String, Array)| {
            let dtype = ops::dtype_name(array.dtype())?.to_owned();
            let shape = array.shape().iter().map(|&dim| dim as usize).collect();
            let bytes = array.nbytes() as u64;
            Ok((TensorHead { name, dtype, shape, bytes }, array))
        };
        saved.into_iter().map(head).collect::<Result<_, Exception>>().map_err(failed)
    }

    fn saved_places(&self, state: &Cache) -> Vec<usize> {
        state.saved_places()
    }

    fn tensor_bytes(&mut self, tensor: &Array) -> Result<Vec<u8>, EngineError> {
        with_stream(&self.stream, || ops::to_bytes(tensor)).map_err(failed)
    }

    fn tensor(&mut self, head: &TensorHead, bytes: &[u8]) -> Result<Array, EngineError> {
        ops::from_bytes(bytes, &head.shape, &head.dtype).map_err(failed)
    }

    fn restore(&mut self, len: usize, tensors: Vec<(String, Array)>) -> Result<Cache, EngineError> {
        let mut tensors: HashMap<String, Array> = tensors.into_iter().collect();
        let mut cache = self.model.cache();
        let drafts = self.model.draft_layer().map(|layer| format!("{layer}."));
        if let Some(drafts) = drafts.filter(|_| len > 0)
            && !tensors.keys().any(|name| name.starts_with(&drafts))
        {
            return Err(EngineError::Backend("it lacks the layer that drafts".to_owned()));
        }
        cache.load(len as i32, |name| tensors.remove(name));
        if !tensors.is_empty() {
            return Err(EngineError::Backend("the parts are of another kind of cache".to_owned()));
        }
        Ok(cache)
    }
}
