//! Linear maps whose weights lie in the tiles of the crate `kernels`: one operation of the graph for each, or for several of one
//! input.

use std::{borrow::Cow, sync::Arc};

use kernels::{
    FloatType, Map, Matrix as Tiles, Source,
    primitive::{Dtype as Type, In, Output},
};
use mlx_rs::{Array, Dtype, error::Exception, ops::broadcast_to};

use super::{
    Linear, Result, Weight,
    load::{Arrays, Read},
};
use crate::{
    ops::{native, with_bytes},
    weights::{
        check::Matrix,
        tiles::{float_type, format, unpacked_type, unsupported},
    },
};

/// A matrix in tiles (or one per expert), and what is added to its products.
#[derive(Clone)]
pub(crate) struct Tiled {
    pub(crate) matrix: Arc<Tiles>,
    /// `[experts, out]`.
    pub(crate) bias: Option<Arc<[f32]>>,
}

impl Tiled {
    /// As the kernels take it; not one of stacked matrices.
    pub(crate) fn map(&self) -> Map<'_> {
        Map { matrix: &self.matrix, bias: self.bias.as_deref(), expert: 0 }
    }

    /// Columns that it makes.
    pub(crate) fn out(&self) -> usize {
        self.matrix.out()
    }

    /// `x · Wᵀ` of the matrix of each index; `x` is `[.., rows, in]`, and whatever stands before rows goes with the indices.
    pub(super) fn gathered(&self, x: &Array, indices: &Array) -> Result<Array> {
        let (rows, inner) = (x.dim(-2), x.dim(-1));
        let axes = indices.ndim().max(x.ndim() - 2);
        let mut shape: Vec<i32> = (0..axes)
            .map(|axis| {
                let of = |shape: &[i32]| {
                    (shape.len() + axis).checked_sub(axes).map_or(1, |index| shape[index])
                };
                of(indices.shape()).max(of(&x.shape()[..x.ndim() - 2]))
            })
            .collect();
        shape.push(rows);
        let indices = indices.as_dtype(Dtype::Uint32)?.expand_dims(-1)?;
        let indices = broadcast_to(&indices, &shape)?;
        shape.push(inner);
        let x = broadcast_to(x, &shape)?;
        shape[axes + 1] = self.out() as i32;
        let own = self.clone();
        let y = native(&[&x, &indices], &[floats(shape)], move |inputs, outputs| {
            let (x, indices) = (rows_of(&inputs[0]), numbers_of(&inputs[1]));
            let bias = own.bias.as_deref();
            kernels::gathered(&x, indices.len(), &indices, &own.matrix, bias, outputs[0].f32());
        })?;
        first(y)
    }
}

/// The rows of a table in tiles.
pub(super) fn rows(table: &Arc<Tiles>, indices: &Array) -> Result<Array> {
    let mut shape = indices.shape().to_vec();
    shape.push(table.inner() as i32);
    let (table, indices) = (table.clone(), indices.as_dtype(Dtype::Uint32)?);
    let y = native(&[&indices], &[floats(shape)], move |inputs, outputs| {
        let rows = outputs[0].f32().chunks_exact_mut(table.inner());
        for (&index, row) in numbers_of(&inputs[0]).iter().zip(rows) {
            // A token that the table does not have is refused long before.
            table.row(0, (index as usize).min(table.out() - 1), row);
        }
    })?;
    first(y)
}

/// `x · Wᵀ + b` for each of the maps.
pub(super) fn products(x: &Array, maps: Vec<Tiled>) -> Result<Vec<Array>> {
    let mut shape = x.shape().to_vec();
    let last = shape.len() - 1;
    let outputs: Vec<Output> = maps
        .iter()
        .map(|map| {
            shape[last] = map.out() as i32;
            floats(shape.clone())
        })
        .collect();
    native(&[x], &outputs, move |inputs, outputs| {
        let x = rows_of(&inputs[0]);
        let count = x.len() / maps[0].matrix.inner();
        let maps: Vec<Map<'_>> = maps.iter().map(Tiled::map).collect();
        let mut into: Vec<&mut [f32]> = outputs.iter_mut().map(|output| output.f32()).collect();
        kernels::matmul(&x, count, &maps, &mut into);
    })
}

/// The maps, if all of them lie in tiles.
pub(super) fn all_tiled(maps: &[Linear]) -> Option<Vec<Tiled>> {
    maps.iter().map(|map| map.tiled().cloned()).collect()
}

impl Linear {
    /// Its tiles, if it has any.
    pub(crate) fn tiled(&self) -> Option<&Tiled> {
        match &self.weight {
            Weight::Tiles(tiled) => Some(tiled),
            _ => None,
        }
    }
}

/// An output of floats.
pub(crate) fn floats(shape: Vec<i32>) -> Output {
    Output { shape, dtype: Type::F32, reuse: None }
}

/// The only result of an operation.
pub(crate) fn first(mut results: Vec<Array>) -> Result<Array> {
    if results.is_empty() { Err(Exception::custom("no result")) } else { Ok(results.remove(0)) }
}

/// The rows of an input, one after the other.
pub(crate) fn rows_of<'a>(x: &In<'a>) -> Cow<'a, [f32]> {
    in_order(x, x.f32())
}

fn numbers_of<'a>(x: &In<'a>) -> Cow<'a, [u32]> {
    in_order(x, x.u32())
}

fn in_order<'a, T: Copy>(x: &In<'a>, data: &'a [T]) -> Cow<'a, [T]> {
    let (shape, strides) = (x.shape(), x.strides());
    let mut dense = 1;
    let is_dense = shape.iter().zip(strides).rev().all(|(&len, &stride)| {
        let fits = len == 1 || stride == dense;
        dense *= i64::from(len);
        fits
    });
    if is_dense {
        return Cow::Borrowed(data);
    }
    let mut places = vec![0usize];
    for (&len, &stride) in shape.iter().zip(strides) {
        places = places
            .iter()
            .flat_map(|place| (0..len as usize).map(move |at| place + at * stride as usize))
            .collect();
    }
    Cow::Owned(places.into_iter().map(|place| data[place]).collect())
}

impl Arrays {
    /// A linear map in tiles.
    pub(super) fn tiled(&mut self, matrix: &Matrix) -> Result<Tiled> {
        // In the order in which the files are read.
        let tiles = self.tiles(matrix)?;
        let bias = matrix.bias.then(|| numbers(&self.part(matrix, "bias", Arrays::float)?));
        Ok(Tiled { matrix: tiles, bias: bias.transpose()? })
    }

    /// The matrix in tiles, packed as it is if there is a kernel for that, and otherwise unpacked.
    pub(super) fn tiles(&mut self, matrix: &Matrix) -> Result<Arc<Tiles>> {
        let Matrix { packing, ref dtype, out, inner, .. } = *matrix;
        match packing {
            None => self.floats_of(matrix)?.in_tiles(),
            Some(_) if unsupported(packing, dtype, [out, inner]).is_some() => {
                let packed = self.packed(matrix)?.ok_or_else(|| Exception::custom("is packed"))?;
                let unpacked = packed.unpacked()?;
                of_floats(&match unpacked_type(packing) {
                    FloatType::Bf16 => unpacked.as_dtype(Dtype::Bfloat16)?,
                    _ => unpacked,
                })
            }
            Some(packing) => {
                let weight = self.bytes_of(matrix, "weight")?;
                let scales = match packing.is_affine() {
                    true => self.bytes_of(matrix, "scales")?,
                    // Their numbers are looked at.
                    false => Read::Made(self.part(matrix, "scales", Arrays::raw)?),
                };
                let biases = packing.is_affine().then(|| self.bytes_of(matrix, "biases"));
                let parts = Pieces { weight, scales, biases: biases.transpose()? };
                of_parts([out, inner], (format(Some(packing), dtype), dtype), &parts)
            }
        }
    }

    /// The tensor `kind` of a matrix as it was read, if it is one tensor.
    fn bytes_of(&mut self, matrix: &Matrix, kind: &str) -> Result<Read> {
        match &matrix.names(kind)[..] {
            [name] => self.file(name),
            _ => self.part(matrix, kind, Arrays::raw).map(Read::Made),
        }
    }

    fn floats_of(&mut self, matrix: &Matrix) -> Result<Read> {
        match &matrix.names("weight")[..] {
            [name] if !self.is_in_blocks(name) => self.file(name),
            _ => self.part(matrix, "weight", Arrays::stored).map(Read::Made),
        }
    }
}

impl Read {
    fn shape(&self) -> Vec<usize> {
        match self {
            Read::Whole(tensor) => tensor.shape.clone(),
            Read::Made(array) => array.shape().iter().map(|&dim| dim as usize).collect(),
        }
    }

    /// What `use_bytes` makes of its bytes, as a file holds them.
    fn with_bytes<T>(&self, use_bytes: impl FnOnce(&[u8]) -> T) -> Result<T> {
        match self {
            Read::Whole(tensor) => Ok(use_bytes(&tensor.bytes)),
            Read::Made(array) => with_bytes(array, use_bytes),
        }
    }

    /// Floats, `[.., out, in]`, in tiles.
    fn in_tiles(&self) -> Result<Arc<Tiles>> {
        let scale_type = match self {
            Read::Whole(tensor) => match &*tensor.dtype {
                known @ ("F32" | "F16" | "BF16") => Ok(float_type(known)),
                other => Err(other.to_owned()),
            },
            Read::Made(array) => match array.dtype() {
                Dtype::Float32 => Ok(FloatType::F32),
                Dtype::Float16 => Ok(FloatType::F16),
                Dtype::Bfloat16 => Ok(FloatType::Bf16),
                other => Err(format!("{other:?}")),
            },
        };
        let scale_type =
            scale_type.map_err(|other| Exception::custom(format!("weights of type {other}")))?;
        let shape = self.shape();
        let &[.., out, inner] = &shape[..] else {
            return Err(Exception::custom(format!("a matrix of shape {shape:?}")));
        };
        let experts = if shape.len() > 2 { shape[0] } else { 1 };
        let format = kernels::Format::Float(scale_type);
        let packed = self.with_bytes(|weight| {
            let (scales, biases) = (&[][..], &[][..]);
            Tiles::pack(&Source { format, experts, out, inner, weight, scales, biases, scale_type })
        })?;
        packed.map(Arc::new).map_err(refused)
    }
}

/// What a packed matrix is made of.
pub(super) struct Pieces {
    pub(super) weight: Read,
    pub(super) scales: Read,
    pub(super) biases: Option<Read>,
}

/// Packed weights in tiles.
pub(super) fn of_parts(
    [out, inner]: [usize; 2],
    (format, dtype): (kernels::Format, &str),
    parts: &Pieces,
) -> Result<Arc<Tiles>> {
    let shape = parts.weight.shape();
    let experts = if shape.len() > 2 { shape[0] } else { 1 };
    let pack = |weight: &[u8], scales: &[u8], biases: &[u8]| {
        let scale_type = float_type(dtype);
        Tiles::pack(&Source { format, experts, out, inner, weight, scales, biases, scale_type })
    };
    let packed = parts.weight.with_bytes(|weight| {
        parts.scales.with_bytes(|scales| match &parts.biases {
            Some(biases) => biases.with_bytes(|biases| pack(weight, scales, biases)),
            None => Ok(pack(weight, scales, &[])),
        })
    });
    packed???.map(Arc::new).map_err(refused)
}

/// Floats, `[.., out, in]`, in tiles.
pub(super) fn of_floats(array: &Array) -> Result<Arc<Tiles>> {
    Read::Made(array.clone()).in_tiles()
}

fn refused(why: kernels::Unsupported) -> Exception {
    Exception::custom(why.to_string())
}

/// The numbers of an array of floats.
pub(crate) fn numbers(array: &Array) -> Result<Arc<[f32]>> {
    let array = array.as_dtype(Dtype::Float32)?;
    with_bytes(&array, |bytes| {
        let words = bytes.chunks_exact(size_of::<f32>());
        words.map(|word| word.try_into().map_or(f32::NAN, f32::from_ne_bytes)).collect()
    })
}
