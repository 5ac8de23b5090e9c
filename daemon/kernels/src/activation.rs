//! What stands between the two halves of a feed-forward block.

/// How gate and up become the inner activations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// `gate · sigmoid(gate) · up`.
    Swiglu,
    /// `min(gate, limit) · sigmoid(slope · min(gate, limit)) · (clamp(up, ±limit) + 1)`.
    ClampedGlu {
        /// Beyond it both are cut.
        limit: f32,
        /// Of the sigmoid.
        slope: f32,
    },
}

impl Activation {
    /// `gate` becomes the inner activations. One source for all instruction sets, with fused products everywhere.
    #[inline(always)]
    pub(crate) fn apply(self, gate: &mut [f32], up: &[f32]) {
        match self {
            Activation::Swiglu => {
                for (gate, up) in gate.iter_mut().zip(up) {
                    *gate = *gate * sigmoid(*gate) * up;
                }
            }
            Activation::ClampedGlu { limit, slope } => {
                for (gate, &up) in gate.iter_mut().zip(up) {
                    // Comparisons keep a NaN, where `min` and `max` would lose it.
                    let cut = if *gate > limit { limit } else { *gate };
                    let up = if up > limit { limit } else { up };
                    let up = if up < -limit { -limit } else { up };
                    *gate = cut * sigmoid(slope * cut) * (up + 1.0);
                }
            }
        }
    }
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// e^x within 2 units of the last place, from e^-87 to e^88; beyond that the value at the end.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let x = if x > 88.0 { 88.0 } else { x };
    let x = if x < -87.0 { -87.0 } else { x };
    // x = n·ln 2 + rest with |rest| <= ln 2 / 2; the sum's lowest bits are n.
    let shifted = x.mul_add(std::f32::consts::LOG2_E, 12_582_912.0);
    let n = shifted - 12_582_912.0;
    let rest = n.mul_add(-0.693_359_4, x);
    let rest = n.mul_add(2.121_944_4e-4, rest);
    let series = 1.0 / 5040.0;
    let series = rest.mul_add(series, 1.0 / 720.0);
    let series = rest.mul_add(series, 1.0 / 120.0);
    let series = rest.mul_add(series, 1.0 / 24.0);
    let series = rest.mul_add(series, 1.0 / 6.0);
    let series = rest.mul_add(series, 0.5);
    let series = (rest * rest).mul_add(series, rest) + 1.0;
    let power = f32::from_bits(shifted.to_bits().wrapping_sub(0x4b40_0000).wrapping_add(127) << 23);
    series * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_right_to_the_last_places() {
        for step in -870_000..=880_000 {
            let x = step as f32 * 1e-4;
            let (ours, exact) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((ours / exact - 1.0).abs() < 2.4e-7, "e^{x}: {ours}, not {exact}");
        }
        assert!(exp(f32::NAN).is_nan());
    }
}
