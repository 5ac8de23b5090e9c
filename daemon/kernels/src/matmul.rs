//! Products of rows with matrices, shared among the threads.
//!
//! The work is cut into tasks of some tiles and all rows. Within a task blocks of eight rows go through as many tiles as
//! stay in the second cache, so that weights come from memory once and are unpacked once for eight rows.

pub(crate) mod mixture;
mod plan;

pub use plan::expect;

use crate::buffer::Shared;
use crate::digits::Prepared;
use crate::isa::{self, PANEL_ROWS, PANEL_SUMS, PANEL_TILES, ROW_SUMS, Row};
use crate::layout::LANES;
use crate::matrix::Matrix;
use crate::pool::{Pool, pool};

use plan::{Plan, tile_bytes};

/// Bytes of weights that a task keeps near while its rows go by.
const NEAR_BYTES: usize = 256 << 10;
/// A matrix that an input is multiplied with, and what is added.
#[derive(Debug, Clone, Copy)]
pub struct Map<'a> {
    /// The matrix, or the stack of matrices.
    pub matrix: &'a Matrix,
    /// Of each output.
    pub bias: Option<&'a [f32]>,
    /// Which matrix of a stack.
    pub expert: usize,
}

/// Which rows of an input, and of an output, take part.
#[derive(Clone, Copy)]
enum Rows<'a> {
    All(usize),
    Listed(&'a [u32]),
}

impl Rows<'_> {
    fn len(self) -> usize {
        match self {
            Rows::All(rows) => rows,
            Rows::Listed(rows) => rows.len(),
        }
    }

    fn get(self, index: usize) -> usize {
        match self {
            Rows::All(_) => index,
            Rows::Listed(rows) => rows[index] as usize,
        }
    }
}

/// One matrix with the rows that it is multiplied with.
struct Part<'a> {
    matrix: &'a Matrix,
    expert: usize,
    bias: Option<&'a [f32]>,
    input: &'a Prepared<'a>,
    rows: Rows<'a>,
    into: Shared<f32>,
}

/// `into[i] = x · matrixᵢᵀ + biasᵢ`, `[rows, out]`, for several matrices of one input `[rows, inner]`.
pub fn matmul(x: &[f32], rows: usize, maps: &[Map<'_>], into: &mut [&mut [f32]]) {
    assert_eq!(maps.len(), into.len(), "an output for each matrix");
    let Some(first) = maps.first() else { return };
    if rows == 0 {
        return;
    }
    let width = first.matrix.inner;
    let inputs = Inputs::new(x, rows, width, maps.iter().map(|map| map.matrix));
    let parts: Vec<Part<'_>> = maps
        .iter()
        .zip(into)
        .map(|(map, into)| {
            assert_eq!(map.matrix.inner, width, "matrices of one input have the same columns");
            assert_eq!(into.len(), rows * map.matrix.out, "an output of {rows} rows");
            assert!(
                map.bias.is_none_or(|bias| bias.len() == map.matrix.out),
                "a bias for each output"
            );
            Part {
                matrix: map.matrix,
                expert: map.expert,
                bias: map.bias,
                input: inputs.of(map.matrix),
                rows: Rows::All(rows),
                into: Shared::new(into),
            }
        })
        .collect();
    run(pool(), &parts);
}

/// Row `r` of `x` is multiplied with matrix `indices[r]` of the stack; `bias` is `[experts, out]`. A row whose index is
/// beyond the stack comes out as NaN.
pub fn gathered(
    x: &[f32],
    rows: usize,
    indices: &[u32],
    matrix: &Matrix,
    bias: Option<&[f32]>,
    into: &mut [f32],
) {
    let out = matrix.out;
    assert!(
        indices.len() == rows && into.len() == rows * out,
        "an index and an output for each of {rows} rows"
    );
    assert!(
        bias.is_none_or(|bias| bias.len() == matrix.experts * out),
        "a bias for each output of each expert"
    );
    for (index, into) in indices.iter().zip(into.chunks_exact_mut(out)) {
        if *index as usize >= matrix.experts {
            into.fill(f32::NAN);
        }
    }
    let input = Prepared::new(x, rows, matrix.inner, matrix.layout.group());
    let sorted = Sorted::new(indices, matrix.experts);
    let into = Shared::new(into);
    let parts: Vec<Part<'_>> = sorted
        .experts()
        .map(|(expert, rows)| Part {
            matrix,
            expert,
            bias: bias.map(|bias| &bias[expert * out..][..out]),
            input: &input,
            rows: Rows::Listed(rows),
            into,
        })
        .collect();
    run(pool(), &parts);
}

/// One input, prepared for each size of group that its matrices have.
struct Inputs<'x>(Vec<Prepared<'x>>);

impl<'x> Inputs<'x> {
    fn new<'m>(
        x: &'x [f32],
        rows: usize,
        width: usize,
        matrices: impl Iterator<Item = &'m Matrix>,
    ) -> Inputs<'x> {
        let mut inputs: Vec<Prepared<'x>> = Vec::with_capacity(1);
        for matrix in matrices {
            let group = matrix.layout.group();
            if inputs.iter().all(|input| input.group() != group) {
                inputs.push(Prepared::new(x, rows, width, group));
            }
        }
        Inputs(inputs)
    }

    fn of(&self, matrix: &Matrix) -> &Prepared<'x> {
        let group = matrix.layout.group();
        let place = self.0.iter().position(|input| input.group() == group);
        &self.0[place.unwrap_or_default()]
    }
}

/// Positions of a list of experts in the order of the experts; positions of one expert stay in order.
struct Sorted {
    positions: Vec<u32>,
    /// Expert, first and last position of its own.
    spans: Vec<(usize, usize, usize)>,
}

impl Sorted {
    /// What is beyond the stack is left out.
    fn new(indices: &[u32], experts: usize) -> Sorted {
        let mut positions: Vec<u32> = (0..indices.len() as u32)
            .filter(|&at| (indices[at as usize] as usize) < experts)
            .collect();
        positions.sort_by_key(|&at| indices[at as usize]);
        let mut spans = Vec::new();
        let mut start = 0;
        while start < positions.len() {
            let expert = indices[positions[start] as usize];
            let same =
                positions[start..].iter().take_while(|&&at| indices[at as usize] == expert).count();
            spans.push((expert as usize, start, start + same));
            start += same;
        }
        Sorted { positions, spans }
    }

    fn experts(&self) -> impl Iterator<Item = (usize, &[u32])> {
        self.spans.iter().map(|&(expert, start, end)| (expert, &self.positions[start..end]))
    }
}

fn run(pool: &Pool, parts: &[Part<'_>]) {
    let matrices =
        parts.iter().map(|part| (part.matrix.tiles(), tile_bytes(part.matrix), part.rows.len()));
    let plan = Plan::new(matrices, parts.first().map_or(0, |part| part.matrix.inner), pool);
    pool.run(plan.tasks(), &|task| {
        let (place, first, tiles) = plan.task(task);
        // Sums of one row need little room, and room is cleared first.
        match parts[place].rows.len() {
            1 => product::<ROW_SUMS>(&parts[place], first, tiles),
            _ => product::<PANEL_SUMS>(&parts[place], first, tiles),
        }
    });
}

/// All rows of a part with some of its tiles.
fn product<const SUMS: usize>(part: &Part<'_>, first: usize, tiles: usize) {
    let mut sums = [0.0; SUMS];
    let out = part.matrix.out;
    blocks(part.matrix, (first, tiles), part.rows.len(), |tile, tiles, start, count| {
        let rows = block(part.input, part.rows, start, count);
        let sums = &mut sums[..tiles * count * LANES];
        isa::multiply(&part.matrix.panel(part.expert, tile, tiles, &rows[..count]), sums);
        each_piece(sums, (tile, count), out, |index, column, sums| {
            let row = part.rows.get(start + index);
            // SAFETY: these outputs of this row belong to this task alone, and the output outlives the region.
            let into = unsafe { part.into.part(row * out + column, sums.len()) };
            copy(sums, into);
            if let Some(bias) = part.bias {
                for (into, bias) in into.iter_mut().zip(&bias[column..]) {
                    *into += bias;
                }
            }
        });
    });
}

/// Calls `work(row, column, sums)` for each row and tile of sums `[tiles][count][16]`, without the outputs that are not there.
fn each_piece(
    sums: &[f32],
    (tile, count): (usize, usize),
    out: usize,
    mut work: impl FnMut(usize, usize, &[f32]),
) {
    for (place, sums) in sums.chunks_exact(count * LANES).enumerate() {
        let column = (tile + place) * LANES;
        let width = LANES.min(out - column);
        for (index, sums) in sums.as_chunks::<LANES>().0.iter().enumerate() {
            work(index, column, &sums[..width]);
        }
    }
}

/// Nearly always a whole line, which is two instructions and no call.
fn copy(from: &[f32], into: &mut [f32]) {
    match (<&[f32; LANES]>::try_from(from), <&mut [f32; LANES]>::try_from(&mut *into)) {
        (Ok(from), Ok(into)) => *into = *from,
        _ => into.copy_from_slice(from),
    }
}

/// Calls `work(tile, tiles, row, rows)` for panels that cover some tiles and all rows, in an order that keeps weights near.
fn blocks(
    matrix: &Matrix,
    (first, tiles): (usize, usize),
    rows: usize,
    mut work: impl FnMut(usize, usize, usize, usize),
) {
    let near = (NEAR_BYTES / tile_bytes(matrix)).max(1);
    for near_first in (first..first + tiles).step_by(near) {
        let end = (near_first + near).min(first + tiles);
        for start in (0..rows).step_by(PANEL_ROWS) {
            for tile in (near_first..end).step_by(PANEL_TILES) {
                work(tile, PANEL_TILES.min(end - tile), start, PANEL_ROWS.min(rows - start));
            }
        }
    }
}

fn block<'a>(
    input: &'a Prepared<'_>,
    rows: Rows<'_>,
    start: usize,
    count: usize,
) -> [Row<'a>; PANEL_ROWS] {
    let mut block = [Row::default(); PANEL_ROWS];
    for (index, row) in block[..count].iter_mut().enumerate() {
        *row = input.row(rows.get(start + index));
    }
    block
}
