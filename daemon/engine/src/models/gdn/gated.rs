//! Full attention between delta nets by our own kernel: norms, rotation, the new rows of the cache, what the tokens see, and the gate.

use kernels::{
    attention::{Attention as Heads, Cached, KeyNorms, Projected, Table, append_and_attend},
    primitive::{Dtype, Output},
};
use mlx_rs::{Array, error::Exception};

use super::{super::gqa::earlier, Attention};
use crate::{
    cache::Lent,
    models::Seen,
    nn::{
        Result,
        tiles::{floats, rows_of},
    },
    ops::native,
};

/// Where keys and values of the cache are among the inputs, before those that are shared.
const CACHED: usize = 3;

impl Attention {
    /// One sequence: `[1, tokens, heads · head_dim]`. Its rows are query and gate of each head in turn, keys and values.
    pub(super) fn attend_by_kernel(&self, sequence: Seen<'_>) -> Result<Array> {
        let Seen { rows, seen, memory, .. } = sequence;
        let (tokens, width) = (rows[0].dim(1), self.shape.heads * self.shape.head_dim);
        let Lent { shared, keys, values, start, .. } =
            memory.lend(seen, tokens, (self.shape.kv_heads, self.shape.head_dim))?;
        let outputs = {
            let taken = |array: &Array, input: usize| {
                let shape = array.shape().to_vec();
                Output { shape, dtype: Dtype::F32, reuse: Some(input) }
            };
            let y = floats(vec![1, tokens, width]);
            [y, taken(&keys, CACHED), taken(&values, CACHED + 1)]
        };
        let mut inputs: Vec<&Array> = rows.iter().chain([&keys, &values]).collect();
        inputs.extend(shared.iter().flat_map(|(keys, values)| [keys, values]));
        let [heads, kv_heads, dim] =
            [self.shape.heads, self.shape.kv_heads, self.shape.head_dim].map(|n| n as usize);
        let (norms, rope) = (self.norms.clone(), self.shape.rope.kernel(seen + tokens)?);
        let (eps, scale) = (self.shape.eps, (dim as f32).powf(-0.5));
        let (tokens, seen, start) = (tokens as usize, seen as usize, start as usize);
        let made = native(&inputs, &outputs, move |inputs, outputs| {
            let [both, new_keys, new_values] = [0, 1, 2].map(|index| rows_of(&inputs[index]));
            let queries: Vec<f32> =
                both.chunks_exact(2 * dim).flat_map(|head| &head[..dim]).copied().collect();
            let norms = KeyNorms::Head { query: &norms.0, key: &norms.1, eps };
            let attention = Heads {
                heads,
                kv_heads,
                dim,
                value_dim: dim,
                scale,
                sinks: None,
                window: None,
                norms,
                rope: Some(&rope),
            };
            let projected = Projected {
                tokens,
                queries: Table { data: &queries, stride: heads * dim },
                keys: Table { data: &new_keys, stride: kv_heads * dim },
                values: Table { data: &new_values, stride: kv_heads * dim },
            };
            let [y, keys, values] = outputs else { return };
            let room = keys.shape()[2] as usize;
            let parts = earlier(&inputs[CACHED + 2..]);
            let mut cached = Cached { first: start, room, keys: keys.f32(), values: values.f32() };
            append_and_attend(&attention, &projected, seen, &parts, &mut cached, y.f32());
            for (y, head) in y.f32().chunks_exact_mut(dim).zip(both.chunks_exact(2 * dim)) {
                for (y, gate) in y.iter_mut().zip(&head[dim..]) {
                    *y /= 1.0 + (-gate).exp();
                }
            }
        })?;
        drop((keys, values));
        let [y, keys, values] = <[Array; 3]>::try_from(made)
            .map_err(|_| Exception::custom("an operation has other results"))?;
        memory.give(keys, values);
        Ok(y)
    }
}
