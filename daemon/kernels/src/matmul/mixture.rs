//! A mixture of experts: each row goes through the few that a router chose for it.

use crate::activation::Activation;
use crate::buffer::{Scratch, Shared};
use crate::digits::Prepared;
use crate::isa::{self, PANEL_SUMS, ROW_SUMS};
use crate::layout::LANES;
use crate::matrix::Matrix;
use crate::pool::{AHEAD_BYTES_MAX, Pool, pool};

use super::plan::{Plan, ROWS_AHEAD_MAX, expect, tile_bytes, tiles_per_task, wish};
use super::{Inputs, Map, Rows, Sorted, block, blocks, copy, each_piece};

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
    /// What the rows are multiplied with next, if that is known: brought near before its turn.
    pub then: &'a [Map<'a>],
}

impl Experts<'_> {
    /// Says that `rows` rows will go through the first of these next but for what is under way (see [`super::expect`]).
    pub fn expect(&self, rows: usize) {
        if rows <= ROWS_AHEAD_MAX {
            let only = Sorted { positions: Vec::new(), spans: vec![(0, 0, rows)] };
            self.expect_open(&only, pool());
        }
    }

    /// Gate and up of the experts that were chosen.
    fn expect_open(&self, sorted: &Sorted, pool: &Pool) {
        let plan = self.open_plan(sorted, pool);
        plan.expect(pool, &|place| ([Some(self.gate), Some(self.up)], sorted.spans[place].0));
    }

    fn open_plan(&self, sorted: &Sorted, pool: &Pool) -> Plan {
        let bytes = tile_bytes(self.gate) + tile_bytes(self.up);
        let tiles = self.gate.tiles();
        // Both matrices are multiplied with each row.
        let matrices =
            sorted.spans.iter().map(|&(_, start, end)| (tiles, bytes, 2 * (end - start)));
        Plan::new(matrices, self.gate.inner, pool)
    }

    /// Down of the experts that were chosen: a thread reads some tiles of each.
    fn expect_close(&self, sorted: &Sorted, span: usize, pool: &Pool) {
        let down = self.down;
        pool.expect(&|thread, spans| {
            let (first, end) = pool.share(down.tiles().div_ceil(span), thread);
            let mut bytes = 0;
            for first in (first..end).map(|task| task * span) {
                let tiles = span.min(down.tiles() - first);
                for &(expert, ..) in &sorted.spans {
                    bytes += wish(down, (expert, first, tiles), spans);
                }
                if bytes >= AHEAD_BYTES_MAX {
                    break;
                }
            }
        });
    }

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
    let pool = pool();
    let is_ahead = rows <= ROWS_AHEAD_MAX;
    if is_ahead && experts.gate.experts > 1 {
        // Of a single one whoever calls has said it long before.
        experts.expect_open(&sorted, pool);
    }
    let inputs = Inputs::new(x, rows, width, [experts.gate, experts.up].into_iter());
    let mut inner = Scratch::new(chosen.len() * experts.gate.out);
    let span = close_span(experts.down, &sorted, chosen.len(), pool);
    if is_ahead {
        experts.expect_close(&sorted, span, pool);
    }
    open(&inputs, slots, &sorted, experts, &mut inner);
    if is_ahead {
        expect(experts.then, rows);
    }
    let inner = Prepared::new(&inner, chosen.len(), experts.gate.out, experts.down.layout.group());
    close(&inner, (slots, span), &sorted, scores, experts, into);
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
    // What beyond-the-stack choices would have written is read all the same.
    inner.fill(0.0);
    let inner = Shared::new(inner);
    let pool = pool();
    let plan = experts.open_plan(sorted, pool);
    pool.run(plan.tasks(), &|task| {
        let (place, first, tiles) = plan.task(task);
        let (expert, start, end) = sorted.spans[place];
        let choices = (expert, &sorted.positions[start..end]);
        let open = if end - start == 1 { open_tiles::<ROW_SUMS> } else { open_tiles::<PANEL_SUMS> };
        open(inputs, slots, choices, experts, (first, tiles), inner);
    });
}

/// Some tiles of gate and up of one expert, for all that chose it.
fn open_tiles<const SUMS: usize>(
    inputs: &Inputs<'_>,
    slots: usize,
    (expert, choices): (usize, &[u32]),
    experts: &Experts<'_>,
    tiles: (usize, usize),
    inner: Shared<f32>,
) {
    let Experts { gate, up, biases, activation, .. } = *experts;
    let (mut gates, mut ups) = ([0.0; SUMS], [0.0; SUMS]);
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

/// How many tiles of each expert's down are one task.
fn close_span(down: &Matrix, sorted: &Sorted, choices: usize, pool: &Pool) -> usize {
    let products = down.inner * LANES * choices;
    tiles_per_task(sorted.spans.len() * tile_bytes(down), products, down.tiles(), pool.threads())
}

/// Down of every choice, weighted and added up.
fn close(
    inner: &Prepared<'_>,
    (slots, span): (usize, usize),
    sorted: &Sorted,
    scores: &[f32],
    experts: &Experts<'_>,
    into: &mut [f32],
) {
    let down = experts.down;
    let out = down.out;
    let into = Shared::new(into);
    pool().run(down.tiles().div_ceil(span), &|task| {
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
