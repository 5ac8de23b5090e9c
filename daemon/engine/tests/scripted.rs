//! The engine's promises, on the scripted backend: order, rewind, cancel, pre-emption, prefix reuse, death of the thread.

#[path = "support/jobs.rs"]
mod jobs;

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use engine::{
    Class, Constraint, Engine, EngineError, Finish, Sampling, Script, Step, SubmitError, TokenId,
};
use jobs::{job, rest};

fn text(engine: &Engine, steps: &[Step]) -> String {
    let tokens: Vec<TokenId> = steps.iter().map(|step| step.token).collect();
    engine.tokenizer().decode(&tokens)
}

#[tokio::test]
async fn says_the_likeliest_line_and_stops() {
    let engine = Engine::scripted(Script::new().line("<|fim_middle|>", "return 1\n", 0.0).line(
        "<|fim_middle|>",
        "pass\n",
        -1.0,
    ));
    let mut sequence = engine.submit(job(&engine, "def f():<|fim_middle|>", 100)).unwrap();
    let steps = rest(&mut sequence).await;
    assert_eq!(text(&engine, &steps), "return 1\n");
    assert_eq!(steps.last().unwrap().finish, Some(Finish::Stop));
    assert_eq!(
        steps.iter().map(|step| step.position).collect::<Vec<_>>(),
        (0..10).collect::<Vec<_>>()
    );
    assert_eq!(sequence.next().await, Ok(None));
    let first = &steps[0];
    assert!((first.logprob - -0.313).abs() < 1e-3, "two lines, e⁰ to e⁻¹: {}", first.logprob);
    assert!(first.entropy > 0.5 && first.entropy < 0.7);
    assert_eq!(first.top[1].0, u32::from(b'p'));
}

#[tokio::test]
async fn rewinds_and_goes_on_differently() {
    struct Ban(TokenId);
    impl Constraint for Ban {
        fn apply(&mut self, tape: &[TokenId], logits: &mut [f32]) {
            if tape.is_empty() && self.0 != 0 {
                logits[self.0 as usize] = f32::NEG_INFINITY;
            }
        }
        fn rewound(&mut self, len: usize) {
            if len == 0 {
                self.0 = u32::from(b'r');
            }
        }
    }
    let engine =
        Engine::scripted(Script::new().line(":", "return 1\n", 0.0).line(":", "pass\n", -1.0));
    let mut job = job(&engine, "def f():", 100);
    job.constraint = Some(Box::new(Ban(0)));
    let mut sequence = engine.submit(job).unwrap();
    let start = sequence.mark();
    sequence.next().await.unwrap();
    let one = sequence.mark();
    assert_eq!(text(&engine, &rest(&mut sequence).await), "eturn 1\n");
    sequence.rewind(one);
    assert_eq!(
        text(&engine, &rest(&mut sequence).await),
        "eturn 1\n",
        "a finished sequence goes on after a rewind"
    );
    sequence.rewind(start);
    assert_eq!(text(&engine, &rest(&mut sequence).await), "pass\n");
    sequence.rewind(sequence.mark());
    assert_eq!(sequence.next().await, Ok(None), "rewinding nothing does not unfinish");
}

#[tokio::test]
async fn a_dropped_sequence_stops_within_one_token() {
    let script = Script::new().rule(|_| vec![(97, 0.0)]).delay(Duration::from_millis(5));
    let fed = script.fed();
    let engine = Engine::scripted(script);
    let mut endless = job(&engine, "x", 100_000);
    endless.limits.ahead_max = 1000;
    let mut sequence = engine.submit(endless).unwrap();
    sequence.next().await.unwrap();
    drop(sequence);
    let at_drop = fed.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert!(fed.load(Ordering::SeqCst) <= at_drop + 1);
}

#[tokio::test]
async fn runs_ahead_no_further_than_allowed() {
    let script = Script::new().rule(|_| vec![(97, 0.0)]);
    let fed = script.fed();
    let engine = Engine::scripted(script);
    let mut sequence = engine.submit(job(&engine, "x", 100_000)).unwrap();
    sequence.next().await.unwrap();
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(fed.load(Ordering::SeqCst), 5, "one taken, four ahead");
}

#[tokio::test]
async fn typing_preempts_the_agent() {
    let script = Script::new().rule(|_| vec![(97, 0.0)]).delay(Duration::from_millis(2));
    let engine = Engine::scripted(script);
    let mut slow = job(&engine, "agent", 100_000);
    slow.class = Class::Agent;
    slow.limits.ahead_max = 100_000;
    let _agent = engine.submit(slow).unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let started = Instant::now();
    let mut typing = engine.submit(job(&engine, "typing", 3)).unwrap();
    assert_eq!(rest(&mut typing).await.len(), 3);
    assert!(started.elapsed() < Duration::from_millis(200), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_shared_beginning_is_paid_once() {
    let script = Script::new().line(":", "pass\n", 0.0);
    let fed = script.fed();
    let engine = Engine::scripted(script);
    let long = "x".repeat(500);
    let mut first = engine.submit(job(&engine, &format!("{long}:"), 10)).unwrap();
    rest(&mut first).await;
    let paid = fed.load(Ordering::SeqCst);
    let mut beside = engine.submit(job(&engine, &format!("{long}y:"), 10)).unwrap();
    assert_eq!(text(&engine, &rest(&mut beside).await), "pass\n");
    assert!(fed.load(Ordering::SeqCst) < paid + 20, "copied from a living sequence");
    drop((first, beside));
    let paid = fed.load(Ordering::SeqCst);
    let mut after = engine.submit(job(&engine, &format!("{long}z:"), 10)).unwrap();
    assert_eq!(text(&engine, &rest(&mut after).await), "pass\n");
    assert!(fed.load(Ordering::SeqCst) < paid + 20, "taken from a finished one");
}

#[tokio::test]
async fn scores_continuations() {
    let engine = Engine::scripted(Script::new().line(":", "ab", 0.0).line(":", "cd", -1.0));
    let encode = |text: &str| engine.tokenizer().encode(text);
    let prompt = encode("x:");
    let continuations =
        vec![encode("ab"), encode("cd"), encode("zz"), Vec::new(), encode(&"a".repeat(200))];
    let scores = engine.score(prompt, continuations, Class::Fix).await.unwrap();
    assert_eq!(scores.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 2, 0, 200]);
    assert!(scores[0][0] > scores[1][0] && scores[1][0] > scores[2][0]);
    assert!(scores[0][1] > -1e-3, "after a, only b");
}

#[tokio::test]
async fn a_panic_answers_everyone() {
    let engine = Engine::scripted(Script::new().rule(|_| vec![(97, 0.0)]).panic_after(10));
    let mut sequence = engine.submit(job(&engine, "x", 100)).unwrap();
    let waiting =
        engine.score(engine.tokenizer().encode(&"y".repeat(100)), vec![vec![1]], Class::Served);
    let sequence_error = async {
        loop {
            if let Err(error) = sequence.next().await {
                return error;
            }
        }
    };
    let (waited, error) = tokio::join!(waiting, sequence_error);
    for error in [waited.unwrap_err(), error] {
        assert_eq!(error, EngineError::Down("its thread panicked: the script says so".to_owned()));
    }
    assert!(matches!(engine.submit(job(&engine, "x", 1)), Err(SubmitError::Down(_))));
    assert!(engine.logits(vec![1]).await.is_err());
}

#[tokio::test]
async fn a_token_is_as_sure_as_what_it_was_drawn_from_makes_it() {
    struct Ban(TokenId);
    impl Constraint for Ban {
        fn apply(&mut self, tape: &[TokenId], logits: &mut [f32]) {
            if tape.is_empty() {
                logits[self.0 as usize] = f32::NEG_INFINITY;
            }
        }
    }
    let lines = [("a", 0.0), ("b", -1.0), ("c", -2.0)];
    let script = lines
        .into_iter()
        .fold(Script::new(), |script, (text, logit)| script.line(":", text, logit));
    let engine = Engine::scripted(script);
    let mut plain = engine.submit(job(&engine, ":", 1)).unwrap();
    let step = plain.next().await.unwrap().unwrap();
    assert_eq!(step.final_logprob, Some(step.logprob), "nothing was changed");
    let mut banned = job(&engine, ":", 2);
    banned.constraint = Some(Box::new(Ban(u32::from(b'a'))));
    let steps = rest(&mut engine.submit(banned).unwrap()).await;
    let [first, second] = &steps[..] else { panic!("{steps:?}") };
    let own = -1.0 - (1.0 + (-1.0f32).exp() + (-2.0f32).exp()).ln();
    let left = -(1.0 + (-1.0f32).exp()).ln();
    assert_eq!(first.token, u32::from(b'b'));
    assert!((first.logprob - own).abs() < 1e-4, "the model's own: {}", first.logprob);
    assert!((first.final_logprob.unwrap() - left).abs() < 1e-4, "{:?}", first.final_logprob);
    assert_eq!(second.final_logprob, Some(second.logprob), "nothing was changed");
}

#[tokio::test]
async fn banning_everything_is_an_error_that_a_rewind_cures() {
    struct Nothing(bool);
    impl Constraint for Nothing {
        fn apply(&mut self, tape: &[TokenId], logits: &mut [f32]) {
            if tape.len() == 2 && self.0 {
                logits.fill(f32::NEG_INFINITY);
            }
        }
        fn rewound(&mut self, _: usize) {
            self.0 = false;
        }
    }
    let engine = Engine::scripted(Script::new().line(":", "abcd", 0.0));
    let mut job = job(&engine, ":", 100);
    job.constraint = Some(Box::new(Nothing(true)));
    let mut sequence = engine.submit(job).unwrap();
    let start = sequence.mark();
    sequence.next().await.unwrap();
    sequence.next().await.unwrap();
    assert_eq!(sequence.next().await, Err(EngineError::NothingAllowed { position: 2 }));
    sequence.rewind(start);
    assert_eq!(text(&engine, &rest(&mut sequence).await), "abcd");
}

#[tokio::test]
async fn the_draw_depends_on_seed_position_and_retry_alone() {
    let engine =
        Engine::scripted(Script::new().rule(|_| (97..123).map(|token| (token, 0.0)).collect()));
    let sampled = |seed: u64| {
        let mut job = job(&engine, "x", 20);
        job.sampling = Sampling { temperature: 1.0, seed, ..Sampling::GREEDY };
        engine.submit(job).unwrap()
    };
    let (mut a, mut b, mut c) = (sampled(7), sampled(7), sampled(8));
    let start = a.mark();
    let (said_a, said_b, said_c) = tokio::join!(rest(&mut a), rest(&mut b), rest(&mut c));
    assert_eq!(said_a, said_b);
    assert_ne!(said_a, said_c);
    a.rewind(start);
    assert_ne!(rest(&mut a).await, said_a, "another try is another draw");
    a.rewind(start);
    a.reseed(7, 1.0);
    assert_eq!(rest(&mut a).await, said_a, "seeding again starts over");
}

#[tokio::test]
async fn bad_jobs_are_refused() {
    let engine = Engine::scripted(Script::new());
    assert_eq!(engine.submit(job(&engine, "", 1)).err(), Some(SubmitError::Empty));
    let mut strange = job(&engine, "x", 1);
    strange.prompt = vec![100_000];
    let vocabulary = engine.info().vocabulary;
    assert_eq!(
        engine.submit(strange).err(),
        Some(SubmitError::Vocabulary { token: 100_000, vocabulary })
    );
    let long = job(&engine, &"x".repeat(70_000), 1);
    assert!(matches!(engine.submit(long), Err(SubmitError::TooLong { .. })));
}
