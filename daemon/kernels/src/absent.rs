//! The place of [`primitive`](crate::primitive) where MLX is not built with our operation: the same words, and every graph is refused.

use std::marker::PhantomData;

/// The types of elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// 32-bit floats.
    F32,
    /// Unsigned 32-bit integers.
    U32,
    /// Signed 32-bit integers.
    I32,
}

/// A result of the operation.
#[derive(Debug, Clone)]
pub struct Output {
    /// Elements per axis.
    pub shape: Vec<i32>,
    /// The type of its elements.
    pub dtype: Dtype,
    /// The input that it begins as.
    pub reuse: Option<usize>,
}

/// An input; there is never one.
#[derive(Debug)]
pub struct In<'a>(PhantomData<&'a [f32]>);

impl<'a> In<'a> {
    /// Elements per axis.
    pub fn shape(&self) -> &'a [i32] {
        &[]
    }

    /// Elements between neighbours along each axis.
    pub fn strides(&self) -> &'a [i64] {
        &[]
    }

    /// Its elements.
    pub fn f32(&self) -> &'a [f32] {
        &[]
    }

    /// Its elements.
    pub fn u32(&self) -> &'a [u32] {
        &[]
    }
}

/// A result; there is never one.
#[derive(Debug)]
pub struct Out<'a>(PhantomData<&'a mut [f32]>);

impl Out<'_> {
    /// Elements per axis.
    pub fn shape(&self) -> &[i32] {
        &[]
    }

    /// Its elements.
    pub fn f32(&mut self) -> &mut [f32] {
        &mut []
    }
}
