//! Whether a sequence in a batch of eight gets what it gets alone.

use engine::{Class, Sequence, Step};

use super::small::{Small, job, submit, take, text};
use crate::bench::report::Row;

const BATCH: u64 = 8;
const TOKENS: u32 = 64;
/// What logarithms of probabilities in fp32 may differ by.
const CLOSE: f64 = 1e-4;

/// The largest difference of a logarithm of a probability, of eight prompts of different lengths. Where two tokens are as likely as
/// each other and another one is drawn, what follows is another text and is not compared.
pub(super) async fn row(small: &Small) -> Result<Row, String> {
    let engine = small.load()?;
    let prompt = |index: u64| text(100 + 37 * usize::try_from(index).unwrap_or(0), index);
    let mut alone = Vec::new();
    for index in 0..BATCH {
        let mut sequence = submit(&engine, job(prompt(index), TOKENS, Class::Agent))?;
        alone.push(take(&mut sequence, TOKENS as usize).await?);
        drop(sequence);
        engine.shrink_to(0).map_err(|error| error.to_string())?;
    }
    let mut together: Vec<Sequence> = Vec::new();
    for index in 0..BATCH {
        together.push(submit(&engine, job(prompt(index), TOKENS, Class::Agent))?);
    }
    let (mut largest, mut compared) = (0.0f64, 0);
    for (sequence, alone) in together.iter_mut().zip(&alone) {
        let told = take(sequence, TOKENS as usize).await?;
        compared += difference(&told, alone, &mut largest)?;
    }
    let batch = engine.stats().batch_len_max;
    let mut row = Row::new("batch_equals_single", largest, "nats").at_most(CLOSE);
    row.note = Some(format!(
        "the largest difference over {compared} tokens; the largest batch had {batch} sequences"
    ));
    Ok(row)
}

/// How many steps were compared.
fn difference(told: &[Step], alone: &[Step], largest: &mut f64) -> Result<usize, String> {
    for (index, (one, other)) in told.iter().zip(alone).enumerate() {
        *largest = largest.max(f64::from((one.logprob - other.logprob).abs()));
        for (token, logprob) in &one.top {
            if let Some((_, alone)) = other.top.iter().find(|(other, _)| other == token) {
                *largest = largest.max(f64::from((logprob - alone).abs()));
            }
        }
        if one.token != other.token {
            let rival = other.top.iter().find(|(token, _)| *token == one.token);
            let gap = rival.map_or(f32::INFINITY, |(_, rival)| other.logprob - rival);
            if f64::from(gap) > CLOSE {
                return Err(format!("a batch drew {} for {}", one.token, other.token));
            }
            return Ok(index + 1);
        }
    }
    Ok(told.len())
}
