//! The numbers of a tensor, the same for every format: codes of four or eight bits, and scales that bf16, fp16 and fp32 all hold
//! exactly. So all peers compute the same model, up to the order of their sums.

use super::shapes::{GROUP, Kind, Tensor};
use crate::bench::engine::Chance;

/// What floats are stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Float {
    /// The upper half of an fp32.
    Bf16,
    /// IEEE's half.
    F16,
    /// IEEE's single.
    F32,
}

impl Float {
    /// What safetensors calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Float::Bf16 => "BF16",
            Float::F16 => "F16",
            Float::F32 => "F32",
        }
    }

    /// Bytes of one.
    pub(super) fn bytes(self) -> usize {
        if self == Float::F32 { 4 } else { 2 }
    }

    /// Appends a number that is given as bf16.
    pub(super) fn put(self, bf16: u16, to: &mut Vec<u8>) {
        match self {
            Float::Bf16 => to.extend(bf16.to_le_bytes()),
            Float::F16 => to.extend(half(bf16).to_le_bytes()),
            Float::F32 => to.extend(single(bf16).to_le_bytes()),
        }
    }
}

/// The fp32 of a bf16.
pub(super) fn single(bf16: u16) -> f32 {
    f32::from_bits(u32::from(bf16) << 16)
}

/// The fp16 of a bf16 that is in its normal range; nothing smaller or larger is made here, and would be 0.
pub(super) fn half(bf16: u16) -> u16 {
    let (sign, exponent, fraction) = (bf16 & 0x8000, (bf16 >> 7) & 0xff, bf16 & 0x7f);
    match exponent.checked_sub(127 - 15) {
        Some(exponent @ 1..=30) => sign | exponent << 10 | fraction << 3,
        _ => sign,
    }
}

/// The bf16 below a number.
fn bf16(number: f32) -> u16 {
    u16::try_from(number.to_bits() >> 16).unwrap_or(0)
}

/// The numbers of one tensor.
pub(super) struct Numbers {
    /// The codes as MLX has them: of four bits two in a byte, the first in the lower half.
    pub(super) codes: Vec<u8>,
    /// bf16: a scale per group; of norms and biases the numbers themselves.
    pub(super) floats: Vec<u16>,
}

impl Numbers {
    /// Those of a tensor; always the same.
    #[allow(clippy::cast_precision_loss, reason = "some thousands")]
    pub(super) fn of(tensor: &Tensor) -> Numbers {
        let seed = tensor.mlx.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut chance = Chance::of(seed ^ tensor.kind as u64);
        let count = tensor.numbers();
        match tensor.kind {
            Kind::Norm => Numbers { codes: Vec::new(), floats: vec![bf16(1.0); count] },
            Kind::Bias => {
                let floats = (0..count).map(|_| bf16(chance.weight() * 0.1)).collect();
                Numbers { codes: Vec::new(), floats }
            }
            Kind::FourBits | Kind::EightBits => {
                // The standard deviation of 0..=15 is 4.61, that of 0..=255 is 73.9.
                let (per_byte, spread) =
                    if tensor.kind == Kind::FourBits { (2, 4.61) } else { (1, 73.9) };
                let mut codes = vec![0; count / per_byte];
                for bytes in codes.chunks_mut(8) {
                    bytes.copy_from_slice(&chance.next().to_le_bytes()[..bytes.len()]);
                }
                let scale = tensor.gain / (spread * (tensor.inner as f32).sqrt());
                let floats = (0..count / GROUP)
                    .map(|_| bf16(scale * (1.0 + 0.25 * chance.weight())))
                    .collect();
                Numbers { codes, floats }
            }
        }
    }
}

/// What is added to `scale · code`, so that codes lie around 0: `-8 · scale` or `-128 · scale`. A scale is never so large
/// that its exponent overflows.
pub(super) fn offset(kind: Kind, scale: u16) -> u16 {
    let doubled = if kind == Kind::FourBits { 3 } else { 7 };
    0x8000 | (scale + (doubled << 7))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_of_all_types_are_the_same_number() {
        assert_eq!((half(bf16(1.0)), half(bf16(-2.5))), (0x3c00, 0xc100));
        assert_eq!(half(bf16(0.001)), 0x1418);
        assert_eq!(single(offset(Kind::FourBits, bf16(0.5))), -4.0);
        assert_eq!(single(offset(Kind::EightBits, bf16(0.5))), -64.0);
    }
}
