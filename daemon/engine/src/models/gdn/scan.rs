//! The gated delta rule over the tokens of a sequence.
//!
//! Every value head has a memory `S`, `[value_dim, key_dim]`. Each token lets it fade, corrects what it knows of the token's key
//! towards the token's value, and asks it the token's query:
//!
//! ```text
//! S ← g·S;   S ← S + β·(v − S·k)·kᵀ;   y = S·q
//! ```

use mlx_rs::{
    Array, Dtype,
    ops::{broadcast_to, concatenate, exp, matmul, pad, stack},
};

use crate::{nn::Result, ops::slice};

/// Tokens of a block.
pub(crate) const BLOCK_LEN: i32 = 32;

/// What the scan reads. Value heads share the key heads evenly, neighbours the same one.
pub(super) struct Inputs {
    /// `[1, tokens, key_heads, key_dim]`
    pub(super) queries: Array,
    /// Likewise.
    pub(super) keys: Array,
    /// `[1, tokens, value_heads, value_dim]`
    pub(super) values: Array,
    /// `[1, tokens, value_heads]`
    pub(super) beta: Array,
    /// The logarithm of `g`, likewise, in fp32.
    pub(super) log_decay: Array,
}

/// Token by token, in the operations of mlx-lm. Returns `[1, tokens, value_heads, value_dim]` and the last memory.
pub(super) fn steps(inputs: &Inputs, mut memory: Array) -> Result<(Array, Array)> {
    let Inputs { queries, keys, values, beta, log_decay } = inputs;
    let [tokens, heads, value_dim] = [values.dim(1), values.dim(2), values.dim(3)];
    let (key_heads, key_dim) = (keys.dim(2), keys.dim(3));
    let spread = |x: &Array| {
        broadcast_to(
            x.reshape(&[tokens, key_heads, 1, key_dim])?,
            &[tokens, key_heads, heads / key_heads, key_dim],
        )?
        .reshape(&[tokens, heads, 1, key_dim])
    };
    let (queries, keys) = (spread(queries)?, spread(keys)?);
    let values = values.reshape(&[tokens, heads, value_dim])?;
    let beta = beta.reshape(&[tokens, heads, 1])?;
    let decay = exp(log_decay)?.reshape(&[tokens, heads, 1, 1])?;
    let mut results = Vec::with_capacity(tokens as usize);
    for token in 0..tokens {
        let (key, query) = (row(&keys, token)?, row(&queries, token)?);
        memory = memory.multiply(row(&decay, token)?)?;
        let known = memory.multiply(&key)?.sum_axis(-1, false)?;
        let delta = row(&values, token)?.subtract(known)?.multiply(row(&beta, token)?)?;
        memory = memory.add(key.multiply(delta.expand_dims(-1)?)?)?;
        let y = memory.multiply(query)?.sum_axis(-1, false)?;
        results.push(y.as_dtype(queries.dtype())?);
    }
    Ok((stack(&results, 1)?, memory))
}

/// `x[index..=index]`
fn row(x: &Array, index: i32) -> Result<Array> {
    let (mut start, mut stop) = (vec![0; x.ndim()], x.shape().to_vec());
    (start[0], stop[0]) = (index, index + 1);
    slice(x, &start, &stop)
}

/// The same up to rounding, in blocks of tokens, as products of matrices in fp32.
///
/// With `Gᵢ` the product of the decays up to token `i` of a block and `Dᵢⱼ = Gᵢ/Gⱼ`, what the tokens write, `U`, solves
/// `(I + L)·U = β·(V − G·K·Sᵀ)` with `Lᵢⱼ = βᵢ·Dᵢⱼ·kᵢ·kⱼ` below the diagonal. Then `Y = G·Q·Sᵀ + (D·Q·Kᵀ)·U`, on and below the diagonal,
/// and the memory after the block is `G·S + Uᵀ·(D·K)`. Only the products with `S` wait for the block before.
pub(super) fn blocks(inputs: &Inputs, mut memory: Array) -> Result<(Array, Array)> {
    let dtype = inputs.queries.dtype();
    let [tokens, heads, value_dim] = [1, 2, 3].map(|axis| inputs.values.dim(axis));
    let (key_heads, key_dim) = (inputs.keys.dim(2), inputs.keys.dim(3));
    let (len, shared) = (tokens.min(BLOCK_LEN), heads / key_heads);
    let count = (tokens + len - 1) / len;
    // `[blocks, key_heads, value heads of one, tokens of a block, dim]`
    let cut = |x: &Array, shared: i32, dim: i32| {
        let missing = count * len - tokens;
        let x = x.as_dtype(Dtype::Float32)?.reshape(&[tokens, key_heads * shared * dim])?;
        let x = if missing > 0 { pad(x, &[(0, missing), (0, 0)][..], None, None)? } else { x };
        x.reshape(&[count, len, key_heads, shared, dim])?.transpose_axes(&[0, 2, 3, 1, 4])
    };
    let (queries, keys) = (cut(&inputs.queries, 1, key_dim)?, cut(&inputs.keys, 1, key_dim)?);
    let values = cut(&inputs.values, shared, value_dim)?;
    let beta = cut(&inputs.beta, shared, 1)?;
    // Of a token that fills the last block up, key and β are 0: it writes nothing, and nothing fades.
    let log_decay = cut(&inputs.log_decay, shared, 1)?.cumsum(-2, None, None)?;
    let decay = exp(&log_decay)?;
    let between = log_decay.subtract(log_decay.swap_axes(-1, -2)?)?;
    let above = square(len, |row, column| if column > row { f32::NEG_INFINITY } else { 0.0 });
    let between = exp(between.add(above)?)?;
    let transposed = keys.swap_axes(-1, -2)?;
    let overlap = matmul(&keys, &transposed)?.multiply(&between)?.multiply(&beta)?;
    let solved = inverse(&overlap, len)?;
    let written = matmul(&solved, values.multiply(&beta)?)?;
    let corrected = matmul(&solved, keys.multiply(beta.multiply(&decay)?)?)?;
    let asked = matmul(&queries, &transposed)?.multiply(&between)?;
    let queries = queries.multiply(&decay)?;
    // The decay from each token to the end of its block.
    let end = slice(&log_decay, &[0, 0, 0, len - 1, 0], &[count, key_heads, shared, len, 1])?;
    let faded = keys.multiply(exp(end.subtract(&log_decay)?)?)?;
    let end = exp(end)?;
    let mut results = Vec::with_capacity(count as usize);
    memory = memory.reshape(&[1, key_heads, shared, value_dim, key_dim])?;
    for block in 0..count {
        let turned = memory.swap_axes(-1, -2)?;
        let written = row(&written, block)?.subtract(matmul(row(&corrected, block)?, &turned)?)?;
        let y = matmul(row(&queries, block)?, &turned)?;
        results.push(y.add(matmul(row(&asked, block)?, &written)?)?);
        let added = matmul(written.swap_axes(-1, -2)?, row(&faded, block)?)?;
        memory = memory.multiply(row(&end, block)?)?.add(added)?;
    }
    let y = concatenate(&results, 0)?.transpose_axes(&[0, 3, 1, 2, 4])?;
    let y = y.reshape(&[1, count * len, heads, value_dim])?;
    let y = slice(&y, &[0; 4], &[1, tokens, heads, value_dim])?.as_dtype(dtype)?;
    Ok((y, memory.reshape(&[1, heads, value_dim, key_dim])?))
}

/// The inverse of `I + L`, where `L` is what `below` has under the diagonal, `[.., len, len]`.
///
/// Blocks on the diagonal are inverted, of twice the size at every step: with the inverses of two neighbours, that of both together
/// lacks `−B⁻¹·L·A⁻¹` beside them. It is as exact as substitution, and all of it is products of matrices.
fn inverse(below: &Array, len: i32) -> Result<Array> {
    let mut inverse = square(len, |row, column| f32::from(u8::from(row == column)));
    let mut size = 1;
    while size < len {
        let is_beside =
            |row: i32, column: i32| row / size == column / size + 1 && row / size % 2 == 1;
        let beside = square(len, |row, column| f32::from(u8::from(is_beside(row, column))));
        let lacking = matmul(matmul(&inverse, below.multiply(beside)?)?, &inverse)?;
        inverse = inverse.subtract(lacking)?;
        size *= 2;
    }
    Ok(inverse)
}

/// A matrix of `len` rows and columns.
fn square(len: i32, entry: impl Fn(i32, i32) -> f32) -> Array {
    let entries = (0..len * len).map(|index| entry(index / len, index % len));
    Array::from_slice(&entries.collect::<Vec<f32>>(), &[len, len])
}

#[cfg(test)]
mod tests;
