//! DeepSeek-V4.1.
//!
//! Several residual streams that hyper-connections mix ([`streams`]), attention to a window of tokens and to chosen groups of
//! compressed ones ([`attention`], [`compressor`], [`indexer`]), values rounded as the training's low precision did ([`rounding`]),
//! and a mixture of experts in every layer. The order of operations is that of mlx-lm 0.32.0; engram layers are not supported.

mod attention;
mod compressor;
mod experts;
mod indexer;
mod rounding;
mod streams;
mod turn;

use mlx_rs::{Array, Dtype, fast::rms_norm, ops};

use super::{Model, PairBytes, Sequences, unfused};
use crate::{
    cache::{Cache, Compressed, LayerCache},
    config::{ModelConfig, deepseek_v41::DeepseekV41},
    nn::{Builder, Built, Embedding, Linear, Result},
};
use attention::{Attention, Shared};
use experts::Mixture;
use streams::{Mixer, collapse, expand};

pub(crate) struct Decoder {
    embedding: Embedding,
    layers: Vec<Layer>,
    norm: Array,
    eps: f32,
    head: Linear,
    /// Number of residual streams.
    streams: i32,
    window: i32,
}

struct Layer {
    input_norm: Array,
    attention: Attention,
    attention_mixer: Mixer,
    output_norm: Array,
    mixture: Mixture,
    mixture_mixer: Mixer,
}

pub(crate) fn build(
    config: &ModelConfig,
    model: &DeepseekV41,
    builder: &mut Builder<'_>,
) -> Built<Decoder> {
    let (vocabulary, hidden) = (config.vocabulary, config.hidden);
    let embedding = builder.embedding("model.embed_tokens", vocabulary, hidden)?;
    builder.cost().parameters_active -= (vocabulary * hidden) as u64;
    let layers: Built<Vec<Layer>> =
        (0..model.layers.len()).map(|index| Layer::build(config, model, index, builder)).collect();
    Ok(Decoder {
        embedding,
        layers: layers?,
        norm: builder.vector("model.norm.weight", hidden)?,
        eps: config.norm_eps,
        head: builder.linear("lm_head", vocabulary, hidden, false)?,
        streams: model.streams.count as i32,
        window: model.window as i32,
    })
}

impl Model for Decoder {
    fn cache(&self) -> Cache {
        let layer = |_: &Layer| LayerCache::Compressed(Compressed::new(self.window));
        Cache::new(self.layers.iter().map(layer).collect())
    }

    fn hidden(&self, tokens: &Array, sequences: &mut Sequences<'_>) -> Result<Array> {
        let x = self.embedding.look_up(tokens)?;
        let (tokens, width) = (x.dim(1), x.dim(2));
        let shape = [1, tokens, self.streams, width];
        let mut streams = ops::broadcast_to(&x.expand_dims(2)?, &shape)?;
        // The first layer reads the first stream.
        let first = Array::arange::<i32, i32>(0, self.streams, 1)?.eq(Array::from_int(0))?;
        let first = first.as_dtype(Dtype::Float32)?;
        let mut mix = ops::broadcast_to(&first, &[1, tokens, self.streams])?;
        let mut shared = vec![Shared::default(); sequences.count()];
        for (index, layer) in self.layers.iter().enumerate() {
            (streams, mix) = layer.forward(&streams, &mix, sequences, index, &mut shared)?;
        }
        sequences.advance();
        collapse(&streams, &mix)
    }

    fn pair_bytes(&self) -> PairBytes {
        let heads = self.layers.iter().map(|layer| layer.attention.heads()).max();
        PairBytes::always(unfused(heads.unwrap_or(0), false))
    }

    fn logits(&self, hidden: &Array) -> Result<Array> {
        self.head.forward(&rms_norm(hidden, Some(&self.norm), self.eps)?)
    }
}

impl Layer {
    fn build(
        config: &ModelConfig,
        model: &DeepseekV41,
        index: usize,
        builder: &mut Builder<'_>,
    ) -> Built<Layer> {
        let at = |name: &str| format!("model.layers.{index}.{name}");
        let (hidden, eps) = (config.hidden, config.norm_eps);
        Ok(Layer {
            input_norm: builder.vector(&at("input_layernorm.weight"), hidden)?,
            attention: Attention::build(&at("self_attn"), config, model, index, builder)?,
            attention_mixer: Mixer::build(&at("attn_hc"), hidden, eps, model.streams, builder)?,
            output_norm: builder.vector(&at("post_attention_layernorm.weight"), hidden)?,
            mixture: Mixture::build(&at("mlp"), hidden, &model.experts, builder)?,
            mixture_mixer: Mixer::build(&at("ffn_hc"), hidden, eps, model.streams, builder)?,
        })
    }

    /// `streams` is `[1, sum, streams, hidden]`; `mix` says how they make up the layer's input, `[1, sum, streams]`. The results are
    /// those of the next layer.
    fn forward(
        &self,
        streams: &Array,
        mix: &Array,
        sequences: &mut Sequences<'_>,
        layer: usize,
        shared: &mut [Shared],
    ) -> Result<(Array, Array)> {
        let eps = self.attention.eps();
        let mixed = self.attention_mixer.forward(streams)?;
        let h = rms_norm(&collapse(streams, mix)?, Some(&self.input_norm), eps)?;
        let h = self.attention.forward(&h, sequences, layer, shared)?;
        let streams = expand(&h, streams, &mixed)?;
        let next = self.mixture_mixer.forward(&streams)?;
        let h = rms_norm(&collapse(&streams, &mixed.input)?, Some(&self.output_norm), eps)?;
        let streams = expand(&self.mixture.forward(&h)?, &streams, &next)?;
        Ok((streams, next.input))
    }
}
