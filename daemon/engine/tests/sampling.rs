//! Sampling and constraints through the whole engine, on the scripted backend.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use engine::{
    Class, Constraint, Engine, EngineError, Job, Limits, Penalty, Sampling, Script, Sequence,
    Speculation, Step, SubmitError, TokenId, TokenSet,
};

fn job(engine: &Engine, prompt: &str, tokens_max: u32) -> Job {
    Job {
        prompt: engine.tokenizer().encode_prompt(prompt),
        constraint: None,
        sampling: Sampling::GREEDY,
        limits: Limits { tokens_max, stop: Vec::new(), ahead_max: 4 },
        class: Class::Agent,
        soul: None,
        mixture: None,
        lookup: Vec::new(),
        speculation: Speculation::Auto,
    }
}

async fn rest(sequence: &mut Sequence) -> Vec<Step> {
    let mut steps = Vec::new();
    while let Some(step) = sequence.next().await.expect("the script does not fail") {
        steps.push(step);
    }
    steps
}

type Log = Arc<Mutex<Vec<String>>>;

struct Noting(Log);

impl Constraint for Noting {
    fn apply(&mut self, tape: &[TokenId], _logits: &mut [f32]) {
        self.0.lock().unwrap().push(format!("apply {}", tape.len()));
    }

    fn prepare(&mut self, tape: &[TokenId]) {
        self.0.lock().unwrap().push(format!("prepare {}", tape.len()));
    }
}

#[tokio::test]
async fn a_constraint_prepares_while_the_model_computes() {
    let log = Log::default();
    let seen = log.clone();
    let script = Script::new().delay(Duration::from_millis(5)).rule(move |_| {
        seen.lock().unwrap().push("logits".to_owned());
        vec![(97, 0.0)]
    });
    let engine = Engine::scripted(script);
    let mut job = job(&engine, "prompt", 2);
    job.constraint = Some(Box::new(Noting(log.clone())));
    rest(&mut engine.submit(job).unwrap()).await;
    let log = log.lock().unwrap().join(", ");
    assert_eq!(log, "prepare 0, logits, apply 0, prepare 1, logits, apply 1");
}

struct Allow(TokenSet);

impl Constraint for Allow {
    fn apply(&mut self, _tape: &[TokenId], logits: &mut [f32]) {
        self.0.allow_only(logits);
    }
}

#[tokio::test]
async fn masks_of_any_length_are_obeyed() {
    let engine = Engine::scripted(Script::new().rule(|_| vec![(200, 9.0), (98, 5.0), (97, 1.0)]));
    let masks = [
        (TokenSet::from_iter([97, 98]), Ok(98)),
        (TokenSet::from_words(vec![u32::MAX; 1000]), Ok(200)),
        (TokenSet::default(), Err(EngineError::NothingAllowed { position: 0 })),
        (TokenSet::from_iter([1_000_000]), Err(EngineError::NothingAllowed { position: 0 })),
    ];
    for (mask, expected) in masks {
        let mut job = job(&engine, "x", 1);
        job.constraint = Some(Box::new(Allow(mask)));
        let step = engine.submit(job).unwrap().next().await;
        assert_eq!(step.map(|step| step.unwrap().token), expected);
    }
}

struct Careless;

impl Constraint for Careless {
    fn apply(&mut self, _tape: &[TokenId], _logits: &mut [f32]) {}

    fn prepare(&mut self, tape: &[TokenId]) {
        let _ = tape[7];
    }
}

#[tokio::test]
async fn a_constraint_that_panics_ends_its_own_job() {
    let engine = Engine::scripted(Script::new().rule(|_| vec![(97, 0.0)]));
    let mut careless = job(&engine, "x", 3);
    careless.constraint = Some(Box::new(Careless));
    let mut other = engine.submit(job(&engine, "y", 3)).unwrap();
    let failed = engine.submit(careless).unwrap().next().await.unwrap_err();
    assert!(
        failed.to_string().contains("the constraint panicked: index out of bounds"),
        "{failed}"
    );
    assert_eq!(rest(&mut other).await.len(), 3);
}

#[tokio::test]
async fn log_probabilities_are_those_of_the_model() {
    let engine = Engine::scripted(Script::new().rule(|_| vec![(97, 1.0), (98, 0.0)]));
    let plain = engine.submit(job(&engine, "x", 1)).unwrap().next().await.unwrap().unwrap();
    let mut biased = job(&engine, "x", 1);
    biased.sampling = Sampling { bias: vec![(98, 5.0)], top_len: 3, ..Sampling::GREEDY };
    let biased = engine.submit(biased).unwrap().next().await.unwrap().unwrap();
    assert_eq!((plain.token, biased.token), (97, 98));
    assert_eq!(biased.logprob, plain.top[1].1, "what the bias added is not in it");
    assert_eq!(biased.top, plain.top[..3]);
    assert_eq!(biased.entropy, plain.entropy);
}

#[tokio::test]
async fn a_penalty_reaches_what_was_said() {
    let engine = Engine::scripted(Script::new().rule(|_| vec![(97, 1.0), (98, 0.5), (99, 0.0)]));
    let mut job = job(&engine, "x", 6);
    let presence = Penalty { amount: 1.2, window: 2, with_prompt: false };
    job.sampling = Sampling { presence, ..Sampling::GREEDY };
    let said: Vec<TokenId> =
        rest(&mut engine.submit(job).unwrap()).await.iter().map(|step| step.token).collect();
    assert_eq!(said, [97, 98, 99, 97, 98, 99]);
}

#[tokio::test]
async fn a_setting_that_means_nothing_is_refused_at_once() {
    let engine = Engine::scripted(Script::new());
    let mut job = job(&engine, "x", 6);
    job.sampling.temperature = f32::NAN;
    let error = engine.submit(job).err();
    assert!(
        matches!(error, Some(SubmitError::Sampling { setting: "temperature", .. })),
        "{error:?}"
    );
}
