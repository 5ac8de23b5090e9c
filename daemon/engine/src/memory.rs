//! How much memory a model takes, and whether that is there: known before anything is loaded, from the headers of the files and
//! the configuration alone.

#[cfg(feature = "mlx")]
mod advice;
#[cfg(feature = "mlx")]
mod ledger;
#[cfg(feature = "mlx")]
pub(crate) mod plan;
#[cfg(feature = "mlx")]
pub(crate) mod pressure;
#[cfg(feature = "mlx")]
pub(crate) mod system;

use serde::Serialize;

use crate::info::{Compute, ModelInfo};

#[cfg(feature = "mlx")]
pub(crate) use ledger::{Reservation, admit, promised};

/// What there is to know of a model without loading it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Survey {
    /// The facts that the model would have, had it been loaded.
    #[serde(flatten)]
    pub info: ModelInfo,
    /// What loading would take.
    pub memory: MemoryPlan,
}

/// What loading a model takes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MemoryPlan {
    /// Bytes that may be used; `None` where the system does not tell.
    pub available: Option<u64>,
    /// Why not more: `free`, `allowed` and the like.
    pub limit: &'static str,
    /// Bytes that are promised to models that are loaded already.
    pub promised: u64,
    /// The arithmetic that would be chosen.
    pub chosen: Compute,
    /// Whether it fits.
    pub fits: bool,
    /// What would help, where it does not.
    pub advice: Vec<String>,
    /// By arithmetic.
    pub modes: Vec<ModePlan>,
}

/// What a model takes in one arithmetic, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ModePlan {
    /// The arithmetic.
    pub compute: Compute,
    /// Weights.
    pub weights: u64,
    /// Cache of 1000 tokens of a long sequence: what every further thousand takes.
    pub cache_per_1k: u64,
    /// The most cache that a sequence takes however long it is, with all places that it can come back to.
    pub cache_fixed: u64,
    /// Cache of a sequence of the whole context.
    pub cache_context: u64,
    /// Intermediate results of a pass at the end of the whole context.
    pub scratch: u64,
    /// Weights, and cache and intermediate results of the shortest context that is worth loading for.
    pub least: u64,
    /// The longest context that fits, in tokens; 0: not even the least.
    pub context_fits: u64,
}

/// Bytes as people say them.
pub(crate) fn words(bytes: u64) -> String {
    const UNITS: [(&str, f64); 3] =
        [("GiB", (1u64 << 30) as f64), ("MiB", (1u64 << 20) as f64), ("KiB", 1024.0)];
    let bytes_float = bytes as f64;
    match UNITS.iter().find(|(_, size)| bytes_float >= *size) {
        Some((unit, size)) => format!("{:.2} {unit}", bytes_float / size),
        None => format!("{bytes} bytes"),
    }
}
