//! Slow: every architecture in every quantization, made fresh by mlx-lm with a seed that nobody has seen, against the engine.
//!
//! Skipped unless `DEMOLISH_SLOW=1`; needs `.tools/oracle` (`make setup`). `DEMOLISH_SEED=N` repeats a run.

#![cfg(feature = "mlx")]
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "tests read the environment, write scratch files and report"
)]

#[path = "support/checkpoint.rs"]
mod checkpoint;
#[path = "support/compare.rs"]
mod compare;
#[path = "support/fresh.rs"]
mod fresh;

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use checkpoint::{Checkpoint, is_slow, read_folder};
use compare::{FAST, distances, is_comparable, is_fine, tolerance};
use engine::Compute;

/// Processes that make checkpoints at the same time.
const JOBS: &str = "4";
/// Threads that compare them.
const WORKERS: usize = 4;

#[test]
fn every_architecture_and_quantization_made_fresh() {
    if !is_slow() {
        println!("skipped: the fresh oracle needs DEMOLISH_SLOW=1");
        return;
    }
    let seed = fresh::seed();
    let folder = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let mut command = fresh::oracle();
    command.arg(fresh::root().join("tests/engine/make_fixtures.py"));
    command.args(["--all", "--jobs", JOBS, "--seed", &seed, "--out"]).arg(folder.path());
    fresh::make(&mut command, &seed);
    println!("seed {seed}: made in {:.0} s", start.elapsed().as_secs_f32());
    let start = Instant::now();
    println!(
        "{:32} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "", "parity", "fed again", "packed", "fast", "misses"
    );
    let checkpoints = read_folder(folder.path());
    let next = AtomicUsize::new(0);
    let work = || {
        let mut rows = Vec::new();
        while let Some(checkpoint) = checkpoints.get(next.fetch_add(1, Ordering::Relaxed)) {
            rows.push(row(checkpoint));
        }
        rows
    };
    let mut rows: Vec<(String, bool)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    rows.sort();
    println!(
        "{} checkpoints compared in {:.0} s",
        checkpoints.len(),
        start.elapsed().as_secs_f32()
    );
    fresh::judge(rows, &format!("seed {seed}"));
}

/// What was found about a checkpoint, and whether it is within the tolerances.
fn row(checkpoint: &Checkpoint) -> (String, bool) {
    let mut line = format!("{:32}", checkpoint.name);
    let mut misses = 0;
    let mut is_right = true;
    for compute in [Compute::Parity, Compute::Quantized, Compute::Fast] {
        // Other arithmetic may choose other experts, where 16 bits or a narrow choice let it.
        if compute != Compute::Parity && !is_comparable(checkpoint) {
            line += &format!(" {:>9}", "-");
            continue;
        }
        match distances(checkpoint, compute) {
            Ok(found) => {
                let limit = tolerance(checkpoint, compute);
                line += &format!(" {:>9.1e}", found.worst());
                is_right &= found.worst() <= limit;
                if compute == Compute::Parity {
                    line += &format!(" {:>9.1e}", found.refed);
                    // What is cut otherwise is added up otherwise.
                    is_right &= !is_fine(checkpoint) || found.refed <= limit.max(FAST);
                }
                misses += found.misses;
            }
            Err(reason) => return (format!("{line} {reason}"), false),
        }
    }
    (format!("{line} {misses:>9}"), is_right && misses == 0)
}
