//! Latent attention by our own kernel: one key per token for all heads, a latent and a rotated part in one row of the cache, whose
//! first part is the value too. What a token comes to depends on itself and on what it sees, to the bit.

use kernels::attention::{Attention, KeyNorms, Part, Table, attend};
use mlx_rs::{Array, ops::concatenate};

use super::Layer;
use crate::{
    cache::Latent,
    nn::{
        Result,
        tiles::{first, floats, rows_of},
    },
    ops::native,
};

impl Layer {
    /// Queries of latents' width are made of the first of `queries`, `[1, heads, tokens, plain]`, the second are rotated; `rows` are the
    /// latents and rotated keys of new tokens. The result is `[1, tokens, heads · value]`.
    pub(super) fn attend_to_joined(
        &self,
        memory: &mut Latent,
        seen: i32,
        (plain, rotated): (Array, Array),
        rows: [Array; 2],
    ) -> Result<Array> {
        let (heads, latent, value) = (self.shape.heads, self.shape.latent, self.shape.value);
        let (tokens, scale) = (plain.dim(2), self.shape.scale);
        let all = memory.append_joined(seen, &concatenate(&rows, -1)?)?;
        let queries = concatenate(&[self.embed.forward(&plain)?, rotated], -1)?;
        let queries = queries.transpose_axes(&[0, 2, 1, 3])?;
        let shape = vec![1, tokens, heads, latent];
        let y = native(&[&queries, &all], &[floats(shape)], move |inputs, outputs| {
            let queries = rows_of(&inputs[0]);
            let (all, stride) = (&inputs[1], inputs[1].strides()[2] as usize);
            let [heads, dim, value_dim] = [heads, all.shape()[3], latent].map(|size| size as usize);
            let attention = Attention {
                heads,
                kv_heads: 1,
                dim,
                value_dim,
                scale,
                sinks: None,
                window: None,
                norms: KeyNorms::None,
                rope: None,
            };
            let part = Part {
                first: 0,
                len: all.shape()[2] as usize,
                keys: all.f32(),
                values: all.f32(),
                key_strides: (0, stride),
                value_strides: (0, stride),
            };
            let table = Table { data: &queries, stride: heads * dim };
            let (tokens, seen) = (tokens as usize, seen as usize);
            attend(&attention, table, tokens, seen, &[part], outputs[0].f32());
        })?;
        let y = self.unembed.forward(&first(y)?.transpose_axes(&[0, 2, 1, 3])?)?;
        y.transpose_axes(&[0, 2, 1, 3])?.reshape(&[1, tokens, heads * value])
    }
}
