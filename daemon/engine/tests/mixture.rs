//! A second opinion beside the model's: what is drawn from is the blend of both, and nothing else changes.

#[path = "support/jobs.rs"]
mod jobs;

use std::collections::HashMap;

use engine::{
    Constraint, DRAFT_SOURCES, Engine, EngineError, Fork, Mixture, Opinion, Sampling, Script,
    Speculation, Step, Supposed, TokenId,
};
use jobs::{job, rest};

const A: TokenId = 97;
const B: TokenId = 98;
const C: TokenId = 99;

/// Always the same shares.
#[derive(Clone)]
struct Always(Vec<(TokenId, f32)>);

impl Mixture for Always {
    fn shares(&mut self, _tape: &[TokenId], _opinion: Opinion) -> Vec<(TokenId, f32)> {
        self.0.clone()
    }
}

/// A model of which `a` has e times the chance of `b`, and everything else next to none.
fn engine() -> Engine {
    Engine::scripted(Script::new().rule(|_| vec![(A, 1.0), (B, 0.0)]))
}

async fn first(
    engine: &Engine,
    mixture: Option<Box<dyn Mixture>>,
    sampling: Sampling,
    constraint: Option<Box<dyn Constraint>>,
) -> Step {
    let mut job = job(engine, "x", 1);
    (job.mixture, job.sampling, job.constraint) = (mixture, sampling, constraint);
    rest(&mut engine.submit(job).unwrap()).await.remove(0)
}

/// What the model gives `a`.
fn own() -> f32 {
    1.0 / (1.0 + (-1.0f32).exp())
}

#[tokio::test]
async fn what_is_likeliest_in_the_blend_is_taken_and_told() {
    let engine = engine();
    let greedy = Sampling { top_len: 3, ..Sampling::GREEDY };
    let plain = first(&engine, None, greedy.clone(), None).await;
    assert_eq!((plain.token, plain.top.len()), (A, 3));
    assert!((plain.logprob.exp() - own()).abs() < 1e-4);
    let mixed = first(&engine, Some(Box::new(Always(vec![(C, 0.6)]))), greedy.clone(), None).await;
    assert_eq!(mixed.token, C);
    let told: HashMap<TokenId, f32> =
        mixed.top.iter().map(|(token, p)| (*token, p.exp())).collect();
    assert!((mixed.logprob.exp() - 0.6).abs() < 1e-4 && (told[&C] - 0.6).abs() < 1e-4);
    assert!((told[&A] - 0.4 * own()).abs() < 1e-4, "{told:?}");
    assert_eq!(mixed.final_logprob, Some(mixed.logprob));
    let little = first(&engine, Some(Box::new(Always(vec![(C, 0.1)]))), greedy, None).await;
    assert_eq!(little.token, A);
    assert!((little.logprob.exp() - 0.9 * own()).abs() < 1e-4);
    let entropy = -0.9 * own() * (0.9 * own()).ln()
        - 0.9 * (1.0 - own()) * (0.9 * (1.0 - own())).ln()
        - 0.1 * 0.1f32.ln();
    assert!((little.entropy - entropy).abs() < 1e-3, "{} {entropy}", little.entropy);
}

#[tokio::test]
async fn draws_follow_the_blend() {
    let engine = engine();
    let mut job = job(&engine, "x", 2000);
    job.mixture = Some(Box::new(Always(vec![(C, 0.25)])));
    job.sampling = Sampling { temperature: 1.0, seed: 3, ..Sampling::GREEDY };
    let steps = rest(&mut engine.submit(job).unwrap()).await;
    let share = |token| steps.iter().filter(|step| step.token == token).count() as f32 / 2000.0;
    assert!((share(C) - 0.25).abs() < 0.03, "{}", share(C));
    assert!((share(A) - 0.75 * own()).abs() < 0.03, "{}", share(A));
}

/// Forbids a token.
struct Without(TokenId);

impl Constraint for Without {
    fn apply(&mut self, _tape: &[TokenId], logits: &mut [f32]) {
        logits[self.0 as usize] = f32::NEG_INFINITY;
    }
}

#[tokio::test]
async fn what_is_forbidden_stays_so() {
    let engine = engine();
    let mixture = || Some(Box::new(Always(vec![(C, 0.9), (B, 0.05)])) as Box<dyn Mixture>);
    let step = first(&engine, mixture(), Sampling::GREEDY, Some(Box::new(Without(C)))).await;
    assert_eq!(step.token, B, "the next best of the blend");
    let bias = vec![(C, f32::NEG_INFINITY)];
    let step = first(&engine, mixture(), Sampling { bias, ..Sampling::GREEDY }, None).await;
    assert_eq!(step.token, B);
}

#[tokio::test]
async fn shares_that_mean_nothing_change_nothing() {
    let engine = engine();
    let plain = first(&engine, None, Sampling::GREEDY, None).await;
    for odd in [vec![], vec![(C, f32::NAN)], vec![(C, -3.0)], vec![(u32::MAX, 0.9)], vec![(C, 0.0)]]
    {
        let step = first(&engine, Some(Box::new(Always(odd))), Sampling::GREEDY, None).await;
        assert_eq!(step, plain);
    }
}

/// Speaks once, and then fails.
struct Fails;

impl Mixture for Fails {
    fn shares(&mut self, tape: &[TokenId], _opinion: Opinion) -> Vec<(TokenId, f32)> {
        assert!(tape.is_empty(), "as a test wants it");
        Vec::new()
    }
}

#[tokio::test]
async fn a_panic_costs_one_job() {
    let engine = engine();
    let mut failing = job(&engine, "x", 5);
    failing.mixture = Some(Box::new(Fails));
    let mut sequence = engine.submit(failing).unwrap();
    assert!(sequence.next().await.is_ok());
    let error = sequence.next().await.unwrap_err();
    assert_eq!(error, EngineError::Mixture("as a test wants it".to_owned()));
    assert_eq!(first(&engine, None, Sampling::GREEDY, None).await.token, A);
}

/// Knows what is said, token by token.
#[derive(Clone)]
struct Knows {
    text: Vec<TokenId>,
    forks: bool,
}

impl Mixture for Knows {
    fn shares(&mut self, tape: &[TokenId], opinion: Opinion) -> Vec<(TokenId, f32)> {
        assert!(opinion.top == A && (opinion.certainty - own()).abs() < 1e-4);
        self.text.get(tape.len()).map(|&token| (token, 0.9)).into_iter().collect()
    }

    fn draft(&mut self, tape: &[TokenId], len: usize) -> Supposed {
        let tokens = self.text.iter().skip(tape.len()).take(len).copied().collect();
        Supposed { tokens, depth: 8 }
    }

    fn fork(&self) -> Option<Box<dyn Mixture>> {
        self.forks.then(|| Box::new(self.clone()) as Box<dyn Mixture>)
    }
}

const TEXT: &str = "the quick brown fox jumps over the lazy dog";

#[tokio::test]
async fn what_it_drafts_takes_few_passes() {
    let script = Script::new().rule(|_| vec![(A, 1.0), (B, 0.0)]);
    let engine = Engine::scripted(script.speculation(Speculation::Always));
    let text = engine.tokenizer().encode(TEXT);
    let mut job = job(&engine, "x", text.len() as u32);
    job.limits.ahead_max = 64;
    job.mixture = Some(Box::new(Knows { text: text.clone(), forks: false }));
    let steps = rest(&mut engine.submit(job).unwrap()).await;
    assert_eq!(steps.iter().map(|step| step.token).collect::<Vec<_>>(), text);
    let stats = engine.stats();
    let source = DRAFT_SOURCES.iter().position(|&name| name == "workspace").unwrap();
    assert!(stats.ticks < 6, "{stats:?}");
    assert!(stats.accepted[source] as usize >= text.len() - 4, "{stats:?}");
}

#[tokio::test]
async fn other_lines_have_it_where_it_forks() {
    for forks in [true, false] {
        let engine = engine();
        let text = engine.tokenizer().encode(TEXT);
        let mut job = job(&engine, "x", text.len() as u32);
        job.mixture = Some(Box::new(Knows { text: text.clone(), forks }));
        let mut sequence = engine.submit(job).unwrap();
        for _ in 0..4 {
            sequence.next().await.unwrap();
        }
        let mut other = sequence.fork(vec![Fork::default()]).unwrap().remove(0);
        let tokens: Vec<TokenId> = rest(&mut other).await.iter().map(|step| step.token).collect();
        let expected = if forks { text[4..].to_vec() } else { vec![A; text.len() - 4] };
        assert_eq!(tokens, expected);
    }
}

/// Forces the first tokens of an answer.
struct Begins(Vec<TokenId>);

impl Constraint for Begins {
    fn apply(&mut self, tape: &[TokenId], logits: &mut [f32]) {
        if let Some(&next) = self.0.get(tape.len()) {
            let logit = logits[next as usize];
            logits.fill(f32::NEG_INFINITY);
            logits[next as usize] = logit;
        }
    }

    fn forced(&mut self, tape: &[TokenId]) -> Vec<TokenId> {
        self.0.get(tape.len()..).unwrap_or_default().to_vec()
    }
}

#[tokio::test]
async fn it_drafts_behind_what_is_forced_and_says_how_likely_that_was() {
    let script = Script::new().rule(|_| vec![(A, 1.0), (B, 0.0)]);
    let engine = Engine::scripted(script.speculation(Speculation::Always));
    let text = engine.tokenizer().encode(TEXT);
    let mut job = job(&engine, "x", text.len() as u32);
    job.limits.ahead_max = 64;
    job.constraint = Some(Box::new(Begins(text[..5].to_vec())));
    job.mixture = Some(Box::new(Knows { text: text.clone(), forks: false }));
    let steps = rest(&mut engine.submit(job).unwrap()).await;
    assert!(steps.iter().all(|step| step.logprob.exp() > 0.899), "{steps:?}");
    let stats = engine.stats();
    let source = DRAFT_SOURCES.iter().position(|&name| name == "workspace").unwrap();
    let wrong = stats.drafted[source] - stats.accepted[source];
    assert!(wrong == 0 && stats.accepted[source] > 20, "{stats:?}");
}
