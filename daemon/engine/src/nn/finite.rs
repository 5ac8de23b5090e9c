//! Whether an array holds numbers.

use mlx_rs::{Array, ArrayElement, Dtype, error::Exception, transforms::eval};

use super::Result;
use crate::config::Mode;

/// Whether no element is NaN. Computes the array; integers are always numbers.
///
/// The bits are looked at on the host, in one pass over memory that was just read.
pub(crate) fn is_without_nan(array: &Array) -> Result<bool> {
    // A NaN has all bits of the exponent set, and one of the mantissa.
    match array.dtype() {
        Dtype::Float32 => {
            most::<u32>(array, |bits| bits & 0x7fff_ffff).map(|most| most <= 0x7f80_0000)
        }
        Dtype::Float16 => most::<u16>(array, |bits| bits & 0x7fff).map(|most| most <= 0x7c00),
        Dtype::Bfloat16 => most::<u16>(array, |bits| bits & 0x7fff).map(|most| most <= 0x7f80),
        _ => Ok(true),
    }
}

/// Whether scales of one byte are numbers; others are looked at as what they are ([`is_without_nan`]).
pub(crate) fn are_scales(array: &Array, mode: Mode) -> Result<bool> {
    match mode {
        _ if array.dtype() != Dtype::Uint8 => Ok(true),
        Mode::Affine => Ok(true),
        // An exponent of 8 bits, of which all are set.
        Mode::Mxfp4 | Mode::Mxfp8 => most::<u8>(array, |bits| bits).map(|most| most < 0xff),
        // e4m3.
        Mode::Nvfp4 => most::<u8>(array, |bits| bits & 0x7f).map(|most| most < 0x7f),
    }
}

/// The greatest of what `of` makes of the bits of each element.
fn most<T: ArrayElement + Copy + Ord + Default>(array: &Array, of: impl Fn(T) -> T) -> Result<T> {
    let bits = array.view::<T>()?;
    eval([&bits])?;
    let bits: &[T] = bits.try_as_slice().map_err(|error| Exception::custom(error.to_string()))?;
    Ok(bits.iter().map(|&bits| of(bits)).max().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_is_found_in_every_type_and_infinity_is_none() {
        let whole = Array::from_slice(&[0.0f32, -1.5, f32::INFINITY, f32::NEG_INFINITY], &[2, 2]);
        let broken = Array::from_slice(&[0.0f32, -1.5, -f32::NAN, 1.0], &[2, 2]);
        for dtype in [Dtype::Float32, Dtype::Float16, Dtype::Bfloat16] {
            let is_whole = |array: &Array| is_without_nan(&array.as_dtype(dtype).unwrap()).unwrap();
            assert!(is_whole(&whole), "{dtype:?}");
            assert!(!is_whole(&broken), "{dtype:?}");
        }
        assert!(is_without_nan(&Array::from_slice(&[u32::MAX], &[1])).unwrap());
    }
}
