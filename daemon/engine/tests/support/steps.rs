//! Steps of sequences, taken in every way that a caller has.

#![allow(dead_code, reason = "shared by several test binaries, which use different parts")]

use engine::{Class, Engine, Fork, Job, Limits, Sampling, Sequence, Speculation, Step, TokenId};

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// The next so many steps, or those that are left.
pub(crate) async fn take(sequence: &mut Sequence, count: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    while steps.len() < count
        && let Some(step) = sequence.next().await.unwrap()
    {
        steps.push(step);
    }
    steps
}

/// A job whose every number is compared. It has room for all of its steps, so that what is drafted for it depends on nobody's speed
/// for as long as nobody disturbs it.
pub(crate) fn compared(
    prompt: &[TokenId],
    tokens_max: u32,
    temperature: f32,
    speculation: Speculation,
) -> Job {
    Job {
        prompt: prompt.to_vec(),
        constraint: None,
        sampling: Sampling { temperature, seed: 3, top_len: 4, ..Sampling::GREEDY },
        limits: Limits { tokens_max, stop: Vec::new(), ahead_max: tokens_max },
        class: Class::Typing,
        soul: None,
        mixture: None,
        lookup: Vec::new(),
        speculation,
    }
}

/// The steps of a job that nobody disturbs.
pub(crate) async fn undisturbed(engine: &Engine, job: Job) -> Vec<Step> {
    take(&mut engine.submit(job).unwrap(), usize::MAX).await
}

/// The steps of a job that is rewound and forked on its way. How far ahead of its caller the engine is when that happens, and so what it
/// drafts, depends on who is faster.
pub(crate) async fn walk(engine: &Engine, mut job: Job) -> Vec<Vec<Step>> {
    job.limits.ahead_max = 24;
    let mut told = Vec::new();
    let mut sequence = engine.submit(job).unwrap();
    told.push(take(&mut sequence, 17).await);
    sequence.rewind(sequence.mark_at(told[0].len().min(5)));
    told.push(take(&mut sequence, 9).await);
    let mut fork = sequence.fork(vec![Fork { seed: 3, constraint: None }]).unwrap().remove(0);
    told.push(take(&mut fork, 12).await);
    // Dropped in the middle of whatever it is at.
    drop(fork);
    told.push(take(&mut sequence, usize::MAX).await);
    told
}
