//! From projected rows to queries that can be multiplied, and to keys and values in their cache.

use super::{Attention, Cached, Places, padded, share};
use crate::{
    norm::factor_by,
    rope::{Angles, Rope},
    simd::{Simd, dispatch},
};

/// So many tokens are one task.
const BLOCK_TOKENS: usize = 8;

/// Rows of floats with gaps.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    /// The first row begins here.
    pub data: &'a [f32],
    /// Floats between rows.
    pub stride: usize,
}

/// What the projections made of new tokens.
#[derive(Debug, Clone, Copy)]
pub struct Projected<'a> {
    /// How many.
    pub tokens: usize,
    /// `[tokens, heads · dim]`.
    pub queries: Table<'a>,
    /// `[tokens, kv_heads · dim]`.
    pub keys: Table<'a>,
    /// `[tokens, kv_heads · value_dim]`.
    pub values: Table<'a>,
}

/// Root-mean-square norms of queries and keys, before they are rotated.
#[derive(Debug, Clone, Copy)]
pub enum KeyNorms<'a> {
    /// None.
    None,
    /// Of each head, with weights `[dim]`.
    Head {
        /// Of queries.
        query: &'a [f32],
        /// Of keys.
        key: &'a [f32],
        /// Added to the mean of squares.
        eps: f32,
    },
    /// Of all heads together, with weights `[heads · dim]`.
    Whole {
        /// Of queries.
        query: &'a [f32],
        /// Of keys.
        key: &'a [f32],
        /// Added to the mean of squares.
        eps: f32,
    },
}

impl<'a> Table<'a> {
    fn row(&self, row: usize, width: usize) -> &'a [f32] {
        &self.data[row * self.stride..][..width]
    }
}

/// Norms and rotates; `queries` becomes `[tokens, heads, dim in whole vectors]`, times the scale.
pub(super) fn prepare(
    attention: &Attention<'_>,
    projected: &Projected<'_>,
    seen: usize,
    cached: &mut Cached<'_>,
    queries: &mut [f32],
) {
    let &Attention { heads, kv_heads, dim, value_dim, norms, rope, .. } = attention;
    let tokens = projected.tokens;
    assert!(
        cached.first <= seen && seen + tokens <= cached.first + cached.room,
        "room for new keys"
    );
    let (keys, values) = (kv_heads * cached.room * dim, kv_heads * cached.room * value_dim);
    assert!(
        cached.keys.len() >= keys && cached.values.len() >= values,
        "a cache as big as it says"
    );
    let sides = [
        Side { table: projected.queries, heads, dim, norm: norms.of(true), scale: attention.scale },
        Side { table: projected.keys, heads: kv_heads, dim, norm: norms.of(false), scale: 1.0 },
        Side {
            table: projected.values,
            heads: kv_heads,
            dim: value_dim,
            norm: Norm::None,
            scale: 1.0,
        },
    ];
    let angles = rope.map(|rope| (rope, rope.angles(seen, tokens)));
    let (room, row) = (cached.room, seen - cached.first);
    let padded = padded(dim);
    let places = [Places::of(queries), Places::of(cached.keys), Places::of(cached.values)];
    let block = |task: usize| {
        for token in task * BLOCK_TOKENS..((task + 1) * BLOCK_TOKENS).min(tokens) {
            for (index, (side, places)) in sides.iter().zip(&places).enumerate() {
                let turn = angles.as_ref().filter(|_| index < 2);
                let turn = turn.map(|(rope, angles)| (*rope, &**angles, token));
                let into = match index {
                    0 => Heads { places, first: token * heads * padded, step: padded, len: padded },
                    _ => {
                        let (first, step) = ((row + token) * side.dim, room * side.dim);
                        Heads { places, first, step, len: side.dim }
                    }
                };
                // SAFETY: no other task has this token.
                unsafe { side.prepare(token, turn, into) };
            }
        }
    };
    let floats = tokens * (heads + 2 * kv_heads) * dim;
    share(tokens.div_ceil(BLOCK_TOKENS), floats, &block);
}

/// Queries that are ready but for the scale.
pub(super) fn scaled(
    attention: &Attention<'_>,
    table: Table<'_>,
    tokens: usize,
    queries: &mut [f32],
) {
    let &Attention { heads, dim, scale, .. } = attention;
    let padded = padded(dim);
    let side = Side { table, heads, dim, norm: Norm::None, scale };
    let places = Places::of(queries);
    for token in 0..tokens {
        let first = token * heads * padded;
        // SAFETY: one after the other.
        unsafe {
            side.prepare(token, None, Heads { places: &places, first, step: padded, len: padded });
        }
    }
}

/// Where the heads of a token go.
#[derive(Clone, Copy)]
struct Heads<'a> {
    places: &'a Places,
    first: usize,
    /// Floats between heads.
    step: usize,
    /// Floats of a head; what it has beyond the dimensions becomes 0.
    len: usize,
}

/// Queries, keys or values.
struct Side<'a> {
    table: Table<'a>,
    heads: usize,
    dim: usize,
    norm: Norm<'a>,
    scale: f32,
}

#[derive(Clone, Copy)]
enum Norm<'a> {
    None,
    Head(&'a [f32], f32),
    Whole(&'a [f32], f32),
}

impl<'a> KeyNorms<'a> {
    fn of(&self, of_queries: bool) -> Norm<'a> {
        match *self {
            KeyNorms::None => Norm::None,
            KeyNorms::Head { query, key, eps } => {
                Norm::Head(if of_queries { query } else { key }, eps)
            }
            KeyNorms::Whole { query, key, eps } => {
                Norm::Whole(if of_queries { query } else { key }, eps)
            }
        }
    }
}

type Turn<'a> = Option<(&'a Rope, &'a Angles, usize)>;

impl Side<'_> {
    /// # Safety
    /// Nobody else uses the places of these heads.
    unsafe fn prepare(&self, token: usize, turn: Turn<'_>, into: Heads<'_>) {
        let row = self.table.row(token, self.heads * self.dim);
        prepare_row(row, self.dim, self.norm, turn, self.scale, into);
    }
}

dispatch! {
    /// The heads of a token. Nobody else uses their places.
    fn prepare_row(row: &[f32], dim: usize, norm: Norm<'_>, turn: Turn<'_>, scale: f32, into: Heads<'_>) => prepare_row_by
}

#[inline(always)]
fn prepare_row_by<S: Simd>(
    s: S,
    row: &[f32],
    dim: usize,
    norm: Norm<'_>,
    turn: Turn<'_>,
    scale: f32,
    into: Heads<'_>,
) {
    let whole = match norm {
        Norm::Whole(_, eps) => factor_by(s, row, eps),
        _ => 1.0,
    };
    for (head, x) in row.chunks_exact(dim).enumerate() {
        // SAFETY: the callers'.
        let into = unsafe { into.places.slice(into.first + head * into.step, into.len) };
        let (into, rest) = into.split_at_mut(dim);
        rest.fill(0.0);
        let (factor, weight) = match norm {
            Norm::None => (1.0, None),
            Norm::Head(weight, eps) => (factor_by(s, x, eps), Some(&weight[..dim])),
            Norm::Whole(weight, _) => (whole, Some(&weight[head * dim..][..dim])),
        };
        match weight {
            Some(weight) => {
                for ((y, x), weight) in into.iter_mut().zip(x).zip(weight) {
                    *y = x * factor * weight;
                }
            }
            None => into.copy_from_slice(x),
        }
        if let Some((rope, angles, token)) = turn {
            rope.rotate(into, angles, token);
        }
        if scale != 1.0 {
            into.iter_mut().for_each(|y| *y *= scale);
        }
    }
}
