//! Arithmetic of the engine on the CPU: products with matrices that stay packed, and what stands around them in a layer.
//!
//! A matrix is packed once, when it is loaded, into tiles of sixteen outputs ([`Matrix`]); its weights are never widened in memory.
//! Activations are fp32. A result depends on its row and its weights alone: it is the same to the bit whatever other rows are computed
//! beside it, on however many threads, with whatever instructions ([`digits`] says how).
//!
//! Nothing here knows a model. `engine` calls these functions from primitives of MLX, or directly.

#![allow(
    unsafe_code,
    reason = "kernels follow pointers and use the instructions of a machine; each block says why it may"
)]

pub mod pool;
#[cfg(all(feature = "mlx", not(target_os = "macos")))]
pub mod primitive;
#[cfg(all(feature = "mlx", target_os = "macos"))]
#[path = "absent.rs"]
pub mod primitive;
mod buffer;
mod pages;
mod layout;
mod matrix;
mod pack;
pub mod digits;
mod isa;
mod matmul;
mod activation;
pub mod attention;
pub mod delta;
pub mod norm;
pub mod rope;
mod simd;
pub mod softmax;
pub mod roof;
#[cfg(test)]
#[path = "../tests/products/emulated.rs"]
mod emulated;

pub use activation::Activation;
pub use isa::{Variant, force, variant, variants};
pub use layout::{FloatType, Format};
pub use matmul::mixture::{Experts, mixture};
pub use matmul::{Map, expect, gathered, matmul};
pub use matrix::{Matrix, Source, Unsupported};
pub use pages::{PAGE, Pages};
pub use pool::{Pool, pool};
