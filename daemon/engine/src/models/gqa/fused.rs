//! A layer as one operation of the graph, where all of its matrices lie in tiles and nobody wears an adapter.
//!
//! MLX's cost per operation is as much as reading some hundred kilobytes of weights, so there is one for each layer: norm, query,
//! key and value, attention of every sequence of the pass, output, norm and feed-forward part. A row's results depend on that row
//! and its sequence alone, to the bit.

use std::sync::{Arc, OnceLock};

use kernels::{
    Map,
    attention::{
        self, Attention, Cached, KeyNorms, Projected, Sequence, Table, append_and_attend_each,
    },
    primitive::{Dtype, In, Out, Output},
    rope,
};
use mlx_rs::Array;

use super::{Layer, Shape};
use crate::{
    cache::Lent,
    config::KeyNorm,
    models::Sequences,
    nn::{
        Network, Norm, Projections, Result, Rope, sum,
        tiles::{Tiled, floats, numbers, rows_of},
    },
    ops::native,
};

/// What the operation needs, apart from the graph.
pub(super) struct Fused {
    input_norm: Norm,
    qkv: [Tiled; 3],
    output: Tiled,
    /// Norms of query and key, of the kind that is said.
    key_norms: Option<(Norm, Norm)>,
    key_norm: KeyNorm,
    sinks: Option<Arc<[f32]>>,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    scale: f32,
    network: Arc<Network>,
    /// What the rows are multiplied with behind the layer.
    then: OnceLock<Vec<Tiled>>,
}

/// One sequence of a pass.
struct Part {
    /// Its rows of the pass.
    rows: std::ops::Range<usize>,
    seen: usize,
    /// The token whose row is the first of what is lent.
    start: usize,
    window: Option<usize>,
    /// Where its shared keys are among the inputs, and how many parts there are.
    shared: (usize, usize),
    rope: Arc<rope::Rope>,
}

impl Fused {
    /// `None`: some of the layer does not lie in tiles.
    pub(super) fn of(layer: &Layer) -> Result<Option<Arc<Fused>>> {
        let Shape { heads, kv_heads, head_dim, scale, eps, key_norm, .. } = *layer.shape;
        let Projections::Apart(maps) = &layer.qkv else { return Ok(None) };
        let maps: Option<Vec<Tiled>> = maps.iter().map(|map| map.tiled().cloned()).collect();
        let (Some(maps), Some(output)) = (maps, layer.output.tiled().cloned()) else {
            return Ok(None);
        };
        let Ok(qkv) = <[Tiled; 3]>::try_from(maps) else { return Ok(None) };
        let Some(network) = layer.second.network().cloned() else { return Ok(None) };
        let key_norms = match &layer.key_norms {
            None => None,
            Some((query, key)) => Some((Norm::of(query, eps)?, Norm::of(key, eps)?)),
        };
        Ok(Some(Arc::new(Fused {
            input_norm: Norm::of(&layer.input_norm, eps)?,
            qkv,
            output,
            key_norms,
            key_norm,
            sinks: layer.sinks.as_ref().map(numbers).transpose()?,
            heads: heads as usize,
            kv_heads: kv_heads as usize,
            head_dim: head_dim as usize,
            scale,
            network,
            then: OnceLock::new(),
        })))
    }

    /// What the rows of a pass are multiplied with first.
    pub(super) fn first(&self) -> &[Tiled] {
        &self.qkv
    }

    /// Says what they are multiplied with behind the layer, so that it is brought near in time.
    pub(super) fn lead_to(&self, then: &[Tiled]) {
        self.then.get_or_init(|| then.to_vec());
    }

    /// The residual stream behind the layer.
    pub(super) fn forward(
        self: &Arc<Self>,
        x: &Array,
        sequences: &mut Sequences<'_>,
        layer: usize,
        rope: &Rope,
    ) -> Result<Array> {
        let width = (self.kv_heads as i32, self.head_dim as i32);
        let mut parts = Vec::with_capacity(sequences.count());
        let mut inputs = vec![x.clone()];
        let mut outputs = vec![floats(x.shape().to_vec())];
        let mut place = 0;
        for (len, cache) in sequences.lens.iter().zip(&mut sequences.caches) {
            let seen = cache.len;
            let Lent { shared, keys, values, start, window } =
                cache.layers[layer].lend(seen, *len, width)?;
            for array in [keys, values] {
                let shape = array.shape().to_vec();
                outputs.push(Output { shape, dtype: Dtype::F32, reuse: Some(inputs.len()) });
                inputs.push(array);
            }
            let first = inputs.len();
            inputs.extend(shared.into_iter().flat_map(<[Array; 2]>::from));
            let end = place + *len as usize;
            parts.push(Part {
                rows: place..end,
                seen: seen as usize,
                start: start as usize,
                window: window.map(|window| window as usize),
                shared: (first, (inputs.len() - first) / 2),
                rope: rope.kernel(seen + len)?,
            });
            place = end;
        }
        let own = self.clone();
        let inputs: Vec<&Array> = inputs.iter().collect();
        let mut made = native(&inputs, &outputs, move |inputs, outputs| {
            own.compute(&parts, inputs, outputs);
        })?
        .into_iter();
        let y = made.next();
        for cache in &mut sequences.caches {
            if let (Some(keys), Some(values)) = (made.next(), made.next()) {
                cache.layers[layer].give(keys, values);
            }
        }
        y.ok_or_else(|| mlx_rs::error::Exception::custom("no result"))
    }

    fn compute(&self, parts: &[Part], inputs: &[In<'_>], outputs: &mut [Out<'_>]) {
        let Some((into, caches)) = outputs.split_first_mut() else { return };
        let x = rows_of(&inputs[0]);
        let count = x.len() / self.qkv[0].matrix.inner();
        let [mut queries, mut keys, mut values] =
            [0, 1, 2].map(|index: usize| vec![0.0; count * self.qkv[index].out()]);
        let maps = self.qkv.each_ref().map(Tiled::map);
        let mut made = [&mut queries[..], &mut keys[..], &mut values[..]];
        kernels::expect(&[self.output.map()], count);
        kernels::matmul(&self.input_norm.rows(&x), count, &maps, &mut made);
        let mut attended = vec![0.0; queries.len()];
        let tables = [queries, keys, values];
        let width = self.heads * self.head_dim;
        let mut rest = &mut attended[..];
        let mut sequences = Vec::with_capacity(parts.len());
        for (part, cache) in parts.iter().zip(caches.chunks_exact_mut(2)) {
            let (into, others) = rest.split_at_mut(part.rows.len() * width);
            rest = others;
            sequences.extend(self.sequence(part, inputs, cache, &tables, into));
        }
        append_and_attend_each(&mut sequences);
        // The plan counts what attention holds or what the network does, whichever is more.
        drop(sequences);
        drop(tables);
        let mut h = vec![0.0; x.len()];
        self.network.expect(count);
        kernels::matmul(&attended, count, &[self.output.map()], &mut [&mut h]);
        drop(attended);
        sum(&mut h, &x);
        let then: Vec<Map<'_>> = self.then.get().into_iter().flatten().map(Tiled::map).collect();
        self.network.add(&h, count, into.f32(), &then);
    }

    /// One sequence.
    fn sequence<'a>(
        &'a self,
        part: &'a Part,
        inputs: &[In<'a>],
        cache: &'a mut [Out<'_>],
        tables: &'a [Vec<f32>; 3],
        into: &'a mut [f32],
    ) -> Option<Sequence<'a>> {
        let [keys, values] = cache else { return None };
        let attention = Attention {
            heads: self.heads,
            kv_heads: self.kv_heads,
            dim: self.head_dim,
            value_dim: self.head_dim,
            scale: self.scale,
            sinks: self.sinks.as_deref(),
            window: part.window,
            norms: self.norms(),
            rope: Some(&part.rope),
        };
        let widths = [self.heads, self.kv_heads, self.kv_heads].map(|heads| heads * self.head_dim);
        let table = |index: usize| {
            let stride = widths[index];
            Table { data: &tables[index][part.rows.start * stride..], stride }
        };
        let projected = Projected {
            tokens: part.rows.len(),
            queries: table(0),
            keys: table(1),
            values: table(2),
        };
        let (first, count) = part.shared;
        let earlier = earlier(&inputs[first..first + 2 * count]);
        let room = keys.shape()[2] as usize;
        let cached = Cached { first: part.start, room, keys: keys.f32(), values: values.f32() };
        Some(Sequence { attention, projected, seen: part.seen, earlier, cached, into })
    }

    fn norms(&self) -> KeyNorms<'_> {
        let Some((query, key)) = &self.key_norms else { return KeyNorms::None };
        let eps = query.eps;
        let (query, key) = (&*query.weight, &*key.weight);
        match self.key_norm == KeyNorm::Head {
            true => KeyNorms::Head { query, key, eps },
            false => KeyNorms::Whole { query, key, eps },
        }
    }
}

/// Keys and values `[1, kv_heads, tokens, head_dim]` of the first tokens, in turn.
pub(crate) fn earlier<'a>(inputs: &[In<'a>]) -> Vec<attention::Part<'a>> {
    let strides = |of: &In<'_>| (of.strides()[1] as usize, of.strides()[2] as usize);
    let mut before = 0;
    let part = |pair: &[In<'a>]| {
        let (first, len) = (before, pair[0].shape()[2] as usize);
        before += len;
        attention::Part {
            first,
            len,
            keys: pair[0].f32(),
            values: pair[1].f32(),
            key_strides: strides(&pair[0]),
            value_strides: strides(&pair[1]),
        }
    };
    inputs.chunks_exact(2).map(part).collect()
}
