//! How the keys and values of a cache are packed, where loading is asked to.

use super::Wrong;

/// Packed keys and values: `bits` each, groups of them with a scale and a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KvPacking {
    pub(crate) bits: i32,
    pub(crate) group: i32,
}

impl KvPacking {
    /// The error of architectures whose caches hold something else than keys and values.
    pub(super) const REFUSED: &str =
        "the cache of this architecture cannot be packed; load it without kv_bits";

    /// The error of models without a layer that keeps all tokens.
    pub(super) const WINDOWS: &str =
        "every layer has a window, and windows are not packed; load without kv_bits";

    /// For heads of `head_dim`.
    pub(super) fn new(bits: u8, head_dim: usize) -> Result<KvPacking, Wrong> {
        if ![4, 8].contains(&bits) {
            return Err(Wrong::Key(format!(
                "a cache of {bits} bits is not supported (8 and 4 are)"
            )));
        }
        match [64, 32].into_iter().find(|&group| head_dim.is_multiple_of(group)) {
            Some(group) => Ok(KvPacking { bits: i32::from(bits), group: group as i32 }),
            None => Err(Wrong::Key(format!(
                "heads of {head_dim} cannot be packed in groups of 64 or 32; load without kv_bits"
            ))),
        }
    }

    /// Bytes of one key or value of `dim` numbers; in fp32 if it is not packed.
    pub(super) fn row_bytes(packing: Option<KvPacking>, dim: usize) -> u64 {
        match packing {
            None => 4 * dim as u64,
            Some(KvPacking { bits, group }) => {
                (dim * bits as usize / 8 + 2 * 4 * dim / group as usize) as u64
            }
        }
    }
}
