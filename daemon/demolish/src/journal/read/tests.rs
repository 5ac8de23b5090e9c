//! Which journals are kept.

use std::time::Duration;

use super::*;

#[test]
fn old_journals_go_and_the_latest_stay() {
    let dir = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let make = |name: &str, age: Duration| {
        let file = File::create(dir.path().join(name)).unwrap();
        file.set_modified(now - age).unwrap();
        file
    };
    for at in 0..LEFT_MAX as u64 + 5 {
        make(&format!("{at}.journal"), Duration::from_secs(60 * at));
    }
    make("torn.new", LEFT_AGE_MAX * 2);
    let held = make("held.journal", LEFT_AGE_MAX * 2);
    flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
    make("notes.txt", LEFT_AGE_MAX * 2);
    prune(dir.path());
    let left = |name: &str| dir.path().join(name).exists();
    assert!(left("0.journal") && left(&format!("{}.journal", LEFT_MAX - 1)));
    assert!(!left(&format!("{LEFT_MAX}.journal")) && !left("torn.new"));
    assert!(left("held.journal"), "a shim is still writing it");
    assert!(left("notes.txt"), "it is not ours");
    assert!(all(dir.path()).is_empty(), "none of them is a journal");
}
