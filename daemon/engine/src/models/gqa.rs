//! Decoders with grouped-query attention: llama, qwen2, qwen3, qwen3_moe, glm4_moe.
//!
//! They differ in biases, norms over heads, how much of a head is rotated, and whether a layer's feed-forward part is a mixture
//! of experts; all of that is in the configuration. The order of operations is that of mlx-lm 0.32.0.

use mlx_rs::{
    Array,
    fast::{ScaledDotProductAttentionMask, rms_norm, scaled_dot_product_attention},
};

use crate::{
    cache::{Cache, LayerCache},
    config::ModelConfig,
    nn::{Embedding, Linear, Loader, Mlp, Projections, Result, Rope, Router, SwitchGlu},
    ops::slice,
    weights::plan::{self, FeedForwardPlan, Plan},
};

/// A model with its weights.
pub(crate) struct Model {
    embedding: Embedding,
    layers: Vec<Layer>,
    norm: Array,
    /// `None`: the embedding is the head.
    head: Option<Linear>,
    rope: Rope,
    shape: Shape,
}

/// The numbers that all layers share.
struct Shape {
    heads: i32,
    kv_heads: i32,
    head_dim: i32,
    eps: f32,
}

struct Layer {
    input_norm: Array,
    /// Query, key, value.
    qkv: Projections,
    output: Linear,
    /// Norms over each head's query and key.
    head_norms: Option<(Array, Array)>,
    output_norm: Array,
    feed_forward: FeedForward,
}

enum FeedForward {
    Dense(Mlp),
    Experts(Box<Mixture>),
}

struct Mixture {
    router: Router,
    switch: SwitchGlu,
    /// Sees every token.
    shared: Option<Mlp>,
}

/// Which positions get logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Head {
    Last,
    All,
}

impl Model {
    pub(crate) fn load(config: &ModelConfig, plan: &Plan, loader: &mut Loader) -> Result<Model> {
        let layers: Result<Vec<Layer>> =
            plan.layers.iter().map(|layer| Layer::load(layer, loader)).collect();
        Ok(Model {
            embedding: loader.embedding(&plan.embedding)?,
            layers: layers?,
            norm: loader.float(&plan.norm)?,
            head: plan.head.as_ref().map(|head| loader.linear(head)).transpose()?,
            rope: Rope::new(&config.rope),
            shape: Shape {
                heads: config.heads as i32,
                kv_heads: config.kv_heads as i32,
                head_dim: config.head_dim as i32,
                eps: config.norm_eps,
            },
        })
    }

    pub(crate) fn layer_count(&self) -> usize {
        self.layers.len()
    }

    /// Runs `tokens` through all layers, behind those that the cache has seen: `[1, tokens, hidden]`.
    pub(crate) fn hidden(&self, tokens: &Array, cache: &mut Cache) -> Result<Array> {
        let mut x = self.embedding.look_up(tokens)?;
        let seen = cache.len;
        for (layer, memory) in self.layers.iter().zip(&mut cache.layers) {
            x = layer.forward(&x, seen, memory, &self.rope, &self.shape)?;
        }
        cache.len += tokens.dim(1);
        Ok(x)
    }

    /// Logits from the result of [`Model::hidden`]: `[1, positions, vocabulary]`.
    pub(crate) fn logits(&self, hidden: &Array, head: Head) -> Result<Array> {
        let (tokens, width) = (hidden.dim(1), hidden.dim(2));
        let hidden = match head {
            Head::Last if tokens > 1 => slice(hidden, &[0, tokens - 1, 0], &[1, tokens, width])?,
            _ => hidden.clone(),
        };
        let x = rms_norm(&hidden, Some(&self.norm), self.shape.eps)?;
        match &self.head {
            Some(head) => head.forward(&x),
            None => self.embedding.as_head(&x),
        }
    }
}

impl Layer {
    fn load(plan: &plan::Layer, loader: &mut Loader) -> Result<Layer> {
        let head_norms = match (&plan.query_norm, &plan.key_norm) {
            (Some(query), Some(key)) => Some((loader.float(query)?, loader.float(key)?)),
            _ => None,
        };
        Ok(Layer {
            input_norm: loader.float(&plan.input_norm)?,
            qkv: loader.projections(&[&plan.query, &plan.key, &plan.value])?,
            output: loader.linear(&plan.output)?,
            head_norms,
            output_norm: loader.float(&plan.output_norm)?,
            feed_forward: match &plan.feed_forward {
                FeedForwardPlan::Dense(gated) => FeedForward::Dense(loader.mlp(gated)?),
                FeedForwardPlan::Experts(plan) => FeedForward::Experts(Box::new(Mixture {
                    router: loader.router(plan)?,
                    switch: loader.switch(&plan.switch)?,
                    shared: plan.shared.as_ref().map(|shared| loader.mlp(shared)).transpose()?,
                })),
            },
        })
    }

    fn forward(
        &self,
        x: &Array,
        seen: i32,
        memory: &mut LayerCache,
        rope: &Rope,
        shape: &Shape,
    ) -> Result<Array> {
        let attended = self.attend(
            &rms_norm(x, Some(&self.input_norm), shape.eps)?,
            seen,
            memory,
            rope,
            shape,
        )?;
        let h = x.add(&attended)?;
        let y = self.feed_forward.forward(&rms_norm(&h, Some(&self.output_norm), shape.eps)?)?;
        h.add(&y)
    }

    fn attend(
        &self,
        x: &Array,
        seen: i32,
        memory: &mut LayerCache,
        rope: &Rope,
        shape: &Shape,
    ) -> Result<Array> {
        let tokens = x.dim(1);
        let mut parts = self.qkv.forward(x)?.into_iter();
        let mut head_parts = |heads: i32| match parts.next() {
            Some(part) => part.reshape(&[1, tokens, heads, shape.head_dim]),
            None => unreachable!("three projections"),
        };
        let (mut queries, mut keys) = (head_parts(shape.heads)?, head_parts(shape.kv_heads)?);
        let values = head_parts(shape.kv_heads)?.transpose_axes(&[0, 2, 1, 3])?;
        if let Some((query_norm, key_norm)) = &self.head_norms {
            queries = rms_norm(&queries, Some(query_norm), shape.eps)?;
            keys = rms_norm(&keys, Some(key_norm), shape.eps)?;
        }
        let queries = rope.forward(&queries.transpose_axes(&[0, 2, 1, 3])?, seen)?;
        let keys = rope.forward(&keys.transpose_axes(&[0, 2, 1, 3])?, seen)?;
        let (keys, values) = memory.append(seen, &keys, &values)?;
        let scale = (shape.head_dim as f32).powf(-0.5);
        let mask = (tokens > 1).then_some(ScaledDotProductAttentionMask::Causal);
        let y = scaled_dot_product_attention(&queries, &keys, &values, scale, mask, None)?;
        let y =
            y.transpose_axes(&[0, 2, 1, 3])?.reshape(&[1, tokens, shape.heads * shape.head_dim])?;
        self.output.forward(&y)
    }
}

impl FeedForward {
    fn forward(&self, x: &Array) -> Result<Array> {
        match self {
            FeedForward::Dense(mlp) => mlp.forward(x),
            FeedForward::Experts(mixture) => {
                let Mixture { router, switch, shared } = mixture.as_ref();
                let (experts, scores) = router.choose(x)?;
                let y = switch.forward(x, &experts)?;
                let dtype = y.dtype();
                let y =
                    y.multiply(scores.expand_dims(-1)?)?.sum_axis(-2, false)?.as_dtype(dtype)?;
                shared.as_ref().map_or(Ok(y.clone()), |shared| y.add(shared.forward(x)?))
            }
        }
    }
}
