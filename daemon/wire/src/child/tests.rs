//! Children: real processes of the shell.

use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

fn shell(script: &str) -> ChildOptions {
    ChildOptions {
        command: vec!["/bin/sh".into(), "-c".into(), script.into()],
        ..ChildOptions::default()
    }
}

fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

async fn until_dead(pid: u32) {
    let end = Instant::now() + Duration::from_secs(10);
    while is_alive(pid) {
        assert!(Instant::now() < end, "{pid} is alive");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn pipes_environment_and_folder() {
    let mut options = shell("echo $A $(pwd); cat");
    options.env = Some([("A".into(), "b".into()), ("PATH".into(), "/bin:/usr/bin".into())].into());
    options.cwd = Some("/".into());
    let (mut child, mut stdin, mut stdout) = Child::spawn(options).await.unwrap();
    stdin.write_all(b"more").await.unwrap();
    drop(stdin);
    let mut all = String::new();
    stdout.read_to_string(&mut all).await.unwrap();
    assert_eq!(all, "b /\nmore");
    assert!(child.wait().await.unwrap().success());
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let options =
        |program: &str| ChildOptions { command: vec![program.into()], ..ChildOptions::default() };
    let error = Child::spawn(options("no-such-program")).await.unwrap_err();
    assert!(matches!(error, SpawnError::NotFound(name) if name == "no-such-program"));
    assert!(matches!(Child::spawn(options("/etc/passwd")).await, Err(SpawnError::Io(..))));
    assert!(matches!(Child::spawn(ChildOptions::default()).await, Err(SpawnError::Empty)));
    let mut nowhere = shell("true");
    nowhere.cwd = Some("/no/such/folder".into());
    assert!(matches!(Child::spawn(nowhere).await, Err(SpawnError::NoFolder(_))));
}

#[tokio::test]
async fn dropping_a_child_kills_its_group() {
    let (child, _stdin, mut stdout) =
        Child::spawn(shell("sleep 1000 & echo $!; wait")).await.unwrap();
    let mut line = [0; 16];
    let bytes = stdout.read(&mut line).await.unwrap();
    let grandchild: u32 = std::str::from_utf8(&line[..bytes]).unwrap().trim().parse().unwrap();
    let pid = child.id().unwrap();
    assert!(is_alive(pid) && is_alive(grandchild));
    drop(child);
    until_dead(pid).await;
    until_dead(grandchild).await;
}

#[tokio::test]
async fn rule_4_13_a_child_that_ignores_the_signal_is_killed() {
    let script = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
    let (mut child, _stdin, mut stdout) = Child::spawn(shell(script)).await.unwrap();
    let mut ready = [0; 6];
    stdout.read_exact(&mut ready).await.unwrap();
    let pid = child.id().unwrap();
    let begun = Instant::now();
    assert!(child.terminate().await.is_none());
    assert!(begun.elapsed() >= TERMINATE_GRACE);
    until_dead(pid).await;
}

#[tokio::test]
async fn rule_4_16_the_last_lines_are_kept_and_the_file_is_rotated() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("server.log");
    let script = r#"awk 'BEGIN { for (i = 0; i < 30000; i++) printf "\033[1mline %d\033[0m %0100d\n", i, 0 }' >&2"#;
    let options = ChildOptions { log: Some(path), ..shell(script) };
    let (mut child, _stdin, _stdout) = Child::spawn(options).await.unwrap();
    child.wait().await.unwrap();
    child.log().drained(Duration::from_secs(5)).await;
    let tail = child.log().tail();
    assert_eq!(tail.len(), TAIL_LINES);
    assert!(tail.last().unwrap().starts_with("line 29999 000"), "{tail:?}");
    let size = |name: &str| std::fs::metadata(dir.path().join(name)).map(|m| m.len()).ok();
    for name in ["server.log", "server.log.1", "server.log.2"] {
        assert!(size(name).unwrap() <= LOG_BYTES_MAX + 8 * 1024, "{name}");
    }
    assert_eq!(size("server.log.3"), None);
}

#[tokio::test]
async fn the_watchdog_kills_what_its_owner_leaves_behind() {
    // Two groups; one is released before the owner is gone.
    let (left, _in1, _out1) = Child::spawn(shell("sleep 1000")).await.unwrap();
    let (kept, _in2, _out2) = Child::spawn(shell("sleep 1000")).await.unwrap();
    let group = |child: &Child| Pid::from_raw(child.id().unwrap() as i32).unwrap();
    let mut watchdog = watchdog::Watchdog::start().unwrap();
    watchdog.guard(group(&left)).unwrap();
    watchdog.guard(group(&kept)).unwrap();
    watchdog.release(group(&kept)).unwrap();
    drop(watchdog);
    until_dead(left.id().unwrap()).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(is_alive(kept.id().unwrap()));
}
