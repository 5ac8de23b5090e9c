//! What every engine promises, whatever model it runs and wherever: one suite for the scripted, the computing and the remote ones.

#![allow(dead_code, reason = "shared by several test binaries, which use different parts")]

use engine::{
    Class, Constraint, Engine, EngineError, Finish, Fork, Job, Limits, Sampling, Sequence,
    Speculation, Step, SubmitError, TokenId,
};

/// A beginning that every tokenizer knows.
const PROMPT: &str = "fn main() { let total = 1;";

fn job(engine: &Engine, tokens_max: u32) -> Job {
    Job {
        prompt: engine.tokenizer().encode(PROMPT),
        constraint: None,
        sampling: Sampling::GREEDY,
        limits: Limits { tokens_max, stop: Vec::new(), ahead_max: 4 },
        class: Class::Fix,
        soul: None,
        mixture: None,
        lookup: Vec::new(),
        speculation: Speculation::default(),
    }
}

async fn rest(sequence: &mut Sequence) -> Vec<Step> {
    let mut steps = Vec::new();
    while let Some(step) = sequence.next().await.expect("nothing goes wrong here") {
        steps.push(step);
    }
    steps
}

fn tokens(steps: &[Step]) -> Vec<TokenId> {
    steps.iter().map(|step| step.token).collect()
}

/// All of them.
pub(crate) async fn keeps(engine: &Engine) {
    keeps_of_texts(engine).await;
    forks_share_their_beginning(engine).await;
    draws_by_the_seed(engine).await;
}

/// Those that hold also where tokens are cut from text anew: the same text may come in other pieces.
pub(crate) async fn keeps_of_texts(engine: &Engine) {
    streams_and_ends(engine).await;
    stops_where_it_is_told_to(engine).await;
    goes_back_and_goes_on(engine).await;
    never_says_what_is_banned(engine).await;
    refuses_when_nothing_is_allowed(engine).await;
    answers_the_urgent_first(engine).await;
    survives_the_dropped(engine).await;
    refuses_bad_jobs(engine).await;
    scores_what_it_says(engine).await;
}

async fn streams_and_ends(engine: &Engine) {
    let mut sequence = engine.submit(job(engine, 12)).unwrap();
    let steps = rest(&mut sequence).await;
    assert_eq!(steps.len(), 12, "{:?}", tokens(&steps));
    let positions: Vec<usize> = steps.iter().map(|step| step.position).collect();
    assert_eq!(positions, (0..12).collect::<Vec<_>>());
    assert!(steps[..11].iter().all(|step| step.finish.is_none()));
    assert_eq!(steps[11].finish, Some(Finish::Length));
    assert!(steps.iter().all(|step| step.logprob <= 1e-3 && step.logprob.is_finite()));
    assert_eq!(sequence.next().await, Ok(None));
    let mut again = engine.submit(job(engine, 5)).unwrap();
    assert_eq!(tokens(&rest(&mut again).await), tokens(&steps[..5]), "the likeliest tokens again");
}

async fn stops_where_it_is_told_to(engine: &Engine) {
    let all = rest(&mut engine.submit(job(engine, 12)).unwrap()).await;
    let stop = all[6].token;
    let first = all.iter().position(|step| step.token == stop).unwrap();
    let mut stopped = job(engine, 12);
    stopped.limits.stop = vec![stop];
    let steps = rest(&mut engine.submit(stopped).unwrap()).await;
    assert_eq!(tokens(&steps), tokens(&all[..=first]));
    assert_eq!(steps.last().unwrap().finish, Some(Finish::Stop));
}

async fn goes_back_and_goes_on(engine: &Engine) {
    let mut sequence = engine.submit(job(engine, 10)).unwrap();
    let all = rest(&mut sequence).await;
    for len in [7, 3, 0] {
        sequence.rewind(sequence.mark_at(len));
        let steps = rest(&mut sequence).await;
        assert_eq!(tokens(&steps), tokens(&all[len..]), "from {len}");
        assert_eq!(steps[0].position, len);
    }
    let mut early = engine.submit(job(engine, 10)).unwrap();
    let start = early.mark();
    for _ in 0..4 {
        early.next().await.unwrap().unwrap();
    }
    early.rewind(start);
    assert_eq!(tokens(&rest(&mut early).await), tokens(&all), "also while it is still writing");
}

/// Bans a token at a position.
struct Ban(usize, Vec<TokenId>);

impl Constraint for Ban {
    fn apply(&mut self, tape: &[TokenId], logits: &mut [f32]) {
        if tape.len() == self.0 {
            for token in &self.1 {
                logits[*token as usize] = f32::NEG_INFINITY;
            }
        }
    }
}

async fn never_says_what_is_banned(engine: &Engine) {
    let all = tokens(&rest(&mut engine.submit(job(engine, 8)).unwrap()).await);
    let mut banned = job(engine, 8);
    banned.constraint = Some(Box::new(Ban(3, vec![all[3]])));
    let steps = tokens(&rest(&mut engine.submit(banned).unwrap()).await);
    assert_eq!(steps.len(), 8);
    assert_eq!(steps[..3], all[..3]);
    assert_ne!(steps[3], all[3]);
    let mut both = job(engine, 8);
    both.constraint = Some(Box::new(Ban(3, vec![all[3], steps[3]])));
    let third = tokens(&rest(&mut engine.submit(both).unwrap()).await);
    assert!(third[3] != all[3] && third[3] != steps[3], "{third:?}");
    let mut again = job(engine, 8);
    again.constraint = Some(Box::new(Ban(3, vec![all[3]])));
    assert_eq!(tokens(&rest(&mut engine.submit(again).unwrap()).await), steps, "the runner-up");
}

async fn refuses_when_nothing_is_allowed(engine: &Engine) {
    struct Nothing;
    impl Constraint for Nothing {
        fn apply(&mut self, tape: &[TokenId], logits: &mut [f32]) {
            if tape.len() == 2 {
                logits.fill(f32::NEG_INFINITY);
            }
        }
    }
    let mut empty = job(engine, 8);
    empty.constraint = Some(Box::new(Nothing));
    let mut sequence = engine.submit(empty).unwrap();
    sequence.next().await.unwrap();
    sequence.next().await.unwrap();
    let error = EngineError::NothingAllowed { position: 2 };
    assert_eq!(sequence.next().await, Err(error.clone()));
    assert_eq!(sequence.next().await, Err(error), "until it is rewound");
    sequence.rewind(sequence.mark_at(1));
    assert!(sequence.next().await.is_ok());
}

async fn forks_share_their_beginning(engine: &Engine) {
    let mut origin = engine.submit(job(engine, 9)).unwrap();
    let mut begun = Vec::new();
    for _ in 0..4 {
        begun.push(origin.next().await.unwrap().unwrap().token);
    }
    let ban = |token: TokenId| Fork { seed: 1, constraint: Some(Box::new(Ban(4, vec![token]))) };
    let free = || Fork { seed: 1, constraint: None };
    let rest_of_origin = tokens(&rest(&mut origin).await);
    origin.rewind(origin.mark_at(4));
    let mut lines = origin.fork(vec![free(), ban(rest_of_origin[0]), free()]).unwrap();
    drop(origin);
    for (index, line) in lines.iter_mut().enumerate() {
        assert_eq!(line.mark().position(), 4);
        let said = tokens(&rest(line).await);
        assert_eq!(said.len(), 5);
        assert_eq!(said == rest_of_origin, index != 1, "{said:?}");
    }
    let line = &mut lines[1];
    line.rewind(line.mark_at(2));
    assert_eq!(line.next().await.unwrap().unwrap().token, begun[2], "what they share as well");
}

async fn draws_by_the_seed(engine: &Engine) {
    if engine.info().remote.as_ref().is_some_and(|remote| remote.seed != Some(true)) {
        return;
    }
    let warm = |seed: u64| {
        let mut warm = job(engine, 16);
        warm.sampling = Sampling { temperature: 1.5, seed, ..Sampling::GREEDY };
        engine.submit(warm).unwrap()
    };
    let (mut a, mut b, mut c) = (warm(7), warm(7), warm(8));
    let start = a.mark();
    let (said_a, said_b, said_c) =
        (tokens(&rest(&mut a).await), tokens(&rest(&mut b).await), tokens(&rest(&mut c).await));
    assert_eq!(said_a, said_b);
    assert_ne!(said_a, said_c);
    a.rewind(start);
    assert_ne!(tokens(&rest(&mut a).await), said_a, "another try is another draw");
    a.rewind(start);
    a.reseed(7, 1.5);
    assert_eq!(tokens(&rest(&mut a).await), said_a, "seeding again starts over");
}

async fn answers_the_urgent_first(engine: &Engine) {
    let mut agents = Vec::new();
    for _ in 0..12 {
        let mut agent = job(engine, 200);
        agent.class = Class::Agent;
        agent.limits.ahead_max = 200;
        agents.push(engine.submit(agent).unwrap());
    }
    let mut typing = job(engine, 3);
    typing.class = Class::Typing;
    assert_eq!(rest(&mut engine.submit(typing).unwrap()).await.len(), 3);
    // Those that had to make way go on.
    let first = tokens(&[agents[0].next().await.unwrap().unwrap()]);
    let last = tokens(&[agents[11].next().await.unwrap().unwrap()]);
    assert_eq!(first, last);
}

async fn survives_the_dropped(engine: &Engine) {
    for _ in 0..8 {
        let mut sequence = engine.submit(job(engine, 200)).unwrap();
        sequence.next().await.unwrap();
    }
    assert_eq!(rest(&mut engine.submit(job(engine, 3)).unwrap()).await.len(), 3);
}

async fn refuses_bad_jobs(engine: &Engine) {
    let mut empty = job(engine, 1);
    empty.prompt = Vec::new();
    assert_eq!(engine.submit(empty).err(), Some(SubmitError::Empty));
    let vocabulary = engine.info().vocabulary;
    let mut strange = job(engine, 1);
    strange.prompt = vec![vocabulary as TokenId];
    let error = SubmitError::Vocabulary { token: vocabulary as TokenId, vocabulary };
    assert_eq!(engine.submit(strange).err(), Some(error));
    let mut long = job(engine, 1);
    long.prompt = vec![1; engine.info().context_max + 1];
    assert!(matches!(engine.submit(long), Err(SubmitError::TooLong { .. })));
}

async fn scores_what_it_says(engine: &Engine) {
    let said = rest(&mut engine.submit(job(engine, 4)).unwrap()).await;
    let other: Vec<TokenId> = tokens(&said).into_iter().rev().collect();
    let continuations = vec![tokens(&said), other, Vec::new()];
    let scored = engine.score(job(engine, 1).prompt, continuations, Class::Fix).await;
    if engine.info().remote.as_ref().is_some_and(|remote| remote.scores != Some(true)) {
        assert!(matches!(scored, Err(EngineError::Refused(_))), "{scored:?}");
        return;
    }
    let scored = scored.unwrap();
    assert_eq!(scored.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 0]);
    for (step, score) in said.iter().zip(&scored[0]) {
        assert!((step.logprob - score).abs() < 2e-2, "{} is scored {score}", step.logprob);
    }
}
