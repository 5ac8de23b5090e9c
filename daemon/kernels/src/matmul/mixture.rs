//! A mixture of experts: each row goes through the few that a router chose for it.

use crate::activation::Activation;
use crate::buffer::{Scratch, Shared};
use crate::digits::Prepared;
use crate::isa::{self, PANEL_SUMS};
use crate::layout::LANES;
use crate::matrix::Matrix;
use crate::pool::pool;

use super::{Inputs, Rows, Sorted, block, blocks, copy, each_piece, tile_bytes, tiles_per_task};

/// The experts of one layer: stacks of the same number of matrices.
#[derive(Debug, Clone, Copy)]
pub struct Experts<'a> {
    /// `[experts, inner, width]`.
    pub gate: &'a Matrix,
    /// As the gate.
    pub up: &'a Matrix,
    /// `[experts, width, inner]`.
    pub down: &'a Matrix,
    /// Of gate, up and down: `[experts, out]` each.
    pub biases: Option<[&'a [f32]; 3]>,
    /// What makes one of gate and up.
    pub activation: Activation,
}

impl Experts<'_> {
    fn check(&self) {
        let Experts { gate, up, down, biases, .. } = self;
        let same = gate.experts == up.experts && up.experts == down.experts;
        assert!(same, "as many gates as ups and downs");
        assert!(gate.inner == up.inner && gate.out == up.out, "gate and up of one shape");
        assert_eq!(down.inner, gate.out, "down takes what gate and up make");
        if let Some(biases) = biases {
            for (bias, matrix) in biases.iter().zip([gate, up, down]) {
                assert_eq!(bias.len(), matrix.experts * matrix.out, "a bias for each output");
            }
        }
    }
}

/// `into[r] = Σ score · down(activation(gate xᵣ, up xᵣ))` over the experts that `chosen[r]` names; `chosen` and `scores` are
/// `[rows, slots]`. A row is added up in the order of its experts, so that it does not depend on the rows beside it. A row
/// that chooses an expert beyond the stack comes out as NaN.
pub fn mixture(
    x: &[f32],
    rows: usize,
    chosen: &[u32],
    scores: &[f32],
    experts: &Experts<'_>,
    into: &mut [f32],
) {
    experts.check();
    let (width, out) = (experts.gate.inner, experts.down.out);
    assert!(
        into.len() == rows * out && chosen.len() == scores.len(),
        "an output for each row, a score for each choice"
    );
    if rows == 0 {
        return;
    }
    assert!(chosen.len().is_multiple_of(rows), "as many experts for each row");
    let slots = chosen.len() / rows;
    into.fill(0.0);
    let sorted = Sorted::new(chosen, experts.gate.experts);
    let inputs = Inputs::new(x, rows, width, [experts.gate, experts.up].into_iter());
    let mut inner = Scratch::new(chosen.len() * experts.gate.out);
    open(&inputs, slots, &sorted, experts, &mut inner);
    let inner = Prepared::new(&inner, chosen.len(), experts.gate.out, experts.down.layout.group());
    close(&inner, slots, &sorted, scores, experts, into);
    for (row, into) in chosen.chunks_exact(slots.max(1)).zip(into.chunks_exact_mut(out.max(1))) {
        if row.iter().any(|&expert| expert as usize >= experts.gate.experts) {
            into.fill(f32::NAN);
        }
    }
}

/// Gate, up and activation of every choice: `inner` is `[rows · slots, gate's outputs]`.
fn open(
    inputs: &Inputs<'_>,
    slots: usize,
    sorted: &Sorted,
    experts: &Experts<'_>,
    inner: &mut [f32],
) {
    let Experts { gate, up, .. } = *experts;
    // What beyond-the-stack choices would have written is read all the same.
    inner.fill(0.0);
    let inner = Shared::new(inner);
    let pool = pool();
    let all_tiles = sorted.spans.len() * gate.tiles();
    let mut ends = Vec::with_capacity(sorted.spans.len());
    let mut tasks = 0;
    for (_, choices) in sorted.experts() {
        let products = 2 * gate.inner * LANES * choices.len();
        let span =
            tiles_per_task(tile_bytes(gate) + tile_bytes(up), products, all_tiles, pool.threads());
        tasks += gate.tiles().div_ceil(span);
        ends.push((tasks, span));
    }
    pool.run(tasks, &|task| {
        let place = ends.partition_point(|&(end, _)| end <= task);
        let before = if place == 0 { 0 } else { ends[place - 1].0 };
        let (expert, start, end) = sorted.spans[place];
        let span = ends[place].1;
        let first = (task - before) * span;
        let tiles = span.min(gate.tiles() - first);
        open_tiles(
            inputs,
            slots,
            (expert, &sorted.positions[start..end]),
            experts,
            (first, tiles),
            inner,
        );
    });
}

/// Some tiles of gate and up of one expert, for all that chose it.
fn open_tiles(
    inputs: &Inputs<'_>,
    slots: usize,
    (expert, choices): (usize, &[u32]),
    experts: &Experts<'_>,
    tiles: (usize, usize),
    inner: Shared<f32>,
) {
    let Experts { gate, up, biases, activation, .. } = *experts;
    let (mut gates, mut ups) = ([0.0; PANEL_SUMS], [0.0; PANEL_SUMS]);
    let rows: Vec<u32> = choices.iter().map(|&choice| choice / slots as u32).collect();
    let out = gate.out;
    blocks(gate, tiles, choices.len(), |tile, tiles, start, count| {
        let length = tiles * count * LANES;
        for (index, (matrix, sums)) in [(gate, &mut gates), (up, &mut ups)].into_iter().enumerate()
        {
            let rows = block(inputs.of(matrix), Rows::Listed(&rows), start, count);
            let sums = &mut sums[..length];
            isa::multiply(&matrix.panel(expert, tile, tiles, &rows[..count]), sums);
            if let Some(biases) = biases {
                add_bias(&biases[index][expert * out..][..out], tile, count, sums);
            }
        }
        isa::gate(activation, &mut gates[..length], &ups[..length]);
        each_piece(&gates[..length], (tile, count), out, |index, column, sums| {
            let choice = choices[start + index] as usize;
            // SAFETY: these outputs of this choice belong to this task alone, and `inner` outlives the region.
            copy(sums, unsafe { inner.part(choice * out + column, sums.len()) });
        });
    });
}

/// Adds the biases of one expert to sums `[tiles][count][16]`.
fn add_bias(bias: &[f32], tile: usize, count: usize, sums: &mut [f32]) {
    for (place, sums) in sums.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        for (sum, bias) in sums.iter_mut().zip(&bias[(tile + place / count) * LANES..]) {
            *sum += bias;
        }
    }
}

/// Down of every choice, weighted and added up.
fn close(
    inner: &Prepared<'_>,
    slots: usize,
    sorted: &Sorted,
    scores: &[f32],
    experts: &Experts<'_>,
    into: &mut [f32],
) {
    let down = experts.down;
    let out = down.out;
    let into = Shared::new(into);
    let pool = pool();
    let products = down.inner * LANES * inner.rows();
    let cost = sorted.spans.len() * tile_bytes(down);
    let span = tiles_per_task(cost, products, down.tiles(), pool.threads());
    pool.run(down.tiles().div_ceil(span), &|task| {
        let first = task * span;
        let tiles = span.min(down.tiles() - first);
        let mut sums = [0.0; PANEL_SUMS];
        for (place, (expert, choices)) in sorted.experts().enumerate() {
            // The next expert's tiles lie far away.
            if let Some((next, ..)) = sorted.spans.get(place + 1) {
                down.panel(*next, first, tiles, &[]).ask_for();
            }
            blocks(down, (first, tiles), choices.len(), |tile, tiles, start, count| {
                let rows = block(inner, Rows::Listed(choices), start, count);
                let sums = &mut sums[..tiles * count * LANES];
                isa::multiply(&down.panel(expert, tile, tiles, &rows[..count]), sums);
                if let Some([.., bias]) = experts.biases {
                    add_bias(&bias[expert * out..][..out], tile, count, sums);
                }
                each_piece(sums, (tile, count), out, |index, column, sums| {
                    let choice = choices[start + index] as usize;
                    // SAFETY: these outputs belong to this task alone, and `into` outlives the region.
                    let into = unsafe { into.part(choice / slots * out + column, sums.len()) };
                    add_scaled(scores[choice], sums, into);
                });
            });
        }
    });
}

/// Two roundings each, as every processor does without a call.
fn add_scaled(score: f32, sums: &[f32], into: &mut [f32]) {
    match (<&[f32; LANES]>::try_from(sums), <&mut [f32; LANES]>::try_from(&mut *into)) {
        (Ok(sums), Ok(into)) => {
            into.iter_mut().zip(sums).for_each(|(into, sum)| *into += score * sum)
        }
        _ => into.iter_mut().zip(sums).for_each(|(into, sum)| *into += score * sum),
    }
}
