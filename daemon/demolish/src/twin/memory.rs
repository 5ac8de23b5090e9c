//! What twins cost: the resident memory of their process groups, and which of them go when it is too much.

use std::collections::HashMap;
use std::time::Duration;

/// How often the memory of twins is looked at.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The resident memory of process groups, in bytes. Only those that were found; nothing where the system does not tell.
pub(super) fn of_groups(groups: &[u32]) -> HashMap<u32, u64> {
    let mut sums = HashMap::new();
    let Ok(processes) = std::fs::read_dir("/proc") else { return sums };
    for process in processes.flatten() {
        let name = process.file_name();
        let is_process = name.to_str().is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()));
        if !is_process {
            continue;
        }
        let read = |file: &str| std::fs::read_to_string(process.path().join(file)).ok();
        let Some(group) = read("stat").and_then(|stat| group(&stat)) else { continue };
        if !groups.contains(&group) {
            continue;
        }
        if let Some(bytes) = read("status").and_then(|status| resident(&status)) {
            *sums.entry(group).or_default() += bytes;
        }
    }
    sums
}

/// The process group in `/proc/PID/stat`. The name before it may contain anything.
fn group(stat: &str) -> Option<u32> {
    stat[stat.rfind(')')? + 1..].split_whitespace().nth(2)?.parse().ok()
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// What is to be done about one twin's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// It is stopped; it may be started again when it is wanted.
    Stop,
    /// It is too large even alone, and is not started again.
    Refuse,
}

/// Which twins go so that the others fit into `budget`, given the memory of each, the least recently used first.
pub(super) fn remedies(budget: u64, twins: &[Option<u64>]) -> Vec<(usize, Remedy)> {
    let alone = |bytes: &Option<u64>| bytes.is_some_and(|bytes| bytes > budget);
    let mut out: Vec<_> =
        (0..twins.len()).filter(|at| alone(&twins[*at])).map(|at| (at, Remedy::Refuse)).collect();
    let mut total: u64 = twins.iter().filter(|bytes| !alone(bytes)).flatten().sum();
    for (at, bytes) in twins.iter().enumerate().filter(|(_, bytes)| !alone(bytes)) {
        if total <= budget {
            break;
        }
        if let Some(bytes) = bytes {
            total -= bytes;
            out.push((at, Remedy::Stop));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_4_34_the_least_recently_used_go_first_and_what_is_too_large_alone_is_refused() {
        let check = |budget: u64, twins: &[Option<u64>], expected: &[(usize, Remedy)]| {
            assert_eq!(remedies(budget, twins), expected, "{budget} {twins:?}");
        };
        check(100, &[Some(40), Some(60)], &[]);
        check(99, &[Some(40), Some(59), Some(1)], &[(0, Remedy::Stop)]);
        check(50, &[Some(40), Some(20), Some(30)], &[(0, Remedy::Stop)]);
        check(30, &[Some(20), Some(20), Some(20)], &[(0, Remedy::Stop), (1, Remedy::Stop)]);
        check(100, &[Some(10), Some(101), Some(90)], &[(1, Remedy::Refuse)]);
        check(100, &[None, None], &[]);
    }

    #[test]
    fn processes_are_counted_with_their_group() {
        assert_eq!(group("12 (a) b (c) S 1 34 34 0 -1"), Some(34));
        assert_eq!(resident("Name:\tx\nVmRSS:\t  2048 kB\n"), Some(2048 * 1024));
        if cfg!(target_os = "linux") {
            let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
            let own = group(&stat).unwrap();
            assert!(of_groups(&[own])[&own] > 100_000);
        }
    }
}
