//! Tensors in layouts that others publish, as mlx-lm has them: gpt-oss, and compressed-tensors' `pack-quantized`.

use mlx_rs::{Array, Dtype, error::Exception};

use super::Result;
use crate::{
    ops::{like, slice},
    weights::{Form, Make},
};

/// What is made of a published tensor. Nothing is computed before it is asked for.
pub(super) fn published_as(published: &Array, make: Make) -> Result<Array> {
    match make {
        Make::Times(1.0) => Ok(published.clone()),
        Make::Times(factor) => published.multiply(like(published, factor)?),
        Make::Rows { form, row } => {
            let whole = match form {
                Form::Same => published.clone(),
                Form::Blocks => {
                    let words = published.view_dtype(Dtype::Uint32)?;
                    let (experts, rows) = (words.dim(0), words.dim(1));
                    words.reshape(&[experts, rows, -1])?
                }
                Form::Turned => published.swap_axes(-1, -2)?,
            };
            let rows = match row {
                Some(row) => every_second(&whole, row as i32)?,
                None => whole,
            };
            rows.contiguous()
        }
    }
}

/// The even or odd rows of `[experts, rows, ..]`.
fn every_second(array: &Array, row: i32) -> Result<Array> {
    let mut shape = array.shape().to_vec();
    match shape.get_mut(1) {
        Some(rows) if *rows % 2 == 0 => *rows /= 2,
        _ => return Err(Exception::custom(format!("rows of gate and up in turn: {shape:?}"))),
    }
    let mut pairs = shape.clone();
    pairs.insert(2, 2);
    let (mut start, mut stop) = (vec![0; pairs.len()], pairs.clone());
    (start[2], stop[2]) = (row, row + 1);
    slice(&array.reshape(&pairs)?, &start, &stop)?.reshape(&shape)
}
