//! What the engine does beside the model, for each token: scheduler, sampler, mask, guard and detokenizer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use engine::{
    Class, Constraint, Engine, Job, Limits, Penalty, Sampling, Script, Sequence, Speculation,
    TokenId, TokenSet,
};

use super::super::report::{Row, Samples};

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

/// When each pass began, and for how many nanoseconds all those before it lasted.
type Passes = Arc<Mutex<Vec<(Instant, u64)>>>;

/// The time of the engine's thread outside of its passes, and the time of the caller's detokenizer, as a share of a token at 100 tokens
/// per second: medians over one sequence that uses nearly everything that sampling has.
#[allow(clippy::cast_precision_loss, reason = "microseconds")]
pub(super) async fn row() -> Result<Row, String> {
    let passes = Passes::default();
    let engine = Engine::scripted(script(passes.clone()));
    let mut sequence = engine.submit(job()).map_err(|error| error.to_string())?;
    let texts = read(&engine, &mut sequence).await?;
    let passes = passes.lock().map_err(|_| "the script panicked".to_owned())?;
    let gaps = passes.windows(2).skip(WARM_UP).map(|pair| {
        let whole = pair[1].0 - pair[0].0;
        whole.as_nanos() as f64 / 1e3 - (pair[1].1 - pair[0].1) as f64 / 1e3
    });
    let mut micros = Samples::default();
    gaps.for_each(|gap| micros.push(gap));
    if micros.len() < WARM_UP {
        return Err(format!("only {} tokens were written", micros.len()));
    }
    let each = micros.quantile(0.5) + texts.quantile(0.5);
    let note = format!(
        "{each:.0} µs per token beside the forward pass (scheduler, sampler, penalties, mask, guard, detokenizer), vocabulary {VOCABULARY}"
    );
    Ok(Row::new("overhead", each / 1e6 * SPEED * 100.0, "%").at_most(5.0).noted(&note))
}

fn script(passes: Passes) -> Script {
    let words: Vec<String> = (0..VOCABULARY).map(|word| format!(" w{word}")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let busy: Arc<OnceLock<Arc<AtomicU64>>> = Arc::default();
    let total = busy.clone();
    let script = Script::new().words(&words).rule(move |seen| {
        let before = total.get().map_or(0, |total| total.load(Ordering::SeqCst));
        if let Ok(mut passes) = passes.lock() {
            passes.push((Instant::now(), before));
        }
        let shift = seen.len() as u32 * 7919;
        #[allow(clippy::cast_precision_loss, reason = "some thousands")]
        let logit = |rank: u32| 1.0 - (1.0 + rank as f32).ln();
        (0..LIKELY).map(|rank| (1000 + (rank * 37 + shift) % 140_000, logit(rank))).collect()
    });
    // The rule is asked for the first time when the job is submitted.
    let _ = busy.set(script.busy());
    script
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
        limits: Limits { tokens_max: WRITTEN, stop: Vec::new(), ahead_max: WRITTEN },
        class: Class::Agent,
        soul: None,
        mixture: None,
        lookup: Vec::new(),
        speculation: Speculation::Auto,
    }
}

/// A mask like that of a grammar: most of the vocabulary is out, at every token.
struct Mask(TokenSet);

impl Constraint for Mask {
    fn apply(&mut self, _tape: &[TokenId], logits: &mut [f32]) {
        self.0.allow_only(logits);
    }
}

/// Microseconds of the detokenizer for each token.
async fn read(engine: &Engine, sequence: &mut Sequence) -> Result<Samples, String> {
    let mut stream = engine.tokenizer().stream();
    let (mut micros, mut bytes) = (Samples::default(), 0);
    while let Some(step) = sequence.next().await.map_err(|error| error.to_string())? {
        let started = Instant::now();
        bytes += stream.push(step.token).len();
        micros.push(started.elapsed().as_secs_f64() * 1e6);
    }
    if bytes == 0 { Err("nothing was written".to_owned()) } else { Ok(micros) }
}
