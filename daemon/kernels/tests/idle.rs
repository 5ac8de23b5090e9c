//! Workers without work use no processor time. By itself, for it looks at the threads of its process.
#![cfg(target_os = "linux")]

use std::{fs, time::Duration};

/// The processor time of the workers so far, in nanoseconds.
fn spent() -> Vec<u64> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten().map(|task| task.path());
    let workers = tasks.filter(|task| {
        fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "kernels")
    });
    let spent = workers.map(|task| fs::read_to_string(task.join("schedstat")).unwrap());
    spent.map(|spent| spent.split(' ').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn an_idle_pool_does_nothing_at_all() {
    let pool = kernels::Pool::new(4);
    for _ in 0..1000 {
        pool.run(8, &|_| {});
    }
    std::thread::sleep(Duration::from_millis(100));
    let before = spent();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(before.len(), 3);
    assert!(before.iter().all(|&spent| spent > 0));
    assert_eq!(spent(), before, "an idle worker woke up");
}
