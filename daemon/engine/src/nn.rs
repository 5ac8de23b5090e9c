//! The parts that models are made of: linear maps, embeddings, experts, routers, rotary positions.
//!
//! In parity mode each part does what the part of the same name does in mlx-lm, in the same order, so that results agree to
//! the last bit. In fast mode weights are plain fp32 and neighbouring products are fused.

mod activation;
mod attention;
mod build;
mod choice;
mod experts;
mod feed_forward;
mod finite;
mod heads;
mod load;
mod network;
mod packed;
mod published;
mod rope;
pub(crate) mod soul;
pub(crate) mod tiles;

use std::{rc::Rc, sync::Arc};

use mlx_rs::{
    Array,
    error::Exception,
    ops::{addmm, matmul, sigmoid},
};

pub(crate) use activation::Activation;
pub(crate) use attention::Attention;
pub(crate) use build::{Builder, Built, LatentSizes, Map, SwitchNames};
pub(crate) use experts::{Router, SwitchGlu};
pub(crate) use feed_forward::{FeedForward, Mixture, Mlp, Second, Shared};
pub(crate) use heads::PerHead;
pub(crate) use load::Floats;
pub(crate) use network::{Network, Norm, NormedMap, sum};
pub(crate) use packed::{Packed, Parts};
pub(crate) use rope::Rope;
use soul::Site;
pub(crate) use tiles::{Tiled, floats, numbers, rows_of};

use crate::ops::slice;

pub(crate) type Result<T> = std::result::Result<T, Exception>;

/// `x · Wᵀ + b`.
pub(crate) struct Linear {
    pub(crate) weight: Weight,
    pub(crate) bias: Option<Array>,
    /// Where souls add to it.
    pub(crate) site: Option<Rc<Site>>,
}

/// The weights of a linear map (or of one per expert, with a leading axis).
pub(crate) enum Weight {
    /// `[in, out]`, a transposed view.
    Plain(Array),
    Packed(Packed),
    Tiles(Tiled),
}

impl Linear {
    /// Of stacked maps: `x`, `[.., 1, in]`, times the one that `indices` say for each row.
    pub(crate) fn gathered(&self, x: &Array, indices: &Array) -> Result<Array> {
        experts::switch(x, self, indices, false)
    }

    pub(crate) fn forward(&self, x: &Array) -> Result<Array> {
        let y = match (&self.weight, &self.bias) {
            (Weight::Plain(weight), None) => matmul(x, weight),
            (Weight::Plain(weight), Some(bias)) => addmm(bias, x, weight, None, None),
            (Weight::Packed(packed), bias) => {
                let y = packed.times(x)?;
                bias.as_ref().map_or(Ok(y.clone()), |bias| y.add(bias))
            }
            (Weight::Tiles(tiled), _) => tiles::first(tiles::products(x, vec![tiled.clone()])?),
        }?;
        self.with_site(x, y)
    }

    /// Whether the pass wears a soul, here or elsewhere.
    pub(crate) fn is_worn(&self) -> bool {
        self.site.as_ref().is_some_and(|site| site.is_worn())
    }

    fn with_site(&self, x: &Array, y: Array) -> Result<Array> {
        match &self.site {
            Some(site) => site.with(x, y),
            None => Ok(y),
        }
    }
}

/// The embedding, which may also be the head.
pub(crate) enum Embedding {
    /// `[vocabulary, hidden]`, and the same transposed.
    Plain(Array, Array),
    Packed(Packed),
    Tiles(Arc<kernels::Matrix>),
}

impl Embedding {
    /// As a head in tiles, if it lies in tiles.
    pub(crate) fn tiled(&self) -> Option<Tiled> {
        match self {
            Embedding::Tiles(table) => Some(Tiled { matrix: table.clone(), bias: None }),
            _ => None,
        }
    }

    /// The rows of `tokens`.
    pub(crate) fn look_up(&self, tokens: &Array) -> Result<Array> {
        match self {
            Embedding::Plain(table, _) => table.take_axis(tokens, 0),
            Embedding::Packed(packed) => packed.rows(tokens),
            Embedding::Tiles(table) => tiles::rows(table, tokens),
        }
    }

    /// The logits of `x`.
    pub(crate) fn as_head(&self, x: &Array) -> Result<Array> {
        match self {
            Embedding::Plain(_, transposed) => matmul(x, transposed),
            Embedding::Packed(packed) => packed.times(x),
            Embedding::Tiles(_) => {
                tiles::first(tiles::products(x, self.tiled().into_iter().collect())?)
            }
        }
    }
}

/// Several linear maps of the same input.
pub(crate) enum Projections {
    Apart(Vec<Linear>),
    /// One map, and the sites of its parts.
    Fused(Linear, Vec<Rc<Site>>),
}

impl Projections {
    /// `x` is `[1, tokens, in]`.
    pub(crate) fn forward(&self, x: &Array) -> Result<Vec<Array>> {
        match self {
            Projections::Apart(parts) => match tiles::all_tiled(parts) {
                Some(maps) if !maps.is_empty() => {
                    let made = parts.iter().zip(tiles::products(x, maps)?);
                    made.map(|(part, y)| part.with_site(x, y)).collect()
                }
                _ => parts.iter().map(|part| part.forward(x)).collect(),
            },
            Projections::Fused(whole, sites) => {
                let y = whole.forward(x)?;
                let tokens = y.dim(1);
                let mut start = 0;
                let parts = sites.iter().map(|site| {
                    let end = start + site.width();
                    let part = slice(&y, &[0, 0, start], &[1, tokens, end])?;
                    start = end;
                    site.with(x, part)
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
