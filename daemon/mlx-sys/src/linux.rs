//! What the C headers leave out on this platform (see `shim/`), and the switch between the two BLAS libraries.

use std::{
    ffi::c_void,
    os::raw::{c_char, c_int},
};

use crate::{mlx_array, mlx_stream};

/// On ARM the headers declare these themselves.
#[cfg(not(target_arch = "aarch64"))]
mod half {
    use crate::mlx_array;

    /// The 16-bit float of C's `_Float16`, as its bits.
    #[repr(C)]
    #[derive(Debug, Clone, Copy, Default, PartialEq)]
    pub struct float16_t(pub u16);

    /// The bits of a bfloat16.
    pub type bfloat16_t = u16;

    unsafe extern "C" {
        pub fn mlx_array_item_float16(res: *mut float16_t, arr: mlx_array)
        -> ::std::os::raw::c_int;
        pub fn mlx_array_item_bfloat16(
            res: *mut bfloat16_t,
            arr: mlx_array,
        ) -> ::std::os::raw::c_int;
        pub fn mlx_array_data_float16(arr: mlx_array) -> *const float16_t;
        pub fn mlx_array_data_bfloat16(arr: mlx_array) -> *const bfloat16_t;
    }
}
#[cfg(not(target_arch = "aarch64"))]
pub use half::*;

unsafe extern "C" {
    /// Loads OpenBLAS; `false` when the system has none. Can be called any number of times.
    pub fn demolish_blas_load() -> bool;
    /// Whether the fp32 matrix products of a CPU stream go to OpenBLAS, from its next operation on. At first, and where it is
    /// not loaded, they go to the reference BLAS of the wheel, as in Python.
    pub fn demolish_blas_use(stream: mlx_stream, openblas: bool) -> ::std::os::raw::c_int;
    /// The most threads that OpenBLAS may use for one big product; small ones are computed by one.
    pub fn demolish_blas_threads(threads: ::std::os::raw::c_int);
    /// A node of the graph that calls `run` with `work` on the thread of `stream`. It owns `work` from the call on, whatever the
    /// status, and gives it to `drop` once. An array per output is written to `results` if the status is 0.
    pub fn demolish_native(
        results: *mut mlx_array,
        inputs: *const mlx_array,
        input_count: usize,
        outputs: *const demolish_output,
        output_count: usize,
        stream: mlx_stream,
        work: *mut c_void,
        run: demolish_run,
        drop: demolish_drop,
    ) -> c_int;
}

/// Arrays of operations of our own have at most so many axes.
pub const DEMOLISH_AXES_MAX: usize = 5;

/// An array as such an operation sees it: strides in elements, that of the last axis is 1.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct demolish_view {
    pub data: *mut c_char,
    pub strides: [i64; DEMOLISH_AXES_MAX],
    pub shape: [i32; DEMOLISH_AXES_MAX],
    pub axes: i32,
    pub dtype: i32,
}

/// A result. `reuse` is the input whose buffer it takes over, or with a copy of which it begins where others hold that; -1: none.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct demolish_output {
    pub shape: *const c_int,
    pub axes: c_int,
    pub dtype: c_int,
    pub reuse: c_int,
}

pub type demolish_run = unsafe extern "C" fn(
    work: *mut c_void,
    inputs: *const demolish_view,
    input_count: usize,
    outputs: *mut demolish_view,
    output_count: usize,
);
pub type demolish_drop = unsafe extern "C" fn(work: *mut c_void);
