//! Who gets which turn, and what it costs: batches, classes, forks, kept caches, full queues; on the scripted backend.

#[path = "support/jobs.rs"]
mod jobs;

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use proptest::prelude::*;

use engine::{Class, Constraint, Engine, EngineError, Fork, Sequence, SubmitError, TokenId};
use jobs::{check_letters, job, letter, letters, rest};

#[tokio::test]
async fn jobs_of_a_class_are_decoded_together() {
    let engine = Engine::scripted(letters().delay(Duration::from_millis(1)));
    let begin = |number: usize| {
        let mut begun = job(&engine, &format!("job {number}:"), 100);
        begun.limits.ahead_max = 100;
        (begun.prompt.clone(), engine.submit(begun).unwrap())
    };
    let mut begun: Vec<(Vec<TokenId>, Sequence)> = (0..8).map(begin).collect();
    for (prompt, sequence) in &mut begun {
        let steps = rest(sequence).await;
        assert_eq!(steps.len(), 100);
        check_letters(prompt, &steps);
    }
    let stats = engine.stats();
    assert_eq!(stats.batch_len_max, 8);
    assert!(stats.ticks < 300, "{} ticks for eight hundred tokens", stats.ticks);
}

#[tokio::test]
async fn a_keystroke_waits_for_one_tick_at_most() {
    let script = letters().delay(Duration::from_millis(2));
    let engine = Engine::scripted(script);
    let mut agent = job(&engine, &"x".repeat(60_000), 10);
    agent.class = Class::Agent;
    let _agent = engine.submit(agent).unwrap();
    for round in 0..20 {
        tokio::time::sleep(Duration::from_millis(3)).await;
        let mut typing = engine.submit(job(&engine, &format!("typing {round}"), 3)).unwrap();
        assert_eq!(rest(&mut typing).await.len(), 3);
    }
    let stats = engine.stats();
    assert!(stats.tokens_prefilled < 60_000, "the agent is still reading: {stats:?}");
    assert!(stats.waited_ticks_max[Class::Typing as usize] <= 1, "{stats:?}");
}

#[tokio::test]
async fn forks_go_on_from_the_same_place_and_pay_nothing_again() {
    struct First(TokenId);
    impl Constraint for First {
        fn apply(&mut self, tape: &[TokenId], logits: &mut [f32]) {
            if tape.len() == 5 {
                logits.fill(f32::NEG_INFINITY);
                logits[self.0 as usize] = 0.0;
            }
        }
    }
    let script = letters();
    let fed = script.fed();
    let engine = Engine::scripted(script);
    let origin = job(&engine, &"a long beginning ".repeat(20), 30);
    let prompt = origin.prompt.clone();
    let mut origin = engine.submit(origin).unwrap();
    let mut tape = prompt.clone();
    for _ in 0..5 {
        tape.push(origin.next().await.unwrap().unwrap().token);
    }
    let paid = fed.load(Ordering::SeqCst);
    let forks = (0..8u32)
        .map(|fork| Fork { seed: u64::from(fork), constraint: Some(Box::new(First(65 + fork))) });
    let mut lines = origin.fork(forks.collect()).unwrap();
    drop(origin);
    for (index, line) in lines.iter_mut().enumerate() {
        assert_eq!(line.mark().position(), 5);
        let steps = rest(line).await;
        assert_eq!(steps.len(), 25);
        assert_eq!((steps[0].token, steps[0].position), (65 + index as u32, 5));
        check_letters(&[tape.as_slice(), &[65 + index as u32]].concat(), &steps[1..]);
    }
    let paid = fed.load(Ordering::SeqCst) - paid;
    assert!(paid <= 8 * 25 + 6, "{paid} tokens for what is new, and what ran ahead");
    // The shared part can be rewound into as well.
    let line = &mut lines[3];
    line.rewind(line.mark_at(2));
    let step = line.next().await.unwrap().unwrap();
    assert_eq!((step.token, step.position), (tape[prompt.len() + 2], 2));
}

#[tokio::test]
async fn forks_of_a_prompt_that_is_not_read_yet_wait_for_it() {
    let script = letters().delay(Duration::from_millis(1));
    let fed = script.fed();
    let engine = Engine::scripted(script);
    let origin = job(&engine, &"a long beginning ".repeat(40), 3);
    let prompt = origin.prompt.clone();
    let origin = engine.submit(origin).unwrap();
    let mut lines = origin.fork((0..4).map(|_| Fork::default()).collect()).unwrap();
    drop(origin);
    for line in &mut lines {
        check_letters(&prompt, &rest(line).await);
    }
    let paid = fed.load(Ordering::SeqCst);
    assert!(
        paid <= prompt.len() + 64 + 5 * 3,
        "{paid} tokens, and the prompt has {}",
        prompt.len()
    );
    let all_or_none = lines[0].fork((0..100).map(|_| Fork::default()).collect());
    assert!(matches!(all_or_none, Err(SubmitError::Busy { .. })));
}

#[tokio::test]
async fn ten_thousand_jobs_are_refused_and_hang_nothing() {
    let engine = Engine::scripted(letters().delay(Duration::from_micros(100)));
    let submitted: Vec<_> = (0..10_000)
        .map(|number| engine.submit(job(&engine, &format!("job {number}"), 5)))
        .collect();
    let (accepted, refused): (Vec<_>, Vec<_>) = submitted.into_iter().partition(Result::is_ok);
    assert!(!accepted.is_empty() && accepted.len() <= 64, "{}", accepted.len());
    assert!(refused.iter().all(|error| matches!(error, Err(SubmitError::Busy { .. }))));
    for sequence in accepted {
        assert_eq!(rest(&mut sequence.unwrap()).await.len(), 5);
    }
    let asked = (0..10_000).map(|_| engine.score(vec![1, 2], vec![vec![3]], Class::Served));
    let answers = futures(asked).await;
    assert!(answers.iter().any(Result::is_ok) && answers.iter().any(Result::is_err));
    assert!(
        answers.iter().flat_map(|answer| answer.as_ref().err()).all(|error| {
            matches!(error, EngineError::Refused(reason) if reason.contains("busy"))
        })
    );
    let mut last = engine.submit(job(&engine, "after all", 5)).unwrap();
    assert_eq!(rest(&mut last).await.len(), 5);
}

/// All of them, each polled in turn.
async fn futures<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = all.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        for (future, output) in waiting.iter_mut().filter(|(_, output)| output.is_none()) {
            if let std::task::Poll::Ready(ready) = future.as_mut().poll(context) {
                *output = Some(ready);
            }
        }
        match waiting.iter().all(|(_, output)| output.is_some()) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    waiting.into_iter().filter_map(|(_, output)| output).collect()
}

#[tokio::test]
async fn classes_age_and_tokens_are_shared_out_within_one() {
    let engine = Engine::scripted(letters().delay(Duration::from_micros(200)));
    let endless = |class: Class, prompt: &str| {
        let mut endless = job(&engine, prompt, 50_000);
        endless.class = class;
        endless.limits.ahead_max = 50_000;
        engine.submit(endless).unwrap()
    };
    let _fix = endless(Class::Fix, "fix");
    let mut served = endless(Class::Served, "served");
    for _ in 0..10 {
        let waited = tokio::time::timeout(Duration::from_secs(10), served.next()).await;
        waited.expect("a less urgent class is not starved").unwrap();
    }
    // More than one batch of a class: everyone gets on.
    let mut many: Vec<Sequence> =
        (0..40).map(|number| endless(Class::Agent, &format!("{number}"))).collect();
    for sequence in &mut many {
        let waited = tokio::time::timeout(Duration::from_secs(10), sequence.next()).await;
        waited.expect("nobody in a class is starved").unwrap();
    }
}

#[tokio::test]
async fn caches_that_cannot_be_cut_are_fed_what_they_lost() {
    let engine = Engine::scripted(letters().rigid());
    let begun = job(&engine, &"a beginning ".repeat(300), 20);
    let prompt = begun.prompt.clone();
    let mut sequence = engine.submit(begun).unwrap();
    let said = rest(&mut sequence).await;
    check_letters(&prompt, &said);
    for len in [19, 7, 0, 3] {
        sequence.rewind(sequence.mark_at(len));
        assert_eq!(rest(&mut sequence).await.len(), 20 - len.min(20));
    }
    assert_eq!(engine.stats().tokens_replayed, 0, "every token is a place to come back to");
    let prefilled = engine.stats().tokens_prefilled;
    // Another job that shares two thousand tokens gets what a checkpoint knows of them.
    let mut other = prompt[..2000].to_vec();
    other.extend([65, 66, 67]);
    let mut beside = job(&engine, "x", 5);
    beside.prompt = other.clone();
    let mut beside = engine.submit(beside).unwrap();
    check_letters(&other, &rest(&mut beside).await);
    let again = engine.stats().tokens_prefilled - prefilled;
    assert!(again < 1024 + 64, "{again} of 2002 tokens were read again");
    assert!(again > 3, "the cache cannot be cut at the common beginning");
}

/// Waits until the model was fed so many tokens.
async fn until_fed(fed: &AtomicUsize, tokens: usize) {
    while fed.load(Ordering::SeqCst) < tokens {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_question_given_up_within_a_continuation_leaves_its_prompt_alone() {
    let script = letters().delay(Duration::from_millis(1));
    let fed = script.fed();
    let engine = Engine::scripted(script);
    let prompt = engine.tokenizer().encode(&"x".repeat(200));
    let continuation = engine.tokenizer().encode(&"y".repeat(40_000));
    tokio::select! {
        _ = engine.score(prompt.clone(), vec![continuation], Class::Fix) => panic!("too fast"),
        () = until_fed(&fed, 400) => {}
    }
    while engine.stats().prefixes == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(engine.cache_bytes().await.unwrap() <= 4 * 210);
}

#[tokio::test]
async fn a_prompt_of_one_token_waits_for_no_long_one() {
    let script = letters().delay(Duration::from_millis(1));
    let fed = script.fed();
    let engine = Engine::scripted(script);
    let _reader = engine.submit(job(&engine, &"x".repeat(40_000), 1)).unwrap();
    until_fed(&fed, 200).await;
    let mut short = job(&engine, "", 2);
    short.prompt = vec![65];
    assert_eq!(rest(&mut engine.submit(short).unwrap()).await.len(), 2);
    assert!(engine.stats().tokens_prefilled < 30_000, "{:?}", engine.stats());
}

#[tokio::test]
async fn kept_caches_are_given_up_on_demand() {
    let engine = Engine::scripted(letters());
    for round in 0..3 {
        let prompt = format!("{round}{}", "x".repeat(1000));
        rest(&mut engine.submit(job(&engine, &prompt, 2)).unwrap()).await;
    }
    let held = engine.cache_bytes().await.unwrap();
    assert!(held >= 3 * 4000, "{held}");
    assert_eq!(engine.stats().prefixes, 3);
    engine.shrink_to(5000).unwrap();
    assert!(engine.cache_bytes().await.unwrap() <= 5000);
    assert_eq!(engine.stats().prefixes, 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// Several sequences at once, each taken from, rewound, steered, forked, dropped and begun again as it comes: every one of them
    /// always says what its tape makes the script say, and nothing hangs; with caches that can be cut anywhere, and with others.
    #[test]
    fn sequences_do_not_disturb_each_other(actions in prop::collection::vec((0usize..5, 0usize..7, 0usize..9), 1..80),
                                           ahead_max in 0u32..6, rigid in any::<bool>()) {
        let script = if rigid { letters().rigid() } else { letters() };
        let engine = Engine::scripted(script);
        let classes = [Class::Typing, Class::Fix, Class::Agent, Class::Served, Class::Agent];
        let begin = |slot: usize| {
            let mut begun = job(&engine, &format!("{}{slot}", "a common beginning ".repeat(5)), 1000);
            begun.class = classes[slot];
            begun.limits.ahead_max = ahead_max;
            let tape = begun.prompt.clone();
            (engine.submit(begun).unwrap(), tape.len(), tape)
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut slots: Vec<_> = (0..5).map(begin).collect();
            for (slot, action, amount) in actions {
                let (sequence, prompt_len, tape) = &mut slots[slot];
                match action {
                    0 => slots[slot] = begin(slot),
                    1 => {
                        let len = (tape.len() - *prompt_len).saturating_sub(amount);
                        sequence.rewind(sequence.mark_at(len));
                        tape.truncate(*prompt_len + len);
                    }
                    2 => sequence.reseed(amount as u64, 0.0),
                    3 => {
                        // One of its forks takes another's place, the others are dropped at once.
                        let mut forks = sequence.fork((0..3).map(|_| Fork::default()).collect()).unwrap();
                        let fork = (forks.swap_remove(amount % 3), *prompt_len, tape.clone());
                        slots[(slot + amount) % 5] = fork;
                    }
                    _ => for _ in 0..amount {
                        let waited = tokio::time::timeout(Duration::from_secs(10), sequence.next()).await;
                        let step = waited.expect("no hang").unwrap().unwrap();
                        assert_eq!(step.token, letter(tape));
                        assert_eq!(step.position, tape.len() - *prompt_len);
                        tape.push(step.token);
                    },
                }
            }
        });
    }
}
