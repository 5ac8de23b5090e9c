//! The indexer of sparse attention: many small heads over one key choose the tokens that a layer looks at.

use std::rc::Rc;

use mlx_rs::{
    Array, Dtype,
    error::Exception,
    fast::layer_norm,
    ops::{argpartition_axis, matmul, maximum, select, sort_axis, zeros_dtype},
};

use crate::{
    cache::Latent,
    config,
    nn::{Builder, Built, Linear, Map, Projections, Result, Rope},
    ops::{like, slice},
};

/// Of the norm of keys. DeepSeek's reference has it; mlx-lm takes its layer norm's default, 1e-5.
const KEY_NORM_EPS: f32 = 1e-6;

/// From so many times the chosen tokens on, they are gathered for each token; for fewer, products with all are cheaper.
const GATHER_RATIO: i32 = 2;

pub(super) struct Indexer {
    heads: i32,
    dim: i32,
    /// How many tokens are chosen.
    kept: i32,
    rope: Rc<Rope>,
    /// Of the squeezed query.
    queries: Linear,
    /// The key, and a weight for each head.
    inputs: Projections,
    /// Weight and bias.
    key_norm: (Array, Array),
}

/// What a sequence looks at in a pass. The layers make it, and hand it on.
#[derive(Default)]
pub(super) struct View {
    /// `[tokens, len]`, true where a token may look; `None` for a single one, which may look at everything.
    causal: Option<Array>,
    /// What the last indexer chose; `None`: everything.
    chosen: Option<Chosen>,
}

enum Chosen {
    /// By each token, `[tokens, kept]` in ascending order in uniform mode; and where it may not look at them after all.
    Tokens(Array, Option<Array>),
    /// `[1, 1, tokens, len]`, true where a token looks.
    Mask(Array),
}

/// What attention looks at.
pub(super) enum Look<'a> {
    /// Everything.
    All,
    /// Each token at these, `[tokens, kept]`; where there is a second one, only where that is true.
    Tokens(&'a Array, Option<&'a Array>),
    /// Where it is true; `[tokens, len]` or `[1, 1, tokens, len]`.
    Mask(&'a Array),
}

impl View {
    /// `tokens` come after `seen` others.
    pub(super) fn see(&mut self, seen: i32, tokens: i32) -> Result<()> {
        if tokens > 1 && self.causal.is_none() {
            let all = Array::arange::<i32, i32>(0, seen + tokens, 1)?;
            let new = Array::arange::<i32, i32>(seen, seen + tokens, 1)?;
            self.causal = Some(new.expand_dims(-1)?.ge(all)?);
        }
        Ok(())
    }

    /// What a layer looks at, which takes notice of the choice or not.
    pub(super) fn looked_at(&self, is_sparse: bool) -> Look<'_> {
        match (&self.chosen, &self.causal) {
            (Some(Chosen::Tokens(chosen, visible)), _) if is_sparse => {
                Look::Tokens(chosen, visible.as_ref())
            }
            (Some(Chosen::Mask(mask)), _) if is_sparse => Look::Mask(mask),
            (_, Some(causal)) => Look::Mask(causal),
            _ => Look::All,
        }
    }
}

impl Indexer {
    /// Widths of the residual stream and of the squeezed query.
    pub(super) fn build(
        path: &str,
        (hidden, rank): (usize, usize),
        indexer: &config::Indexer,
        rope: &Rc<Rope>,
        builder: &mut Builder<'_>,
    ) -> Built<Indexer> {
        let at = |name: &str| format!("{path}.{name}");
        let (key, weights) = (at("wk"), at("weights_proj"));
        let map = |path, out| Map { path, out, inner: hidden, bias: false };
        let queries = builder.linear(&at("wq_b"), indexer.heads * indexer.dim, rank, false)?;
        let inputs = builder
            .projections(&[map(key.as_str(), indexer.dim), map(weights.as_str(), indexer.heads)])?;
        let key_norm = (
            builder.vector(&at("k_norm.weight"), indexer.dim)?,
            builder.vector(&at("k_norm.bias"), indexer.dim)?,
        );
        let [heads, dim, kept] = [indexer.heads, indexer.dim, indexer.kept].map(|size| size as i32);
        Ok(Indexer { heads, dim, kept, rope: rope.clone(), queries, inputs, key_norm })
    }

    pub(super) fn heads(&self) -> i32 {
        self.heads
    }

    /// Queries, keys and head weights of tokens; `low` is the squeezed query.
    pub(super) fn project(&self, x: &Array, low: &Array) -> Result<[Array; 3]> {
        let [keys, weights]: [Array; 2] = self
            .inputs
            .forward(x)?
            .try_into()
            .map_err(|_| Exception::custom("the indexer has a key and weights"))?;
        let (weight, bias) = &self.key_norm;
        let keys = layer_norm(&keys, Some(weight), Some(bias), KEY_NORM_EPS)?;
        let scale = f64::from(self.heads).powf(-0.5) * f64::from(self.dim).powf(-0.5);
        let weights = weights.multiply(like(&weights, scale as f32)?)?;
        Ok([self.queries.forward(low)?, keys, weights])
    }

    /// Remembers the keys of a sequence's new tokens, and has `view` say what they look at. `rows` are those of
    /// [`Indexer::project`].
    pub(super) fn choose(
        &self,
        rows: &[Array],
        (seen, memory): (i32, &mut Latent),
        view: &mut View,
        is_uniform: bool,
    ) -> Result<()> {
        let (heads, dim) = (self.heads, self.dim);
        let [queries, keys, weights] = rows else {
            return Err(Exception::custom("the indexer has three inputs"));
        };
        let tokens = queries.dim(1);
        let queries = queries.reshape(&[1, tokens, heads, dim])?.swap_axes(1, 2)?;
        let queries = self.rope.forward(&queries, seen)?;
        let keys = self.rope.forward(&keys.reshape(&[1, 1, tokens, dim])?, seen)?;
        let keys = memory.append_index(seen, &keys)?;
        view.chosen = None;
        let len = keys.dim(2);
        if len <= self.kept {
            return Ok(());
        }
        let scores = match is_uniform {
            true => self.scores_uniformly(&queries, &keys, weights)?,
            false => self.scores_like_mlx_lm(&queries, &keys, weights)?,
        };
        let scores = match &view.causal {
            Some(causal) => select(causal, &scores, like(&scores, f32::NEG_INFINITY)?)?,
            None => scores,
        };
        let order = argpartition_axis(&scores, -self.kept, -1)?;
        let best = slice(&order, &[0, 0, 0, len - self.kept], &[1, 1, tokens, len])?;
        view.chosen = Some(match &view.causal {
            _ if is_uniform && (tokens == 1 || len >= GATHER_RATIO * self.kept) => {
                // In the order of their places, sums over them are those over all tokens of which the others count nothing.
                let best = sort_axis(best.reshape(&[tokens, self.kept])?, -1)?;
                Chosen::Tokens(best.clone(), self.visible(&best, seen)?)
            }
            None => Chosen::Tokens(best.reshape(&[1, self.kept])?, None),
            Some(causal) => {
                let mask = zeros_dtype(&[1, 1, tokens, len], Dtype::Bool)?;
                let mask = mask.put_along_axis(&best, Array::from_bool(true), -1)?;
                Chosen::Mask(mask.logical_and(causal)?)
            }
        });
        Ok(())
    }

    /// Where those that a token chose are not behind it: a token that sees fewer than it may choose has to choose others, too.
    fn visible(&self, chosen: &Array, seen: i32) -> Result<Option<Array>> {
        if seen + 1 >= self.kept {
            return Ok(None);
        }
        let places = Array::arange::<i32, i32>(seen, seen + chosen.dim(0), 1)?.expand_dims(-1)?;
        Ok(Some(places.ge(chosen.as_dtype(Dtype::Int32)?)?))
    }

    /// How much each new token wants to look at each token: `[1, 1, tokens, len]`.
    fn scores_uniformly(&self, queries: &Array, keys: &Array, weights: &Array) -> Result<Array> {
        let (heads, tokens, len) = (self.heads, queries.dim(2), keys.dim(2));
        let rows = queries.transpose_axes(&[0, 2, 1, 3])?;
        let rows = rows.reshape(&[1, 1, tokens * heads, self.dim])?;
        let scores = matmul(&rows, keys.swap_axes(-1, -2)?)?;
        let scores = maximum(&scores, like(&scores, 0.0)?)?.reshape(&[tokens, heads, len])?;
        let sums = matmul(weights.reshape(&[tokens, 1, heads])?, &scores)?;
        sums.reshape(&[1, 1, tokens, len])
    }

    fn scores_like_mlx_lm(&self, queries: &Array, keys: &Array, weights: &Array) -> Result<Array> {
        let (heads, tokens, len) = (self.heads, queries.dim(2), keys.dim(2));
        let scores = matmul(queries, keys.swap_axes(-1, -2)?)?;
        let scores = maximum(&scores, like(&scores, 0.0)?)?;
        let scores = scores.multiply(weights.swap_axes(-1, -2)?.expand_dims(-1)?)?;
        // mlx-lm adds head by head where there are several tokens, and lets MLX sum up where there is one.
        if tokens == 1 {
            return scores.sum_axis(1, true);
        }
        let head = |head| slice(&scores, &[0, head, 0, 0], &[1, head + 1, tokens, len]);
        (1..heads).try_fold(head(0)?, |sum, next| sum.add(head(next)?))
    }
}
