//! The few operations of MLX that mlx-rs does not offer, or not without detours, and those of our own kernels: the only `unsafe` of
//! this crate.
//!
//! Every array handed to the C functions is alive for the call, and the result is owned by the `Array` that is returned.

#![allow(unsafe_code)]

mod device;
#[cfg(not(target_os = "macos"))]
mod native;
mod quantize;

use std::ffi::CStr;

use mlx_rs::{Array, Dtype, Stream, error::Exception, transforms::eval};

use crate::{
    config::{Mode, Packing},
    nn::Parts,
    weights::Tensor,
};

pub(crate) use device::{gpu_free, gpu_recommended, on_gpu};
#[cfg(not(target_os = "macos"))]
pub(crate) use native::native;
pub(crate) use quantize::quantize;

/// Where MLX is built without our operation nothing lies in tiles.
#[cfg(target_os = "macos")]
pub(crate) fn native<W>(_: &[&Array], _: &[kernels::primitive::Output], _: W) -> Result<Vec<Array>>
where
    W: Fn(&[kernels::primitive::In<'_>], &mut [kernels::primitive::Out<'_>])
        + Send
        + Sync
        + 'static,
{
    Err(Exception::custom("our own operations are for the Linux CPU"))
}

type Result<T> = std::result::Result<T, Exception>;

/// Calls a C function that writes one array.
fn result(name: &str, call: impl FnOnce(*mut mlx_sys::mlx_array) -> i32) -> Result<Array> {
    // SAFETY: an empty array handle; the callee replaces it, and from_ptr takes ownership in either case.
    let (status, array) = unsafe {
        let mut handle = mlx_sys::mlx_array_new();
        let status = call(&raw mut handle);
        (status, Array::from_ptr(handle))
    };
    if status == 0 { Ok(array) } else { Err(Exception::custom(format!("{name} failed"))) }
}

/// Where an array's elements lie; equal for handles of the same array. One that is not evaluated yet has its handle's place.
pub(crate) fn address(array: &Array) -> usize {
    let handle = array.as_ptr();
    let mut is_there = false;
    // SAFETY: see the module. The pointers are compared and never followed; elements are asked for only where there are some.
    unsafe {
        let status = mlx_sys::_mlx_array_is_available(&raw mut is_there, handle);
        if status == 0 && is_there {
            mlx_sys::mlx_array_data_uint8(handle) as usize
        } else {
            handle.ctx as usize
        }
    }
}

/// The bytes of an array, as a file holds them.
pub(crate) fn to_bytes(array: &Array) -> Result<Vec<u8>> {
    with_bytes(array, <[u8]>::to_vec)
}

/// What `read` makes of the bytes of an array, as a file holds them.
pub(crate) fn with_bytes<T>(array: &Array, read: impl FnOnce(&[u8]) -> T) -> Result<T> {
    let stream = Stream::thread_local_or_default();
    let flat = result("contiguous", |res| {
        // SAFETY: see the module.
        unsafe { mlx_sys::mlx_contiguous(res, array.as_ptr(), false, stream.as_ref().as_ptr()) }
    })?;
    eval([&flat])?;
    let len = flat.nbytes();
    if len == 0 {
        return Ok(read(&[]));
    }
    // SAFETY: see the module. The array is evaluated and contiguous in the order of its rows; its `nbytes` bytes are read before it
    // is dropped.
    unsafe {
        let start = mlx_sys::mlx_array_data_uint8(flat.as_ptr());
        if start.is_null() {
            return Err(Exception::custom("an array without data"));
        }
        Ok(read(std::slice::from_raw_parts(start, len)))
    }
}

/// An array of bytes that [`to_bytes`] gave.
pub(crate) fn from_bytes(bytes: &[u8], shape: &[usize], dtype: &str) -> Result<Array> {
    let dtype = dtype_of(dtype)?;
    let size = shape.iter().try_fold(dtype_bytes(dtype), |size, &dim| size.checked_mul(dim));
    let dims: Option<Vec<i32>> = shape.iter().map(|&dim| i32::try_from(dim).ok()).collect();
    let Some(dims) = dims.filter(|_| size == Some(bytes.len())) else {
        return Err(Exception::custom("a tensor's shape and size disagree"));
    };
    // SAFETY: see the module. The callee copies as many bytes as shape and type say, which were just compared with what there is.
    unsafe {
        Ok(Array::from_ptr(mlx_sys::mlx_array_new_data(
            bytes.as_ptr().cast(),
            dims.as_ptr(),
            dims.len() as i32,
            dtype.into(),
        )))
    }
}

/// A tensor of a model's file. Floats of 8 bits are bytes to MLX, as its own loader has it.
pub(crate) fn from_file(tensor: Tensor) -> Result<Array> {
    let dtype = if tensor.dtype == "F8_E4M3" { "U8" } else { &tensor.dtype };
    from_bytes(&tensor.bytes, &tensor.shape, dtype)
}

/// The types that caches have, as safetensors calls them.
const DTYPES: [(Dtype, &str, usize); 6] = [
    (Dtype::Float32, "F32", 4),
    (Dtype::Bfloat16, "BF16", 2),
    (Dtype::Float16, "F16", 2),
    (Dtype::Uint32, "U32", 4),
    (Dtype::Int32, "I32", 4),
    (Dtype::Uint8, "U8", 1),
];

pub(crate) fn dtype_name(dtype: Dtype) -> Result<&'static str> {
    let known = DTYPES.iter().find(|known| known.0 == dtype);
    known.map(|known| known.1).ok_or_else(|| Exception::custom(format!("{dtype:?} in a cache")))
}

fn dtype_of(name: &str) -> Result<Dtype> {
    let known = DTYPES.iter().find(|known| known.1 == name);
    known.map(|known| known.0).ok_or_else(|| Exception::custom(format!("{name} in a cache")))
}

fn dtype_bytes(dtype: Dtype) -> usize {
    DTYPES.iter().find(|known| known.0 == dtype).map_or(0, |known| known.2)
}

/// A number of the type of `x`. A number of another type would change the type of everything that is computed from the two.
pub(crate) fn like(x: &Array, number: f32) -> Result<Array> {
    Array::from_f32(number).as_dtype(x.dtype())
}

/// `a[.., i, j] · b[indices]`: products with one matrix of `b` per row of indices.
pub(crate) fn gather_mm(a: &Array, b: &Array, indices: &Array, sorted: bool) -> Result<Array> {
    let stream = Stream::thread_local_or_default();
    result("gather_mm", |res| {
        // SAFETY: see the module.
        unsafe {
            let none = mlx_sys::mlx_array_new();
            mlx_sys::mlx_gather_mm(
                res,
                a.as_ptr(),
                b.as_ptr(),
                none,
                indices.as_ptr(),
                sorted,
                stream.as_ref().as_ptr(),
            )
        }
    })
}

/// `x · Wᵀ`, or `x · W`, with packed weights.
pub(crate) fn quantized_matmul(
    x: &Array,
    (weight, scales, biases): Parts<'_>,
    transposed: bool,
    packing: Packing,
) -> Result<Array> {
    let stream = Stream::thread_local_or_default();
    result("quantized_matmul", |res| {
        // SAFETY: see the module.
        unsafe {
            mlx_sys::mlx_quantized_matmul(
                res,
                x.as_ptr(),
                weight.as_ptr(),
                scales.as_ptr(),
                or_none(biases),
                transposed,
                some(packing.group),
                some(packing.bits),
                mode(packing).as_ptr(),
                stream.as_ref().as_ptr(),
            )
        }
    })
}

/// `x · W[indices]ᵀ` with packed weights: products with one matrix per row of indices.
pub(crate) fn gather_qmm(
    x: &Array,
    (weight, scales, biases): Parts<'_>,
    indices: &Array,
    sorted: bool,
    packing: Packing,
) -> Result<Array> {
    let stream = Stream::thread_local_or_default();
    result("gather_qmm", |res| {
        // SAFETY: see the module.
        unsafe {
            mlx_sys::mlx_gather_qmm(
                res,
                x.as_ptr(),
                weight.as_ptr(),
                scales.as_ptr(),
                or_none(biases),
                mlx_sys::mlx_array_new(),
                indices.as_ptr(),
                true,
                some(packing.group),
                some(packing.bits),
                mode(packing).as_ptr(),
                sorted,
                stream.as_ref().as_ptr(),
            )
        }
    })
}

/// Packed weights as floats: of type `dtype`, or of the type that MLX takes.
pub(crate) fn dequantize(
    (weight, scales, biases): Parts<'_>,
    packing: Packing,
    dtype: Option<Dtype>,
) -> Result<Array> {
    let stream = Stream::thread_local_or_default();
    let has_value = dtype.is_some();
    let value = dtype.unwrap_or(Dtype::Float32).into();
    result("dequantize", |res| {
        // SAFETY: see the module.
        unsafe {
            mlx_sys::mlx_dequantize(
                res,
                weight.as_ptr(),
                scales.as_ptr(),
                or_none(biases),
                some(packing.group),
                some(packing.bits),
                mode(packing).as_ptr(),
                mlx_sys::mlx_array_new(),
                mlx_sys::mlx_optional_dtype { value, has_value },
                stream.as_ref().as_ptr(),
            )
        }
    })
}

/// MLX's name.
fn mode(packing: Packing) -> &'static CStr {
    match packing.mode {
        Mode::Affine => c"affine",
        Mode::Mxfp4 => c"mxfp4",
        Mode::Mxfp8 => c"mxfp8",
        Mode::Nvfp4 => c"nvfp4",
    }
}

fn some(value: usize) -> mlx_sys::mlx_optional_int {
    mlx_sys::mlx_optional_int { value: value as i32, has_value: true }
}

fn or_none(array: Option<&Array>) -> mlx_sys::mlx_array {
    // SAFETY: an empty handle owns nothing.
    array.map_or_else(|| unsafe { mlx_sys::mlx_array_new() }, Array::as_ptr)
}

/// `a[start..stop]` along every axis.
pub(crate) fn slice(a: &Array, start: &[i32], stop: &[i32]) -> Result<Array> {
    let stream = Stream::thread_local_or_default();
    let ones = [1; 8];
    assert!(
        start.len() == a.ndim() && stop.len() == a.ndim() && a.ndim() <= ones.len(),
        "one bound per axis"
    );
    result("slice", |res| {
        // SAFETY: see the module; the three lists have one entry per axis.
        unsafe {
            let (start, stop, len) = (start.as_ptr(), stop.as_ptr(), a.ndim());
            mlx_sys::mlx_slice(
                res,
                a.as_ptr(),
                start,
                len,
                stop,
                len,
                ones.as_ptr(),
                len,
                stream.as_ref().as_ptr(),
            )
        }
    })
}

/// `a` with `update` at `a[start..stop]`. In place if nobody else holds `a` when this is computed.
pub(crate) fn slice_update(a: Array, update: &Array, start: &[i32], stop: &[i32]) -> Result<Array> {
    let stream = Stream::thread_local_or_default();
    let ones = [1; 8];
    assert!(
        start.len() == a.ndim() && stop.len() == a.ndim() && a.ndim() <= ones.len(),
        "one bound per axis"
    );
    result("slice_update", |res| {
        // SAFETY: see the module; the three lists have one entry per axis.
        unsafe {
            let (start, stop, len, one) = (start.as_ptr(), stop.as_ptr(), a.ndim(), ones.as_ptr());
            let stream = stream.as_ref().as_ptr();
            mlx_sys::mlx_slice_update(
                res,
                a.as_ptr(),
                update.as_ptr(),
                start,
                len,
                stop,
                len,
                one,
                len,
                stream,
            )
        }
    })
}

/// Whether OpenBLAS is there to multiply with; loads it.
pub(crate) fn has_openblas() -> bool {
    #[cfg(not(target_os = "macos"))]
    // SAFETY: takes nothing, and may be called at any time.
    return unsafe { mlx_sys::demolish_blas_load() };
    #[cfg(target_os = "macos")]
    false
}

/// Lets the fp32 products of a stream go to OpenBLAS, big ones to so many threads of it; `None`: to the reference BLAS.
pub(crate) fn use_openblas(stream: &Stream, threads: Option<i32>) -> Result<()> {
    #[cfg(not(target_os = "macos"))]
    // SAFETY: the stream is alive; the other call sets an atomic.
    let status = unsafe {
        if let Some(threads) = threads {
            mlx_sys::demolish_blas_threads(threads);
        }
        mlx_sys::demolish_blas_use(stream.as_ptr(), threads.is_some())
    };
    #[cfg(target_os = "macos")]
    let status = {
        let _ = (stream, threads);
        0
    };
    if status == 0 {
        Ok(())
    } else {
        Err(Exception::custom("the stream does not compute on the CPU"))
    }
}

/// Runs `handler` when the process ends, before anything that exists now is destroyed.
pub(crate) fn at_exit(handler: extern "C" fn()) {
    unsafe extern "C" {
        fn atexit(handler: extern "C" fn()) -> i32;
    }
    // SAFETY: the C library's own function; the handler lives as long as the program. It fails only without memory, and then
    // there is nothing better to do than to go on.
    let _ = unsafe { atexit(handler) };
}
