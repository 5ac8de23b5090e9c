//! What the system says of its memory. Everything that differs between systems is behind [`Machine`].

use std::{fs, process::Command};

use crate::ops::{gpu_free, gpu_recommended, on_gpu};

/// A system's memory.
pub(crate) trait Machine {
    /// Bytes that models may take at the moment without swapping, beside what they hold already, and whose word that is. `None`:
    /// the system does not tell.
    fn available(&self) -> Option<(u64, &'static str)>;

    /// Bytes that ought to be given back because the system runs short, 0 while it does not.
    fn shortage(&self) -> u64;

    /// All memory of the machine.
    fn total(&self) -> Option<u64> {
        None
    }

    /// Bytes of memory that models may have the system keep resident; `None` where there is no such thing.
    fn wired_max(&self) -> Option<u64> {
        None
    }
}

/// This machine.
pub(crate) fn machine() -> Box<dyn Machine + Send> {
    match (cfg!(target_os = "macos"), on_gpu()) {
        (true, _) => Box::new(Mac),
        (false, true) => Box::new(Cuda),
        (false, false) => Box::new(Linux),
    }
}

/// Below this much free memory, kept caches are given up.
const FREE_BYTES_MIN: u64 = 512 << 20;

/// What the kernel calls available, or less where a control group says so.
struct Linux;

impl Machine for Linux {
    fn available(&self) -> Option<(u64, &'static str)> {
        let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
        let system = (meminfo_bytes(&meminfo, "MemAvailable:")?, "free");
        let read = |file: &str| fs::read_to_string(format!("/sys/fs/cgroup/{file}")).ok();
        let group =
            (|| group_room(&read("memory.max")?, &read("memory.current")?, &read("memory.stat")?))(
            );
        let group = group.map(|bytes| (bytes, "free in its control group"));
        Some(group.map_or(system, |group| group.min(system)))
    }

    fn shortage(&self) -> u64 {
        self.available().map_or(0, |(free, _)| FREE_BYTES_MIN.saturating_sub(free))
    }
}

/// A line `NAME 123 kB`.
fn meminfo_bytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// What a control group may still take. Pages of files that nobody has touched for a while can be had back.
fn group_room(max: &str, current: &str, stat: &str) -> Option<u64> {
    let max: u64 = max.trim().parse().ok()?; // `max`: there is no limit.
    let used: u64 = current.trim().parse().ok()?;
    let inactive = stat.lines().find_map(|line| line.strip_prefix("inactive_file "));
    let inactive = inactive.and_then(|bytes| bytes.trim().parse::<u64>().ok()).unwrap_or(0);
    Some(max.saturating_sub(used.saturating_sub(inactive)))
}

/// A GPU with a memory of its own. Not tested: nobody has run it with one yet.
struct Cuda;

impl Machine for Cuda {
    fn available(&self) -> Option<(u64, &'static str)> {
        Some((gpu_free()?, "free in the GPU's memory"))
    }

    fn shortage(&self) -> u64 {
        self.available().map_or(0, |(free, _)| FREE_BYTES_MIN.saturating_sub(free))
    }
}

/// Memory that processors and GPU share. Not tested: nobody has run it on a Mac yet.
struct Mac;

/// The system's own word for how short it is of memory: from here on programs ought to give some back.
const PRESSURE_WARNS: u64 = 2;
/// How much is given back then, as a fraction of the machine's memory.
const GIVEN_BACK: u64 = 32;

impl Machine for Mac {
    fn available(&self) -> Option<(u64, &'static str)> {
        let held = active_memory()?;
        let wired = self.wired_max()?;
        Some((wired.saturating_sub(held), "within the limit for GPU memory (iogpu.wired_limit_mb)"))
    }

    fn shortage(&self) -> u64 {
        match sysctl("kern.memorystatus_vm_pressure_level") {
            Some(level) if level >= PRESSURE_WARNS => {
                sysctl("hw.memsize").unwrap_or(0) / GIVEN_BACK
            }
            _ => 0,
        }
    }

    fn total(&self) -> Option<u64> {
        sysctl("hw.memsize")
    }

    fn wired_max(&self) -> Option<u64> {
        let own =
            || Some(wired_max(sysctl("hw.memsize")?, sysctl("iogpu.wired_limit_mb").unwrap_or(0)));
        gpu_recommended().or_else(own)
    }
}

/// What the GPU may use, where it does not tell: what the user has set, or the system's default, which is three quarters of big memories and two thirds of
/// small ones.
fn wired_max(total: u64, set_mib: u64) -> u64 {
    const SMALL: u64 = 36 << 30;
    match set_mib {
        0 if total > SMALL => total / 4 * 3,
        0 => total / 3 * 2,
        set => set << 20,
    }
}

/// A number of the kernel's.
#[allow(clippy::disallowed_methods, reason = "it ends at once, and cannot outlive us")]
fn sysctl(name: &str) -> Option<u64> {
    let output = Command::new("sysctl").args(["-n", name]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// Bytes that arrays of this process hold.
pub(crate) fn active_memory() -> Option<u64> {
    mlx_rs::memory::active_memory().ok().map(|bytes| bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_understood() {
        let meminfo = "MemTotal:       24576000 kB\nMemAvailable:    1000 kB\n";
        assert_eq!(meminfo_bytes(meminfo, "MemAvailable:"), Some(1_024_000));
        assert_eq!(meminfo_bytes(meminfo, "SwapFree:"), None);
        assert_eq!(group_room("1000\n", "700\n", "anon 5\ninactive_file 200\n"), Some(500));
        assert_eq!(group_room("1000", "1200", ""), Some(0));
        assert_eq!(group_room("max\n", "700", "inactive_file 200"), None);
        assert_eq!(wired_max(128 << 30, 0), 96 << 30);
        assert_eq!(wired_max(128 << 30, 122_000), 122_000 << 20);
        assert_eq!(wired_max(24 << 30, 0), 16 << 30);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_has_memory() {
        let (bytes, source) = Linux.available().unwrap();
        assert!(bytes > 1 << 20 && source.starts_with("free"), "{bytes} {source}");
    }
}
