//! Decoders with grouped-query attention: llama, mistral, qwen2, qwen3, qwen3_moe, glm4_moe, and with mixtures of their own
//! gpt_oss and minimax.
//!
//! They differ in biases, norms over queries and keys, how much of a head is rotated, how far a layer looks back, and whether its
//! feed-forward part is a mixture of experts; all of that is in the configuration. The order of operations is that of mlx-lm 0.32.0.

mod fused;

use std::{rc::Rc, sync::Arc};

use mlx_rs::{Array, fast::rms_norm};

use super::{Block, Decoder, PairBytes, Seen, Sequences, gpt_oss, minimax, unfused};
use crate::{
    cache::{LayerCache, Ring},
    config::{self, Gqa, KeyNorm, KvPacking, Mixtures, ModelConfig},
    info::LoadError,
    nn::{
        Activation, Attention, Builder, Built, Linear, Map, Projections, Result, Rope, Second,
        Tiled,
    },
};
use fused::Fused;
pub(super) use fused::earlier;

/// What all layers share.
struct Shape {
    heads: i32,
    kv_heads: i32,
    head_dim: i32,
    /// Multiplies the products of queries and keys.
    scale: f32,
    eps: f32,
    rope: Rope,
    key_norm: KeyNorm,
    kv: Option<KvPacking>,
    /// Windows are seen in the order of mlx-lm.
    is_turned: bool,
    /// Matrices lie in the tiles of our own kernels.
    in_tiles: bool,
}

pub(crate) struct Layer {
    shape: Rc<Shape>,
    input_norm: Array,
    /// Query, key, value.
    qkv: Projections,
    output: Linear,
    /// Norms of query and key.
    key_norms: Option<(Array, Array)>,
    /// A score per head that leads nowhere.
    sinks: Option<Array>,
    /// How far back it looks.
    window: Option<usize>,
    second: Second,
    /// All of it as one operation, where that is possible.
    fused: Option<Arc<Fused>>,
}

pub(crate) fn build(
    config: &ModelConfig,
    gqa: &Gqa,
    builder: &mut Builder<'_>,
) -> Built<Decoder<Layer>> {
    let shape = Rc::new(Shape {
        heads: gqa.heads as i32,
        kv_heads: gqa.kv_heads as i32,
        head_dim: gqa.head_dim as i32,
        scale: (gqa.head_dim as f64).powf(-0.5) as f32,
        eps: config.norm_eps,
        rope: Rope::new(&gqa.rope),
        key_norm: gqa.key_norm,
        kv: config.kv,
        is_turned: !builder.is_uniform(),
        in_tiles: builder.in_tiles(),
    });
    Decoder::build(config, builder, gqa.layers.len(), |index, builder| {
        Layer::build(config.hidden, gqa, index, &shape, builder)
    })
}

impl Layer {
    fn build(
        hidden: usize,
        gqa: &Gqa,
        index: usize,
        shape: &Rc<Shape>,
        builder: &mut Builder<'_>,
    ) -> Built<Layer> {
        let at = |name: &str| format!("model.layers.{index}.{name}");
        // The layer that drafts is like the last one.
        let place = index.min(gqa.layers.len() - 1);
        let (width, kv_width) = (gqa.heads * gqa.head_dim, gqa.kv_heads * gqa.head_dim);
        let [query, key, value] = ["q", "k", "v"].map(|name| at(&format!("self_attn.{name}_proj")));
        let map = |path, out| Map { path, out, inner: hidden, bias: gqa.qkv_bias };
        let input_norm = builder.vector(&at("input_layernorm.weight"), hidden)?;
        let qkv = builder.projections(&[
            map(&query, width),
            map(&key, kv_width),
            map(&value, kv_width),
        ])?;
        let output = builder.linear(&at("self_attn.o_proj"), hidden, width, gqa.output_bias)?;
        let norms = match gqa.key_norm {
            KeyNorm::None => None,
            KeyNorm::Head => Some((gqa.head_dim, gqa.head_dim)),
            KeyNorm::Whole => Some((width, kv_width)),
        };
        let mut norm =
            |name: &str, len| builder.vector(&at(&format!("self_attn.{name}.weight")), len);
        let key_norms = norms
            .map(|(query, key)| Ok::<_, LoadError>((norm("q_norm", query)?, norm("k_norm", key)?)))
            .transpose()?;
        let sinks = gqa.sinks.then(|| builder.vector(&at("self_attn.sinks"), gqa.heads));
        let sinks = sinks.transpose()?;
        let output_norm = builder.vector(&at("post_attention_layernorm.weight"), hidden)?;
        let feed_forward = match (&gqa.layers[place], gqa.mixtures) {
            (config::FeedForward::Experts(experts), Mixtures::GptOss { limit, slope }) => {
                let activation = Activation::ClampedGlu { limit, slope };
                gpt_oss::mixture(&at("mlp"), hidden, experts, activation, builder)?
            }
            (config::FeedForward::Experts(experts), Mixtures::MiniMax) => {
                minimax::mixture(&at("block_sparse_moe"), hidden, experts, builder)?
            }
            (kind, _) => builder.feed_forward(&at("mlp"), hidden, kind, gqa.mlp_bias)?,
        };
        let mut layer = Layer {
            shape: shape.clone(),
            input_norm,
            qkv,
            output,
            key_norms,
            sinks,
            window: gqa.windows[place],
            second: builder.second(output_norm, shape.eps, feed_forward)?,
            fused: None,
        };
        layer.fused = Fused::of(&layer).map_err(|error| error.what().to_owned())?;
        Ok(layer)
    }

    /// Attention of one sequence: `[1, tokens, heads · head_dim]`.
    fn attend(&self, sequence: Seen<'_>) -> Result<Array> {
        let Shape { heads, kv_heads, head_dim, scale, eps, ref rope, .. } = *self.shape;
        let Seen { rows, seen, memory, .. } = sequence;
        let tokens = rows[0].dim(1);
        let split = |row: &Array, heads: i32| row.reshape(&[1, tokens, heads, head_dim]);
        let (mut queries, mut keys) = (split(&rows[0], heads)?, split(&rows[1], kv_heads)?);
        let values = split(&rows[2], kv_heads)?.transpose_axes(&[0, 2, 1, 3])?;
        if let Some((query_norm, key_norm)) = self.norms(KeyNorm::Head) {
            queries = rms_norm(&queries, Some(query_norm), eps)?;
            keys = rms_norm(&keys, Some(key_norm), eps)?;
        }
        let queries = rope.forward(&queries.transpose_axes(&[0, 2, 1, 3])?, seen)?;
        let keys = rope.forward(&keys.transpose_axes(&[0, 2, 1, 3])?, seen)?;
        let attention = Attention { scale, sinks: self.sinks.as_ref() };
        let y = attention.over(memory, seen, &queries, &keys, &values)?;
        y.transpose_axes(&[0, 2, 1, 3])?.reshape(&[1, tokens, heads * head_dim])
    }

    /// The norms of query and key, if they are of this kind.
    fn norms(&self, kind: KeyNorm) -> Option<&(Array, Array)> {
        self.key_norms.as_ref().filter(|_| self.shape.key_norm == kind)
    }
}

impl Block for Layer {
    type Carry = ();

    fn cache(&self) -> LayerCache {
        match self.window {
            Some(window) => LayerCache::Ring(Ring::new(window, self.shape.is_turned)),
            None => LayerCache::of_keys(self.shape.kv),
        }
    }

    fn pair_bytes(&self) -> PairBytes {
        let scores = unfused(self.shape.heads, self.sinks.is_none() && self.shape.kv.is_none());
        // Known once the weights are there, expected before.
        let is_fused = self.fused.is_some() || !self.shape.in_tiles;
        let is_lent = self.window.is_some() || self.shape.kv.is_none();
        let tiles = if is_fused && is_lent { 0 } else { scores };
        PairBytes { tiles, ..PairBytes::always(scores) }
    }

    fn first(&self) -> &[Tiled] {
        self.fused.as_ref().map_or(&[], |fused| fused.first())
    }

    fn lead_to(&self, then: &[Tiled]) {
        if let Some(fused) = &self.fused {
            fused.lead_to(then);
        }
    }

    fn forward(
        &self,
        x: &Array,
        sequences: &mut Sequences<'_>,
        layer: usize,
        (): &mut (),
    ) -> Result<Array> {
        if let Some(fused) = self.fused.as_ref().filter(|_| !self.output.is_worn())
            && sequences.are_lent(layer)
        {
            return fused.forward(x, sequences, layer, &self.shape.rope);
        }
        let eps = self.shape.eps;
        let mut parts = self.qkv.forward(&rms_norm(x, Some(&self.input_norm), eps)?)?;
        if let Some((query_norm, key_norm)) = self.norms(KeyNorm::Whole) {
            parts[0] = rms_norm(&parts[0], Some(query_norm), eps)?;
            parts[1] = rms_norm(&parts[1], Some(key_norm), eps)?;
        }
        let inputs: Vec<&Array> = parts.iter().collect();
        let attended = sequences.each(layer, &inputs, |sequence| self.attend(sequence))?;
        let h = x.add(self.output.forward(&attended)?)?;
        self.second.forward(&h)
    }
}
