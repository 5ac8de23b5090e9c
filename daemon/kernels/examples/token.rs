//! Where the time of one token goes: the products of every layer of a mixture of experts, part by part.
#![allow(clippy::print_stdout, reason = "a tool for who works on it")]

use std::time::{Duration, Instant};

use kernels::{Activation, Experts, FloatType, Format, Map, Matrix, Source};

const HIDDEN: usize = 2048;
const LAYERS: usize = 16;
const EXPERTS: usize = 32;
const CHOSEN: usize = 8;
const INNER: usize = 384;
const VOCABULARY: usize = 65536;
const TOKENS: usize = 60;
const PAUSE: Duration = Duration::from_micros(5);

fn matrix(experts: usize, out: usize, inner: usize) -> Matrix {
    let bytes =
        |len: usize| (0..len).map(|at| ((at * 2_654_435_761) >> 7) as u8).collect::<Vec<u8>>();
    let groups = experts * out * inner / 64;
    let scales: Vec<u8> = (0..groups).flat_map(|_| 0x3c00_u16.to_le_bytes()).collect();
    let source = Source {
        format: Format::Affine { bits: 4, group: 64 },
        experts,
        out,
        inner,
        weight: &bytes(experts * out * inner / 2),
        scales: &scales,
        biases: &scales,
        scale_type: FloatType::Bf16,
    };
    Matrix::pack(&source).unwrap()
}

struct Layer {
    qkv: [Matrix; 3],
    output: Matrix,
    router: Matrix,
    gate: Matrix,
    up: Matrix,
    down: Matrix,
}

fn map(matrix: &Matrix) -> Map<'_> {
    Map { matrix, bias: None, expert: 0 }
}

/// What a model does between two products, on one thread.
fn pause() {
    let begun = Instant::now();
    while begun.elapsed() < PAUSE {}
}

/// Microseconds of one token of each row: of query, key and value, of the output, the router, the experts. `then` is multiplied next.
fn layer(layer: &Layer, x: &[f32], rows: usize, seed: usize, then: &[Map<'_>]) -> [f64; 4] {
    let mut spent = [0.0; 4];
    let mut at = Instant::now();
    let mut lap = |part: usize| {
        spent[part] = at.elapsed().as_secs_f64() * 1e6;
        at = Instant::now();
    };
    let mut made = [2048, 1024, 1024].map(|out| vec![0.0; rows * out]);
    let mut into: Vec<&mut [f32]> = made.iter_mut().map(|made| &mut made[..]).collect();
    pause();
    kernels::expect(&[map(&layer.output)], rows);
    kernels::matmul(x, rows, &layer.qkv.each_ref().map(map), &mut into);
    lap(0);
    pause();
    kernels::expect(&[map(&layer.router)], rows);
    let mut h = vec![0.0; rows * HIDDEN];
    kernels::matmul(&made[0], rows, &[map(&layer.output)], &mut [&mut h]);
    lap(1);
    let mut gates = vec![0.0; rows * EXPERTS];
    kernels::matmul(x, rows, &[map(&layer.router)], &mut [&mut gates]);
    lap(2);
    let expert = |at: usize| (at % CHOSEN * 4 + (seed + at / CHOSEN * 5) % 29) % EXPERTS;
    let chosen: Vec<u32> = (0..rows * CHOSEN).map(|at| expert(at) as u32).collect();
    let scores = vec![0.125; chosen.len()];
    let Layer { gate, up, down, .. } = layer;
    let experts = Experts { gate, up, down, biases: None, activation: Activation::Swiglu, then };
    kernels::mixture(x, rows, &chosen, &scores, &experts, &mut h);
    lap(3);
    spent
}

fn main() {
    let layers: Vec<Layer> = (0..LAYERS)
        .map(|_| Layer {
            qkv: [2048, 1024, 1024].map(|out| matrix(1, out, HIDDEN)),
            output: matrix(1, HIDDEN, HIDDEN),
            router: matrix(1, EXPERTS, HIDDEN),
            gate: matrix(EXPERTS, INNER, HIDDEN),
            up: matrix(EXPERTS, INNER, HIDDEN),
            down: matrix(EXPERTS, HIDDEN, INNER),
        })
        .collect();
    let head = matrix(1, VOCABULARY, HIDDEN);
    for rows in [1, 8] {
        let x: Vec<f32> = (0..rows * HIDDEN).map(|at| (at as f32 * 0.7).sin()).collect();
        let mut times = [0.0; 5];
        let mut all = Vec::new();
        for token in 0..TOKENS {
            let mut spent = [0.0; 5];
            for (number, weights) in layers.iter().enumerate() {
                let then = match layers.get(number + 1) {
                    Some(next) => next.qkv.iter().map(map).collect(),
                    None => vec![map(&head)],
                };
                let parts = layer(weights, &x, rows, token * 7 + number * 3, &then);
                spent.iter_mut().zip(parts).for_each(|(spent, part)| *spent += part);
            }
            let at = Instant::now();
            let mut logits = vec![0.0; rows * VOCABULARY];
            kernels::matmul(&x, rows, &[map(&head)], &mut [&mut logits]);
            spent[4] = at.elapsed().as_secs_f64() * 1e6;
            all.push(spent.iter().sum::<f64>());
            times.iter_mut().zip(spent).for_each(|(time, spent)| *time += spent / TOKENS as f64);
        }
        all.sort_by(f64::total_cmp);
        let [qkv, output, router, experts, head] = times;
        println!(
            "{rows} rows: query, key and value {qkv:.0} us, output {output:.0}, router {router:.0}, experts {experts:.0}, \
             head {head:.0}; median {:.0}, {:.0} tokens/s",
            all[TOKENS / 2],
            rows as f64 * 1e6 / all[TOKENS / 2]
        );
    }
}
