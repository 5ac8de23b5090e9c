//! Several sequences of real (tiny) models at once: each gets what it would get alone, whoever joins, leaves, forks or comes back.

#![cfg(feature = "mlx")]

#[path = "support/checkpoint.rs"]
mod checkpoint;
#[path = "support/steps.rs"]
mod steps;

use std::{collections::BTreeMap, path::Path, time::Duration};

use checkpoint::{Checkpoint, fixtures};
use engine::{
    Class, Compute, Engine, Fork, Job, Limits, LoadOptions, Sampling, Sequence, Speculation, Spill,
    Step, TokenId,
};
use steps::{block_on, take};

/// What a logarithm of a probability in fp32 may differ by, because sums are added up in another order.
const CLOSE: f32 = 1e-4;
const TOKENS: u32 = 13;

fn load(dir: &Path) -> Engine {
    Engine::load(dir, LoadOptions { compute: Compute::Fast, ..LoadOptions::AUTO }).unwrap()
}

fn job(prompt: &[TokenId], tokens_max: u32) -> Job {
    Job {
        prompt: prompt.to_vec(),
        constraint: None,
        sampling: Sampling::GREEDY,
        limits: Limits { tokens_max, stop: Vec::new(), ahead_max: tokens_max },
        class: Class::Agent,
        soul: None,
        mixture: None,
        lookup: Vec::new(),
        speculation: Speculation::Auto,
    }
}

/// The prompts of eight jobs: of different lengths, and no one the beginning of another.
fn prompts(checkpoint: &Checkpoint) -> Vec<Vec<TokenId>> {
    let prompt = &checkpoint.prompt;
    (0..8).map(|job| prompt[job..prompt.len() - 2 * job].to_vec()).collect()
}

/// What a job gets alone, with a cache of its own.
async fn alone(engine: &Engine, prompt: &[TokenId]) -> Vec<Step> {
    engine.shrink_to(0).unwrap();
    take(&mut engine.submit(job(prompt, TOKENS)).unwrap(), TOKENS as usize).await
}

/// What every job gets alone; nothing is kept of it.
async fn each_alone(engine: &Engine, prompts: &[Vec<TokenId>]) -> Vec<Vec<Step>> {
    let mut expected = Vec::new();
    for prompt in prompts {
        expected.push(alone(engine, prompt).await);
    }
    engine.shrink_to(0).unwrap();
    expected
}

/// Equal up to rounding. Where two tokens are as likely as each other, either may be drawn, and what follows is another text.
fn assert_close(what: &str, told: &[Step], expected: &[Step]) {
    for (step, (one, other)) in told.iter().zip(expected).enumerate() {
        let difference = (one.logprob - other.logprob).abs();
        assert!(difference <= CLOSE, "{what}, step {step}: {difference}");
        assert!((one.entropy - other.entropy).abs() <= 10.0 * CLOSE, "{what}, step {step}");
        if one.token != other.token {
            let rival = other.top.iter().find(|top| top.0 == one.token).map(|top| top.1);
            let is_tie = rival.is_some_and(|rival| (rival - other.logprob).abs() <= CLOSE);
            assert!(is_tie, "{what}, step {step}: {} for {}", one.token, other.token);
            return;
        }
    }
    assert_eq!(told.len(), expected.len(), "{what}");
}

/// One checkpoint of every family: what a batch, a fork or a cache does to the bits of weights makes no difference.
fn families() -> Vec<Checkpoint> {
    let mut families = BTreeMap::new();
    for checkpoint in fixtures() {
        let family = checkpoint.name.rsplit_once('-').map_or("", |(family, _)| family).to_owned();
        families.entry(family).or_insert(checkpoint);
    }
    families.into_values().collect()
}

#[test]
fn a_batch_of_eight_gives_each_what_it_gets_alone() {
    for checkpoint in families() {
        let engine = load(&checkpoint.dir);
        let prompts = prompts(&checkpoint);
        block_on(async {
            let expected = each_alone(&engine, &prompts).await;
            let mut sequences: Vec<Sequence> =
                prompts.iter().map(|prompt| engine.submit(job(prompt, TOKENS)).unwrap()).collect();
            for (index, sequence) in sequences.iter_mut().enumerate() {
                let told = take(sequence, TOKENS as usize).await;
                assert_close(&format!("{} {index}", checkpoint.name), &told, &expected[index]);
            }
            // Those that nothing ends early are all there at once when the last one has been read.
            let long = expected.iter().filter(|steps| steps.len() == TOKENS as usize).count();
            let batch = engine.stats().batch_len_max;
            assert!(batch >= long.max(2), "{}: {batch} of {long}", checkpoint.name);
        });
    }
}

#[test]
fn who_joins_leaves_and_is_cancelled_changes_nothing_for_the_others() {
    for checkpoint in families() {
        let engine = load(&checkpoint.dir);
        let prompts = prompts(&checkpoint);
        block_on(async {
            let expected = each_alone(&engine, &prompts).await;
            let submit = |index: usize| {
                let mut job = job(&prompts[index], TOKENS);
                job.limits.ahead_max = 2;
                engine.submit(job).unwrap()
            };
            let mut running: Vec<Option<(Sequence, Vec<Step>)>> =
                (0..8).map(|index| (index < 4).then(|| (submit(index), Vec::new()))).collect();
            for round in 0..TOKENS as usize {
                for slot in running.iter_mut().flatten() {
                    let (sequence, told) = slot;
                    told.extend(sequence.next().await.unwrap());
                }
                match round {
                    3 => running[4] = Some((submit(4), Vec::new())),
                    5 => running[1] = None,
                    7 => running[5] = Some((submit(5), Vec::new())),
                    9 => running[0] = None,
                    11 => {
                        if let Some((sequence, told)) = &mut running[2] {
                            told.truncate(4.min(told.len()));
                            sequence.rewind(sequence.mark_at(told.len()));
                        }
                    }
                    _ => {}
                }
            }
            for (index, slot) in running.iter_mut().enumerate() {
                let Some((sequence, told)) = slot else { continue };
                told.extend(take(sequence, TOKENS as usize).await);
                assert_close(&format!("{} {index}", checkpoint.name), told, &expected[index]);
            }
        });
    }
}

#[test]
fn the_second_turn_reads_only_what_is_new_after_a_restart_too() {
    for checkpoint in families() {
        let dir = tempfile::tempdir().unwrap();
        let spill = || Spill {
            tokens_min: 8,
            patience: Duration::from_secs(3600),
            ..Spill::to(dir.path().to_owned())
        };
        let name = &checkpoint.name;
        let (first, new) = checkpoint.prompt.split_at(checkpoint.prompt.len() - 9);
        block_on(async {
            let engine = load(&checkpoint.dir);
            let mut tape = first.to_vec();
            let steps = alone(&engine, first).await;
            tape.extend(steps.iter().map(|step| step.token));
            tape.extend(new);
            let expected = alone(&engine, &tape).await;
            engine.shrink_to(0).unwrap();
            engine.spill_to(spill()).unwrap();
            take(&mut engine.submit(job(first, TOKENS)).unwrap(), TOKENS as usize).await;
            let prefilled = engine.stats().tokens_prefilled;
            // The cache of the first turn, and what is not in it: the last token, which was drawn and never fed, counts as decoded.
            let mut second = engine.submit(job(&tape, TOKENS)).unwrap();
            let told = take(&mut second, TOKENS as usize).await;
            assert_close(name, &told, &expected);
            assert_eq!(engine.stats().tokens_prefilled - prefilled, new.len() as u64, "{name}");
            // Forgotten in memory, and there on the disk.
            engine.shrink_to(0).unwrap();
            drop(second);
            drop(engine);
            let engine = load(&checkpoint.dir);
            engine.spill_to(spill()).unwrap();
            let mut third = tape.clone();
            third.extend(told.iter().map(|step| step.token));
            third.extend(&checkpoint.prompt[..5]);
            let told =
                take(&mut engine.submit(job(&third, TOKENS)).unwrap(), TOKENS as usize).await;
            let stats = engine.stats();
            assert_eq!(stats.tokens_prefilled, 5, "{name}: {stats:?}");
            assert_eq!(stats.tokens_restored as usize, third.len() - 6, "{name}");
            assert_close(name, &told, &alone(&load(&checkpoint.dir), &third).await);
        });
    }
}

#[test]
fn eight_forks_share_the_prompt_and_get_what_one_gets() {
    for checkpoint in families() {
        let engine = load(&checkpoint.dir);
        let name = &checkpoint.name;
        block_on(async {
            let expected = alone(&engine, &checkpoint.prompt).await;
            engine.shrink_to(0).unwrap();
            let mut origin = job(&checkpoint.prompt, TOKENS);
            origin.limits.ahead_max = 0;
            let mut origin = engine.submit(origin).unwrap();
            let mut told = take(&mut origin, 3).await;
            let one = engine.cache_bytes().await.unwrap();
            let mut forks = origin.fork((0..8).map(|_| Fork::default()).collect()).unwrap();
            let eight = engine.cache_bytes().await.unwrap();
            assert!(eight as f64 <= 1.05 * one as f64, "{name}: {one} bytes, and {eight} of forks");
            for fork in &mut forks {
                let mut line = told.clone();
                line.extend(take(fork, TOKENS as usize).await);
                assert_close(name, &line, &expected);
            }
            told.extend(take(&mut origin, TOKENS as usize).await);
            assert_close(name, &told, &expected);
        });
    }
}
