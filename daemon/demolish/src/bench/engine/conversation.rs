//! A conversation of 32,000 tokens: what its next turn costs, also after a restart; cutting it back; forking it.

use std::time::{Duration, Instant};

use engine::{Class, Engine, Fork, Sequence, Spill, TokenId};

use super::small::{Small, job, submit, take, text};
use crate::bench::report::{Row, Samples};

/// Tokens of the conversation.
const LONG: usize = 32_000;
/// Tokens of a turn's answer.
const ANSWER: u32 = 16;
/// Tokens of a turn's question.
const QUESTION: usize = 40;
/// How often it is cut back.
const REWINDS: usize = 20;
/// How many lines fork from it.
const FORKS: usize = 8;

/// All rows of it: the caches of one are those of the next.
pub(super) async fn rows(small: &Small) -> Result<Vec<Row>, String> {
    let mut rows = vec![];
    let mut tape = text(LONG, 300);
    let engine = load(small)?;
    turn(&engine, &mut tape).await?;
    let again = turn(&engine, &mut tape).await?;
    drop(engine); // Writes the cache.
    let engine = load(small)?;
    let restarted = turn(&engine, &mut tape).await?;
    let mut row = Row::new("prefix_reuse", again.max(restarted), "tokens").exactly(0.0);
    row.note = Some(format!(
        "read beside the {QUESTION} new ones of a turn after {LONG}: {again} in the same process, {restarted} after a restart"
    ));
    rows.push(row);
    let mut sequence = submit(&engine, job(tape, 64, Class::Agent))?;
    rows.extend(rewind(&engine, &mut sequence).await?);
    rows.extend(fork(&engine, &sequence).await?);
    Ok(rows)
}

fn load(small: &Small) -> Result<Engine, String> {
    let engine = small.load()?;
    // Written at the end only, so that it does not disturb what is measured.
    let spill = Spill { patience: Duration::from_secs(3600), ..Spill::to(small.caches()) };
    engine.spill_to(spill).map_err(|error| error.to_string())?;
    Ok(engine)
}

/// One more question and its answer. How many tokens were read beside those of the question.
#[allow(clippy::cast_precision_loss, reason = "some thousands")]
async fn turn(engine: &Engine, tape: &mut Vec<TokenId>) -> Result<f64, String> {
    tape.extend(text(QUESTION, tape.len() as u64));
    let before = engine.stats().tokens_prefilled;
    let mut sequence = submit(engine, job(tape.clone(), ANSWER, Class::Agent))?;
    let steps = take(&mut sequence, ANSWER as usize).await?;
    tape.extend(steps.iter().map(|step| step.token));
    let read = engine.stats().tokens_prefilled - before;
    Ok(read as f64 - QUESTION as f64)
}

/// What the engine's thread spends on a rewind and a fork, at worst, and what the first token after a rewind costs.
#[allow(clippy::cast_precision_loss, reason = "some milliseconds")]
async fn rewind(engine: &Engine, sequence: &mut Sequence) -> Result<Vec<Row>, String> {
    let (mut step, mut after) = (Samples::default(), Samples::default());
    take(sequence, 12).await?;
    for round in 0..REWINDS {
        // What is ahead was decoded before; what is timed is the step behind the mark.
        sequence.rewind(sequence.mark_at(10 - round % 8));
        let started = Instant::now();
        take(sequence, 1).await?;
        after.push(started.elapsed().as_secs_f64() * 1e3);
        for _ in 0..3 {
            let started = Instant::now();
            take(sequence, 1).await?;
            step.push(started.elapsed().as_secs_f64() * 1e3);
        }
        let position = sequence.mark().position();
        take(sequence, 12usize.saturating_sub(position)).await?;
        drop(sequence.fork(vec![Fork::default()]).map_err(|error| error.to_string())?);
    }
    engine.cache_bytes().await.map_err(|error| error.to_string())?; // All forks were taken in.
    let worst = engine.stats().cut_us_max as f64 / 1e3;
    let mut row = Row::new("rewind_32k", worst, "ms").at_most(1.0);
    row.note = Some(format!("the longest of {REWINDS} rewinds and forks"));
    let first = Row::new("rewind_32k_first_step", after.quantile(0.5), "ms");
    Ok(vec![row, first])
}

/// What eight forks hold, beside what one holds: before their first token, and after some of their own.
#[allow(clippy::cast_precision_loss, reason = "some megabytes")]
async fn fork(engine: &Engine, sequence: &Sequence) -> Result<Vec<Row>, String> {
    let bytes = || async { engine.cache_bytes().await.map_err(|error| error.to_string()) };
    engine.shrink_to(0).map_err(|error| error.to_string())?;
    let one = bytes().await? as f64;
    let forks = (0..FORKS as u64).map(|seed| Fork { seed, constraint: None });
    let mut lines = sequence.fork(forks.collect()).map_err(|error| error.to_string())?;
    let shared = bytes().await? as f64 / one;
    for line in &mut lines {
        take(line, 16).await?;
    }
    let diverged = bytes().await? as f64 / one;
    Ok(vec![
        Row::new("fork8_memory", shared, "x one").at_most(1.05),
        Row::new("fork8_memory_after_16", diverged, "x one"),
    ])
}
