//! What memory there is, and who has it. Read from `/proc`; where there is none, nobody knows.

use std::path::Path;

/// How many processes of one tree are counted; a server with more has other troubles.
const TREE_MAX: usize = 512;

/// The resident memory of this process.
#[must_use]
pub fn of_self() -> Option<u64> {
    resident("/proc/self/status")
}

/// The resident memory of a process and of everything that it has started.
#[must_use]
pub fn of_tree(pid: u32) -> Option<u64> {
    let mut sum = resident(&format!("/proc/{pid}/status"))?;
    let mut waiting = children(pid);
    let mut seen = 1;
    while let Some(child) = waiting.pop() {
        sum += resident(&format!("/proc/{child}/status")).unwrap_or_default();
        seen += 1;
        if seen < TREE_MAX {
            waiting.extend(children(child));
        }
    }
    Some(sum)
}

/// The memory of the machine, or what the group that we run in may take of it.
#[must_use]
pub fn of_machine() -> Option<u64> {
    let machine = field("/proc/meminfo", "MemTotal:");
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let group = group.and_then(|text| text.trim().parse().ok());
    [machine, group].into_iter().flatten().min()
}

fn resident(path: &str) -> Option<u64> {
    field(path, "VmRSS:")
}

/// A line `NAME 123 kB` of a file, in bytes.
fn field(path: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The processes that the threads of a process have started.
fn children(pid: u32) -> Vec<u32> {
    let tasks = format!("/proc/{pid}/task");
    let threads = std::fs::read_dir(Path::new(&tasks)).into_iter().flatten().flatten();
    let lists =
        threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
        })
        .collect()
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn a_tree_has_at_least_what_its_root_has() {
        let own = of_self().unwrap();
        assert!(own > 1024 * 1024);
        // Other tests of this process may free memory meanwhile.
        assert!(of_tree(std::process::id()).unwrap() > own / 2);
        assert!(of_machine().unwrap() > own);
        assert_eq!(of_tree(u32::MAX), None);
    }
}
