//! Which matrices the crate `kernels` computes with as they are packed, which it widens, and what they take in memory then.

use std::collections::BTreeMap;

use kernels::{FloatType, Format};

use super::check::Matrix;
use crate::config::{Mode, Packing};

/// The type of floats of a tensor, as safetensors call it.
pub(crate) fn float_type(dtype: &str) -> FloatType {
    match dtype {
        "F32" => FloatType::F32,
        "F16" => FloatType::F16,
        _ => FloatType::Bf16,
    }
}

/// How the weights of a matrix lie in the files; `dtype` is that of floats.
pub(crate) fn format(packing: Option<Packing>, dtype: &str) -> Format {
    let Some(packing) = packing else { return Format::Float(float_type(dtype)) };
    match packing.mode {
        Mode::Affine => Format::Affine { bits: packing.bits as u8, group: packing.group },
        Mode::Mxfp4 => Format::Mxfp4,
        Mode::Mxfp8 => Format::Mxfp8,
        Mode::Nvfp4 => Format::Nvfp4,
    }
}

/// Why a matrix cannot lie in tiles as it is packed, if it cannot.
pub(crate) fn unsupported(
    packing: Option<Packing>,
    dtype: &str,
    [out, inner]: [usize; 2],
) -> Option<String> {
    kernels::Matrix::supports(format(packing, dtype), out, inner).err().map(|why| why.to_string())
}

/// Bytes of `count` matrices in tiles; those that have no kernel are unpacked.
pub(crate) fn tile_bytes(
    packing: Option<Packing>,
    dtype: &str,
    [count, out, inner]: [usize; 3],
) -> u64 {
    let packed = unsupported(packing, dtype, [out, inner]).is_none();
    let format =
        if packed { format(packing, dtype) } else { Format::Float(unpacked_type(packing)) };
    kernels::Matrix::bytes_of(format, float_type(dtype), [count, out, inner])
}

/// The type that holds unpacked weights exactly.
pub(crate) fn unpacked_type(packing: Option<Packing>) -> FloatType {
    match packing {
        Some(packing) if !packing.is_affine() => FloatType::Bf16,
        _ => FloatType::F32,
    }
}

/// Matrices that the kernels do not compute with as they are packed, by the reason.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slow(BTreeMap<String, (usize, String)>);

impl Slow {
    /// Looks at one.
    pub(crate) fn note(&mut self, matrix: &Matrix) {
        let Matrix { packing, dtype, out, inner, .. } = matrix;
        if let Some(reason) = unsupported(*packing, dtype, [*out, *inner]) {
            let (count, _) = self.0.entry(reason).or_insert_with(|| (0, matrix.path.clone()));
            *count += 1;
        } else if packing.is_some_and(|packing| packing.mode == Mode::Mxfp8) {
            let reason = "mxfp8 has no kernel, they are computed with as bf16".to_owned();
            let (count, _) = self.0.entry(reason).or_insert_with(|| (0, matrix.path.clone()));
            *count += 1;
        }
    }

    /// A line for each reason.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line = |(reason, (count, path)): (&String, &(usize, String))| match count {
            1 => format!("{path}: {reason}"),
            count => format!("{count} matrices like {path}: {reason}"),
        };
        self.0.iter().map(line).collect()
    }
}
