//! The arrays of a model in the layout of compressed-tensors' `pack-quantized`, as affine packing.

use std::collections::HashMap;

use mlx_rs::{Array, Dtype};

use super::Result;
use crate::{
    ops::like,
    weights::compressed::{Part, part},
};

/// Gives published arrays the names of affine packing. Nothing is computed before it is asked for.
pub(super) fn rename(arrays: &mut HashMap<String, Array>) -> Result<()> {
    if !arrays.keys().any(|name| name.ends_with(".weight_packed")) {
        return Ok(());
    }
    for (name, array) in std::mem::take(arrays) {
        match part(&name) {
            None => {
                arrays.insert(name, array);
            }
            Some(Part::Words(weight)) => {
                arrays.insert(weight, array.view_dtype(Dtype::Uint32)?);
            }
            Some(Part::Scales { scales, biases }) => {
                arrays.insert(biases, array.multiply(like(&array, -8.0)?)?);
                arrays.insert(scales, array);
            }
            Some(Part::Nothing) => {}
        }
    }
    Ok(())
}
