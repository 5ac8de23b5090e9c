//! Attention alone: decoding against long contexts in gigabytes per second, prefill in multiplications per second.
#![allow(clippy::print_stdout, reason = "a tool for the terminal")]

use std::time::Instant;

use kernels::attention::{Attention, Cached, KeyNorms, Projected, Table, append_and_attend};

const ROUNDS: usize = 60;

/// The processor time of this thread, in seconds: what counts where others use the machine too (on one core: `taskset -c 0`).
fn spent() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|time| time.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1e9
}

fn measure(heads: usize, kv_heads: usize, dim: usize, seen: usize, tokens: usize) {
    let attention = Attention {
        heads,
        kv_heads,
        dim,
        value_dim: dim,
        scale: (dim as f32).powf(-0.5),
        sinks: None,
        window: None,
        norms: KeyNorms::None,
        rope: None,
    };
    let room = seen + tokens;
    let numbers = |count: usize| -> Vec<f32> {
        (0..count).map(|index| ((index * 7919 % 1013) as f32 / 506.0) - 1.0).collect()
    };
    let (mut keys, mut values) = (numbers(kv_heads * room * dim), numbers(kv_heads * room * dim));
    let (queries, new) = (numbers(tokens * heads * dim), numbers(tokens * kv_heads * dim));
    let projected = Projected {
        tokens,
        queries: Table { data: &queries, stride: heads * dim },
        keys: Table { data: &new, stride: kv_heads * dim },
        values: Table { data: &new, stride: kv_heads * dim },
    };
    let mut into = vec![0.0; tokens * heads * dim];
    let before = spent();
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            append_and_attend(
                &attention,
                &projected,
                seen,
                &[],
                &mut Cached { first: 0, room, keys: &mut keys, values: &mut values },
                &mut into,
            );
            begun.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let time = times[ROUNDS / 2];
    let alone = (spent() - before) / ROUNDS as f64;
    let bytes = 2 * kv_heads * room * dim * 4;
    let pairs = tokens * seen + tokens * (tokens + 1) / 2;
    let products = 2 * heads * pairs * dim;
    println!(
        "{heads}/{kv_heads} heads of {dim}, {tokens} behind {seen}: {:.0} us, {:.1} GB/s, {:.1} G products/s; \
         processor time of this thread {:.0} us",
        time * 1e6,
        bytes as f64 / time / 1e9,
        products as f64 / time / 1e9,
        alone * 1e6,
    );
}

/// Only reads as many bytes as attention over a long context does.
fn read(floats: usize) {
    let data = vec![1.0f32; floats];
    let threads = kernels::pool().threads();
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            kernels::pool().run(16 * threads, &|task| {
                let len = floats / 16 / threads;
                let mut sums = [0u64; 32];
                for block in data[task * len..][..len].as_chunks::<64>().0 {
                    for (index, sum) in sums.iter_mut().enumerate() {
                        *sum ^= u64::from(block[2 * index].to_bits())
                            | u64::from(block[2 * index + 1].to_bits()) << 32;
                    }
                }
                std::hint::black_box(sums);
            });
            begun.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("reading: {:.1} GB/s", floats as f64 * 4.0 / times[ROUNDS / 2] / 1e9);
}

fn main() {
    read(1 << 26);
    println!("{} threads", kernels::pool().threads());
    measure(32, 8, 128, 32_767, 1);
    measure(16, 2, 64, 32_767, 1);
    measure(32, 8, 128, 1023, 1);
    measure(16, 8, 128, 200, 1);
    measure(32, 8, 128, 4096, 4);
    measure(32, 8, 128, 0, 512);
    measure(16, 2, 64, 0, 512);
    measure(16, 16, 64, 0, 512);
}
