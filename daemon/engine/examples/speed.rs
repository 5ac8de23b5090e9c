//! How fast a model runs: `cargo run --release -p engine --example speed -- DIR [fast|quantized|parity] [PROMPT_LEN] [DECODE_LEN]`.

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a tool for the terminal")]

use std::{path::PathBuf, time::Instant};

use engine::{Class, Compute, Engine, Job, Limits, LoadOptions, Sampling, Speculation, TokenId};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, default: usize| {
        arguments.get(index).map_or(default, |text| text.parse().expect("a number"))
    };
    let dir = PathBuf::from(arguments.first().expect("a model directory"));
    let compute = match arguments.get(1).map(String::as_str) {
        Some("parity") => Compute::Parity,
        Some("quantized") => Compute::Quantized,
        _ => Compute::Fast,
    };
    let started = Instant::now();
    let engine = Engine::load(&dir, LoadOptions { compute, ..LoadOptions::AUTO })
        .unwrap_or_else(|error| panic!("{error}"));
    let info = engine.info();
    println!(
        "{}: {} parameters, {} active, {:?}",
        info.name, info.parameters, info.parameters_active, info.compute
    );
    println!("load {:.0} ms", started.elapsed().as_secs_f64() * 1e3);
    let (prompt_len, decode_len) = (number(2, 256), number(3, 64));
    for round in 0..6u32 {
        let vocabulary = info.vocabulary as u32;
        let prompt: Vec<TokenId> = (0..prompt_len as u32)
            .map(|i| (i * 7919 + round * 104_729 + 11) % vocabulary)
            .collect();
        let job = Job {
            prompt,
            constraint: None,
            sampling: Sampling::GREEDY,
            limits: Limits { tokens_max: decode_len as u32 + 1, stop: Vec::new(), ahead_max: 64 },
            class: Class::Typing,
            soul: None,
            mixture: None,
            lookup: Vec::new(),
            speculation: Speculation::Auto,
        };
        let started = Instant::now();
        let mut sequence = engine.submit(job).expect("an idle engine takes it");
        sequence.next().await.expect("it runs");
        let first = started.elapsed();
        let mut steps = 0;
        while sequence.next().await.expect("it runs").is_some() {
            steps += 1;
        }
        let rest = started.elapsed() - first;
        println!(
            "prompt of {prompt_len}: {:.1} ms ({:.0} tokens/s); decode: {:.2} ms per token over {steps}",
            first.as_secs_f64() * 1e3,
            prompt_len as f64 / first.as_secs_f64(),
            rest.as_secs_f64() * 1e3 / f64::from(steps.max(1))
        );
    }
}
