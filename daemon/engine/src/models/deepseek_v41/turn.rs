//! Rotary positions of the last dimensions, forth and back.

use mlx_rs::{Array, Dtype, fast, ops::concatenate};

use crate::{
    config,
    nn::{Result, Rope},
    ops::slice,
};

/// Rotates neighbouring pairs among the last dimensions, in fp32.
pub(super) struct Turn {
    dims: i32,
    rope: Rope,
}

impl Turn {
    pub(super) fn new(rope: &config::Rope) -> Turn {
        Turn { dims: rope.dims as i32, rope: Rope::new(rope) }
    }

    /// `x` is `[1, tokens, heads, dim]` or `[1, tokens, dim]`; its first token is at `offset · scale`, the next one `scale` further.
    pub(super) fn forth(&self, x: &Array, offset: i32, scale: f32) -> Result<Array> {
        self.turned(x, offset, scale, &self.rope.periods()?)
    }

    /// Undoes [`Turn::forth`] of scale 1.
    pub(super) fn back(&self, x: &Array, offset: i32) -> Result<Array> {
        self.turned(x, offset, 1.0, &self.rope.periods()?.negative()?)
    }

    fn turned(&self, x: &Array, offset: i32, scale: f32, periods: &Array) -> Result<Array> {
        let (axes, width) = (x.ndim(), x.dim(-1));
        let part = |start: i32, end: i32| {
            let mut starts = vec![0; axes];
            let mut ends = x.shape().to_vec();
            (starts[axes - 1], ends[axes - 1]) = (start, end);
            slice(x, &starts, &ends)
        };
        let plain = width - self.dims;
        let mut turned = part(plain, width)?.as_dtype(Dtype::Float32)?;
        if axes == 4 {
            turned = turned.transpose_axes(&[0, 2, 1, 3])?;
        }
        turned = fast::rope(&turned, self.dims, true, None, scale, offset, periods)?;
        if axes == 4 {
            turned = turned.transpose_axes(&[0, 2, 1, 3])?;
        }
        let turned = turned.as_dtype(x.dtype())?;
        if plain == 0 { Ok(turned) } else { concatenate(&[part(0, plain)?, turned], -1) }
    }
}
