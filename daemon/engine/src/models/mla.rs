//! Decoders with multi-head latent attention: deepseek_v3, kimi_k2, kimi_k25, glm4_moe_lite; with an indexer that chooses tokens,
//! deepseek_v32 and glm_moe_dsa (GLM-5.1 and 5.2).
//!
//! A token's keys and values in all heads are made of one latent, which is what the cache holds. There are two ways to attend,
//! and they round differently. mlx-lm's takes one of two orders by the number of tokens; ours ([`uniform`]) is one order for
//! any number, so that what is fed in pieces, token by token or at once gives the same logits.

mod indexer;
mod joined;
mod parity;
mod uniform;

use std::rc::Rc;

use mlx_rs::{Array, fast::rms_norm};

use super::{Block, Decoder, PairBytes, Seen, Sequences};
use crate::{
    cache::{Latent, LayerCache},
    config::{Attention, Mla, ModelConfig, mla},
    nn::{Builder, Built, LatentSizes, Linear, Map, PerHead, Projections, Result, Rope, Second},
    ops::slice,
};
use indexer::{Indexer, View};

/// What all layers share.
struct Shape {
    heads: i32,
    latent: i32,
    /// Dimensions of a head's query that have no position, and those that are rotated.
    plain: i32,
    rotated: i32,
    value: i32,
    scale: f32,
    eps: f32,
    latent_eps: f32,
    rope: Rope,
    /// One order of operations for any number of tokens; otherwise mlx-lm's.
    is_uniform: bool,
    /// Our own kernels attend, to rows of latents and rotated keys: no layer chooses tokens.
    is_joined: bool,
    /// Some layers choose tokens.
    is_indexed: bool,
}

pub(crate) struct Layer {
    shape: Rc<Shape>,
    input_norm: Array,
    query: Query,
    /// The squeezed query, where there is one, and the latent with the rotated key.
    squeeze: Projections,
    latent_norm: Array,
    /// Turns queries into latents.
    embed: PerHead,
    /// Turns latents into values.
    unembed: PerHead,
    output: Linear,
    second: Second,
    /// `None`: the layer looks at all tokens, or at those of the layer before it.
    indexer: Option<Indexer>,
    attention: Attention,
}

/// How queries are made.
enum Query {
    /// Of the residual stream.
    Whole(Linear),
    /// Of the squeezed query, after its norm.
    Squeezed { norm: Array, rise: Linear },
}

/// What the layers of a pass hand on: what each of its sequences looks at.
#[derive(Default)]
pub(crate) struct Carry {
    views: Vec<View>,
}

/// One sequence's queries, and the latents and rotated keys of all that it has seen.
struct Parts {
    /// `[1, heads, tokens, plain]` and `[1, heads, tokens, rotated]`.
    queries: (Array, Array),
    /// `[1, 1, len, latent]`.
    latents: Array,
    /// `[1, 1, len, rotated]`.
    keys: Array,
}

pub(crate) fn build(
    config: &ModelConfig,
    mla: &Mla,
    builder: &mut Builder<'_>,
) -> Built<Decoder<Layer>> {
    let shape = Rc::new(Shape {
        heads: mla.heads as i32,
        latent: mla.latent as i32,
        plain: mla.plain as i32,
        rotated: mla.rope.dims as i32,
        value: mla.value as i32,
        scale: mla.scale as f32,
        eps: config.norm_eps,
        latent_eps: mla.latent_eps,
        rope: Rope::new(&mla.rope),
        is_uniform: builder.is_uniform(),
        is_joined: builder.in_tiles() && mla.indexer.is_none(),
        is_indexed: mla.indexer.is_some(),
    });
    let indexed = mla.indexer.as_ref().map(|indexer| (indexer, Rc::new(Rope::new(&indexer.rope))));
    Decoder::build(config, builder, mla.layers.len(), |index, builder| {
        // The layer that drafts is like the last one.
        let layer = &mla.layers[index.min(mla.layers.len() - 1)];
        let path = format!("model.layers.{index}");
        let own = indexed.as_ref().filter(|_| layer.attention == Attention::Indexed);
        let indexer = own.map(|(indexer, rope)| {
            let path = format!("{path}.self_attn.indexer");
            let widths = (config.hidden, mla.query_rank.unwrap_or(0));
            Indexer::build(&path, widths, indexer, rope, builder)
        });
        Layer::build(&path, config.hidden, mla, layer, (indexer.transpose()?, &shape), builder)
    })
}

impl Layer {
    fn build(
        path: &str,
        hidden: usize,
        mla: &Mla,
        layer: &mla::Layer,
        (indexer, shape): (Option<Indexer>, &Rc<Shape>),
        builder: &mut Builder<'_>,
    ) -> Built<Layer> {
        let at = |name: &str| format!("{path}.self_attn.{name}");
        let Mla { heads, latent, plain, value, bias, .. } = *mla;
        let query_width = heads * (plain + mla.rope.dims);
        let input_norm = builder.vector(&format!("{path}.input_layernorm.weight"), hidden)?;
        let (down, compress) = (at("q_a_proj"), at("kv_a_proj_with_mqa"));
        let map = |path, out| Map { path, out, inner: hidden, bias };
        let compress = map(compress.as_str(), latent + mla.rope.dims);
        let (query, squeeze) = match mla.query_rank {
            None => {
                let whole = builder.linear(&at("q_proj"), query_width, hidden, false)?;
                (Query::Whole(whole), builder.projections(&[compress])?)
            }
            Some(rank) => {
                let norm = builder.vector(&at("q_a_layernorm.weight"), rank)?;
                let rise = builder.linear(&at("q_b_proj"), query_width, rank, false)?;
                let squeeze = builder.projections(&[map(down.as_str(), rank), compress])?;
                (Query::Squeezed { norm, rise }, squeeze)
            }
        };
        let latent_norm = builder.vector(&at("kv_a_layernorm.weight"), latent)?;
        let sizes = LatentSizes { heads, latent, plain, value };
        let (embed, unembed) = builder.latent_maps(&format!("{path}.self_attn"), sizes)?;
        let output = builder.linear(&at("o_proj"), hidden, heads * value, bias)?;
        let output_norm =
            builder.vector(&format!("{path}.post_attention_layernorm.weight"), hidden)?;
        let feed_forward =
            builder.feed_forward(&format!("{path}.mlp"), hidden, &layer.feed_forward, false)?;
        Ok(Layer {
            shape: shape.clone(),
            input_norm,
            query,
            squeeze,
            latent_norm,
            embed,
            unembed,
            output,
            second: builder.second(output_norm, shape.eps, feed_forward)?,
            indexer,
            attention: layer.attention,
        })
    }

    /// Attention of one sequence: `[1, tokens, heads · value]`. Its rows are queries, latents and rotated keys, and what the
    /// indexer makes of the tokens.
    fn attend(&self, sequence: Seen<'_>, view: &mut View) -> Result<Array> {
        let Shape { heads, latent, plain, rotated, value, ref rope, is_uniform, .. } = *self.shape;
        let Seen { rows, seen, memory, .. } = sequence;
        let memory = memory.latent()?;
        let tokens = rows[0].dim(1);
        let queries =
            rows[0].reshape(&[1, tokens, heads, plain + rotated])?.transpose_axes(&[0, 2, 1, 3])?;
        let part = |from, to| slice(&queries, &[0, 0, 0, from], &[1, heads, tokens, to]);
        let queries = (part(0, plain)?, rope.forward(&part(plain, plain + rotated)?, seen)?);
        let keys = rows[2].reshape(&[1, tokens, 1, rotated])?.transpose_axes(&[0, 2, 1, 3])?;
        let keys = rope.forward(&keys, seen)?;
        let latents = rows[1].reshape(&[1, 1, tokens, latent])?;
        if self.shape.is_joined {
            return self.attend_to_joined(memory, seen, queries, [latents, keys]);
        }
        let (latents, keys) = memory.append(seen, &latents, &keys)?;
        view.see(seen, tokens)?;
        if let Some(indexer) = &self.indexer {
            indexer.choose(&rows[3..], (seen, memory), view, is_uniform)?;
        }
        let is_sparse = self.attention != Attention::Whole;
        let parts = Parts { queries, latents, keys };
        let y = match is_uniform {
            true => self.attend_uniformly(parts, view.looked_at(is_sparse))?,
            false => self.attend_like_mlx_lm(parts, view.looked_at(is_sparse))?,
        };
        y.transpose_axes(&[0, 2, 1, 3])?.reshape(&[1, tokens, heads * value])
    }
}

impl Block for Layer {
    type Carry = Carry;

    fn cache(&self) -> LayerCache {
        LayerCache::Latent(Latent::default())
    }

    fn pair_bytes(&self) -> PairBytes {
        // The products with latents and with rotated keys, in whose place their sum is written; what the indexer's heads find, and that
        // weighted.
        let scores = 2 * self.shape.heads as u64;
        let found = self.indexer.as_ref().map_or(0, |indexer| 2 * indexer.heads() as u64);
        // In our order, attention looks at chosen tokens alone, however many there are.
        let uniform = if self.attention == Attention::Whole { scores } else { found };
        // Our own kernel makes none, whether or not an adapter is worn.
        let tiles = if self.shape.is_indexed { uniform } else { 0 };
        PairBytes {
            exact: 4 * (scores + found),
            uniform: 4 * uniform,
            tiles: 4 * tiles,
            worn: 4 * tiles,
        }
    }

    fn forward(
        &self,
        x: &Array,
        sequences: &mut Sequences<'_>,
        layer: usize,
        carry: &mut Carry,
    ) -> Result<Array> {
        let Shape { latent, rotated, eps, latent_eps, .. } = *self.shape;
        let normed = rms_norm(x, Some(&self.input_norm), eps)?;
        let squeezed = self.squeeze.forward(&normed)?;
        let tokens = normed.dim(1);
        let (low, queries) = match &self.query {
            Query::Whole(whole) => (None, whole.forward(&normed)?),
            Query::Squeezed { norm, rise } => {
                let low = rms_norm(&squeezed[0], Some(norm), latent_eps)?;
                let queries = rise.forward(&low)?;
                (Some(low), queries)
            }
        };
        let both = &squeezed[squeezed.len() - 1];
        let latents = slice(both, &[0, 0, 0], &[1, tokens, latent])?;
        let latents = rms_norm(&latents, Some(&self.latent_norm), latent_eps)?;
        let keys = slice(both, &[0, 0, latent], &[1, tokens, latent + rotated])?;
        let mut inputs = vec![queries, latents, keys];
        if let (Some(indexer), Some(low)) = (&self.indexer, &low) {
            inputs.extend(indexer.project(&normed, low)?);
        }
        carry.views.resize_with(sequences.count(), View::default);
        let inputs: Vec<&Array> = inputs.iter().collect();
        let attended = sequences.each(layer, &inputs, |sequence| {
            let view = &mut carry.views[sequence.index];
            self.attend(sequence, view)
        })?;
        self.second.forward(&x.add(self.output.forward(&attended)?)?)
    }
}
