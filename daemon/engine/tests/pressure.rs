//! A system that runs short of memory: kept caches are given up, and work goes on.

#[path = "support/jobs.rs"]
mod jobs;

use std::sync::atomic::Ordering;

use engine::{Engine, Script};
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
    // The second one is kept when the engine looks at its board the next time.
    let kept = engine.cache_bytes().await.unwrap();
    let stats = engine.stats();
    assert_eq!((stats.prefixes, stats.prefix_bytes), (2, kept), "{stats:?}");

    // One byte too much: the oldest goes, and no more than that.
    shortage.store(1, Ordering::SeqCst);
    let mut sequence = engine.submit(job(&engine, "x", 1)).unwrap();
    rest(&mut sequence).await;
    assert_eq!(engine.stats().prefixes, 1);
    shortage.store(0, Ordering::SeqCst);
    let reused = engine.stats().tokens_reused;
    rest(&mut engine.submit(job(&engine, prompts[1], 1)).unwrap()).await;
    assert!(engine.stats().tokens_reused > reused, "the younger one is there still");

    shortage.store(u64::MAX, Ordering::SeqCst);
    rest(&mut engine.submit(job(&engine, prompts[0], 1)).unwrap()).await;
    assert_eq!(engine.stats().prefix_bytes, 0, "all of it, and the job was done nevertheless");
}
