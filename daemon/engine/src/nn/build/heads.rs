//! Linear maps of single heads, as mlx-lm stores them, or taken out of the one matrix that other files have.

use mlx_rs::{Array, Dtype, ops::quantize, transforms::eval};

use super::{Builder, Built, placeholder};
use crate::{
    config::Packing,
    nn::{
        Floats, Packed, PerHead, Result, Weight,
        load::Arrays,
        tiles::{Tiled, of_floats},
    },
    ops::slice,
    weights::check::Matrix,
};

/// Sizes of a latent attention: `heads`, and their widths.
#[derive(Clone, Copy)]
pub(crate) struct LatentSizes {
    pub(crate) heads: usize,
    pub(crate) latent: usize,
    /// Dimensions of a head's query that have no position.
    pub(crate) plain: usize,
    pub(crate) value: usize,
}

impl Builder<'_> {
    /// What turns queries into latents and latents into values: `{path}.embed_q`, `[heads, latent, plain]`, and
    /// `{path}.unembed_out`, `[heads, value, latent]`; or both from `{path}.kv_b_proj`, `[heads · (plain + value), latent]`.
    pub(crate) fn latent_maps(
        &mut self,
        path: &str,
        sizes: LatentSizes,
    ) -> Built<(PerHead, PerHead)> {
        let LatentSizes { heads, latent, plain, value } = sizes;
        let whole = format!("{path}.kv_b_proj");
        if self.has(&format!("{whole}.weight")) {
            let matrix = self.checker.matrix(&whole, [heads * (plain + value), latent], false)?;
            return self.loaded(
                || (PerHead::placeholder(), PerHead::placeholder()),
                |arrays| split(arrays, &matrix, sizes),
            );
        }
        let queries = self.per_head(&format!("{path}.embed_q"), heads, [latent, plain])?;
        let values = self.per_head(&format!("{path}.unembed_out"), heads, [value, latent])?;
        Ok((queries, values))
    }

    fn per_head(&mut self, path: &str, heads: usize, shape: [usize; 2]) -> Built<PerHead> {
        let matrix = self.checker.heads(path, heads, shape)?;
        self.loaded(PerHead::placeholder, |arrays| Ok(PerHead { weight: arrays.weight(&matrix)? }))
    }
}

impl PerHead {
    fn placeholder() -> PerHead {
        PerHead { weight: Weight::Plain(placeholder()) }
    }
}

/// The rows of each head are those of its key and then those of its value.
fn split(arrays: &mut Arrays, matrix: &Matrix, sizes: LatentSizes) -> Result<(PerHead, PerHead)> {
    let [heads, latent, plain, value] =
        [sizes.heads, sizes.latent, sizes.plain, sizes.value].map(|size| size as i32);
    let whole = match arrays.packed(matrix)? {
        Some(packed) => packed.unpacked_as_stored()?,
        None => arrays.part(matrix, "weight", Arrays::float)?,
    };
    let whole = whole.reshape(&[heads, plain + value, latent])?;
    let keys = slice(&whole, &[0, 0, 0], &[heads, plain, latent])?;
    let values = slice(&whole, &[0, plain, 0], &[heads, plain + value, latent])?;
    let floats = arrays.floats;
    let map = |array: Array| -> Result<PerHead> {
        let array = array.contiguous()?;
        eval([&array])?;
        let packing = matrix.packing.filter(|packing| packs(*packing, &array));
        let weight = match packing {
            Some(packing) => packed(&array, packing, floats)?,
            None if floats == Floats::Tiles => {
                Weight::Tiles(Tiled { matrix: of_floats(&array)?, bias: None })
            }
            None if floats.are_stored() => Weight::Plain(plain_view(array)?),
            None => Weight::Plain(plain_view(array.as_dtype(Dtype::Float32)?)?),
        };
        Ok(PerHead { weight })
    };
    Ok((map(keys.swap_axes(-1, -2)?)?, map(values)?))
}

/// What was packed along the latent is packed along the other axis again, as mlx-lm does it, where that can be.
fn packs(packing: Packing, array: &Array) -> bool {
    packing.is_affine() && array.dim(-1) % packing.group as i32 == 0
}

fn packed(array: &Array, packing: Packing, floats: Floats) -> Result<Weight> {
    let (weight, scales, biases) = quantize(array, packing.group as i32, packing.bits as i32)?;
    let packed = Packed { weight, scales, biases: Some(biases), packing, dtype: None };
    eval(packed.arrays())?;
    match floats {
        Floats::Dense => Ok(Weight::Plain(plain_view(packed.unpacked()?)?)),
        Floats::Tiles => Ok(Weight::Tiles(Tiled { matrix: packed.tiles()?, bias: None })),
        _ => Ok(Weight::Packed(packed)),
    }
}

fn plain_view(array: Array) -> Result<Array> {
    let view = array.swap_axes(-1, -2)?;
    eval([&view])?;
    Ok(view)
}
