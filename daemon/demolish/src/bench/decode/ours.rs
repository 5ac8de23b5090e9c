//! Demolish's engine on a shape.

use std::path::Path;
use std::time::Instant;

use engine::{
    Class, Constraint, Engine, Job, Limits, LoadOptions, Sampling, Sequence, Speculation, TokenId,
};

use crate::bench::engine::Chance;

/// Sequences of a batch.
pub(super) const BATCH: usize = 8;
/// Tokens of the prompts of what is decoded.
const PROMPT: usize = 8;
/// Tokens that caches have room for.
const CONTEXT: usize = 4096;
/// Bytes of caches that are kept after their jobs: no job goes on with another's.
const KEPT: u64 = 1 << 28;

/// As the daemon loads it, with a shorter context.
pub(super) const OPTIONS: LoadOptions =
    LoadOptions { context_max: Some(CONTEXT), kept_bytes_max: Some(KEPT), ..LoadOptions::AUTO };

/// A loaded model.
pub(super) struct Ours {
    engine: Engine,
    vocabulary: usize,
    /// So many jobs were given; each has another prompt.
    jobs: u64,
}

impl Ours {
    /// Loads it as the daemon would.
    pub(super) fn load(folder: &Path, vocabulary: usize) -> Result<Ours, String> {
        Ok(Ours { engine: crate::model::load(folder, OPTIONS)?, vocabulary, jobs: 0 })
    }

    /// Starts a job with a prompt of `read` random tokens, which goes on with random tokens ([`Fed`]).
    fn submit(&mut self, read: usize, written: usize) -> Result<Sequence, String> {
        self.jobs += 1;
        let mut chance = Chance::of(self.jobs);
        let vocabulary = self.vocabulary;
        let written = u32::try_from(written).unwrap_or(u32::MAX);
        let job = Job {
            prompt: (0..read).map(|_| any(&mut chance, vocabulary)).collect(),
            constraint: Some(Box::new(Fed { chance, vocabulary })),
            sampling: Sampling::GREEDY,
            limits: Limits { tokens_max: written, stop: Vec::new(), ahead_max: written },
            class: Class::Agent,
            soul: None,
            mixture: None,
            lookup: Vec::new(),
            speculation: Speculation::Off,
        };
        self.engine.submit(job).map_err(|error| error.to_string())
    }

    /// Tokens per second of reading `read`, up to the first drawn token.
    #[allow(clippy::cast_precision_loss, reason = "some hundreds")]
    pub(super) async fn read(&mut self, read: usize) -> Result<f64, String> {
        let started = Instant::now();
        let mut sequence = self.submit(read, 1)?;
        step(&mut sequence).await?;
        Ok(read as f64 / started.elapsed().as_secs_f64())
    }

    /// Tokens per second of decoding `written`.
    #[allow(clippy::cast_precision_loss, reason = "some hundreds")]
    pub(super) async fn decode(&mut self, written: usize) -> Result<f64, String> {
        let mut sequence = self.submit(PROMPT, written)?;
        step(&mut sequence).await?;
        let (started, mut count) = (Instant::now(), 0);
        while step(&mut sequence).await? {
            count += 1;
        }
        Ok(f64::from(count) / started.elapsed().as_secs_f64())
    }

    /// Tokens per second of decoding `written` each of eight sequences together: counted from when all have begun until one has ended.
    #[allow(clippy::cast_precision_loss, reason = "some thousands")]
    pub(super) async fn batch(&mut self, written: usize) -> Result<f64, String> {
        let mut sequences = Vec::new();
        for _ in 0..BATCH {
            sequences.push(self.submit(PROMPT, written)?);
        }
        for sequence in &mut sequences {
            step(sequence).await?;
        }
        let (started, before) = (Instant::now(), self.engine.stats().tokens_decoded);
        let first = &mut sequences[0];
        while step(first).await? {}
        let decoded = self.engine.stats().tokens_decoded - before;
        Ok(decoded as f64 / started.elapsed().as_secs_f64())
    }
}

/// Leaves one random token, the same work that llama-bench gives llama.cpp: it feeds random tokens and draws none. A random model
/// that wrote the likeliest itself would soon write one token for ever, to which always the same experts are routed; and drawing from
/// its flat logits looks at each of them, as from no trained model's.
struct Fed {
    chance: Chance,
    vocabulary: usize,
}

impl Constraint for Fed {
    fn apply(&mut self, _tape: &[TokenId], logits: &mut [f32]) {
        let token = any(&mut self.chance, self.vocabulary);
        if let Some(logit) = logits.get_mut(token as usize) {
            *logit = f32::INFINITY;
        }
    }
}

/// Any token but the last, which is the end of text.
pub(super) fn any(chance: &mut Chance, vocabulary: usize) -> TokenId {
    TokenId::try_from(chance.next() % (vocabulary as u64 - 1)).unwrap_or(0)
}

/// Waits for a token; `false`: it was the last.
async fn step(sequence: &mut Sequence) -> Result<bool, String> {
    sequence.next().await.map(|step| step.is_some()).map_err(|error| error.to_string())
}
