//! Workers without work use no processor time. By itself, for it looks at the threads of its process.
#![cfg(target_os = "linux")]
#![allow(clippy::print_stderr, reason = "a test says what it skips")]

use std::{fs, path::PathBuf, time::Duration};

/// So often the workers are looked at until all three sleep, and have slept from one look to the next.
const LOOKS_MAX: usize = 200;
/// Between two looks: a worker that wakes more often than this never passes.
const APART: Duration = Duration::from_millis(100);

fn workers() -> Vec<PathBuf> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten().map(|task| task.path());
    let is_worker = |task: &PathBuf| {
        fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "kernels")
    };
    tasks.filter(is_worker).collect()
}

/// The processor time of the workers so far, in nanoseconds.
fn spent(workers: &[PathBuf]) -> Vec<u64> {
    let spent = workers.iter().map(|task| fs::read_to_string(task.join("schedstat")).unwrap());
    spent.map(|spent| spent.split(' ').next().unwrap().parse().unwrap()).collect()
}

/// The state is the first field behind the name.
fn do_all_sleep(workers: &[PathBuf]) -> bool {
    workers.iter().all(|task| {
        let stat = fs::read_to_string(task.join("stat")).unwrap();
        stat.rsplit(')').next().is_some_and(|fields| fields.trim_start().starts_with('S'))
    })
}

#[test]
fn an_idle_pool_does_nothing_at_all() {
    if !fs::exists("/proc/self/schedstat").unwrap_or(false) {
        eprintln!("skipped: there is no /proc/self/schedstat here");
        return;
    }
    let pool = kernels::Pool::new(4);
    for _ in 0..1000 {
        pool.run(8, &|_| {});
    }
    let is_idle = (0..LOOKS_MAX).any(|_| {
        // A thread has its name a moment after it has begun.
        let workers = workers();
        let before = spent(&workers);
        let did_sleep = workers.len() == 3 && do_all_sleep(&workers);
        std::thread::sleep(APART);
        did_sleep && before.iter().all(|&spent| spent > 0) && spent(&workers) == before
    });
    assert!(is_idle, "idle workers keep waking up");
}
