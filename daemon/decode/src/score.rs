//! What the model, and the workspace beside it, think of a text that really stands in a hole: for whoever measures completion or fits
//! the weights of the mixture.

use std::sync::PoisonError;

use engine::{
    Class, Constraint, Engine, EngineError, Job, Limits, Mixture, Sampling, Speculation, TokenId,
};
use recall::cache::weights::{self, Sample};

use crate::beside::Beside;
use crate::complete::{mixture, prompt_of};
use crate::judge::Desk;
use crate::prompt::Layout;
use crate::{CompleteError, CompleteRequest};

/// The longest text that is scored at once, in tokens.
pub const SCORED_TOKENS_MAX: usize = 256;

/// A token of the text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// The token.
    pub token: TokenId,
    /// Its natural-log probability, under the model with what the request mixes in.
    pub logprob: f32,
    /// What would have been drawn without any temperature.
    pub likeliest: TokenId,
    /// The probability of that.
    pub certainty: f32,
}

/// Scores `middle` and its end, token by token, as the answer to `request`: of its prompt and with its mixture, each token behind the
/// right ones. Of a long text only the first [`SCORED_TOKENS_MAX`] tokens are scored, without the end. A model that cannot fill in is
/// shown what stands before.
pub async fn score(
    engine: &Engine,
    request: CompleteRequest,
    middle: &str,
) -> Result<Vec<Scored>, CompleteError> {
    let (job, _) = job(engine, request, middle, false)?;
    run(engine, job).await
}

/// What the model alone gives each of these tokens, with the workspace's opinion where there is one: what weights are fitted on.
pub async fn samples(
    engine: &Engine,
    request: CompleteRequest,
    middle: &str,
) -> Result<Vec<(Scored, Option<Sample>)>, CompleteError> {
    let (job, record) = job(engine, request, middle, true)?;
    let scored = run(engine, job).await?;
    let Some(record) = record else {
        return Ok(scored.into_iter().map(|one| (one, None)).collect());
    };
    let record = std::mem::take(&mut *record.lock().unwrap_or_else(PoisonError::into_inner));
    let sample = |(one, (prediction, opinion)): (Scored, (_, engine::Opinion))| {
        let opinion = weights::Opinion { top: opinion.top, certainty: opinion.certainty };
        (one, Sample::of(&prediction, opinion, one.token, one.logprob.exp().max(f32::MIN_POSITIVE)))
    };
    Ok(scored.into_iter().zip(record).map(sample).collect())
}

/// Forces a text.
struct Forced(Vec<TokenId>);

impl Constraint for Forced {
    fn apply(&mut self, tape: &[TokenId], logits: &mut [f32]) {
        let next = self.0.get(tape.len()).map(|token| *token as usize);
        for (token, logit) in logits.iter_mut().enumerate() {
            if Some(token) != next {
                *logit = f32::NEG_INFINITY;
            }
        }
    }

    fn forced(&mut self, tape: &[TokenId]) -> Vec<TokenId> {
        self.0.get(tape.len()..).unwrap_or_default().to_vec()
    }
}

fn job(
    engine: &Engine,
    request: CompleteRequest,
    middle: &str,
    is_recorded: bool,
) -> Result<(Job, Option<crate::beside::Record>), CompleteError> {
    let tokenizer = engine.tokenizer();
    let layout = Layout::of(engine).unwrap_or_else(|| Layout::before(engine));
    let (text, offset, path) = (request.text.clone(), request.offset, request.path.clone());
    let desk = Desk::new(text, offset, request.language, &path, "", None);
    let mut prompt = prompt_of(tokenizer, &layout, &request, &desk);
    if prompt.tokens.is_empty() {
        // Texts begin where others have ended.
        prompt.tokens.extend(tokenizer.eos().first());
    }
    let healed = String::from_utf8_lossy(&prompt.healed);
    let mut tokens = tokenizer.encode(&format!("{healed}{}", middle.replace("\r\n", "\n")));
    if tokens.len() < SCORED_TOKENS_MAX {
        tokens.extend(tokenizer.eos().first());
    }
    tokens.truncate(SCORED_TOKENS_MAX);
    let (beside, record) = match mixture(engine, &desk, &prompt, request.mixing, &request.lookup) {
        Some(beside) if is_recorded => {
            let (beside, record) = beside.recording();
            (Some(beside), Some(record))
        }
        beside => (beside, None),
    };
    let len = tokens.len() as u32;
    let job = Job {
        prompt: prompt.tokens,
        constraint: Some(Box::new(Forced(tokens))),
        sampling: Sampling { top_len: 1, ..Sampling::GREEDY },
        limits: Limits { tokens_max: len, stop: Vec::new(), ahead_max: len },
        class: Class::Fix,
        soul: None,
        mixture: beside.map(|beside: Beside| Box::new(beside) as Box<dyn Mixture>),
        lookup: Vec::new(),
        speculation: Speculation::Off,
    };
    Ok((job, record))
}

async fn run(engine: &Engine, job: Job) -> Result<Vec<Scored>, CompleteError> {
    let mut sequence = engine.submit(job)?;
    let mut scored = Vec::new();
    loop {
        match sequence.next().await {
            Ok(Some(step)) => {
                let (likeliest, logprob) = step.top.first().copied().unwrap_or((step.token, 0.0));
                let certainty = logprob.exp();
                scored.push(Scored {
                    token: step.token,
                    logprob: step.logprob,
                    likeliest,
                    certainty,
                });
            }
            Ok(None) => return Ok(scored),
            // An empty text has nothing to force.
            Err(EngineError::NothingAllowed { .. }) => return Ok(scored),
            Err(error) => return Err(error.into()),
        }
    }
}
