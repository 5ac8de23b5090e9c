//! What a parallel region costs, and how long one with 0.4 ms of work on 4 tasks per thread takes; run it also beside busy loops.
#![allow(clippy::print_stdout, reason = "a tool for who works on it")]

use std::time::{Duration, Instant};

fn spin(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {}
}

fn main() {
    let pool = kernels::pool();
    let threads = pool.threads();
    for (name, pause, work, tasks) in [
        ("hot, empty", 0, 0, threads),
        ("hot, empty, 64 tasks", 0, 0, 64),
        ("5 us apart, empty", 5, 0, threads),
        ("5 us apart, 100 us in 16 tasks", 5, 100, 16),
        ("asleep, empty", 300, 0, threads),
    ] {
        let mut times: Vec<f64> = (0..4000)
            .map(|_| {
                spin(Duration::from_micros(pause));
                let begun = Instant::now();
                pool.run(tasks, &|_| {
                    if work > 0 {
                        spin(Duration::from_nanos(work * 1000 / tasks as u64));
                    }
                });
                begun.elapsed().as_secs_f64() * 1e6
            })
            .collect();
        let mean = times.iter().sum::<f64>() / times.len() as f64;
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times[(share * times.len() as f64) as usize];
        println!(
            "{name}: mean {mean:.2} us, median {:.2}, 90 % {:.2}, 99 % {:.2}, most {:.0}",
            at(0.5),
            at(0.9),
            at(0.99),
            at(0.9999)
        );
    }
}
