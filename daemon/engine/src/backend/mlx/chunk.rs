//! How many tokens one pass reads.

use crate::{models::PairBytes, nn::Floats, weights::check::Cost};

/// The bounds of a prefill pass, in tokens. Within them a pass multiplies as often as below, so that an urgent job waits for some
/// tens of milliseconds at most. The length depends on the model and the position alone: results must not depend on how busy the
/// machine is.
const CHUNK_LEN: std::ops::RangeInclusive<u64> = 16..=256;
/// Multiplications of a pass whose products BLAS computes.
const CHUNK_WORK_FAST: u64 = 2_000_000_000;
/// The same of our own kernels, which unpack weights once for some rows: shorter passes would unpack those of experts for each row.
const CHUNK_WORK_TILES: u64 = 84_000_000_000;
/// They compute rows in panels; passes are so many of them.
const CHUNK_TILES_ROWS: u64 = 32;
/// Multiplications of a pass through MLX's own CPU kernels for packed weights.
const CHUNK_WORK_PACKED: u64 = 100_000_000;
/// Multiplications of a pass on a GPU, which are done in some tens of milliseconds as well; and the most tokens, which are those of
/// mlx-lm. Shorter passes read the weights of experts again for a few rows each.
const CHUNK_WORK_GPU: u64 = 500_000_000_000;
const CHUNK_LEN_GPU_MAX: u64 = 2048;
/// Its kernels compute rows in tiles of so many.
const CHUNK_TILE_GPU: u64 = 64;
/// The length of a pass in mlx-lm's arithmetic on the CPU, which is there for comparisons: mlx-lm's own. Some operations are others
/// for a single token, which the rest of a prompt that is cut elsewhere may be.
const CHUNK_LEN_EXACT: u64 = 2048;
/// Memory for intermediate results that grow with the tokens of a pass times those that they see: the scores of attention. Far into
/// a context a pass reads fewer tokens.
const PAIR_BYTES_MAX: u64 = 1 << 30;
/// The same where the processor computes them, which takes it about a second per gibibyte and layer.
const PAIR_BYTES_CPU_MAX: u64 = 64 << 20;

/// The rule for one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunk {
    len_max: u64,
    /// Bytes for each pair of a token of the pass and a token seen.
    pub(super) pair_bytes: u64,
    /// The same while an adapter is worn.
    pub(super) worn_bytes: u64,
    pair_bytes_max: u64,
}

impl Chunk {
    pub(crate) fn new(cost: &Cost, pair_bytes: PairBytes, floats: Floats, on_cpu: bool) -> Chunk {
        let work = match floats {
            Floats::Dense => CHUNK_WORK_FAST,
            Floats::Tiles => CHUNK_WORK_TILES,
            _ => CHUNK_WORK_PACKED,
        };
        let is_exact = on_cpu && floats == Floats::Stored;
        let len_max = if is_exact {
            CHUNK_LEN_EXACT
        } else if on_cpu {
            let affordable = work / cost.parameters_active.max(1);
            let rows = if floats == Floats::Tiles { CHUNK_TILES_ROWS } else { 1 };
            (affordable / rows * rows).clamp(*CHUNK_LEN.start(), *CHUNK_LEN.end())
        } else {
            let affordable = CHUNK_WORK_GPU / cost.parameters_active.max(1);
            let tiles = affordable / CHUNK_TILE_GPU * CHUNK_TILE_GPU;
            tiles.clamp(*CHUNK_LEN.end(), CHUNK_LEN_GPU_MAX)
        };
        let takes_time = on_cpu && !is_exact;
        let pair_bytes_max = if takes_time { PAIR_BYTES_CPU_MAX } else { PAIR_BYTES_MAX };
        let [pair_bytes, worn_bytes] = [false, true].map(|is_worn| pair_bytes.of(floats, is_worn));
        Chunk { len_max, pair_bytes, worn_bytes, pair_bytes_max }
    }

    /// The most tokens of a pass that goes on after `seen`, and wears an adapter or not.
    pub(crate) fn len_max(&self, seen: u64, is_worn: bool) -> u64 {
        let pair_bytes = if is_worn { self.worn_bytes } else { self.pair_bytes };
        let pairs = |bytes: u64| bytes / pair_bytes.max(1) / (seen + self.len_max).max(1);
        // Passes are not made shorter for the sake of time than this; memory has the last word.
        let quick = pairs(self.pair_bytes_max).max(*CHUNK_LEN.start());
        self.len_max.min(quick).min(pairs(PAIR_BYTES_MAX).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_cuts_prompts_where_mlx_lm_does() {
        let cost = Cost { parameters_active: 1 << 30, ..Cost::default() };
        let len = |floats, on_cpu| {
            Chunk::new(&cost, PairBytes::always(48), floats, on_cpu).len_max(0, false)
        };
        assert_eq!(len(Floats::Stored, true), 2048);
        assert_eq!(len(Floats::Single, true), 16);
    }

    #[test]
    fn a_gpu_reads_more_at_once_the_smaller_the_model_is() {
        let len = |active| {
            let cost = Cost { parameters_active: active, ..Cost::default() };
            Chunk::new(&cost, PairBytes::always(48), Floats::Uniform, false).len_max(0, false)
        };
        let lens = [1 << 20, 500_000_000, 1 << 30, 3_000_000_000, 40_000_000_000].map(len);
        assert_eq!(lens, [2048, 960, 448, 256, 256]);
    }

    #[test]
    fn passes_get_shorter_where_scores_would_not_fit() {
        let cost = Cost { parameters_active: 1 << 40, ..Cost::default() };
        let chunk = |pair: u64| Chunk::new(&cost, PairBytes::always(pair), Floats::Dense, false);
        // 64 heads and an indexer of 32.
        let pair = 4 * (3 * 64 + 2 * 32);
        assert_eq!(chunk(pair).len_max(0, false), 256);
        assert_eq!(
            chunk(0).len_max(1 << 20, false),
            256,
            "whatever does not grow with the context"
        );
        let lens: Vec<u64> = (10..20).map(|log| chunk(pair).len_max(1 << log, false)).collect();
        assert!(lens.is_sorted_by(|a, b| a >= b) && lens[4] < 256, "{lens:?}");
        for (log, &len) in (10..).zip(&lens) {
            let bytes = pair * len * ((1 << log) + len);
            assert!(bytes <= PAIR_BYTES_MAX, "{len} after 2^{log}: {bytes}");
        }
        // Also where that is less than whatever is quick, up to a single token, which there has to be.
        let far = [1 << 20, 1 << 24].map(|seen| chunk(pair).len_max(seen, false));
        assert!((1..16).contains(&far[0]) && far[1] == 1, "{far:?}");
        let far = |on_cpu: bool| {
            Chunk::new(&cost, PairBytes::always(pair), Floats::Dense, on_cpu)
                .len_max(1 << 13, false)
        };
        assert!(far(true) < far(false), "where they take time, passes get shorter sooner");
    }
}
