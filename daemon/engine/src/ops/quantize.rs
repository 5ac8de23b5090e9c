//! Packing weights: MLX's own operation, in all its modes.

use mlx_rs::{Array, Stream, error::Exception};

use super::{Result, mode, some};
use crate::config::Packing;

/// Floats `[.., in]` packed along their last axis: weights, scales and, in affine mode, biases.
pub(crate) fn quantize(array: &Array, packing: Packing) -> Result<(Array, Array, Option<Array>)> {
    let stream = Stream::thread_local_or_default();
    // SAFETY: see the module above. The vector is made here and freed here; the arrays that are taken out of it are owned by what is
    // returned, and one that could not be taken out is an empty handle, which owns nothing.
    let (status, mut parts) = unsafe {
        let mut vector = mlx_sys::mlx_vector_array_new();
        let mut status = mlx_sys::mlx_quantize(
            &raw mut vector,
            array.as_ptr(),
            some(packing.group),
            some(packing.bits),
            mode(packing).as_ptr(),
            mlx_sys::mlx_array_new(),
            stream.as_ref().as_ptr(),
        );
        let count = if status == 0 { mlx_sys::mlx_vector_array_size(vector) } else { 0 };
        let mut parts = Vec::with_capacity(count);
        for index in 0..count {
            let mut part = mlx_sys::mlx_array_new();
            status |= mlx_sys::mlx_vector_array_get(&raw mut part, vector, index);
            parts.push(Array::from_ptr(part));
        }
        mlx_sys::mlx_vector_array_free(vector);
        (status, parts.into_iter())
    };
    match (status, parts.next(), parts.next(), parts.next()) {
        (0, Some(weight), Some(scales), biases) => Ok((weight, scales, biases)),
        _ => Err(Exception::custom("quantize failed")),
    }
}
