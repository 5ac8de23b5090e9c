//! What stands between the two products that rise and the one that falls.

use mlx_rs::{Array, Dtype, ops};

use super::{Result, swiglu};
use crate::ops::like;

/// How gate and up become one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Activation {
    /// `silu(gate) ⊙ up`.
    Swiglu,
    /// The same of a gate that is at most `limit` and an up within `±limit`, in fp32 (DeepSeek-V4.1).
    ClampedSwiglu { limit: f32 },
    /// `gate ⊙ σ(slope · gate) ⊙ (up + 1)` of a gate that is at most `limit` and an up within `±limit` (gpt-oss).
    ClampedGlu { limit: f32, slope: f32 },
}

impl Activation {
    /// The result has the type of `up`.
    pub(crate) fn of(self, gate: &Array, up: &Array) -> Result<Array> {
        match self {
            Activation::Swiglu => swiglu(gate, up),
            Activation::ClampedSwiglu { limit } => {
                let dtype = up.dtype();
                let mut gate = gate.as_dtype(Dtype::Float32)?;
                let mut up = up.as_dtype(Dtype::Float32)?;
                if limit > 0.0 {
                    gate = ops::minimum(&gate, like(&gate, limit)?)?;
                    up = ops::clip(&up, (-limit, limit))?;
                }
                swiglu(&gate, &up)?.as_dtype(dtype)
            }
            Activation::ClampedGlu { limit, slope } => {
                let gate = ops::minimum(gate, like(gate, limit)?)?;
                let up = ops::clip(up, (&like(up, -limit)?, &like(up, limit)?))?;
                let gated = gate.multiply(ops::sigmoid(gate.multiply(like(&gate, slope)?)?)?)?;
                up.add(like(&up, 1.0)?)?.multiply(gated)
            }
        }
    }
}
