//! Packed weights: a few bits each, in groups that share a scale. Unpacking and multiplying are MLX's; nothing here knows how
//! the bits lie.

use std::sync::Arc;

use mlx_rs::{Array, Dtype};

use super::{
    Result,
    load::Read,
    tiles::{Pieces, of_parts},
};
use crate::{
    config::Packing,
    ops::{dequantize, dtype_name, gather_qmm, quantized_matmul},
    weights::tiles::format,
};

/// Weights as mlx-lm stores them, `[.., out, in·bits/32]` with scales, and in affine mode biases, `[.., out, in/group]`. A leading
/// axis counts experts or heads.
pub(crate) struct Packed {
    pub(crate) weight: Array,
    pub(crate) scales: Array,
    /// In affine mode alone.
    pub(crate) biases: Option<Array>,
    pub(crate) packing: Packing,
    /// What rows are unpacked to. `None`: what MLX takes, which is the type of affine scales, and bf16 in the other modes.
    pub(crate) dtype: Option<Dtype>,
}

impl Packed {
    /// `x · Wᵀ`.
    pub(crate) fn times(&self, x: &Array) -> Result<Array> {
        quantized_matmul(x, self.parts(), true, self.packing)
    }

    /// `x · W`: as if the weights were stored `[in, out]`.
    pub(crate) fn times_untransposed(&self, x: &Array) -> Result<Array> {
        quantized_matmul(x, self.parts(), false, self.packing)
    }

    /// `x · W[experts]ᵀ`: products with one matrix per row of `experts`.
    pub(crate) fn gathered(&self, x: &Array, experts: &Array, is_sorted: bool) -> Result<Array> {
        gather_qmm(x, self.parts(), experts, is_sorted, self.packing)
    }

    /// The rows of `indices`, unpacked.
    pub(crate) fn rows(&self, indices: &Array) -> Result<Array> {
        let take = |array: &Array| array.take_axis(indices, 0);
        let (weight, scales) = (take(&self.weight)?, take(&self.scales)?);
        let biases = self.biases.as_ref().map(take).transpose()?;
        dequantize((&weight, &scales, biases.as_ref()), self.packing, self.dtype)
    }

    /// All of them in fp32.
    pub(crate) fn unpacked(&self) -> Result<Array> {
        match self.packing.is_affine() {
            // Unpacked in the type of the scales and widened then: the numbers that parity computes with.
            true => dequantize(self.parts(), self.packing, None)?.as_dtype(Dtype::Float32),
            false => dequantize(self.parts(), self.packing, Some(Dtype::Float32)),
        }
    }

    /// All of them in the type that MLX takes.
    pub(crate) fn unpacked_as_stored(&self) -> Result<Array> {
        dequantize(self.parts(), self.packing, None)
    }

    /// The same weights in tiles.
    pub(crate) fn tiles(&self) -> Result<Arc<kernels::Matrix>> {
        let inner = self.weight.dim(-1) as usize * 32 / self.packing.bits;
        let dtype = dtype_name(self.scales.dtype())?;
        let format = format(Some(self.packing), dtype);
        let shape = [self.weight.dim(-2) as usize, inner];
        let parts = Pieces {
            weight: Read::Made(self.weight.clone()),
            scales: Read::Made(self.scales.clone()),
            biases: self.biases.clone().map(Read::Made),
        };
        of_parts(shape, (format, dtype), &parts)
    }

    /// Everything that has to be in memory.
    pub(crate) fn arrays(&self) -> impl Iterator<Item = &Array> {
        [&self.weight, &self.scales].into_iter().chain(&self.biases)
    }

    fn parts(&self) -> Parts<'_> {
        (&self.weight, &self.scales, self.biases.as_ref())
    }
}

/// Weights, scales and biases.
pub(crate) type Parts<'a> = (&'a Array, &'a Array, Option<&'a Array>);
