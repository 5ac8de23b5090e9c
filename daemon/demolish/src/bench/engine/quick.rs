//! `demolish model bench`: the figures of one model that people ask for first, in about half a minute.

use std::path::Path;
use std::time::Instant;

use engine::{Engine, LoadOptions, LoadWatch};

use super::prompts::Prompts;
use super::{endless, job, once};
use crate::bench::report::{Report, Row, Samples};
use crate::model;

/// Tokens that are read.
const PROMPTS: [usize; 2] = [128, 512];
/// Tokens that each sequence writes.
const WRITTEN: u32 = 64;
/// Sequences that write together.
const BATCH: usize = 4;
/// How often each is measured; the median counts.
const ROUNDS: usize = 3;

/// Measures the model of a directory.
///
/// # Errors
/// It cannot be loaded, or fails: one sentence.
pub(crate) async fn quick(
    dir: &Path,
    options: LoadOptions,
    watch: LoadWatch,
) -> Result<Report, String> {
    let started = Instant::now();
    let engine = model::load_watched(dir, options, watch)?;
    let mut rows = vec![Row::new("load", started.elapsed().as_secs_f64() * 1e3, "ms")];
    let room = engine.info().context_fits.min(engine.info().context_max);
    let mut prompts = Prompts::of(&engine);
    for len in PROMPTS {
        if len + 2 * WRITTEN as usize > room {
            continue; // Its context is too short.
        }
        let (mut read, mut write) = (Samples::default(), Samples::default());
        for round in 0..=ROUNDS {
            let (prefill, decode) = once(&engine, prompts.random(len)).await?;
            // The first round is not counted: buffers are made in it.
            if round > 0 {
                read.push(prefill);
                write.push(decode);
            }
        }
        rows.push(Row::new(&format!("prefill_{len}"), read.quantile(0.5), "tokens/s"));
        rows.push(Row::new(&format!("decode_after_{len}"), write.quantile(0.5), "tokens/s"));
    }
    let (mut one, mut four) = (Samples::default(), Samples::default());
    for _ in 0..ROUNDS {
        one.push(together(&engine, 1, &mut prompts).await?);
        four.push(together(&engine, BATCH, &mut prompts).await?);
    }
    let (one, four) = (one.quantile(0.5), four.quantile(0.5));
    rows.push(
        Row::new(&format!("decode_{BATCH}_sequences"), four, "tokens/s")
            .against("one sequence", four / one),
    );
    rows.push(mib("weights", engine.info().bytes_resident));
    rows.push(mib("cache_per_1000_tokens", engine.info().bytes_per_token * 1000));
    Ok(Report::new("model", rows))
}

/// Tokens per second that so many sequences write together.
#[allow(clippy::cast_precision_loss, reason = "some hundreds")]
async fn together(engine: &Engine, count: usize, prompts: &mut Prompts) -> Result<f64, String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let mut sequences = Vec::new();
    for index in 0..count {
        let job = job(prompts.random(32 + index), WRITTEN, WRITTEN, endless(engine).0);
        sequences.push(engine.submit(job).map_err(|error| said(&error))?);
    }
    for sequence in &mut sequences {
        sequence.next().await.map_err(|error| said(&error))?;
    }
    let (started, mut written) = (Instant::now(), 0);
    for sequence in &mut sequences {
        while sequence.next().await.map_err(|error| said(&error))?.is_some() {
            written += 1;
        }
    }
    Ok(f64::from(written) / started.elapsed().as_secs_f64())
}

#[allow(clippy::cast_precision_loss, reason = "rounded to three digits anyway")]
fn mib(metric: &str, bytes: u64) -> Row {
    Row::new(metric, bytes as f64 / f64::from(1 << 20), "MiB")
}
