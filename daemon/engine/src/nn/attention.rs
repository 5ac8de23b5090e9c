//! Attention over what a layer remembers, whatever kind of memory that is.

use mlx_rs::{
    Array,
    error::Exception,
    fast::{ScaledDotProductAttentionMask, scaled_dot_product_attention},
    ops::{broadcast_to, concatenate, quantized_matmul, select, softmax_axis},
};

use super::Result;
use crate::{
    cache::{KvParts, LayerCache, Mask, Quantized},
    ops::{like, slice},
};

/// What all layers of a kind do alike.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attention<'a> {
    /// Multiplies the products of queries and keys.
    pub(crate) scale: f32,
    /// One score per head that takes part in the softmax and leads nowhere, `[heads]`.
    pub(crate) sinks: Option<&'a Array>,
}

impl Attention<'_> {
    /// Queries `[1, heads, tokens, dim]`, keys and values `[1, kv_heads, tokens, dim]` of tokens behind the first `seen`, already
    /// rotated; the result is `[1, heads, tokens, dim]`.
    pub(crate) fn over(
        &self,
        memory: &mut LayerCache,
        seen: i32,
        queries: &Array,
        keys: &Array,
        values: &Array,
    ) -> Result<Array> {
        match memory {
            LayerCache::Full(full) => {
                let (keys, values) = full.append(seen, keys, values)?;
                let mask = if queries.dim(2) > 1 { Mask::Causal } else { Mask::All };
                self.of(queries, &keys, &values, &mask)
            }
            LayerCache::Ring(ring) => {
                let view = ring.append(seen, keys, values)?;
                self.of(queries, &view.keys, &view.values, &view.mask)
            }
            LayerCache::Quantized(quantized) => {
                let [keys, values] = quantized.append(seen, keys, values)?;
                self.of_packed(queries, &keys, &values, quantized)
            }
            #[allow(unreachable_patterns, reason = "families add kinds")]
            _ => Err(Exception::custom("the layer remembers no keys and values")),
        }
    }

    fn of(&self, queries: &Array, keys: &Array, values: &Array, mask: &Mask) -> Result<Array> {
        let mask = match mask {
            Mask::All => None,
            Mask::Causal => Some(ScaledDotProductAttentionMask::Causal),
            Mask::Window(mask) => Some(ScaledDotProductAttentionMask::Array(mask)),
        };
        scaled_dot_product_attention(queries, keys, values, self.scale, mask, self.sinks)
    }

    /// The same of packed keys and values, in mlx-lm's order. (With sinks mlx-lm has none; they are a column as in MLX's own.)
    fn of_packed(
        &self,
        queries: &Array,
        keys: &KvParts,
        values: &KvParts,
        memory: &Quantized,
    ) -> Result<Array> {
        let (heads, tokens, dim) = (queries.dim(1), queries.dim(2), queries.dim(3));
        let kv_heads = keys[0].dim(1);
        let repeats = heads / kv_heads;
        let times = |x: &Array, parts: &KvParts, transposed: bool| {
            let [weight, scales, biases] = parts;
            let wide = |part: &Array| {
                if repeats > 1 { part.expand_dims(-3) } else { Ok(part.clone()) }
            };
            let (group, bits) = (memory.packing.group, memory.packing.bits);
            quantized_matmul(
                x,
                wide(weight)?,
                wide(scales)?,
                &wide(biases)?,
                transposed,
                group,
                bits,
            )
        };
        let mut queries = queries.multiply(like(queries, self.scale)?)?;
        if repeats > 1 {
            queries = queries.reshape(&[1, kv_heads, repeats, tokens, dim])?;
        }
        let mut scores = times(&queries, keys, true)?;
        if tokens > 1 {
            let seen = scores.dim(-1);
            let rows = Array::arange::<i32, i32>(0, seen, 1)?.reshape(&[1, -1])?;
            let own = Array::arange::<i32, i32>(seen - tokens, seen, 1)?.reshape(&[-1, 1])?;
            scores = select(own.ge(&rows)?, &scores, least(&scores)?)?;
        }
        let scores = match self.sinks {
            None => softmax_axis(&scores, -1, true)?,
            Some(sinks) => with_sinks(&scores, sinks)?,
        };
        times(&scores, values, false)?.reshape(&[1, heads, tokens, dim])
    }
}

/// The softmax of scores `[.., tokens, rows]` with one more column, which is left out of the result.
fn with_sinks(scores: &Array, sinks: &Array) -> Result<Array> {
    let mut shape = scores.shape().to_vec();
    let axes = shape.len();
    shape[axes - 1] = 1;
    let mut per_head = shape.clone();
    per_head[axes - 2] = 1;
    let column = broadcast_to(&sinks.as_dtype(scores.dtype())?.reshape(&per_head)?, &shape)?;
    let all = softmax_axis(&concatenate(&[&column, scores], -1)?, -1, true)?;
    let mut start = vec![0; axes];
    start[axes - 1] = 1;
    slice(&all, &start, all.shape())
}

/// The least finite number of the type of `x`.
fn least(x: &Array) -> Result<Array> {
    let number = match x.dtype() {
        mlx_rs::Dtype::Float16 => -65504.0,
        mlx_rs::Dtype::Bfloat16 => f32::from_bits(0xff7f_0000),
        _ => f32::MIN,
    };
    like(x, number)
}
