//! How the tiles of matrices are cut into tasks, and which of them a thread will read first.

use crate::layout::LANES;
use crate::matrix::Matrix;
use crate::pool::{AHEAD_BYTES_MAX, Pool, Span};

use super::Map;

/// How long a task takes at least, if that leaves enough of them for all threads.
const TASK_NS: usize = 2_000;
/// Bytes of weights that a thread reads, and products that it makes, in a nanosecond: for the size of tasks alone.
const BYTES_PER_NS: usize = 40;
const PRODUCTS_PER_NS: usize = 120;
/// Tasks per thread that a small operation is cut into.
const TASKS_PER_THREAD: usize = 8;
/// With more rows than this products take longer than memory, and nothing is brought near before its turn.
pub(super) const ROWS_AHEAD_MAX: usize = 8;

/// Tasks of tiles of one matrix (or two alike) each, one matrix after the other.
pub(super) struct Plan {
    /// Of each matrix: tasks up to its end, tiles of a task, tiles of the matrix.
    parts: Vec<(usize, usize, usize)>,
}

impl Plan {
    /// For matrices of which each has so many tiles, bytes per tile and rows that are multiplied with it.
    pub(super) fn new(
        matrices: impl Iterator<Item = (usize, usize, usize)> + Clone,
        inner: usize,
        pool: &Pool,
    ) -> Plan {
        let all_tiles = matrices.clone().map(|(tiles, ..)| tiles).sum();
        let mut tasks = 0;
        let parts = matrices.map(|(tiles, bytes, rows)| {
            let span = tiles_per_task(bytes, inner * LANES * rows, all_tiles, pool.threads());
            tasks += tiles.div_ceil(span);
            (tasks, span, tiles)
        });
        Plan { parts: parts.collect() }
    }

    pub(super) fn tasks(&self) -> usize {
        self.parts.last().map_or(0, |&(tasks, ..)| tasks)
    }

    /// The place of the task's matrix, its first tile and how many.
    pub(super) fn task(&self, task: usize) -> (usize, usize, usize) {
        let place = self.parts.partition_point(|&(end, ..)| end <= task);
        let (_, span, tiles) = self.parts[place];
        let before = if place == 0 { 0 } else { self.parts[place - 1].0 };
        let first = (task - before) * span;
        (place, first, span.min(tiles - first))
    }

    /// Wishes for what each thread reads first, if `matrices` says which matrices of a place are read together.
    pub(super) fn expect<'a>(
        &self,
        pool: &Pool,
        matrices: &dyn Fn(usize) -> ([Option<&'a Matrix>; 2], usize),
    ) {
        pool.expect(&|thread, spans| {
            let (first, end) = pool.share(self.tasks(), thread);
            let mut bytes = 0;
            for task in first..end {
                let (place, tile, tiles) = self.task(task);
                let (matrices, expert) = matrices(place);
                for matrix in matrices.into_iter().flatten() {
                    bytes += wish(matrix, (expert, tile, tiles), spans);
                }
                if bytes >= AHEAD_BYTES_MAX {
                    break;
                }
            }
        });
    }
}

/// Adds some tiles of one matrix of a stack: how many bytes they have.
pub(super) fn wish(
    matrix: &Matrix,
    (expert, tile, tiles): (usize, usize, usize),
    spans: &mut Vec<Span>,
) -> usize {
    let panel = matrix.panel(expert, tile, tiles, &[]);
    spans.extend([Span::of(panel.weights), Span::of(panel.scales)]);
    panel.weights.len() + panel.scales.len()
}

/// Says that `rows` rows will be multiplied with these matrices next but for what is under way: threads that wait bring near what
/// they will read first.
pub fn expect(maps: &[Map<'_>], rows: usize) {
    let Some(first) = maps.first() else { return };
    if rows > ROWS_AHEAD_MAX {
        return;
    }
    let pool = crate::pool::pool();
    let matrices = maps.iter().map(|map| (map.matrix.tiles(), tile_bytes(map.matrix), rows));
    let plan = Plan::new(matrices, first.matrix.inner, pool);
    plan.expect(pool, &|place| ([Some(maps[place].matrix), None], maps[place].expert));
}

/// How many tiles a task takes: by the cost of a tile, and so that all threads have something to do.
pub(super) fn tiles_per_task(
    tile_bytes: usize,
    products: usize,
    tiles: usize,
    threads: usize,
) -> usize {
    let cost = (tile_bytes / BYTES_PER_NS).max(products / PRODUCTS_PER_NS).max(1);
    let long_enough = TASK_NS.div_ceil(cost);
    let fair = tiles.div_ceil(threads * TASKS_PER_THREAD);
    let span = long_enough.min(fair);
    // Kernels take tiles by fours or pairs; fewer leave them waiting for their own sums.
    let fours = span > 2 || tiles >= 4 * threads;
    let span = span.next_multiple_of(if fours { 4 } else { 2 });
    if span == 4 && longest(tiles, 4, threads) > longest(tiles, 2, threads) { 2 } else { span }
}

/// How many tiles the thread has that has the most, if they are dealt out in so many together.
fn longest(tiles: usize, together: usize, threads: usize) -> usize {
    tiles.div_ceil(together).div_ceil(threads) * together
}

/// Bytes of one tile with its scales.
pub(super) fn tile_bytes(matrix: &Matrix) -> usize {
    matrix.layout.tile_bytes(matrix.inner) + matrix.layout.scale_bytes(matrix.inner)
}
