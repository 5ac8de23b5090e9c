//! Decoders that mix gated delta nets with full attention: qwen3_next, qwen3_5, qwen3_5_moe.
//!
//! Most layers keep a state of fixed size that every token changes; every so many-th layer attends to all tokens, and gates what it
//! finds. The order of operations is that of mlx-lm 0.32.0, except where [`delta`] says otherwise.

mod delta;
mod gated;
mod scan;

use std::{rc::Rc, sync::Arc};

use mlx_rs::{Array, fast::rms_norm, ops::sigmoid};

use super::{Block, Decoder, PairBytes, Seen, Sequences, unfused};
use crate::{
    cache::{LayerCache, Recurrent},
    config::{Gdn, KvPacking, Mixer as Kind, ModelConfig},
    nn::{self, Builder, Built, Linear, Map, Projections, Result, Rope, Second, tiles::numbers},
    ops::slice,
};
use delta::DeltaNet;
pub(crate) use scan::BLOCK_LEN;

pub(crate) struct Layer {
    input_norm: Array,
    mixer: Mixer,
    second: Second,
    eps: f32,
    /// Bytes of a checkpoint of all layers.
    checkpoint: u64,
}

/// What looks at earlier tokens.
enum Mixer {
    Attention(Attention),
    Delta(DeltaNet),
}

/// Full attention, whose result is gated.
struct Attention {
    shape: Rc<Shape>,
    /// Query and gate of each head in turn, key, value.
    qkv: Projections,
    output: Linear,
    /// Norms over each head's query and key.
    head_norms: (Array, Array),
    /// The same for our own kernel.
    norms: (Arc<[f32]>, Arc<[f32]>),
    /// Our own kernels compute.
    in_tiles: bool,
}

/// What all layers of full attention share.
struct Shape {
    heads: i32,
    kv_heads: i32,
    head_dim: i32,
    eps: f32,
    rope: Rope,
    /// How keys and values are packed.
    kv: Option<KvPacking>,
}

pub(crate) fn build(
    config: &ModelConfig,
    gdn: &Gdn,
    builder: &mut Builder<'_>,
) -> Built<Decoder<Layer>> {
    let attention = &gdn.attention;
    let shape = Rc::new(Shape {
        heads: attention.heads as i32,
        kv_heads: attention.kv_heads as i32,
        head_dim: attention.head_dim as i32,
        eps: config.norm_eps,
        rope: Rope::new(&attention.rope),
        kv: config.kv,
    });
    let adds_one = has_norms_less_one(gdn, builder);
    let mut decoder = Decoder::build(config, builder, gdn.layers.len(), |index, builder| {
        Layer::build(config, gdn, index, &shape, adds_one, builder)
    })?;
    if adds_one {
        decoder.norm = builder.compute(|| one_more(&decoder.norm))?;
    }
    decoder.fused()
}

/// Hugging Face's files keep most norms without the one that is added to them. mlx-lm's have it in them, and the axes of the
/// convolutions exchanged: that tells the two apart. (mlx-lm tells Qwen3-Next's by its unstacked experts.)
fn has_norms_less_one(gdn: &Gdn, builder: &Builder<'_>) -> bool {
    let kernel = gdn.delta.kernel;
    let is_of_hugging_face = |index: usize| {
        let name = format!("model.layers.{index}.linear_attn.conv1d.weight");
        let experts = format!("model.layers.{index}.mlp.experts.0.up_proj.weight");
        builder.has(&experts)
            || builder.shape(&name).is_some_and(|shape| shape.last() == Some(&kernel))
    };
    (0..gdn.layers.len()).any(is_of_hugging_face)
}

fn numbers_of(norm: &Array) -> Built<Arc<[f32]>> {
    numbers(norm).map_err(|error| error.what().to_owned().into())
}

fn one_more(norm: &Array) -> Result<Array> {
    norm.add(Array::from_f32(1.0).as_dtype(norm.dtype())?)
}

impl Layer {
    fn build(
        config: &ModelConfig,
        gdn: &Gdn,
        index: usize,
        shape: &Rc<Shape>,
        adds_one: bool,
        builder: &mut Builder<'_>,
    ) -> Built<Layer> {
        let at = |name: &str| format!("model.layers.{index}.{name}");
        let (hidden, eps) = (config.hidden, config.norm_eps);
        let norm = |name: &str, len: usize, builder: &mut Builder<'_>| {
            let norm = builder.vector(&at(name), len)?;
            if adds_one { builder.compute(|| one_more(&norm)) } else { Ok(norm) }
        };
        let layer = &gdn.layers[index];
        let input_norm = norm("input_layernorm.weight", hidden, builder)?;
        let mixer = match layer.mixer {
            Kind::Delta => {
                let path = at("linear_attn");
                Mixer::Delta(DeltaNet::build(&gdn.delta, hidden, eps, &path, builder)?)
            }
            Kind::Attention => {
                let attention = &gdn.attention;
                let (width, kv_width) =
                    (attention.heads * attention.head_dim, attention.kv_heads * attention.head_dim);
                let [query, key, value] =
                    ["q", "k", "v"].map(|name| at(&format!("self_attn.{name}_proj")));
                let map = |path, out| Map { path, out, inner: hidden, bias: attention.bias };
                let qkv = builder.projections(&[
                    map(&query, 2 * width),
                    map(&key, kv_width),
                    map(&value, kv_width),
                ])?;
                let output =
                    builder.linear(&at("self_attn.o_proj"), hidden, width, attention.bias)?;
                let head_norms = (
                    norm("self_attn.q_norm.weight", attention.head_dim, builder)?,
                    norm("self_attn.k_norm.weight", attention.head_dim, builder)?,
                );
                Mixer::Attention(Attention {
                    shape: shape.clone(),
                    qkv,
                    output,
                    norms: (numbers_of(&head_norms.0)?, numbers_of(&head_norms.1)?),
                    head_norms,
                    in_tiles: builder.in_tiles(),
                })
            }
        };
        let output_norm = norm("post_attention_layernorm.weight", hidden, builder)?;
        let feed_forward = builder.feed_forward(&at("mlp"), hidden, &layer.feed_forward, false)?;
        let checkpoint = gdn.bytes_per_checkpoint();
        let second = builder.second(output_norm, eps, feed_forward)?;
        Ok(Layer { input_norm, mixer, second, eps, checkpoint })
    }
}

impl Attention {
    fn forward(&self, x: &Array, sequences: &mut Sequences<'_>, layer: usize) -> Result<Array> {
        let parts = self.qkv.forward(x)?;
        let inputs: Vec<&Array> = parts.iter().collect();
        let attended = sequences.each(layer, &inputs, |sequence| self.attend(sequence))?;
        self.output.forward(&attended)
    }

    /// Attention of one sequence: `[1, tokens, heads · head_dim]`.
    fn attend(&self, sequence: Seen<'_>) -> Result<Array> {
        if self.in_tiles && sequence.memory.is_lent() {
            return self.attend_by_kernel(sequence);
        }
        let Shape { heads, kv_heads, head_dim, eps, ref rope, .. } = *self.shape;
        let Seen { rows, seen, memory, .. } = sequence;
        let tokens = rows[0].dim(1);
        let both = rows[0].reshape(&[1, tokens, heads, 2 * head_dim])?;
        let part = |start| slice(&both, &[0, 0, 0, start], &[1, tokens, heads, start + head_dim]);
        let (queries, gate) = (part(0)?, part(head_dim)?.reshape(&[1, tokens, heads * head_dim])?);
        let split = |row: &Array| row.reshape(&[1, tokens, kv_heads, head_dim]);
        let queries = rms_norm(&queries, Some(&self.head_norms.0), eps)?;
        let keys = rms_norm(split(&rows[1])?, Some(&self.head_norms.1), eps)?;
        let values = split(&rows[2])?.transpose_axes(&[0, 2, 1, 3])?;
        let queries = rope.forward(&queries.transpose_axes(&[0, 2, 1, 3])?, seen)?;
        let keys = rope.forward(&keys.transpose_axes(&[0, 2, 1, 3])?, seen)?;
        let over = nn::Attention { scale: (head_dim as f32).powf(-0.5), sinks: None };
        let y = over.over(memory, seen, &queries, &keys, &values)?;
        let y = y.transpose_axes(&[0, 2, 1, 3])?.reshape(&[1, tokens, heads * head_dim])?;
        y.multiply(sigmoid(&gate)?)
    }
}

impl Block for Layer {
    type Carry = ();

    fn cache(&self) -> LayerCache {
        match &self.mixer {
            Mixer::Attention(attention) => LayerCache::of_keys(attention.shape.kv),
            Mixer::Delta(_) => LayerCache::Recurrent(Recurrent::new(self.checkpoint)),
        }
    }

    fn pair_bytes(&self) -> PairBytes {
        let Mixer::Attention(attention) = &self.mixer else { return PairBytes::default() };
        let scores = unfused(attention.shape.heads, attention.shape.kv.is_none());
        // Our own kernel attends whether or not an adapter is worn.
        let tiles = if attention.shape.kv.is_none() { 0 } else { scores };
        PairBytes { tiles, worn: tiles, ..PairBytes::always(scores) }
    }

    fn forward(
        &self,
        x: &Array,
        sequences: &mut Sequences<'_>,
        layer: usize,
        (): &mut (),
    ) -> Result<Array> {
        let normal = rms_norm(x, Some(&self.input_norm), self.eps)?;
        let mixed = match &self.mixer {
            Mixer::Attention(attention) => attention.forward(&normal, sequences, layer)?,
            Mixer::Delta(delta) => delta.forward(&normal, sequences, layer)?,
        };
        self.second.forward(&x.add(mixed)?)
    }
}
