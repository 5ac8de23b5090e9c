//! The plan of a load: what each arithmetic would take, which one is chosen, and whether it fits.

use kernels::attention::waiting_floats_max;

use super::{
    MemoryPlan, ModePlan,
    advice::{self, Situation},
    system::{Machine, active_memory, machine},
};
use crate::{
    backend::mlx::{Chunk, Effort, Processor},
    config::{Footprint, ModelConfig},
    info::{Compute, LoadError, LoadOptions},
    models::PairBytes,
    nn::Floats,
    thread::PASS_ROWS_MAX,
    weights::check::Cost,
};

/// A load is worth while from this context on, unless a longer one is asked for.
const LEAST_TOKENS: u64 = 4096;
/// Room for everything that is not counted.
const RESERVE_BYTES: u64 = 64 << 20;
/// Caches grow by so many tokens at a time.
const GROWTH_TOKENS: u64 = 256;

/// Bytes that may be used, and why not more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// `None`: nobody knows.
    pub(crate) bytes: Option<u64>,
    pub(crate) limit: &'static str,
    /// Promised to other models.
    pub(crate) promised: u64,
    /// What would be there if nothing but the system's word counted.
    pub(crate) free: Option<u64>,
}

impl Room {
    /// What there is now for one more model, beside what is promised to others.
    pub(crate) fn now(options: LoadOptions, promised: u64) -> Room {
        Room::of(machine().as_ref(), options, promised, active_memory().unwrap_or(0))
    }

    fn of(machine: &dyn Machine, options: LoadOptions, promised: u64, held: u64) -> Room {
        // What others hold already is not free any more; what they are promised beyond that is not theirs yet, nor ours.
        let free = machine
            .available()
            .map(|(bytes, word)| (bytes.saturating_sub(promised.saturating_sub(held)), word));
        let allowed = options.memory_max.map(|bytes| (bytes.saturating_sub(promised), "allowed"));
        let least = free.into_iter().chain(allowed).min();
        Room {
            bytes: least.map(|(bytes, _)| bytes),
            limit: least.map_or("free", |(_, word)| word),
            promised,
            free: free.map(|(bytes, _)| bytes),
        }
    }
}

/// What one model takes.
pub(crate) struct Needs<'m> {
    cost: &'m Cost,
    footprint: Footprint,
    /// With keys and values in 8 bits, where that would be another.
    footprint_packed: Option<Footprint>,
    pair_bytes: PairBytes,
    vocabulary: u64,
    /// The whole context, and the one without which a load makes no sense.
    context: u64,
    least: u64,
    on_cpu: bool,
}

impl<'m> Needs<'m> {
    pub(crate) fn new(
        config: &ModelConfig,
        cost: &'m Cost,
        pair_bytes: PairBytes,
        options: LoadOptions,
        on_cpu: bool,
    ) -> Needs<'m> {
        let own = config.context_max as u64;
        let asked = options.context_max.map(|asked| (asked as u64).min(own));
        Needs {
            cost,
            footprint: config.footprint(),
            pair_bytes,
            footprint_packed: config.footprint_packed(),
            vocabulary: config.vocabulary as u64,
            context: asked.unwrap_or(own),
            least: asked.unwrap_or(LEAST_TOKENS.min(own)),
            on_cpu,
        }
    }

    /// The rule for passes in an arithmetic.
    pub(crate) fn chunk(&self, floats: Floats) -> Chunk {
        let Needs { cost, pair_bytes, .. } = *self;
        let effort = Effort { cost, pair_bytes, attended: self.footprint.attended };
        Chunk::new(effort, floats, self.on_cpu.then(Processor::here))
    }

    /// Bytes of the weights once loaded.
    fn weights(&self, floats: Floats) -> u64 {
        match floats {
            Floats::Stored | Floats::Uniform => self.cost.bytes_stored,
            Floats::Single => self.cost.bytes_single,
            Floats::Tiles => self.cost.bytes_tiles,
            Floats::Dense => self.cost.parameters * size_of::<f32>() as u64,
        }
    }

    /// Bytes of a number in caches.
    fn width(&self, floats: Floats) -> u64 {
        match floats {
            Floats::Stored | Floats::Uniform => self.cost.float_bytes,
            Floats::Single | Floats::Dense | Floats::Tiles => size_of::<f32>() as u64,
        }
    }

    /// Bytes of cache of a sequence.
    fn cache(&self, floats: Floats, tokens: u64) -> u64 {
        self.footprint.bytes(tokens.next_multiple_of(GROWTH_TOKENS), self.width(floats))
    }

    /// Bytes of what a pass that ends at `tokens` computes on its way, if no adapter is worn: of one that reads, or of one that writes and
    /// gets logits for every row.
    fn scratch(&self, floats: Floats, tokens: u64) -> u64 {
        self.scratch_of(floats, tokens, false)
    }

    /// What a pass with an adapter takes beyond that, in a context of which every load is promised room.
    pub(crate) fn worn(&self, floats: Floats) -> u64 {
        let scratch = |is_worn| self.scratch_of(floats, self.least, is_worn);
        scratch(true).saturating_sub(scratch(false))
    }

    fn scratch_of(&self, floats: Floats, tokens: u64, is_worn: bool) -> u64 {
        let len = self.chunk(floats).len_max(tokens, is_worn).min(tokens);
        let rows = len.min(PASS_ROWS_MAX as u64);
        let number = size_of::<f32>() as u64;
        let Footprint { unfolded, wide, .. } = self.footprint;
        let unfolded = if floats == Floats::Stored { tokens * unfolded } else { 0 };
        let each = tokens * self.pair_bytes.of(floats, is_worn) + wide * number;
        // Logits are there as they were computed, and as they are handed on.
        let logits = 2 * self.vocabulary * number;
        let writes = rows * (each + logits) + self.waiting(floats, tokens);
        unfolded * number + writes.max(len * each) + self.grows(floats, tokens)
    }

    /// Bytes of a layer's cache of `tokens`, which is there twice while it grows.
    fn grows(&self, floats: Floats, tokens: u64) -> u64 {
        let Footprint { per_token, packed, keepers, .. } = self.footprint;
        let tokens = tokens.next_multiple_of(GROWTH_TOKENS);
        ((per_token * self.width(floats) + packed) * tokens).checked_div(keepers).unwrap_or(0)
    }

    /// Bytes of what our own attention of few tokens puts together in the end.
    fn waiting(&self, floats: Floats, tokens: u64) -> u64 {
        if floats != Floats::Tiles {
            return 0;
        }
        let (heads, value_dim) = self.footprint.attends;
        (waiting_floats_max(heads, value_dim, tokens as usize) * size_of::<f32>()) as u64
    }

    /// Everything for a sequence of `tokens`.
    fn all(&self, floats: Floats, tokens: u64) -> u64 {
        self.weights(floats)
            + self.cache(floats, tokens)
            + self.scratch(floats, tokens)
            + RESERVE_BYTES
    }

    /// The longest context that fits into `room`.
    fn context_fits(&self, floats: Floats, room: Option<u64>) -> u64 {
        let Some(room) = room else { return self.context };
        let (mut fits, mut above) = (0, self.context + 1);
        while above - fits > 1 {
            let middle = fits + (above - fits) / 2;
            *(if self.all(floats, middle) <= room { &mut fits } else { &mut above }) = middle;
        }
        fits
    }

    fn mode(&self, floats: Floats, room: Option<u64>) -> ModePlan {
        let width = self.width(floats);
        let windows: u64 = self
            .footprint
            .windows
            .iter()
            .filter(|&&(_, window)| window >= self.context)
            .map(|(each, _)| each)
            .sum();
        ModePlan {
            compute: computed(floats),
            weights: self.weights(floats),
            cache_per_1k: ((self.footprint.per_token + windows) * width + self.footprint.packed)
                * 1000,
            cache_fixed: self.footprint.state,
            cache_context: self.cache(floats, self.context),
            scratch: self.scratch(floats, self.context),
            least: self.all(floats, self.least),
            context_fits: self.context_fits(floats, room),
        }
    }

    /// What the fast arithmetic is here: on the CPU that of our own kernels.
    fn fast(&self) -> Floats {
        if self.on_cpu { Floats::Tiles } else { Floats::Dense }
    }

    /// What is planned, whether or not it fits.
    pub(crate) fn plan(&self, asked: Compute, room: Room) -> (MemoryPlan, Floats) {
        // What MLX's CPU kernels cannot multiply at all is converted in any case.
        let is_widened = self.on_cpu && self.cost.has_half_experts;
        let or_single = |floats| if is_widened { Floats::Single } else { floats };
        let fits =
            |floats: Floats| room.bytes.is_none_or(|room| self.all(floats, self.least) <= room);
        let floats = match asked {
            Compute::Fast => self.fast(),
            Compute::Quantized => Floats::Single,
            Compute::Parity => or_single(Floats::Stored),
            Compute::Uniform => or_single(Floats::Uniform),
            Compute::Auto if self.on_cpu => self.fast(),
            Compute::Auto => Floats::Uniform,
        };
        let (stored, uniform) = (or_single(Floats::Stored), or_single(Floats::Uniform));
        let mut offered = vec![stored, uniform, Floats::Single, self.fast()];
        offered.dedup();
        let modes: Vec<ModePlan> =
            offered.into_iter().map(|floats| self.mode(floats, room.bytes)).collect();
        let advice = if fits(floats) {
            Vec::new()
        } else {
            let mode = self.mode(floats, room.bytes);
            let overhead = mode.least - mode.weights;
            let packed = self.footprint_packed.clone().map(|footprint| {
                let packed = Needs { footprint, footprint_packed: None, ..*self };
                packed.mode(floats, room.bytes)
            });
            advice::of(&Situation {
                packed,
                mode,
                modes: &modes,
                room,
                overhead,
                machine: machine().as_ref(),
            })
        };
        let plan = MemoryPlan {
            available: room.bytes,
            limit: room.limit,
            promised: room.promised,
            chosen: computed(floats),
            fits: fits(floats),
            advice,
            modes,
        };
        (plan, floats)
    }

    /// Why a plan is refused.
    pub(crate) fn refusal(&self, plan: &MemoryPlan, floats: Floats) -> LoadError {
        LoadError::TooBig {
            weights: self.weights(floats),
            cache: self.cache(floats, self.least),
            tokens: self.least,
            scratch: self.scratch(floats, self.least) + RESERVE_BYTES,
            available: plan.available.unwrap_or(0),
            promised: plan.promised,
            source_of_limit: plan.limit,
            advice: plan.advice.join("; or "),
        }
    }

    /// What a load is promised.
    pub(crate) fn least(&self, floats: Floats) -> u64 {
        self.all(floats, self.least)
    }

    /// What is planned for one arithmetic.
    pub(crate) fn chosen(&self, floats: Floats, room: Room) -> ModePlan {
        self.mode(floats, room.bytes)
    }
}

/// The name of an arithmetic outside.
pub(crate) fn computed(floats: Floats) -> Compute {
    match floats {
        Floats::Stored => Compute::Parity,
        Floats::Uniform => Compute::Uniform,
        Floats::Single => Compute::Quantized,
        Floats::Dense | Floats::Tiles => Compute::Fast,
    }
}

#[cfg(test)]
mod tests;
