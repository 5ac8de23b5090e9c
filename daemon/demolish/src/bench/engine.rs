//! `demolish bench engine`: how fast the model reads and writes, and how soon it stops.

mod batch;
mod collapse;
mod conversation;
mod keystroke;
mod overhead;
mod prompts;
pub(crate) mod quick;
mod small;
mod speculation;

pub(super) use small::Chance;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use engine::{Class, Constraint, Engine, Job, Limits, LoadOptions, Sampling, Speculation, TokenId};
use prompts::Prompts;

use super::report::{Report, Row, Samples};
use crate::config::read::{self, Layers};
use crate::model;

/// Tokens that are read.
const PROMPTS: &[usize] = &[128, 384];
/// Tokens that are written.
const WRITTEN: u32 = 96;
/// How often each is measured; the median counts.
const ROUNDS: usize = 5;
/// How often work is cancelled.
const CANCELS: usize = 10;
/// How long to wait for work that should have stopped.
const AFTERMATH: Duration = Duration::from_millis(150);
/// Text to make prompts of.
const TEXT: &str = include_str!("samples/shop.py");

/// Runs it.
///
/// # Errors
/// There is no model, or it fails: one sentence.
pub(crate) async fn run() -> Result<Report, String> {
    let started = Instant::now();
    let engine = load(&Layers::of_process(None))?;
    let loaded = started.elapsed();
    let mut rows = vec![Row::new("load", loaded.as_secs_f64() * 1e3, "ms")];
    let mut prompts = Prompts::of(&engine);
    for len in PROMPTS {
        let (mut read, mut write) = (Samples::default(), Samples::default());
        for round in 0..=ROUNDS {
            let (prefill, decode) = once(&engine, prompts.text(*len)).await?;
            // The first round is not counted: buffers are made in it.
            if round > 0 {
                read.push(prefill);
                write.push(decode);
            }
        }
        rows.push(Row::new(&format!("prefill_{len}"), read.quantile(0.5), "tokens/s"));
        rows.push(Row::new(&format!("decode_after_{len}"), write.quantile(0.5), "tokens/s"));
    }
    let cancelled = stopped(&engine).await?;
    rows.push(Row::new("tokens_after_cancel_max", cancelled.quantile(1.0), "tokens").at_most(1.0));
    let small = small::Small::make()?;
    rows.push(batch::row(&small).await?);
    rows.extend(keystroke::rows(&small).await?);
    rows.extend(conversation::rows(&small).await?);
    rows.push(overhead::row().await?);
    rows.extend(collapse::rows(&engine).await?);
    drop(engine);
    rows.extend(speculation::rows(&load_speculating(&Layers::of_process(None))?).await?);
    Ok(Report::new("engine", rows))
}

fn load(layers: &Layers) -> Result<Engine, String> {
    let settings = read::load(layers).config.model;
    let dir = model::find(&settings)?;
    model::load(&dir, model::options(&settings))
}

/// What speculation gains and costs at its worst, and on edits that copy.
pub(super) async fn speculation() -> Result<Vec<Row>, String> {
    let rows = speculation::rows(&load_speculating(&Layers::of_process(None))?).await?;
    let is_wanted =
        |row: &Row| row.metric == "speculation_worst" || row.metric == "speculation_copy";
    Ok(rows.into_iter().filter(is_wanted).collect())
}

/// Speculates also where that may change the last bits of what the model thinks.
fn load_speculating(layers: &Layers) -> Result<Engine, String> {
    let settings = read::load(layers).config.model;
    let dir = model::find(&settings)?;
    let options = LoadOptions { speculation: Speculation::On, ..model::options(&settings) };
    model::load(&dir, options)
}

fn job(
    prompt: Vec<TokenId>,
    tokens_max: u32,
    ahead_max: u32,
    constraint: Option<Box<dyn Constraint>>,
) -> Job {
    Job {
        prompt,
        constraint,
        sampling: Sampling { temperature: 1.0, seed: 1, ..Sampling::GREEDY },
        limits: Limits { tokens_max, stop: Vec::new(), ahead_max },
        class: Class::Typing,
        soul: None,
        mixture: None,
        lookup: Vec::new(),
        speculation: Speculation::Auto,
    }
}

/// Bans the ends of text, so that as much is written as was asked for; counts the draws.
struct Endless {
    ends: Vec<TokenId>,
    draws: Arc<AtomicUsize>,
}

impl Constraint for Endless {
    fn apply(&mut self, _tape: &[TokenId], logits: &mut [f32]) {
        self.draws.fetch_add(1, Ordering::SeqCst);
        for end in &self.ends {
            if let Some(logit) = logits.get_mut(*end as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
}

fn endless(engine: &Engine) -> (Option<Box<dyn Constraint>>, Arc<AtomicUsize>) {
    let draws = Arc::new(AtomicUsize::new(0));
    let constraint = Endless { ends: engine.tokenizer().eos().to_vec(), draws: draws.clone() };
    (Some(Box::new(constraint)), draws)
}

/// Tokens per second of reading and of writing.
#[allow(clippy::cast_precision_loss, reason = "some hundreds")]
async fn once(engine: &Engine, prompt: Vec<TokenId>) -> Result<(f64, f64), String> {
    let ((constraint, _), len) = (endless(engine), prompt.len());
    let job = job(prompt, WRITTEN, WRITTEN, constraint);
    let started = Instant::now();
    let mut sequence = engine.submit(job).map_err(|error| error.to_string())?;
    sequence.next().await.map_err(|error| error.to_string())?;
    let read = started.elapsed();
    let mut written = 0;
    while sequence.next().await.map_err(|error| error.to_string())?.is_some() {
        written += 1;
    }
    let wrote = started.elapsed() - read;
    Ok((len as f64 / read.as_secs_f64(), f64::from(written) / wrote.as_secs_f64()))
}

/// Tokens per second that the model of a daemon without settings decodes: the median of some rounds.
pub(super) async fn default_model_decode(rounds: usize) -> Result<f64, String> {
    decode_rate(&load(&Layers { environment: true, ..Layers::default() })?, rounds).await
}

/// Tokens per second that a model decodes behind a short prompt: the median of some rounds.
pub(super) async fn decode_rate(engine: &Engine, rounds: usize) -> Result<f64, String> {
    let (mut prompts, mut rates) = (Prompts::of(engine), Samples::default());
    for round in 0..=rounds {
        let (_, rate) = once(engine, prompts.text(PROMPTS[0])).await?;
        // The first round is not counted: buffers are made in it.
        if round > 0 {
            rates.push(rate);
        }
    }
    Ok(rates.quantile(0.5))
}

/// How many tokens are still drawn after a sequence is dropped, with the model that a daemon without settings has.
pub(super) async fn tokens_after_cancel() -> Result<Samples, String> {
    stopped(&load(&Layers { environment: true, ..Layers::default() })?).await
}

#[allow(clippy::cast_precision_loss, reason = "some hundreds")]
async fn stopped(engine: &Engine) -> Result<Samples, String> {
    let (mut prompts, mut samples) = (Prompts::of(engine), Samples::default());
    for round in 0..CANCELS {
        let (constraint, draws) = endless(engine);
        let job = job(prompts.text(PROMPTS[0]), 4096, 4096, constraint);
        let mut sequence = engine.submit(job).map_err(|error| error.to_string())?;
        for _ in 0..=round {
            sequence.next().await.map_err(|error| error.to_string())?;
        }
        drop(sequence);
        let at_drop = draws.load(Ordering::SeqCst);
        tokio::time::sleep(AFTERMATH).await;
        samples.push((draws.load(Ordering::SeqCst) - at_drop) as f64);
    }
    Ok(samples)
}
