//! Caches outlive the process: what is written is found again, what is damaged is never used, and a disk that refuses hurts nobody.

#![allow(clippy::disallowed_methods, reason = "tests write scratch files")]

#[path = "support/jobs.rs"]
mod jobs;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use engine::{Engine, Job, Script, Spill, TokenId};
use jobs::{check_letters, job, letters, rest};
use proptest::prelude::*;

fn spill(dir: &Path) -> Spill {
    Spill { tokens_min: 100, patience: Duration::ZERO, ..Spill::to(dir.to_owned()) }
}

fn engine(script: Script, spill: Spill) -> Engine {
    let engine = Engine::scripted(script);
    engine.spill_to(spill).unwrap();
    engine
}

/// The files that caches were written to.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for model in fs::read_dir(dir).into_iter().flatten().flatten() {
        files.extend(fs::read_dir(model.path()).unwrap().map(|file| file.unwrap().path()));
    }
    files
}

fn continued(engine: &Engine, tokens: &[TokenId]) -> Job {
    let mut continued = job(engine, "x", 5);
    continued.prompt = tokens.to_vec();
    continued
}

/// A conversation of two thousand tokens; hands back what its cache has seen.
async fn converse(engine: &Engine) -> Vec<TokenId> {
    let first = job(engine, &"what somebody said. ".repeat(100), 10);
    let mut tape = first.prompt.clone();
    let mut sequence = engine.submit(first).unwrap();
    let steps = rest(&mut sequence).await;
    check_letters(&tape, &steps);
    tape.extend(steps.iter().map(|step| step.token));
    tape
}

/// Waits until a number has come about, or fails.
async fn until(what: &str, reached: impl Fn() -> bool) {
    for _ in 0..2000 {
        if reached() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what} did not come about");
}

#[tokio::test]
async fn the_second_turn_reads_only_what_is_new_after_a_restart_too() {
    for rigid in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let script = || if rigid { letters().rigid() } else { letters() };
        let slow = Spill { patience: Duration::from_secs(3600), ..spill(dir.path()) };
        let before = engine(script(), slow.clone());
        let mut tape = converse(&before).await;
        for turn in 0..3 {
            let new: Vec<TokenId> = (0..20).map(|token| 65 + token + turn).collect();
            tape.extend(&new);
            // The first turn goes on in the same process, the others after a restart.
            let restarted = (turn > 0).then(|| engine(script(), slow.clone()));
            let engine = restarted.as_ref().unwrap_or(&before);
            let prefilled = engine.stats().tokens_prefilled;
            let mut sequence = engine.submit(continued(engine, &tape)).unwrap();
            let steps = rest(&mut sequence).await;
            check_letters(&tape, &steps);
            let stats = engine.stats();
            assert_eq!(stats.tokens_prefilled - prefilled, 20, "turn {turn}: {stats:?}");
            assert_eq!(stats.tokens_restored > 0, turn > 0, "{stats:?}");
            tape.extend(steps.iter().map(|step| step.token));
            drop(sequence);
            if turn == 0 {
                assert!(files(dir.path()).is_empty(), "nothing is written while it may be used");
                // One file, whose tokens begin like all later ones, is left of every turn.
                drop_and_wait(&before);
            }
            drop(restarted);
            assert_eq!(files(dir.path()).len(), 1, "{:?}", files(dir.path()));
        }
    }
}

/// Ends an engine of which there are other handles: here, all engines of this process.
fn drop_and_wait(_engine: &Engine) {
    assert!(engine::end_all(Duration::from_secs(30)));
}

#[tokio::test]
async fn an_idle_engine_writes_once_and_then_does_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(letters(), spill(dir.path()));
    converse(&engine).await;
    until("a file", || engine.stats().spilled == 1).await;
    assert_eq!(files(dir.path()).len(), 1);
    let bytes = fs::metadata(&files(dir.path())[0]).unwrap().len();
    assert_eq!(engine.stats().spilled_bytes, bytes);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(engine.stats().spilled, 1);
    // A little more of the same conversation is not worth the whole file again before the end.
    let mut tape = converse(&engine).await;
    tape.push(65);
    rest(&mut engine.submit(continued(&engine, &tape)).unwrap()).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(engine.stats().spilled, 1);
}

/// Does something to a file.
type Damage = fn(&mut Vec<u8>);

#[tokio::test]
async fn what_is_damaged_is_deleted_and_never_used() {
    let damages: [(&str, Damage); 6] = [
        ("a token", |bytes| *bytes.last_mut().unwrap() ^= 1),
        ("the middle", |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x40;
        }),
        ("the end", |bytes| bytes.truncate(bytes.len() - 100)),
        ("the header", |bytes| bytes[20] ^= 1),
        ("nothing but the time", |bytes| replace(bytes, b"\"written\":\"1", b"\"written\":\"2")),
        ("the model", |bytes| replace(bytes, b"scripted-Parity", b"scripted-Purity")),
    ];
    for (what, damage) in damages {
        let dir = tempfile::tempdir().unwrap();
        let before = engine(letters(), spill(dir.path()));
        let mut tape = converse(&before).await;
        drop(before);
        let file = files(dir.path()).remove(0);
        let mut bytes = fs::read(&file).unwrap();
        damage(&mut bytes);
        fs::write(&file, bytes).unwrap();
        let after = engine(letters(), Spill { day_bytes_max: 0, ..spill(dir.path()) });
        tape.extend([65, 66, 67]);
        check_letters(&tape, &rest(&mut after.submit(continued(&after, &tape)).unwrap()).await);
        let stats = after.stats();
        assert_eq!(stats.tokens_prefilled, tape.len() as u64 - 1, "{what}: {stats:?}");
        assert_eq!(stats.tokens_restored, 0, "{what}");
        assert!(files(dir.path()).is_empty(), "{what}: it is still there");
    }
}

fn replace(bytes: &mut [u8], old: &[u8], new: &[u8]) {
    let at = bytes.windows(old.len()).position(|window| window == old).unwrap();
    bytes[at..at + new.len()].copy_from_slice(new);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_hurts_nobody() {
    let dir = tempfile::tempdir().unwrap();
    // The first engine tells the names, the second finds a device in the place of its file that is always full.
    let first = engine(letters(), spill(dir.path()));
    converse(&first).await;
    drop(first);
    let file = files(dir.path()).remove(0);
    fs::remove_file(&file).unwrap();
    let name = format!(".{}.{}", file.file_name().unwrap().to_str().unwrap(), std::process::id());
    std::os::unix::fs::symlink("/dev/full", file.with_file_name(name)).unwrap();
    let full = engine(letters(), spill(dir.path()));
    let mut tape = converse(&full).await;
    until("the refusal", || files(dir.path()).is_empty()).await;
    tape.extend([65, 66, 67]);
    let prefilled = full.stats().tokens_prefilled;
    check_letters(&tape, &rest(&mut full.submit(continued(&full, &tape)).unwrap()).await);
    assert_eq!(full.stats().tokens_prefilled - prefilled, 3, "nothing is lost from memory");
    assert_eq!(full.stats().spilled, 0);
    drop(full);
    let left = files(dir.path());
    assert!(left.is_empty(), "{left:?}: no half of a file is left");
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_hurts_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let engine = engine(letters(), spill(&file));
    let tape = converse(&engine).await;
    check_letters(&tape, &rest(&mut engine.submit(continued(&engine, &tape)).unwrap()).await);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(engine.stats().spilled, 0);
}

#[tokio::test]
async fn what_is_written_in_a_day_is_bounded_also_where_it_was_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(letters(), Spill { day_bytes_max: 30_000, ..spill(dir.path()) });
    let mut tape = converse(&engine).await;
    // Every turn doubles what there is to write, and replaces the file of the one before.
    for turn in 1..=3 {
        until("a file, or its refusal", || engine.stats().spilled >= turn.min(2)).await;
        tape.extend((0..1000).map(|token| 65 + token % 26));
        rest(&mut engine.submit(continued(&engine, &tape)).unwrap()).await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(engine.stats().spilled, 2);
    assert_eq!(files(dir.path()).len(), 1);
}

#[tokio::test]
async fn files_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let bounded = Spill { bytes_max: 20_000, ..spill(dir.path()) };
    let engine = engine(letters(), bounded);
    for round in 0..5 {
        let prompt = format!("{round}{}", "x".repeat(1000));
        rest(&mut engine.submit(job(&engine, &prompt, 2)).unwrap()).await;
        until("a file", || engine.stats().spilled > round).await;
    }
    let bytes: u64 = files(dir.path()).iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert!(bytes <= 20_000, "{bytes}");
    assert_eq!(files(dir.path()).len(), 2);
}

#[tokio::test]
async fn what_has_to_make_room_in_memory_goes_to_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let engine =
        engine(letters(), Spill { patience: Duration::from_secs(3600), ..spill(dir.path()) });
    let mut tape = converse(&engine).await;
    assert!(engine.cache_bytes().await.unwrap() > 5000);
    engine.keep_within(5000).unwrap();
    until("a file", || engine.stats().spilled == 1).await;
    assert!(engine.cache_bytes().await.unwrap() <= 5000);
    tape.extend([65, 66, 67]);
    check_letters(&tape, &rest(&mut engine.submit(continued(&engine, &tape)).unwrap()).await);
    assert_eq!(engine.stats().tokens_restored as usize, tape.len() - 4);
}

/// The processor time of the engine's thread so far, in nanoseconds.
#[cfg(target_os = "linux")]
fn spent() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten().map(|task| task.path());
    let engines = tasks.filter(|task| {
        fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "engine")
    });
    let spent = engines.map(|task| fs::read_to_string(task.join("schedstat")).unwrap());
    spent.map(|spent| spent.split(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_idle_engine_does_nothing_at_all() {
    let dir = tempfile::tempdir().unwrap();
    // One cache waits for its time to be written; another sequence for its caller.
    let later = Spill { patience: Duration::from_secs(3600), ..spill(dir.path()) };
    let engine = engine(letters(), later);
    converse(&engine).await;
    let mut waiting = engine.submit(job(&engine, "a job", 100)).unwrap();
    waiting.next().await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let before = spent();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(before > 0);
    assert_eq!(spent(), before, "an idle engine woke up");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Conversations that grow, are cut back and begun anew, with caches that are kept, given up, written, and found after
    /// restarts: what is said is always what a model without any cache would say.
    #[test]
    fn caches_are_never_taken_for_others(acts in prop::collection::vec((0usize..7, 0usize..3, 1usize..200), 1..30),
                                         rigid in any::<bool>(), bytes_max in 1000u64..20_000) {
        let dir = tempfile::tempdir().unwrap();
        let start = || {
            let script = if rigid { letters().rigid() } else { letters() };
            let small = Spill { tokens_min: 20, bytes_max: 4 * bytes_max, ..spill(dir.path()) };
            let engine = engine(script, small);
            engine.keep_within(bytes_max).unwrap();
            engine
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut engine = start();
            let mut tapes: Vec<Vec<TokenId>> = vec![vec![65; 30], vec![66; 40], vec![65; 50]];
            for (act, which, amount) in acts {
                let tape = &mut tapes[which];
                match act {
                    0 => {
                        drop(engine);
                        engine = start();
                    }
                    1 => engine.shrink_to(amount as u64 * 10).unwrap(),
                    2 => tape.truncate((tape.len() - amount.min(tape.len())).max(2)),
                    _ => {
                        tape.extend((0..amount).map(|token| 65 + (token * token) as u32 % 26));
                        let mut turn = engine.submit(continued(&engine, tape)).unwrap();
                        let steps = rest(&mut turn).await;
                        assert_eq!(steps.len(), 5);
                        check_letters(tape, &steps);
                        tape.extend(steps.iter().map(|step| step.token));
                    }
                }
            }
        });
    }
}
