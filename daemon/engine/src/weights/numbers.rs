//! Whether bytes hold numbers: looked at by whoever reads them, while they are in the processor's cache.

/// Whether one of the floats in `bytes` is NaN. Integers, and floats of one byte, are not looked at.
pub(crate) fn has_nan(dtype: &str, bytes: &[u8]) -> bool {
    // A NaN has all bits of the exponent set, and one of the mantissa. The greatest of all is sought, without a branch, so that
    // many elements are looked at in one instruction.
    match dtype {
        "F32" => {
            let bits = bytes.chunks_exact(4).map(|bytes| {
                i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) & 0x7fff_ffff
            });
            bits.fold(0, i32::max) > 0x7f80_0000
        }
        "F16" => most_of_half(bytes) > 0x7c00,
        "BF16" => most_of_half(bytes) > 0x7f80,
        _ => false,
    }
}

/// The greatest of the elements' bits without their signs.
fn most_of_half(bytes: &[u8]) -> i16 {
    let bits = bytes.chunks_exact(2).map(|bytes| i16::from_le_bytes([bytes[0], bytes[1]]) & 0x7fff);
    bits.fold(0, i16::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_is_found_in_every_type_and_infinity_is_none() {
        let whole = [0.0f32, -1.5, f32::INFINITY, f32::NEG_INFINITY, f32::MAX];
        for nan in [f32::NAN, -f32::NAN] {
            let broken = [0.0, nan, 1.0, f32::INFINITY];
            let single = |floats: &[f32]| floats.iter().flat_map(|x| x.to_le_bytes()).collect();
            // The upper half of a float is the same number in bf16; in f16 the exponent has 5 bits.
            let brain = |floats: &[f32]| -> Vec<u8> {
                floats.iter().flat_map(|x| ((x.to_bits() >> 16) as u16).to_le_bytes()).collect()
            };
            let (fine, bad): (Vec<u8>, Vec<u8>) = (single(&whole), single(&broken));
            assert!(!has_nan("F32", &fine) && has_nan("F32", &bad), "{nan}");
            assert!(!has_nan("BF16", &brain(&whole)) && has_nan("BF16", &brain(&broken)), "{nan}");
            assert!(!has_nan("U32", &bad) && !has_nan("U8", &bad));
        }
        let half = |bits: [u16; 3]| bits.map(u16::to_le_bytes).concat();
        assert!(!has_nan("F16", &half([0x7c00, 0xfc00, 0x7bff])));
        assert!(has_nan("F16", &half([0x7c00, 0xfc01, 0x3c00])));
    }
}
