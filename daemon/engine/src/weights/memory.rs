//! How much memory may be used.

#[cfg(not(target_os = "macos"))]
use std::fs;

/// The bytes that can be taken now without swapping: what the kernel calls available, or less where a control group says so.
/// `None` where the system does not tell.
#[cfg(not(target_os = "macos"))]
pub(crate) fn available() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let system = line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024;
    Some(control_group().map_or(system, |group| group.min(system)))
}

/// What MLX may take of the memory that processors and GPU share. Not tested: nobody has run it on a Mac yet.
#[cfg(target_os = "macos")]
pub(crate) fn available() -> Option<u64> {
    let limit = mlx_rs::memory::memory_limit().ok()?;
    Some(limit.saturating_sub(mlx_rs::memory::active_memory().ok()?) as u64)
}

#[cfg(not(target_os = "macos"))]
fn control_group() -> Option<u64> {
    let number = |file: &str| {
        fs::read_to_string(format!("/sys/fs/cgroup/{file}")).ok()?.trim().parse::<u64>().ok()
    };
    let (max, used) = (number("memory.max")?, number("memory.current")?);
    let reclaimable = fs::read_to_string("/sys/fs/cgroup/memory.stat").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("inactive_file "))?;
        line.trim().parse::<u64>().ok()
    });
    Some(max.saturating_sub(used.saturating_sub(reclaimable.unwrap_or(0))))
}
