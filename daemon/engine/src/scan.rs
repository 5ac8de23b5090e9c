//! Whether the numbers of a checkpoint are numbers, looked at without loading it.

use std::path::Path;

use crate::{
    config::ModelConfig,
    info::LoadError,
    quantize::Source,
    weights::{Shards, numbers::has_nan},
};

/// The most bytes that are looked at at once.
const PIECE_BYTES_MAX: u64 = 16 << 20;

/// What was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scanned {
    /// Tensors of floats.
    pub tensors: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Reads every tensor of floats in the model directory `dir` once, in memory that does not grow with the model; `told` hears the bytes
/// that were read, and those that there are.
///
/// # Errors
/// The directory cannot be read, or a tensor holds NaN.
pub fn scan(dir: &Path, told: &mut dyn FnMut(u64, u64, &str)) -> Result<Scanned, LoadError> {
    let config = ModelConfig::load(dir)?;
    let shards = Shards::open(dir, &config.architecture)?;
    let source = Source::open(&shards)?;
    let is_looked_at = |name: &str, is_float: bool| is_float && source.holds(name);
    let floats: Vec<_> =
        shards.entries().filter(|(name, entry)| is_looked_at(name, entry.is_float())).collect();
    let total = floats.iter().map(|(_, entry)| entry.bytes).sum();
    let mut scanned = Scanned::default();
    for (name, entry) in floats {
        for offset in (0..entry.bytes).step_by(PIECE_BYTES_MAX as usize) {
            let len = PIECE_BYTES_MAX.min(entry.bytes - offset);
            let bytes = source.read(name, offset, len as usize)?;
            if has_nan(&entry.dtype, &bytes) {
                return Err(shards.wrong(name, "holds values that are not numbers (NaN)"));
            }
            scanned.bytes += len;
            told(scanned.bytes, total, name);
        }
        scanned.tensors += 1;
    }
    Ok(scanned)
}
