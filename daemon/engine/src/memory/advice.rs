//! What would make a model fit: only what has been calculated to work is said.

use super::{ModePlan, plan::Room, system::Machine, words};
use crate::info::Compute;

/// What a refused load looks like.
pub(super) struct Situation<'s> {
    /// The arithmetic that was to be used.
    pub(super) mode: ModePlan,
    /// The same with keys and values in 8 bits.
    pub(super) packed: Option<ModePlan>,
    /// All of them.
    pub(super) modes: &'s [ModePlan],
    pub(super) room: Room,
    /// What is needed beside weights.
    pub(super) overhead: u64,
    pub(super) machine: &'s dyn Machine,
}

/// A context below this is of no use.
const CONTEXT_TOKENS_MIN: u64 = 256;

/// Ways out, the cheapest first.
pub(super) fn of(situation: &Situation<'_>) -> Vec<String> {
    let Situation { mode, packed, modes, room, overhead, machine } = situation;
    let available = room.bytes.unwrap_or(u64::MAX);
    let mut ways = Vec::new();
    let fits = |other: &&ModePlan| other.compute != mode.compute && other.least <= available;
    if let Some(other) = modes.iter().filter(fits).min_by_key(|other| other.least) {
        let how = match other.compute {
            Compute::Fast | Compute::Auto => "the fast arithmetic",
            Compute::Parity | Compute::Uniform | Compute::Quantized => {
                "arithmetic on packed weights"
            }
        };
        ways.push(format!("{how} needs only {}", words(other.least)));
    }
    if let Some(packed) = packed.filter(|packed| packed.least <= available) {
        ways.push(format!(
            "keys and values in 8 bits need {} less (`model.kv_bits = 8`)",
            words(mode.least - packed.least)
        ));
    }
    if mode.context_fits >= CONTEXT_TOKENS_MIN {
        let tokens = mode.context_fits / CONTEXT_TOKENS_MIN * CONTEXT_TOKENS_MIN;
        ways.push(format!("a context of {tokens} tokens fits (`model.context_max`)"));
    }
    if room.limit == "allowed" && room.free.is_none_or(|free| mode.least <= free) {
        let gib = (mode.least + room.promised).div_ceil(1 << 30);
        ways.push(format!("`model.memory_max_gib = {gib}` allows it, and so much is free"));
    }
    if let Some(limit) = machine.wired_max() {
        let needed = (mode.least + room.promised).div_ceil(1 << 20);
        if needed > limit >> 20
            && machine.total().is_some_and(|total| needed + KEPT_MIB <= total >> 20)
        {
            ways.push(format!(
                "`sudo sysctl iogpu.wired_limit_mb={needed}` lets models have more of this machine's memory until it is started again"
            ));
        }
    }
    if room.promised > 0 && mode.least <= available.saturating_add(room.promised) {
        ways.push(format!(
            "there is room without the model that is loaded already, which is promised {}",
            words(room.promised)
        ));
    }
    let weights = available.saturating_sub(*overhead);
    if ways.is_empty() && weights > 0 {
        ways.push(format!(
            "weights of at most {} fit here: fewer bits per weight, or a smaller model",
            words(weights)
        ));
    }
    ways
}

/// What the system and other programs keep of a Mac's memory, in MiB, when models may have the rest.
const KEPT_MIB: u64 = 6 << 10;
