//! A system that runs short of memory: kept caches are given up, and work goes on.

#[path = "support/jobs.rs"]
mod jobs;

use std::sync::atomic::Ordering;

use engine::{Engine, Script, Stats};
use jobs::{job, rest};

#[tokio::test]
async fn kept_caches_go_when_the_system_runs_short_of_memory() {
    let script = Script::new();
    let shortage = script.shortage();
    let engine = Engine::scripted(script);
    let prompts = ["the first of two prompts", "and something else entirely"];
    for prompt in prompts {
        drop(rest(&mut engine.submit(job(&engine, prompt, 4)).unwrap()).await);
    }
    let kept = after_a_look(&engine).await;
    assert_eq!(kept.prefixes, 2, "{kept:?}");

    // One byte too much: the oldest goes, and no more than that. Its sequence is held, so that nothing new is kept.
    shortage.store(1, Ordering::SeqCst);
    let mut first = engine.submit(job(&engine, "x", 1)).unwrap();
    rest(&mut first).await;
    let left = after_a_look(&engine).await;
    assert_eq!(left.prefixes, 1, "{left:?}");
    let mut second = engine.submit(job(&engine, prompts[1], 1)).unwrap();
    rest(&mut second).await;
    let reused = after_a_look(&engine).await.tokens_reused;
    assert!(reused > left.tokens_reused, "the younger one was there still");

    shortage.store(u64::MAX, Ordering::SeqCst);
    let mut third = engine.submit(job(&engine, prompts[0], 1)).unwrap();
    rest(&mut third).await;
    let none = after_a_look(&engine).await;
    assert_eq!(none.prefixes, 0, "all of it, and the job was done nevertheless: {none:?}");
}

/// What was done so far. The first question may be answered in the middle of a tick, the second one is after its end.
async fn after_a_look(engine: &Engine) -> Stats {
    engine.cache_bytes().await.unwrap();
    engine.cache_bytes().await.unwrap();
    engine.stats()
}
