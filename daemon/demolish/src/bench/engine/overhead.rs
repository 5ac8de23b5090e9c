//! What the engine does beside the model, for each token: scheduler, sampler, mask, guard and detokenizer.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use engine::{
    Class, Constraint, Engine, Job, Limits, Penalty, Sampling, Script, Sequence, TokenId, TokenSet,
};

use super::super::report::Row;

/// The vocabulary of large models.
const VOCABULARY: u32 = 150_000;
/// Tokens that are written, and those before them that are not counted.
const WRITTEN: u32 = 300;
const WARM_UP: usize = 50;
/// Tokens per second of the model that the share is told of.
const SPEED: f64 = 100.0;
/// Tokens that have a likelihood of their own; the rest share the scripted model's floor, which is low enough to be a tail and high
/// enough that no shortcut leaves it out.
const LIKELY: u32 = 3000;

/// When passes began and ended.
type Passes = Arc<Mutex<Vec<(Instant, Instant)>>>;

/// The time between two passes of a model that itself takes no time, as a share of a token at 100 tokens per second: the median over
/// one sequence that uses nearly everything that sampling has.
pub(super) async fn row() -> Result<Row, String> {
    let passes = Passes::default();
    let engine = Engine::scripted(script(passes.clone()));
    let mut sequence = engine.submit(job()).map_err(|error| error.to_string())?;
    let written = read(&engine, &mut sequence).await?;
    let passes = passes.lock().map_err(|_| "the script panicked".to_owned())?;
    let mut gaps: Vec<Duration> =
        passes.windows(2).skip(WARM_UP).map(|pair| pair[1].0 - pair[0].1).collect();
    gaps.sort_unstable();
    let Some(&median) = gaps.get(gaps.len() / 2) else {
        return Err(format!("only {written} tokens were written"));
    };
    let note = format!(
        "{:.0} µs per token beside the forward pass (scheduler, sampler, penalties, mask, guard, detokenizer), vocabulary {VOCABULARY}",
        median.as_secs_f64() * 1e6
    );
    Ok(Row::new("overhead", median.as_secs_f64() * SPEED * 100.0, "%").at_most(5.0).noted(&note))
}

fn script(passes: Passes) -> Script {
    let words: Vec<String> = (0..VOCABULARY).map(|word| format!(" w{word}")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    Script::new().words(&words).rule(move |seen| {
        let began = Instant::now();
        let shift = seen.len() as u32 * 7919;
        #[allow(clippy::cast_precision_loss, reason = "some thousands")]
        let logits = (0..LIKELY)
            .map(|rank| (1000 + (rank * 37 + shift) % 140_000, 1.0 - (1.0 + rank as f32).ln()))
            .collect();
        if let Ok(mut passes) = passes.lock() {
            passes.push((began, Instant::now()));
        }
        logits
    })
}

fn job() -> Job {
    let penalty = |amount| Penalty { amount, window: 64, with_prompt: true };
    Job {
        prompt: vec![104, 105],
        constraint: Some(Box::new(Mask((0..VOCABULARY).filter(|token| token % 3 > 0).collect()))),
        sampling: Sampling {
            temperature: 0.8,
            top_p: 0.95,
            min_p: 0.05,
            repetition: penalty(1.1),
            frequency: penalty(0.1),
            ..Sampling::GREEDY
        },
        limits: Limits { tokens_max: WRITTEN, stop: Vec::new(), ahead_max: 4 },
        class: Class::Agent,
        soul: None,
    }
}

/// A mask like that of a grammar: most of the vocabulary is out, at every token.
struct Mask(TokenSet);

impl Constraint for Mask {
    fn apply(&mut self, _tape: &[TokenId], logits: &mut [f32]) {
        self.0.allow_only(logits);
    }
}

async fn read(engine: &Engine, sequence: &mut Sequence) -> Result<usize, String> {
    let mut stream = engine.tokenizer().stream();
    let (mut written, mut bytes) = (0, 0);
    while let Some(step) = sequence.next().await.map_err(|error| error.to_string())? {
        bytes += stream.push(step.token).len();
        written += 1;
    }
    if bytes == 0 { Err("nothing was written".to_owned()) } else { Ok(written) }
}
