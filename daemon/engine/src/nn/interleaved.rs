//! The arrays of a model in the layout in which gpt-oss is published, as mlx-lm has them.

use std::collections::HashMap;

use mlx_rs::{Array, Dtype, error::Exception};

use super::Result;
use crate::{
    ops::slice,
    weights::interleaved::{Form, Piece, pieces},
};

/// Gives published arrays the names and shapes of mlx-lm. Nothing is computed before it is asked for.
pub(super) fn rename(arrays: &mut HashMap<String, Array>) -> Result<()> {
    for Piece { source, form, targets } in pieces(arrays.keys()) {
        let Some(array) = arrays.remove(&source) else { continue };
        let array = match form {
            Form::Same => array,
            Form::Blocks if array.ndim() != 4 => {
                return Err(Exception::custom(format!("{source} does not lie in blocks")));
            }
            Form::Blocks => {
                let words = array.view_dtype(Dtype::Uint32)?;
                let (experts, rows) = (words.dim(0), words.dim(1));
                words.reshape(&[experts, rows, -1])?
            }
            Form::Turned => array.swap_axes(-1, -2)?,
        };
        for (target, row) in targets {
            let own = match row {
                Some(row) => every_second(&array, row as i32)?,
                None => array.clone(),
            };
            arrays.insert(target, own.contiguous()?);
        }
    }
    Ok(())
}

/// The even or odd rows of `[experts, rows, ..]`.
fn every_second(array: &Array, row: i32) -> Result<Array> {
    let mut shape = array.shape().to_vec();
    // The headers were looked at, but the file may be another by now.
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
