//! The models: one file per family, and what all of them share.
//!
//! A pass runs over one or more sequences at once. Their tokens lie one after the other on the token axis, so linear maps and
//! experts see all of them together; only attention looks at each sequence with its own cache ([`Sequences::each`]).

pub(crate) mod deepseek_v41;
pub(crate) mod gdn;
mod gpt_oss;
pub(crate) mod gqa;
mod minimax;
mod mla;
pub(crate) mod mtp;

use std::sync::Arc;

use mlx_rs::{Array, fast::rms_norm, ops::concatenate};

use crate::{
    cache::{Cache, LayerCache},
    config::{Family, ModelConfig},
    nn::{Builder, Built, Embedding, Floats, Linear, NormedMap, Result, Tiled},
    ops::{on_gpu, slice},
};
use mtp::Mtp;

/// A model with its weights.
pub(crate) trait Model {
    /// A cache that has seen nothing.
    fn cache(&self) -> Cache;

    /// Runs `tokens`, `[1, sum]`, through all layers, each sequence behind what its cache has seen: `[1, sum, hidden]`. The caches
    /// have seen them then.
    fn hidden(&self, tokens: &Array, sequences: &mut Sequences<'_>) -> Result<Array>;

    /// What passes make of pairs of tokens.
    fn pair_bytes(&self) -> PairBytes {
        PairBytes::default()
    }

    /// Logits of rows of [`Model::hidden`]: `[1, rows, vocabulary]`.
    fn logits(&self, hidden: &Array) -> Result<Array>;

    /// The memory of a layer that drafts, if the model has one.
    fn draft_layer(&self) -> Option<usize> {
        None
    }

    /// Drafts what comes behind `token`, the next that `cache` will see: `next` is given logits `[vocabulary]` and says the token drawn
    /// from them, as long as it wants more. Needs [`Model::draft_layer`].
    fn guess(
        &self,
        _cache: &mut Cache,
        _token: u32,
        _next: &mut dyn FnMut(&[f32]) -> Option<u32>,
    ) -> Result<()> {
        Ok(())
    }
}

/// Bytes of intermediate results that a pass makes for every pair of a token that it computes and one that this sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PairBytes {
    /// In mlx-lm's order of operations.
    pub(crate) exact: u64,
    /// In an order for any number of tokens.
    pub(crate) uniform: u64,
    /// Where matrices lie in the tiles of our own kernels.
    pub(crate) tiles: u64,
    /// The same while an adapter is worn: then some layers are MLX's operations again.
    pub(crate) worn: u64,
}

impl PairBytes {
    /// The same in every order.
    pub(crate) fn always(bytes: u64) -> PairBytes {
        PairBytes { exact: bytes, uniform: bytes, tiles: bytes, worn: bytes }
    }

    /// In the order that goes with `floats`.
    pub(crate) fn of(self, floats: Floats, is_worn: bool) -> u64 {
        match floats {
            Floats::Stored => self.exact,
            Floats::Tiles if is_worn => self.worn,
            Floats::Tiles => self.tiles,
            Floats::Uniform | Floats::Single | Floats::Dense => self.uniform,
        }
    }

    /// What is enough for either.
    fn or(self, other: PairBytes) -> PairBytes {
        PairBytes {
            exact: self.exact.max(other.exact),
            uniform: self.uniform.max(other.uniform),
            tiles: self.tiles.max(other.tiles),
            worn: self.worn.max(other.worn),
        }
    }
}

/// What MLX's own attention makes of a pair where it is made of several operations: a score for each head, in whose place the softmax
/// is written; three of them where it is not plain: sinks are a column that is joined to scores and cut off again, and over packed
/// keys the mask is chosen apart. On a GPU it is one kernel, which keeps none of that.
fn unfused(heads: i32, is_plain: bool) -> u64 {
    let copies = if is_plain { 1 } else { 3 };
    if on_gpu() { 0 } else { copies * heads as u64 * size_of::<f32>() as u64 }
}

/// Asks for all parts of the model that `config` describes.
pub(crate) fn build(config: &ModelConfig, builder: &mut Builder<'_>) -> Built<Box<dyn Model>> {
    Ok(match &config.family {
        Family::Gqa(gqa) => Box::new(gqa::build(config, gqa, builder)?),
        Family::Mla(mla) => Box::new(mla::build(config, mla, builder)?),
        Family::DeepseekV41(model) => Box::new(deepseek_v41::build(config, model, builder)?),
        Family::Gdn(gdn) => Box::new(gdn::build(config, gdn, builder)?),
    })
}

/// The sequences of one pass.
pub(crate) struct Sequences<'c> {
    /// How many tokens of the pass are theirs.
    lens: Vec<i32>,
    caches: Vec<&'c mut Cache>,
}

/// One sequence's part of a layer's work.
pub(crate) struct Seen<'a> {
    /// Which sequence of the pass it is.
    pub(crate) index: usize,
    /// Its rows of the inputs, `[1, tokens, …]` each.
    pub(crate) rows: Vec<Array>,
    /// How many tokens it has seen before.
    pub(crate) seen: i32,
    /// What it remembers in this layer.
    pub(crate) memory: &'a mut LayerCache,
}

impl<'c> Sequences<'c> {
    pub(crate) fn new(parts: impl IntoIterator<Item = (usize, &'c mut Cache)>) -> Sequences<'c> {
        let (lens, caches) = parts.into_iter().map(|(len, cache)| (len as i32, cache)).unzip();
        Sequences { lens, caches }
    }

    /// Number of sequences.
    pub(crate) fn count(&self) -> usize {
        self.lens.len()
    }

    /// Runs `attend` once per sequence and joins the results on the token axis. With one sequence nothing is cut or joined, so that
    /// the operations are mlx-lm's.
    pub(crate) fn each(
        &mut self,
        layer: usize,
        inputs: &[&Array],
        mut attend: impl FnMut(Seen<'_>) -> Result<Array>,
    ) -> Result<Array> {
        let mut start = 0;
        let mut results = Vec::with_capacity(self.lens.len());
        let is_alone = self.lens.len() == 1;
        for (index, (len, cache)) in self.lens.iter().zip(&mut self.caches).enumerate() {
            let rows = inputs.iter().map(|input| {
                if is_alone { Ok((*input).clone()) } else { tokens(input, start, start + len) }
            });
            let rows = rows.collect::<Result<Vec<Array>>>()?;
            let (seen, memory) = (cache.len, &mut cache.layers[layer]);
            results.push(attend(Seen { index, rows, seen, memory })?);
            start += len;
        }
        match results.len() {
            1 => Ok(results.remove(0)),
            _ => concatenate(&results, 1),
        }
    }

    /// Whether the layer's memories can be lent to an operation of our own.
    fn are_lent(&self, layer: usize) -> bool {
        self.caches.iter().all(|cache| cache.layers[layer].is_lent())
    }

    /// All layers have seen the tokens of the pass.
    fn advance(&mut self) {
        for (len, cache) in self.lens.iter().zip(&mut self.caches) {
            cache.len += len;
        }
    }
}

/// The positions `start..end` of the token axis, axis 1.
pub(crate) fn tokens(x: &Array, start: i32, end: i32) -> Result<Array> {
    let mut starts = vec![0; x.ndim()];
    let mut ends = x.shape().to_vec();
    (starts[1], ends[1]) = (start, end);
    slice(x, &starts, &ends)
}

/// One layer.
pub(crate) trait Block {
    /// What layers hand on within a pass, beside the residual stream.
    type Carry: Default;

    /// What the layer remembers of a sequence that has seen nothing.
    fn cache(&self) -> LayerCache;

    /// As [`Model::pair_bytes`].
    fn pair_bytes(&self) -> PairBytes {
        PairBytes::default()
    }

    /// What the residual stream, normed, is multiplied with first, if that lies in tiles.
    fn first(&self) -> &[Tiled] {
        &[]
    }

    /// Says what it is multiplied with behind the layer.
    fn lead_to(&self, _then: &[Tiled]) {}

    /// `x` is the residual stream, `[1, sum, hidden]`, and so is the result.
    fn forward(
        &self,
        x: &Array,
        sequences: &mut Sequences<'_>,
        layer: usize,
        carry: &mut Self::Carry,
    ) -> Result<Array>;
}

/// An embedding, a stack of layers, a norm, a head: what nearly all families are.
pub(crate) struct Decoder<B> {
    embedding: Embedding,
    layers: Vec<B>,
    norm: Array,
    eps: f32,
    /// `None`: the embedding is the head.
    head: Option<Linear>,
    /// Norm and head as one operation, where the head lies in tiles.
    fused: Option<Arc<NormedMap>>,
    /// A layer behind the last one, that drafts.
    mtp: Option<Mtp<B>>,
}

impl<B: Block> Decoder<B> {
    /// `layer` builds each of `count` layers, given its index.
    pub(crate) fn build(
        config: &ModelConfig,
        builder: &mut Builder<'_>,
        count: usize,
        mut layer: impl FnMut(usize, &mut Builder<'_>) -> Built<B>,
    ) -> Built<Decoder<B>> {
        let (vocabulary, hidden) = (config.vocabulary, config.hidden);
        let embedding = builder.embedding("model.embed_tokens", vocabulary, hidden)?;
        let layers: Built<Vec<B>> = (0..count).map(|index| layer(index, builder)).collect();
        let layers = layers?;
        let norm = builder.vector("model.norm.weight", hidden)?;
        // transformers and mlx-lm differ in what is meant where the configuration does not say.
        let head = if config.tied.unwrap_or(!builder.has("lm_head.weight")) {
            None
        } else {
            // A look-up reads one row of the embedding; as a head all of it is multiplied.
            builder.cost().parameters_active -= (vocabulary * hidden) as u64;
            Some(builder.linear("lm_head", vocabulary, hidden, false)?)
        };
        let eps = config.norm_eps;
        let mtp = config
            .mtp
            .then(|| Mtp::build(hidden, eps, count, builder, |builder| layer(count, builder)));
        let mtp = mtp.transpose()?;
        Decoder { embedding, layers, norm, eps, head, fused: None, mtp }.fused()
    }

    fn head(&self, normed: &Array) -> Result<Array> {
        match &self.head {
            Some(head) => head.forward(normed),
            None => self.embedding.as_head(normed),
        }
    }

    /// With norm and head in one, where that can be, and with layers that know what comes behind them.
    fn fused(mut self) -> Built<Decoder<B>> {
        let head = match &self.head {
            Some(head) => head.tiled().cloned(),
            None => self.embedding.tiled(),
        };
        for (layer, next) in self.layers.iter().zip(self.layers.iter().skip(1)) {
            layer.lead_to(next.first());
        }
        if let (Some(last), Some(head)) = (self.layers.last(), &head) {
            last.lead_to(std::slice::from_ref(head));
        }
        let fused = head.map(|head| NormedMap::of(&self.norm, self.eps, head)).transpose();
        self.fused = fused.map_err(|error| error.what().to_owned())?.map(Arc::new);
        Ok(self)
    }
}

impl<B: Block> Model for Decoder<B> {
    fn cache(&self) -> Cache {
        let drafting = self.mtp.iter().map(Mtp::cache);
        Cache::new(self.layers.iter().map(Block::cache).chain(drafting).collect())
    }

    fn hidden(&self, tokens: &Array, sequences: &mut Sequences<'_>) -> Result<Array> {
        let embedded = self.embedding.look_up(tokens)?;
        let mut x = embedded.clone();
        let mut carry = B::Carry::default();
        for (index, layer) in self.layers.iter().enumerate() {
            let y = layer.forward(&x, sequences, index, &mut carry)?;
            // A number of another type, once added or multiplied, would widen all that follows, and what caches hold. (Where norms
            // are of another type than the embedding, the first layer widens it, as in mlx-lm.)
            let (before, after) = (x.dtype(), y.dtype());
            debug_assert!(
                after == before || before != self.norm.dtype(),
                "layer {index} made {after:?} of {before:?}"
            );
            x = y;
        }
        if let Some(mtp) = &self.mtp {
            mtp.follow(&embedded, &x, &self.norm, sequences)?;
        }
        sequences.advance();
        Ok(x)
    }

    fn pair_bytes(&self) -> PairBytes {
        self.layers.iter().map(Block::pair_bytes).fold(PairBytes::default(), PairBytes::or)
    }

    fn logits(&self, hidden: &Array) -> Result<Array> {
        let is_worn = self.head.as_ref().is_some_and(Linear::is_worn);
        if let Some(fused) = self.fused.as_ref().filter(|_| !is_worn) {
            return fused.forward(hidden);
        }
        self.head(&rms_norm(hidden, Some(&self.norm), self.eps)?)
    }

    fn draft_layer(&self) -> Option<usize> {
        self.mtp.as_ref().map(|_| self.layers.len())
    }

    fn guess(
        &self,
        cache: &mut Cache,
        token: u32,
        next: &mut dyn FnMut(&[f32]) -> Option<u32>,
    ) -> Result<()> {
        let Some(mtp) = &self.mtp else { return Ok(()) };
        let embed = |tokens: &Array| self.embedding.look_up(tokens);
        mtp.guess(cache, token, embed, |normed| self.head(normed), next)
    }
}
