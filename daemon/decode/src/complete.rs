//! Inline completion: the prompt, the steered search, the alternatives.

use std::sync::Arc;
use std::time::Instant;

use engine::{Class, Engine, EngineError, Mixture, SubmitError, TokenId, Tokenizer};

use crate::beside::{Beside, Mixing};
use crate::confidence::Learned;
use crate::judge::Desk;
use crate::prompt::{Healing, Layout, Prompt, fill_in};
use crate::steer::{Found, Steer, Terms};
use crate::trim::Place;
use crate::watch::Watch;
use crate::writer::{Manner, Writer, stops};
use crate::{
    CompleteError, CompleteRequest, Completion, Critic, NoCritic, Suggestion, Timings, Trigger,
    Unknown, Verdict, gate,
};

/// Completes `request` with the model of `engine` under the eyes of `critic`. Dropping the future cancels all of it.
pub async fn complete(
    engine: &Engine,
    critic: &dyn Critic,
    request: CompleteRequest,
) -> Result<Completion, CompleteError> {
    let started = Instant::now();
    let tokenizer = engine.tokenizer();
    let layout =
        Layout::of(engine).ok_or_else(|| CompleteError::NoFim(engine.info().name.clone()))?;
    if request.trigger == Trigger::Automatic && !gate::is_open(&request.text, request.offset) {
        return Ok(Completion::default());
    }
    let is_data = gate::is_data(&request.text, request.offset);
    let nobody = NoCritic(Unknown::TooLong);
    let critic: &dyn Critic = if is_data { &nobody } else { critic };
    let desk = Desk::new(
        request.text.clone(),
        request.offset,
        request.language.filter(|_| !is_data),
        &request.path,
        critic.server(),
        request.indent,
    );
    let place = Place::new(&desk, request.budget.lines_max).without_above();
    let prompt = prompt_of(tokenizer, &layout, &request, &desk);
    let mixture = mixture(engine, &desk, &prompt, request.mixing, &request.lookup);
    // The mixture drafts from them too, and from more.
    let lookup = if mixture.is_none() { request.lookup } else { Vec::new() };
    let manner = Manner {
        class: Class::Typing,
        temperature: request.temperature,
        seed: request.seed,
        tokens_max: request.budget.tokens_max,
        not_first: if place.is_blank() { line_breaks(tokenizer) } else { Vec::new() },
        lookup,
        mixture: mixture.map(|mixture| Box::new(mixture) as Box<dyn Mixture>),
    };
    let mut timings = Timings { prompt: started.elapsed(), ..Timings::default() };
    let writer = Writer::start(engine, prompt, manner)?;
    let deadline = started + request.budget.deadline;
    let watch = Watch::new(critic, &desk, place.layout(), request.budget.checks_max, deadline);
    let terms = Terms {
        on_findings: request.on_findings,
        trigger: request.trigger,
        bar: Learned::of_model(&engine.info().name)
            .filter(|_| request.trigger == Trigger::Automatic)
            .map(|learned| (learned, request.withhold)),
    };
    let mut steer = Steer::new(&desk, &place, writer, watch, terms);
    let found = search(&mut steer, request.budget.candidates, deadline).await?;
    timings.prefill = steer.writer.prefill.unwrap_or_default();
    timings.decode = steer.writer.decode;
    timings.tokens = steer.writer.tokens;
    timings.rewinds = steer.writer.rewinds;
    timings.baseline = steer.watch.baseline;
    timings.checks = steer.watch.checks;
    timings.check_count = steer.watch.count;
    timings.total = started.elapsed();
    let learned = Learned::of_model(&engine.info().name);
    let is_shown = |found: &Found| found.fits && terms.shows(found.evidence.as_ref());
    let (shown, withheld): (Vec<Found>, Vec<Found>) = found.into_iter().partition(is_shown);
    let all = |found: Vec<Found>| {
        found.into_iter().map(|found| suggestion(&desk, found, learned)).collect()
    };
    let refused = steer.refused;
    Ok(Completion { suggestions: all(shown), withheld: all(withheld), refused, timings })
}

/// What has a say beside the model in the answer to a prompt.
pub(crate) fn mixture(
    engine: &Engine,
    desk: &Desk,
    prompt: &Prompt,
    mixing: Option<Mixing>,
    blocks: &[Arc<[TokenId]>],
) -> Option<Beside> {
    let before = &desk.before[..desk.before.len().saturating_sub(prompt.healed.len())];
    Beside::new(engine, mixing?, &desk.text, desk.offset, before, blocks, stops(engine))
}

/// The prompt of a wish, with all that it brings.
pub(crate) fn prompt_of(
    tokenizer: &Tokenizer,
    layout: &Layout,
    request: &CompleteRequest,
    desk: &Desk,
) -> Prompt {
    let (path, context) = (&request.path, &request.context);
    fill_in(tokenizer, layout, request.healing, path, &desk.before, &desk.after, context)
}

/// The best candidate, then others that start with other tokens, as long as the budget lasts.
async fn search(
    steer: &mut Steer<'_>,
    candidates: u32,
    deadline: Instant,
) -> Result<Vec<Found>, EngineError> {
    let mut all: Vec<Found> = Vec::new();
    for number in 0..candidates.max(1) {
        if number > 0 && (Instant::now() >= deadline || !steer.start_over()) {
            break;
        }
        if let Some(found) = steer.candidate().await?
            && all.iter().all(|other| other.text != found.text)
        {
            all.push(found);
        }
    }
    all.sort_by_key(|found| match found.verdict {
        Verdict::Clean => 0,
        Verdict::Unknown(_) => 1,
        Verdict::Findings(_) => 2,
    });
    Ok(all)
}

fn suggestion(desk: &Desk, found: Found, learned: Option<&Learned>) -> Suggestion {
    Suggestion {
        text: desk.dressed(&found.text).text,
        range: desk.offset..desk.offset,
        verdict: found.verdict,
        deferred: found.deferred,
        mean_logprob: found.mean_logprob,
        evidence: found.evidence,
        confidence: learned
            .zip(found.evidence)
            .map(|(learned, evidence)| learned.probability(&evidence)),
    }
}

/// The tokens that would leave a blank line blank.
fn line_breaks(tokenizer: &Tokenizer) -> Vec<TokenId> {
    let starts =
        |token: &TokenId| matches!(tokenizer.token_bytes(*token).first(), Some(b'\n' | b'\r'));
    (0..tokenizer.len() as TokenId).filter(starts).collect()
}

impl Default for Healing {
    /// Models for filling in are trained on cuts between any two characters.
    fn default() -> Self {
        Healing::Off
    }
}

impl From<SubmitError> for CompleteError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Busy { .. } => CompleteError::Busy(error.to_string()),
            error => CompleteError::Engine(error.to_string()),
        }
    }
}

impl From<EngineError> for CompleteError {
    fn from(error: EngineError) -> Self {
        CompleteError::Engine(error.to_string())
    }
}
