//! Arithmetic of the engine on the CPU: products with matrices that stay packed, and what stands around them in a layer.
//!
//! Activations are fp32. A result depends on its row and its weights alone: it is the same to the bit whatever other rows are computed
//! beside it, on however many threads, with whatever instructions.
//!
//! Nothing here knows a model. `engine` calls these functions from primitives of MLX, or directly.

#![allow(
    unsafe_code,
    reason = "kernels follow pointers and use the instructions of a machine; each block says why it may"
)]

pub mod pool;
#[cfg(all(feature = "mlx", not(target_os = "macos")))]
pub mod primitive;

pub use pool::{Pool, pool};
