//! How long a keystroke's job waits while an agent's prompt of a hundred thousand tokens is read.

use std::time::{Duration, Instant};

use engine::Class;

use super::small::{Small, job, submit, take, text};
use crate::bench::report::{Row, Samples};

/// Tokens of the agent's prompt.
const AGENT: usize = 100_000;
/// Tokens of a keystroke's prompt.
const KEYSTROKE: usize = 48;
/// Time between two keystrokes.
const PAUSE: Duration = Duration::from_millis(250);
/// How long somebody types.
const TYPING: Duration = Duration::from_secs(12);

/// The most ticks that passed between a job's arrival and its first turn, and the time to its first token.
#[allow(clippy::cast_precision_loss, reason = "some ticks")]
pub(super) async fn rows(small: &Small) -> Result<Vec<Row>, String> {
    let engine = small.load()?;
    let agent = submit(&engine, job(text(AGENT, 100), 1, Class::Agent))?;
    let started = Instant::now();
    let (mut first, mut typed) = (Samples::default(), 0);
    while started.elapsed() < TYPING {
        tokio::time::sleep(PAUSE).await;
        typed += 1;
        let pressed = Instant::now();
        let mut sequence = submit(&engine, job(text(KEYSTROKE, 200 + typed), 4, Class::Typing))?;
        take(&mut sequence, 1).await?;
        first.push(pressed.elapsed().as_secs_f64() * 1e3);
        take(&mut sequence, 3).await?;
    }
    let stats = engine.stats();
    let waited = stats.waited_ticks_max[Class::Typing as usize];
    drop(agent);
    let mut row = Row::new("keystroke_wait", waited as f64, "ticks").at_most(1.0);
    row.note = Some(format!(
        "the longest of {typed}, while {} of {AGENT} tokens were read",
        stats.tokens_prefilled - typed * (KEYSTROKE as u64 - 1)
    ));
    let p95 = Row::new("keystroke_wait_ms_p95", first.quantile(0.95), "ms to the first token");
    Ok(vec![row, p95])
}
