//! How many tokens one pass reads.

use kernels::{Variant, pool, variant};

use crate::{models::PairBytes, nn::Floats, weights::check::Cost};

/// The bounds of a prefill pass, in tokens. Within them a pass multiplies as often as below, so that an urgent job waits for some
/// tenths of a second at most. The length depends on the model, the processor and the position alone: results must not depend on how
/// busy the machine is. (Where all is in tiles of our own kernels, they do not depend on the length either.)
const CHUNK_LEN: std::ops::RangeInclusive<u64> = 16..=256;
/// Multiplications of a pass whose products BLAS computes.
const CHUNK_WORK_FAST: u64 = 2_000_000_000;
/// Nanoseconds that a pass of our own kernels takes on a quiet machine. They unpack weights once for some rows: shorter passes would
/// unpack those of experts for each row.
const CHUNK_NANOSECONDS_TILES: u64 = 400_000_000;
/// They compute rows in panels; passes are so many of them.
const CHUNK_TILES_ROWS: u64 = 32;
/// The least tokens of a pass of the portable kernels, which gain nothing from rows that are computed together.
const CHUNK_LEN_PORTABLE: u64 = 4;
/// Multiplications of our own attention, which are in fp32, take so many times as long as those with packed weights.
const ATTENTION_COST: u64 = 2;
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
/// The same where the processor computes them, which takes it about two seconds per gibibyte and layer.
const PAIR_BYTES_CPU_MAX: u64 = 32 << 20;

/// The processor, as far as the time of a pass depends on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Processor {
    variant: Variant,
    threads: u64,
}

impl Processor {
    /// The one that our kernels run on.
    pub(crate) fn here() -> Processor {
        Processor { variant: variant(), threads: pool().threads() as u64 }
    }

    /// Multiplications with weights of 4 bits in a nanosecond, measured on Xeons of 2023 (`kernels/examples/rates.rs`).
    fn rate(self) -> u64 {
        let of_a_thread = match self.variant {
            Variant::Portable => 1,
            Variant::Avx2 => 24,
            Variant::Avx512 => 53,
        };
        of_a_thread * self.threads
    }

    /// The least tokens of a pass of our own kernels, unless memory wants fewer.
    fn len_min(self) -> u64 {
        match self.variant {
            Variant::Portable => CHUNK_LEN_PORTABLE,
            Variant::Avx2 | Variant::Avx512 => *CHUNK_LEN.start(),
        }
    }
}

/// What passes of a model do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort<'m> {
    pub(crate) cost: &'m Cost,
    pub(crate) pair_bytes: PairBytes,
    /// Multiplications of attention for each pair of a token of the pass and a token seen, if our own kernels attend.
    pub(crate) attended: u64,
}

/// The rule for one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunk {
    len_max: u64,
    /// Bytes for each pair of a token of the pass and a token seen.
    pub(super) pair_bytes: u64,
    /// The same while an adapter is worn.
    pub(super) worn_bytes: u64,
    pair_bytes_max: u64,
    tiles: Option<InTiles>,
}

/// The work of a pass of our own kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct InTiles {
    /// Multiplications of a pass.
    work: u64,
    /// Those of a token, and of a pair of tokens.
    each: u64,
    attended: u64,
    len_min: u64,
}

impl InTiles {
    /// The most tokens of a pass that goes on after `seen`.
    fn len_max(self, seen: u64) -> u64 {
        let affordable = self.work / (self.each + ATTENTION_COST * self.attended * seen).max(1);
        let panels = affordable / CHUNK_TILES_ROWS * CHUNK_TILES_ROWS;
        panels.max(affordable.min(*CHUNK_LEN.start())).clamp(self.len_min, *CHUNK_LEN.end())
    }
}

impl Chunk {
    /// `processor`: the one that computes; `None`: a GPU does.
    pub(crate) fn new(effort: Effort<'_>, floats: Floats, processor: Option<Processor>) -> Chunk {
        let Effort { cost, pair_bytes, attended } = effort;
        let each = cost.parameters_active;
        let tiles = processor.filter(|_| floats == Floats::Tiles).map(|processor| InTiles {
            work: CHUNK_NANOSECONDS_TILES * processor.rate(),
            each,
            attended,
            len_min: processor.len_min(),
        });
        let is_exact = processor.is_some() && floats == Floats::Stored;
        let len_max = match tiles {
            _ if is_exact => CHUNK_LEN_EXACT,
            Some(tiles) => tiles.len_max(0),
            None if processor.is_some() => {
                let is_fast = floats == Floats::Dense;
                let work = if is_fast { CHUNK_WORK_FAST } else { CHUNK_WORK_PACKED };
                (work / each.max(1)).clamp(*CHUNK_LEN.start(), *CHUNK_LEN.end())
            }
            None => {
                let affordable = CHUNK_WORK_GPU / each.max(1);
                let tiles = affordable / CHUNK_TILE_GPU * CHUNK_TILE_GPU;
                tiles.clamp(*CHUNK_LEN.end(), CHUNK_LEN_GPU_MAX)
            }
        };
        let takes_time = processor.is_some() && !is_exact;
        let pair_bytes_max = if takes_time { PAIR_BYTES_CPU_MAX } else { PAIR_BYTES_MAX };
        let [pair_bytes, worn_bytes] = [false, true].map(|is_worn| pair_bytes.of(floats, is_worn));
        Chunk { len_max, pair_bytes, worn_bytes, pair_bytes_max, tiles }
    }

    /// The most tokens of a pass that goes on after `seen`, and wears an adapter or not.
    pub(crate) fn len_max(&self, seen: u64, is_worn: bool) -> u64 {
        let pair_bytes = if is_worn { self.worn_bytes } else { self.pair_bytes };
        let pairs = |bytes: u64| bytes / pair_bytes.max(1) / (seen + self.len_max).max(1);
        // Passes are not made shorter for the sake of time than this; memory has the last word.
        let quick = pairs(self.pair_bytes_max).max(*CHUNK_LEN.start());
        let worked = self.tiles.map_or(self.len_max, |tiles| tiles.len_max(seen));
        worked.min(quick).min(pairs(PAIR_BYTES_MAX).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A processor of four threads.
    fn with(variant: Variant) -> Option<Processor> {
        Some(Processor { variant, threads: 4 })
    }

    fn chunk(active: u64, pair: u64, floats: Floats, processor: Option<Processor>) -> Chunk {
        let cost = Cost { parameters_active: active, ..Cost::default() };
        let pair_bytes = PairBytes::always(pair);
        Chunk::new(Effort { cost: &cost, pair_bytes, attended: 0 }, floats, processor)
    }

    #[test]
    fn a_comparison_cuts_prompts_where_mlx_lm_does() {
        let len = |floats| chunk(1 << 30, 48, floats, with(Variant::Avx512)).len_max(0, false);
        assert_eq!(len(Floats::Stored), 2048);
        assert_eq!(len(Floats::Single), 16);
    }

    #[test]
    fn a_slow_processor_reads_less_at_once() {
        let lens = |variant| {
            [100_000_000, 500_000_000, 3_000_000_000]
                .map(|active| chunk(active, 0, Floats::Tiles, with(variant)).len_max(0, false))
        };
        assert_eq!(lens(Variant::Avx512), [256, 160, 16]);
        assert_eq!(lens(Variant::Avx2), [256, 64, 16]);
        assert_eq!(lens(Variant::Portable), [16, 4, 4]);
        let alone = Some(Processor { variant: Variant::Avx512, threads: 1 });
        assert_eq!(chunk(500_000_000, 0, Floats::Tiles, alone).len_max(0, false), 32);
    }

    #[test]
    fn a_pass_of_our_kernels_gets_shorter_where_attention_takes_its_time() {
        let cost = Cost { parameters_active: 500_000_000, ..Cost::default() };
        let pair_bytes = PairBytes { tiles: 0, ..PairBytes::always(1 << 10) };
        // 24 layers of 14 heads of 64.
        let effort = Effort { cost: &cost, pair_bytes, attended: 24 * 14 * 2 * 64 };
        let chunk = Chunk::new(effort, Floats::Tiles, with(Variant::Avx512));
        let lens = [0, 1 << 10, 1 << 13, 1 << 15, 1 << 18].map(|seen| chunk.len_max(seen, false));
        assert_eq!(lens, [160, 128, 64, 16, 16]);
        // With an adapter MLX attends, and memory counts too.
        assert_eq!(chunk.len_max(1 << 18, true), 3);
    }

    #[test]
    fn a_gpu_reads_more_at_once_the_smaller_the_model_is() {
        let len = |active| chunk(active, 48, Floats::Uniform, None).len_max(0, false);
        let lens = [1 << 20, 500_000_000, 1 << 30, 3_000_000_000, 40_000_000_000].map(len);
        assert_eq!(lens, [2048, 960, 448, 256, 256]);
    }

    #[test]
    fn passes_get_shorter_where_scores_would_not_fit() {
        let on_gpu = |pair: u64| chunk(1 << 40, pair, Floats::Dense, None);
        // 64 heads and an indexer of 32.
        let pair = 4 * (3 * 64 + 2 * 32);
        assert_eq!(on_gpu(pair).len_max(0, false), 256);
        let far = on_gpu(0).len_max(1 << 20, false);
        assert_eq!(far, 256, "whatever does not grow with the context");
        let lens: Vec<u64> = (10..20).map(|log| on_gpu(pair).len_max(1 << log, false)).collect();
        assert!(lens.is_sorted_by(|a, b| a >= b) && lens[4] < 256, "{lens:?}");
        for (log, &len) in (10..).zip(&lens) {
            let bytes = pair * len * ((1 << log) + len);
            assert!(bytes <= PAIR_BYTES_MAX, "{len} after 2^{log}: {bytes}");
        }
        // Also where that is less than whatever is quick, up to a single token, which there has to be.
        let far = [1 << 20, 1 << 24].map(|seen| on_gpu(pair).len_max(seen, false));
        assert!((1..16).contains(&far[0]) && far[1] == 1, "{far:?}");
        let far =
            |processor| chunk(1 << 40, pair, Floats::Dense, processor).len_max(1 << 13, false);
        let sooner = far(with(Variant::Avx512)) < far(None);
        assert!(sooner, "where they take time, passes get shorter sooner");
    }
}
