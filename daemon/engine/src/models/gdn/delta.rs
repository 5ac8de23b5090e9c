//! A gated delta net: projections, a short convolution, the scan over the tokens, a gated norm.
//!
//! Yang et al., *Gated Delta Networks: Improving Mamba2 with Delta Rule* (arXiv 2412.06464).

use std::sync::Arc;

use kernels::{
    delta::{self, DeltaShape, DeltaTokens},
    primitive::Output,
};
use mlx_rs::{
    Array, Dtype,
    error::Exception,
    fast::rms_norm,
    ops::{self, concatenate, conv1d, logaddexp, sigmoid, zeros_dtype},
};

use super::scan::{self, Inputs};
use crate::{
    cache::State,
    config::Delta,
    models::{Seen, Sequences},
    nn::{Builder, Built, Linear, Map, Projections, Result, floats, numbers, rows_of, swiglu},
    ops::{native, slice},
};

/// Added to the squared length of a query or key before it is divided by.
const LENGTH_EPS: f64 = 1e-6;

pub(super) struct DeltaNet {
    shape: Shape,
    /// Queries, keys and values, the gate of the result, and both gates of the memory.
    inputs: Projections,
    /// `[channels, kernel, 1]`
    conv: Array,
    /// How fast each value head forgets, `[value_heads]`: a logarithm.
    a_log: Array,
    dt_bias: Array,
    norm: Array,
    output: Linear,
    /// Token by token in mlx-lm's operations, and not in blocks.
    is_exact: bool,
    /// What a kernel of our own needs to do everything between the projections; `None`: MLX's operations do it.
    fused: Option<Arc<Fused>>,
}

/// The net's own weights, as the kernel takes them.
struct Fused {
    shape: DeltaShape,
    taps: Arc<[f32]>,
    a_log: Arc<[f32]>,
    dt_bias: Arc<[f32]>,
    norm: Arc<[f32]>,
    eps: f32,
}

struct Shape {
    key_heads: i32,
    value_heads: i32,
    key_dim: i32,
    value_dim: i32,
    kernel: i32,
    interleaved: bool,
    eps: f32,
}

/// What the projections of a pass come to, `[1, tokens, …]` each.
struct Projected {
    /// Queries, keys and values of all heads, one after the other.
    qkv: Array,
    /// The gate of the result, `[.., value_heads, value_dim]`.
    z: Array,
    /// The gate of what is written, before its sigmoid, `[.., value_heads]`.
    b: Array,
    /// What is forgotten, likewise.
    a: Array,
}

impl DeltaNet {
    pub(super) fn build(
        delta: &Delta,
        hidden: usize,
        eps: f32,
        path: &str,
        builder: &mut Builder<'_>,
    ) -> Built<DeltaNet> {
        let Delta { key_heads, value_heads, key_dim, value_dim, kernel, interleaved } = *delta;
        let (channels, width) = (delta.conv_width(), value_heads * value_dim);
        let maps: &[(&str, usize)] = if interleaved {
            &[("in_proj_qkvz", channels + width), ("in_proj_ba", 2 * value_heads)]
        } else {
            &[
                ("in_proj_qkv", channels),
                ("in_proj_z", width),
                ("in_proj_b", value_heads),
                ("in_proj_a", value_heads),
            ]
        };
        let paths: Vec<String> = maps.iter().map(|(name, _)| format!("{path}.{name}")).collect();
        let maps = paths.iter().zip(maps);
        let maps: Vec<Map<'_>> =
            maps.map(|(path, &(_, out))| Map { path, out, inner: hidden, bias: false }).collect();
        let mut net = DeltaNet {
            shape: Shape {
                key_heads: key_heads as i32,
                value_heads: value_heads as i32,
                key_dim: key_dim as i32,
                value_dim: value_dim as i32,
                kernel: kernel as i32,
                interleaved,
                eps,
            },
            inputs: builder.projections(&maps)?,
            conv: conv(&format!("{path}.conv1d.weight"), channels, kernel, builder)?,
            a_log: builder.vector(&format!("{path}.A_log"), value_heads)?,
            dt_bias: builder.vector(&format!("{path}.dt_bias"), value_heads)?,
            norm: builder.vector(&format!("{path}.norm.weight"), value_dim)?,
            output: builder.linear(&format!("{path}.out_proj"), hidden, width, false)?,
            is_exact: builder.is_exact(),
            fused: None,
        };
        if builder.is_in_tiles() {
            let shape = DeltaShape { key_heads, value_heads, key_dim, value_dim, kernel };
            net.fused = Some(Arc::new(builder.convert(|| Fused::of(&net, shape))?));
        }
        Ok(net)
    }

    pub(super) fn forward(
        &self,
        x: &Array,
        sequences: &mut Sequences<'_>,
        layer: usize,
    ) -> Result<Array> {
        let Projected { qkv, z, b, a } = self.project(x)?;
        if let Some(fused) = &self.fused {
            let inputs = [&qkv, &z, &b, &a];
            let y = sequences.each(layer, &inputs, |sequence| fused.remember(sequence))?;
            return self.output.forward(&y);
        }
        let y = sequences.each(layer, &[&qkv, &b, &a], |sequence| self.remember(sequence))?;
        let normal = rms_norm(&y, Some(&self.norm), self.shape.eps)?;
        let gated = swiglu(&single(&z)?, &single(&normal)?)?.as_dtype(y.dtype())?;
        let width = self.shape.value_heads * self.shape.value_dim;
        self.output.forward(&gated.reshape(&[1, x.dim(1), width])?)
    }

    fn project(&self, x: &Array) -> Result<Projected> {
        let Shape { key_heads, value_heads, key_dim, value_dim, interleaved, .. } = self.shape;
        let tokens = x.dim(1);
        let parts = self.inputs.forward(x)?;
        if !interleaved {
            let z = parts[1].reshape(&[1, tokens, value_heads, value_dim])?;
            let [qkv, b, a] = [0, 2, 3].map(|index: usize| parts[index].clone());
            return Ok(Projected { qkv, z, b, a });
        }
        let shared = value_heads / key_heads;
        let qkvz = parts[0].reshape(&[1, tokens, key_heads, -1])?;
        let ba = parts[1].reshape(&[1, tokens, key_heads, -1])?;
        // The heads' parts from `start` on, one after the other.
        let cut = |part: &Array, start: i32, len: i32| {
            slice(part, &[0, 0, 0, start], &[1, tokens, key_heads, start + len])?
                .reshape(&[1, tokens, -1])
        };
        let wide = shared * value_dim;
        let q = cut(&qkvz, 0, key_dim)?;
        let k = cut(&qkvz, key_dim, key_dim)?;
        let v = cut(&qkvz, 2 * key_dim, wide)?;
        let z = cut(&qkvz, 2 * key_dim + wide, wide)?;
        Ok(Projected {
            qkv: concatenate(&[q, k, v], -1)?,
            z: z.reshape(&[1, tokens, value_heads, value_dim])?,
            b: cut(&ba, 0, shared)?,
            a: cut(&ba, shared, shared)?,
        })
    }

    /// Convolution and scan of one sequence: `[1, tokens, value_heads, value_dim]`.
    fn remember(&self, sequence: Seen<'_>) -> Result<Array> {
        let Shape { value_heads, key_dim, value_dim, kernel, .. } = self.shape;
        let Seen { rows, seen, memory, .. } = sequence;
        let [qkv, b, a] = [&rows[0], &rows[1], &rows[2]];
        let (tokens, channels) = (qkv.dim(1), qkv.dim(2));
        let recurrent = memory.recurrent()?;
        let (before, memory) = match recurrent.now() {
            Some(state) => (state.conv.clone(), state.memory.clone()),
            None => (
                zeros_dtype(&[1, kernel - 1, channels], qkv.dtype())?,
                zeros_dtype(&[1, value_heads, value_dim, key_dim], Dtype::Float32)?,
            ),
        };
        let window = concatenate(&[before, qkv.clone()], 1)?;
        // A copy: a view would hold all of the window.
        let conv = slice(&window, &[0, tokens, 0], &[1, tokens + kernel - 1, channels])?;
        let conv = conv.contiguous()?;
        let inputs = self.scan_inputs(&self.convolve(&window, tokens)?, b, a)?;
        let (y, memory) = if self.is_exact {
            scan::steps(&inputs, memory)?
        } else {
            scan::blocks(&inputs, memory)?
        };
        recurrent.advance(seen + tokens, State { conv, memory });
        Ok(y)
    }

    /// `window` has the inputs of the last tokens before the first.
    fn convolve(&self, window: &Array, tokens: i32) -> Result<Array> {
        let channels = window.dim(2);
        let y = if self.is_exact {
            conv1d(window, &self.conv, 1, 0, 1, channels)?
        } else {
            // MLX's own convolution is slow on the CPU where every channel is its own group.
            let tap = |index: i32| {
                let taps = slice(&self.conv, &[0, index, 0], &[channels, index + 1, 1])?;
                let inputs = slice(window, &[0, index, 0], &[1, index + tokens, channels])?;
                inputs.multiply(taps.reshape(&[channels])?)
            };
            (1..self.shape.kernel).try_fold(tap(0)?, |sum, index| sum.add(tap(index)?))?
        };
        y.multiply(sigmoid(&y)?)
    }

    /// Queries and keys get the length 1, and queries the scale of the read-out.
    fn scan_inputs(&self, convolved: &Array, b: &Array, a: &Array) -> Result<Inputs> {
        let Shape { key_heads, value_heads, key_dim, value_dim, .. } = self.shape;
        let tokens = convolved.dim(1);
        let part = |start: i32, heads: i32, dim: i32| {
            slice(convolved, &[0, 0, start], &[1, tokens, start + heads * dim])?
                .reshape(&[1, tokens, heads, dim])
        };
        let keys = key_heads * key_dim;
        let inverse = f64::from(key_dim).powf(-0.5);
        let unit = |x: Array, scale: f64| {
            let scale = Array::from_f32(scale as f32).as_dtype(x.dtype())?;
            scale.multiply(rms_norm(&x, None, (LENGTH_EPS * inverse * inverse) as f32)?)
        };
        let x = a.add(&self.dt_bias)?;
        let softplus = logaddexp(&x, Array::from_f32(0.0).as_dtype(x.dtype())?)?;
        Ok(Inputs {
            queries: unit(part(0, key_heads, key_dim)?, inverse * inverse)?,
            keys: unit(part(keys, key_heads, key_dim)?, inverse)?,
            values: part(2 * keys, value_heads, value_dim)?,
            beta: sigmoid(b)?,
            log_decay: ops::exp(single(&self.a_log)?)?.negative()?.multiply(softplus)?,
        })
    }
}

impl Fused {
    fn of(net: &DeltaNet, shape: DeltaShape) -> Result<Fused> {
        let channels = shape.channels() as i32;
        let taps = net.conv.reshape(&[channels, shape.kernel as i32])?.transpose()?;
        Ok(Fused {
            shape,
            taps: numbers(&taps)?,
            a_log: numbers(&net.a_log)?,
            dt_bias: numbers(&net.dt_bias)?,
            norm: numbers(&net.norm)?,
            eps: net.shape.eps,
        })
    }

    /// Everything between the projections, of one sequence: `[1, tokens, value_heads · value_dim]`.
    fn remember(self: &Arc<Self>, sequence: Seen<'_>) -> Result<Array> {
        let Seen { rows, seen, memory, .. } = sequence;
        let tokens = rows[0].dim(1);
        let shape = self.shape;
        let before = vec![1, shape.kernel as i32 - 1, shape.channels() as i32];
        let held = vec![1, shape.value_heads as i32, shape.value_dim as i32, shape.key_dim as i32];
        let recurrent = memory.recurrent()?;
        let (conv, memory) = match recurrent.take() {
            Some(State { conv, memory }) => (conv, memory),
            None => (zeros_dtype(&before, Dtype::Float32)?, zeros_dtype(&held, Dtype::Float32)?),
        };
        let outputs = [
            floats(vec![1, tokens, shape.width() as i32]),
            Output { reuse: Some(4), ..floats(before) },
            Output { reuse: Some(5), ..floats(held) },
        ];
        let own = self.clone();
        let inputs = [&rows[0], &rows[1], &rows[2], &rows[3], &conv, &memory];
        let mut results = native(&inputs, &outputs, move |inputs, outputs| {
            let Fused { shape, taps, a_log, dt_bias, norm, eps } = &*own;
            let net = delta::DeltaNet { shape: *shape, taps, a_log, dt_bias, norm, eps: *eps };
            let [qkv, z, b, a] = [0, 1, 2, 3].map(|index| rows_of(&inputs[index]));
            let tokens = DeltaTokens { qkv: &qkv, z: &z, b: &b, a: &a };
            if let [into, before, memory] = outputs {
                net.forward(&tokens, before.f32(), memory.f32(), into.f32());
            }
        })?;
        // The results take the buffers over where no checkpoint holds them.
        drop((conv, memory));
        let (memory, conv) = (results.pop(), results.pop());
        let (Some(y), Some(conv), Some(memory)) = (results.pop(), conv, memory) else {
            return Err(Exception::custom("an operation without results"));
        };
        recurrent.advance(seen + tokens, State { conv, memory });
        Ok(y)
    }
}

fn single(x: &Array) -> Result<Array> {
    x.as_dtype(Dtype::Float32)
}

/// The taps of the convolution, whose last two axes Hugging Face has the other way round.
fn conv(name: &str, channels: usize, kernel: usize, builder: &mut Builder<'_>) -> Built<Array> {
    if builder.shape(name) != Some(&[channels, 1, kernel]) {
        return builder.tensor(name, &[channels, kernel, 1]);
    }
    let taps = builder.tensor(name, &[channels, 1, kernel])?;
    builder.compute(|| taps.swap_axes(1, 2)?.contiguous())
}
