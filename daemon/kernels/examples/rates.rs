//! Prints how fast matrices are read and multiplied, per format, number of rows, threads and instruction set.
//!
//! `cargo run --release -p kernels --example rates [-- FILTER]`. One thread is measured in processor time, several in wall time:
//! the latter tells something on a quiet machine alone. `memory` goes through more matrices than the caches hold, `cache` through
//! one that the second cache holds.
#![allow(clippy::print_stdout, reason = "a program that prints")]

use std::hint::black_box;
use std::time::Instant;

use kernels::pool::with_pool;
use kernels::{FloatType, Format, Map, Matrix, Pool, Source, Variant, force, matmul, variants};

/// Columns of all matrices.
const INNER: usize = 2048;
/// Bytes that no cache holds.
const MEMORY: usize = 256 << 20;
/// Bytes that the second cache of one core holds.
const CACHE: usize = 512 << 10;
/// How long one figure is measured.
const SECONDS: f64 = 0.25;

fn main() {
    let filter: Vec<String> = std::env::args().skip(1).collect();
    println!(
        "{:8} {:>24} {:>6} {:>4} {:>7} {:>8} {:>9}",
        "variant", "format", "place", "rows", "threads", "GB/s", "GMAC/s"
    );
    let formats = [
        Format::Affine { bits: 4, group: 64 },
        Format::Affine { bits: 4, group: 32 },
        Format::Affine { bits: 8, group: 64 },
        Format::Affine { bits: 2, group: 64 },
        Format::Affine { bits: 3, group: 64 },
        Format::Affine { bits: 5, group: 64 },
        Format::Affine { bits: 6, group: 64 },
        Format::Mxfp4,
        Format::Nvfp4,
        Format::Float(FloatType::F32),
        Format::Float(FloatType::Bf16),
        Format::Float(FloatType::F16),
    ];
    for threads in [1, 4] {
        read(threads);
    }
    for format in formats {
        for (place, bytes) in [("memory", MEMORY), ("cache", CACHE)] {
            let matrices = matrices(format, bytes);
            for threads in [1, 4] {
                let pool: &'static Pool = Box::leak(Box::new(Pool::new(threads)));
                for variant in variants() {
                    for rows in [1, 2, 4, 8, 16, 128, 512] {
                        let name =
                            format!("{variant:?} {format} {place} rows={rows} threads={threads}");
                        let tedious = variant == Variant::Portable && rows > 16;
                        if !tedious && filter.iter().all(|word| name.contains(word.as_str())) {
                            force(Some(variant)).unwrap_or_else(|error| println!("{error}"));
                            with_pool(pool, || {
                                measure(variant, format, place, rows, threads, &matrices)
                            });
                        }
                    }
                }
            }
        }
    }
}

fn measure(
    variant: Variant,
    format: Format,
    place: &str,
    rows: usize,
    threads: usize,
    matrices: &[Matrix],
) {
    let x: Vec<f32> = (0..rows * INNER).map(|index| (index as f32 * 0.7).sin()).collect();
    let mut into = vec![0.0; rows * matrices[0].out()];
    let mut turn = |matrix: &Matrix| {
        matmul(black_box(&x), rows, &[Map { matrix, bias: None, expert: 0 }], &mut [&mut into]);
    };
    matrices.iter().take(4).for_each(&mut turn);
    let (begun, begun_busy) = (Instant::now(), busy());
    let mut times = 0;
    for matrix in matrices.iter().cycle() {
        turn(matrix);
        times += 1;
        if begun.elapsed().as_secs_f64() > SECONDS {
            break;
        }
    }
    let seconds = if threads == 1 { busy() - begun_busy } else { begun.elapsed().as_secs_f64() };
    let each = f64::from(times) / seconds * 1e-9;
    let bytes = each * matrices[0].bytes() as f64;
    let products = each * (rows * INNER * matrices[0].out()) as f64;
    let (variant, format) = (format!("{variant:?}"), format.to_string());
    println!("{variant:8} {format:>24} {place:>6} {rows:4} {threads:7} {bytes:8.1} {products:9.1}");
}

/// What this machine reads just now.
fn read(threads: usize) {
    let pool = Pool::new(threads);
    let numbers = vec![1_u64; MEMORY / 8];
    let (begun, begun_busy) = (Instant::now(), busy());
    let mut times = 0;
    while begun.elapsed().as_secs_f64() < SECONDS {
        pool.run(64, &|task| {
            let part = &numbers[task * numbers.len() / 64..][..numbers.len() / 64];
            let sums = part.as_chunks::<32>().0.iter().fold([0; 32], |mut sums, numbers| {
                sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum ^= number);
                sums
            });
            black_box(sums);
        });
        times += 1;
    }
    let seconds = if threads == 1 { busy() - begun_busy } else { begun.elapsed().as_secs_f64() };
    println!(
        "reading memory with {threads} threads: {:.1} GB/s",
        f64::from(times) * MEMORY as f64 / seconds * 1e-9
    );
}

/// Seconds that this thread has computed.
fn busy() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|word| word.parse::<f64>().ok()).unwrap_or_default() * 1e-9
}

/// Matrices of at most 4096 outputs and so many bytes in all.
fn matrices(format: Format, bytes: usize) -> Vec<Matrix> {
    let row = match format {
        Format::Affine { bits, group } => INNER * usize::from(bits) / 8 + INNER / group * 4,
        Format::Float(FloatType::F32) => INNER * 4,
        Format::Mxfp8 => INNER,
        Format::Float(_) => INNER * 2,
        Format::Mxfp4 | Format::Nvfp4 => INNER / 2 + INNER / 16,
    };
    let out = (bytes / row / 16 * 16).clamp(16, 4096);
    let count = (bytes / row / out).max(1);
    let some = |bytes: usize| -> Vec<u8> { (0..bytes).map(|at| (at * 37 % 101) as u8).collect() };
    // About 0.05, and 2^-7: subnormal numbers would slow the arithmetic down.
    let factors =
        |bytes: usize| -> Vec<u8> { [0x3d, 0x3d].into_iter().cycle().take(bytes).collect() };
    let powers = |bytes: usize| vec![120; bytes];
    let (weight, scales, biases) = match format {
        Format::Affine { bits, group } => {
            let scales = factors(out * INNER / group * 2);
            (some(out * INNER * usize::from(bits) / 8), scales.clone(), scales)
        }
        Format::Mxfp4 => (some(out * INNER / 2), powers(out * INNER / 32), Vec::new()),
        Format::Nvfp4 => (some(out * INNER / 2), vec![0x30; out * INNER / 16], Vec::new()),
        Format::Mxfp8 => (some(out * INNER), powers(out * INNER / 32), Vec::new()),
        Format::Float(kind) => (
            factors(out * INNER * if kind == FloatType::F32 { 4 } else { 2 }),
            Vec::new(),
            Vec::new(),
        ),
    };
    let source = Source {
        format,
        experts: 1,
        out,
        inner: INNER,
        weight: &weight,
        scales: &scales,
        biases: &biases,
        scale_type: FloatType::Bf16,
    };
    (0..count).filter_map(|_| Matrix::pack(&source).ok()).collect()
}
