//! The parts that models are made of: linear maps, embeddings, experts, routers, rotary positions.
//!
//! In parity mode each part does what the part of the same name does in mlx-lm, in the same order, so that results agree to
//! the last bit. In fast mode weights are plain fp32 and neighbouring products are fused.

mod activation;
mod build;
mod experts;
mod feed_forward;
mod load;
mod rope;

use mlx_rs::{
    Array,
    error::Exception,
    ops::{addmm, dequantize, matmul, quantized_matmul, sigmoid},
};

pub(crate) use activation::Activation;
pub(crate) use build::{Builder, Built, Map};
pub(crate) use experts::{Router, SwitchGlu};
pub(crate) use feed_forward::{FeedForward, Mixture, Mlp};
pub(crate) use load::Floats;
pub(crate) use rope::Rope;

use crate::{config::Packing, ops::slice};

pub(crate) type Result<T> = std::result::Result<T, Exception>;

/// `x · Wᵀ + b`.
pub(crate) struct Linear {
    pub(crate) weight: Weight,
    pub(crate) bias: Option<Array>,
}

/// The weights of a linear map (or of one per expert, with a leading axis).
pub(crate) enum Weight {
    /// `[in, out]`, a transposed view.
    Plain(Array),
    Packed(Packed),
}

/// Weights as mlx-lm stores them, `[out, in·bits/32]` with scales and biases `[out, in/group]`.
pub(crate) struct Packed {
    pub(crate) weight: Array,
    pub(crate) scales: Array,
    pub(crate) biases: Array,
    pub(crate) packing: Packing,
}

impl Packed {
    pub(crate) fn group(&self) -> i32 {
        self.packing.group as i32
    }

    pub(crate) fn bits(&self) -> i32 {
        self.packing.bits as i32
    }
}

impl Linear {
    /// Of stacked maps: `x`, `[.., 1, in]`, times the one that `indices` say for each row.
    #[allow(dead_code, reason = "for the families that follow")]
    pub(crate) fn gathered(&self, x: &Array, indices: &Array) -> Result<Array> {
        experts::switch(x, self, indices, false)
    }

    pub(crate) fn forward(&self, x: &Array) -> Result<Array> {
        match (&self.weight, &self.bias) {
            (Weight::Plain(weight), None) => matmul(x, weight),
            (Weight::Plain(weight), Some(bias)) => addmm(bias, x, weight, None, None),
            (Weight::Packed(packed), bias) => {
                let y = quantized(x, packed)?;
                bias.as_ref().map_or(Ok(y.clone()), |bias| y.add(bias))
            }
        }
    }
}

fn quantized(x: &Array, packed: &Packed) -> Result<Array> {
    let (group, bits) = (packed.group(), packed.bits());
    quantized_matmul(x, &packed.weight, &packed.scales, &packed.biases, true, group, bits)
}

/// The embedding, which may also be the head.
pub(crate) enum Embedding {
    /// `[vocabulary, hidden]`, and the same transposed.
    Plain(Array, Array),
    Packed(Packed),
}

impl Embedding {
    /// The rows of `tokens`.
    pub(crate) fn look_up(&self, tokens: &Array) -> Result<Array> {
        match self {
            Embedding::Plain(table, _) => table.take_axis(tokens, 0),
            Embedding::Packed(packed) => {
                let rows = |array: &Array| array.take_axis(tokens, 0);
                let biases = rows(&packed.biases)?;
                dequantize(
                    rows(&packed.weight)?,
                    rows(&packed.scales)?,
                    &biases,
                    packed.group(),
                    packed.bits(),
                )
            }
        }
    }

    /// The logits of `x`.
    pub(crate) fn as_head(&self, x: &Array) -> Result<Array> {
        match self {
            Embedding::Plain(_, transposed) => matmul(x, transposed),
            Embedding::Packed(packed) => quantized(x, packed),
        }
    }
}

/// Several linear maps of the same input.
pub(crate) enum Projections {
    Apart(Vec<Linear>),
    /// One map, and the widths of its parts.
    Fused(Linear, Vec<i32>),
}

impl Projections {
    /// `x` is `[1, tokens, in]`.
    pub(crate) fn forward(&self, x: &Array) -> Result<Vec<Array>> {
        match self {
            Projections::Apart(parts) => parts.iter().map(|part| part.forward(x)).collect(),
            Projections::Fused(whole, widths) => {
                let y = whole.forward(x)?;
                let tokens = y.dim(1);
                let mut start = 0;
                let parts = widths.iter().map(|width| {
                    let part = slice(&y, &[0, 0, start], &[1, tokens, start + width]);
                    start += width;
                    part
                });
                parts.collect()
            }
        }
    }
}

/// `silu(gate) ⊙ x`, in the order of mlx-lm's compiled function.
pub(crate) fn swiglu(gate: &Array, x: &Array) -> Result<Array> {
    gate.multiply(sigmoid(gate)?)?.multiply(x)
}
