//! What the C headers leave out on this platform (see `shim/`), and the switch between the two BLAS libraries.

use crate::mlx_stream;

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
}
