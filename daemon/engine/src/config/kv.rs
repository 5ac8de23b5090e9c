//! How the keys and values of a cache are packed, where loading is asked to.

/// Packed keys and values: `bits` each, groups of them with a scale and a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KvPacking {
    pub(crate) bits: i32,
    pub(crate) group: i32,
}

impl KvPacking {
    /// Why caches that hold something else than keys and values are refused.
    pub(super) const OTHER: &str = "the cache of this architecture cannot be packed";

    /// Why models without a layer that keeps all tokens are refused.
    pub(super) const WINDOWS: &str = "every layer has a window, and windows are not packed";

    /// The error of a model whose cache cannot be packed.
    pub(super) fn refused(bits: u8, why: &str) -> String {
        format!("model.kv_bits = {bits}: {why}; set it to 0")
    }

    /// For heads of `head_dim`.
    pub(super) fn new(bits: u8, head_dim: usize) -> Result<KvPacking, String> {
        if ![4, 8].contains(&bits) {
            return Err(format!(
                "model.kv_bits = {bits}: a cache can be packed into 8 or 4 bits; set it to 0, 4 or 8"
            ));
        }
        match [64, 32].into_iter().find(|&group| head_dim.is_multiple_of(group)) {
            Some(group) => Ok(KvPacking { bits: i32::from(bits), group: group as i32 }),
            None => {
                let why = format!("heads of {head_dim} cannot be packed in groups of 64 or 32");
                Err(KvPacking::refused(bits, &why))
            }
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
