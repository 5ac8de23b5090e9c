//! Every task once, whoever sleeps, calls or panics.

use std::sync::{Barrier, atomic::AtomicU32};

use super::*;

/// Every task runs once.
fn check(pool: &Pool, tasks: usize) {
    let counts: Vec<AtomicU32> = (0..tasks).map(|_| AtomicU32::new(0)).collect();
    pool.run(tasks, &|task| {
        counts[task].fetch_add(1, Ordering::Relaxed);
    });
    assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{tasks} tasks");
}

#[test]
fn every_task_runs_once_in_pools_of_every_size() {
    for threads in [0, 1, 2, 3, 4, 9] {
        let pool = Pool::new(threads);
        assert_eq!(pool.threads(), threads.max(1));
        for tasks in [0, 1, 2, 3, 4, 7, 64, 1000] {
            check(&pool, tasks);
        }
    }
    assert_eq!(Pool::new(1000).threads(), THREADS_MAX);
    check(pool(), 100);
}

/// Many short regions of changing sizes, with pauses in which workers fall asleep in all stages of it: a late worker must never
/// take a task of one region for another's.
#[test]
fn regions_do_not_meet() {
    let pool = Pool::new(4);
    let mut seed = 1u32;
    for region in 0..40_000u32 {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let tasks = 1 + (seed >> 16) as usize % 9;
        let sums: [AtomicU32; 9] = Default::default();
        pool.run(tasks, &|task| {
            sums[task].fetch_add(region + 1, Ordering::Relaxed);
        });
        for (task, sum) in sums.iter().enumerate() {
            let expected = if task < tasks { region + 1 } else { 0 };
            assert_eq!(sum.load(Ordering::Relaxed), expected, "region {region}, task {task}");
        }
        match seed % 1024 {
            0 => thread::sleep(Duration::from_micros(200)),
            1..=20 => {
                let begun = Instant::now();
                let pause = SPIN.mul_f64(f64::from(seed >> 22) / 512.0);
                while begun.elapsed() < pause {}
            }
            _ => {}
        }
    }
}

#[test]
fn callers_at_the_same_time_and_inside_of_tasks_get_their_own() {
    let pool = Pool::new(4);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for tasks in 0..400 {
                    check(&pool, tasks % 23);
                }
            });
        }
    });
    let count = AtomicU32::new(0);
    pool.run(8, &|_| {
        pool.run(5, &|_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
    });
    assert_eq!(count.load(Ordering::Relaxed), 40);
}

#[test]
fn all_threads_take_part() {
    let pool = Pool::new(4);
    // No task ends before all four have begun.
    let barrier = Barrier::new(4);
    for _ in 0..100 {
        pool.run(4, &|_| {
            barrier.wait();
        });
    }
}

#[test]
fn a_panic_reaches_the_caller_after_the_other_tasks_are_done() {
    for (threads, threads_apart) in [(1, false), (1, true), (3, false), (3, true)] {
        let pool = Pool::new(threads);
        let count = AtomicU32::new(0);
        let result = catch_unwind(AssertUnwindSafe(|| {
            pool.run(20, &|task| {
                if task == 7 || (threads_apart && task == 12) {
                    resume_unwind(Box::new("on purpose"));
                }
                count.fetch_add(1, Ordering::Relaxed);
            });
        }));
        assert_eq!(result.unwrap_err().downcast_ref(), Some(&"on purpose"));
        assert_eq!(count.load(Ordering::Relaxed), if threads_apart { 18 } else { 19 });
        check(&pool, 50);
    }
}

#[test]
fn a_caller_waits_asleep_for_a_long_task() {
    let pool = Pool::new(2);
    let barrier = Barrier::new(2);
    let mut is_done = AtomicBool::new(false);
    for _ in 0..20 {
        let caller = thread::current().id();
        pool.run(2, &|_| {
            barrier.wait();
            if thread::current().id() != caller {
                thread::sleep(Duration::from_millis(2));
                is_done.store(true, Ordering::Relaxed);
            }
        });
        assert!(std::mem::take(is_done.get_mut()));
    }
}

#[test]
fn another_pool_stands_in_on_this_thread() {
    let other: &'static Pool = Box::leak(Box::new(Pool::new(3)));
    with_pool(other, || assert_eq!(pool().threads(), 3));
    assert!(!std::ptr::eq(pool(), other));
}

#[test]
fn shares_are_neighbours_and_all_of_the_tasks() {
    for threads in [1, 2, 3, 4, 64] {
        for tasks in [1, 2, 3, 5, 63, 64, 65, TASKS_MAX] {
            let shares: Vec<_> = (0..threads).map(|thread| share(tasks, thread, threads)).collect();
            assert_eq!((shares[0].0, shares[threads - 1].1), (0, tasks));
            assert!(shares.windows(2).all(|pair| pair[0].1 == pair[1].0));
            assert!(
                shares[0].1 > 0
                    && shares.iter().all(|(first, end)| end - first <= tasks / threads + 1)
            );
        }
    }
}
