//! Room on the disk, asked for before it is needed.

use std::path::Path;

/// What is left free beside what is written.
const SPARE_BYTES: u64 = 64 << 20;

/// Whether so many bytes can be written below `dir`, which has to be there.
///
/// # Errors
/// They cannot: one sentence with the remedy.
pub(crate) fn check(dir: &Path, bytes: u64) -> Result<(), String> {
    // Where the system does not tell, writing itself has to.
    let Some(free) = free(dir) else { return Ok(()) };
    if free >= bytes.saturating_add(SPARE_BYTES) {
        return Ok(());
    }
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    Err(format!(
        "{}: {} MiB are needed, {} MiB are free; make room, or name a folder on another disk",
        dir.display(),
        mib(bytes.saturating_add(SPARE_BYTES)),
        mib(free)
    ))
}

fn free(dir: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_numbers() {
        let dir = std::env::temp_dir();
        assert_eq!(check(&dir, 1), Ok(()));
        let refused = check(&dir, u64::MAX).unwrap_err();
        assert!(refused.contains("MiB are needed"), "{refused}");
    }
}
