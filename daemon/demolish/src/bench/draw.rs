//! Draws that are the same on every machine and in every version: what a benchmark measures is chosen by hashes of names, and nobody picks it.

/// A hash that is the same everywhere and in every version (FNV-1a, with the bits mixed at the end).
pub(crate) fn hash(parts: &[&str]) -> u64 {
    let mut value: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in parts.iter().flat_map(|part| part.bytes().chain([0])) {
        value = (value ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    value ^= value >> 33;
    value = value.wrapping_mul(0xff51_afd7_ed55_8ccd);
    value ^ (value >> 33)
}

/// One of `choices` by a drawn number; 0 where there is nothing to choose.
pub(crate) fn pick(drawn: u64, choices: usize) -> usize {
    let choices = u64::try_from(choices).unwrap_or(u64::MAX).max(1);
    usize::try_from(drawn % choices).unwrap_or_default()
}
