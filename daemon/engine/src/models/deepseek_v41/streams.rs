//! Hyper-connections: how a layer reads several residual streams, and how it writes to them.

use mlx_rs::{
    Array, Dtype,
    fast::rms_norm,
    ops::{matmul, sigmoid, softmax_axis},
};

use crate::{
    config::deepseek_v41::Streams,
    nn::{Builder, Built, Result},
    ops::slice,
};

/// Computes the mix of a layer's part from the streams themselves, in fp32.
pub(super) struct Mixer {
    /// `[streams · hidden, mixes]`, a transposed view.
    weight: Array,
    /// `[mixes]`.
    base: Array,
    /// Of each mix, `[mixes]`.
    scale: Array,
    norm_eps: f32,
    streams: Streams,
}

/// What a mixer says of every token.
pub(super) struct Mixed {
    /// How the streams make up an input, `[1, sum, streams]`.
    pub(super) input: Array,
    /// How much of the output each stream gets, `[1, sum, streams]`.
    output: Array,
    /// What becomes of the streams, `[1, sum, streams, streams]`.
    residual: Array,
}

impl Mixer {
    pub(super) fn build(
        path: &str,
        hidden: usize,
        norm_eps: f32,
        streams: Streams,
        builder: &mut Builder<'_>,
    ) -> Built<Mixer> {
        let count = streams.count;
        let mixes = (2 + count) * count;
        let weight = builder.tensor(&format!("{path}.fn"), &[mixes, count * hidden])?;
        let scale = builder.vector(&format!("{path}.scale"), 3)?;
        // One scale for the input's mixes, one for the output's, one for the residual's.
        let part = |mix: usize| (mix / count).min(2) as i32;
        let parts: Vec<i32> = (0..mixes).map(part).collect();
        let parts = Array::from_slice(&parts, &[mixes as i32]);
        Ok(Mixer {
            weight: builder.compute(|| weight.swap_axes(-1, -2))?,
            base: builder.vector(&format!("{path}.base"), mixes)?,
            scale: builder.compute(|| scale.take_axis(&parts, 0))?,
            norm_eps,
            streams,
        })
    }

    pub(super) fn forward(&self, streams: &Array) -> Result<Mixed> {
        let (tokens, count) = (streams.dim(1), self.streams.count as i32);
        let flat = streams.reshape(&[1, tokens, -1])?.as_dtype(Dtype::Float32)?;
        let flat = rms_norm(&flat, None, self.norm_eps)?;
        let mix = matmul(&flat, &self.weight)?.multiply(&self.scale)?.add(&self.base)?;
        let part = |start: i32, end: i32| slice(&mix, &[0, 0, start], &[1, tokens, end]);
        let eps = Array::from_f32(self.streams.eps);
        let input = sigmoid(part(0, count)?)?.add(&eps)?;
        let output = Array::from_f32(2.0).multiply(sigmoid(part(count, 2 * count)?)?)?;
        let residual = part(2 * count, (2 + count) * count)?;
        let residual = residual.reshape(&[1, tokens, count, count])?;
        let residual = softmax_axis(&residual, -1, None)?.add(&eps)?;
        Ok(Mixed { input, output, residual: self.balanced(residual)? })
    }

    /// Sinkhorn's iteration: columns, and then rows and columns in turn, are divided by their sums.
    fn balanced(&self, mut matrix: Array) -> Result<Array> {
        let eps = Array::from_slice(&[self.streams.eps], &[1]);
        matrix = matrix.divide(matrix.sum_axis(-2, true)?.add(&eps)?)?;
        for _ in 1..self.streams.iterations {
            matrix = matrix.divide(matrix.sum_axis(-1, true)?.add(&eps)?)?;
            matrix = matrix.divide(matrix.sum_axis(-2, true)?.add(&eps)?)?;
        }
        Ok(matrix)
    }
}

/// One stream out of several: `[1, sum, hidden]`.
pub(super) fn collapse(streams: &Array, mix: &Array) -> Result<Array> {
    let weighted = mix.expand_dims(-1)?.multiply(streams.as_dtype(Dtype::Float32)?)?;
    weighted.sum_axis(2, false)?.as_dtype(streams.dtype())
}

/// The streams after a part of a layer made `x` of them.
pub(super) fn expand(x: &Array, streams: &Array, mixed: &Mixed) -> Result<Array> {
    let residual = mixed.residual.expand_dims(-1)?.multiply(streams.expand_dims(-2)?)?;
    let output = mixed.output.expand_dims(-1)?.multiply(x.expand_dims(-2)?)?;
    output.add(residual.sum_axis(2, false)?)?.as_dtype(streams.dtype())
}
