//! What the world does wrong, whole: servers that rave, editors that vanish, daemons that race, sockets that are not ours,
//! disks that are full. What only one part has to bear is tested beside it.

use std::collections::HashMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use demolish::handlers::watch::SILENT_AFTER;
use rustix::process::Signal;
use serde_json::{Value, json};
use wire::{Kind, codes};

use crate::house::{DEMOLISH, Editor, House, PATIENCE, is_alive, kill, signal, slow, until};

/// Something arrives and is answered.
async fn check_works(editor: &mut Editor, house: &House) {
    editor.open("file:///works", "é");
    let state = editor.state().await;
    assert_eq!(state["documents"]["file:///works"], json!([1, "é"]));
    assert!(is_alive(house.daemon_pid().unwrap()));
}

/// The resident memory of a process, in MiB.
fn rss_mib(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}

#[tokio::test]
async fn rule_4_1_a_server_that_logs_to_its_stdout_all_the_time_is_understood() {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    let server = editor.server_pid().await;
    for round in 0..200 {
        let text = format!("[info] round {round}: Content is fine {{\"a\":1}}\r\n\r\nwarning\n");
        editor.wire.request("test/rubbish", &json!({ "text": text.repeat(10) }));
        let id = editor.wire.request("test/echo", &json!(round));
        assert_eq!(editor.answer(&id).await.unwrap(), round);
    }
    assert_eq!(editor.server_pid().await, server, "logging is no reason to restart it");
    let log = house.dir.path().join("state/demolish/servers/demolish-1.log");
    assert!(std::fs::read_to_string(log).unwrap().contains("round 199"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_4_7_a_flood_of_diagnostics_at_a_slow_editor_is_bounded_in_order_and_ends_with_the_latest()
 {
    const SETS: u64 = 100_000;
    const DOCUMENTS: u64 = 50;
    let house = House::new();
    let mut editor = house.ready_editor().await;
    let flood = json!({ "count": SETS, "documents": DOCUMENTS });
    let asked = editor.wire.request("test/flood", &flood);
    // The editor reads nothing for a while; the flood waits in the pipes and at the server.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let shim = i32::try_from(editor.shim.id().unwrap()).unwrap();
    for pid in [shim, house.daemon_pid().unwrap()] {
        assert!(rss_mib(pid) < 64, "process {pid} has {} MiB", rss_mib(pid));
    }
    let mut latest: HashMap<String, u64> = HashMap::new();
    loop {
        let envelope = editor.wire.next().await.expect("the connection is open");
        match &envelope.kind {
            Kind::Response { id } if *id == asked => break,
            Kind::Notification { .. } => {
                let params: Value = envelope.params_as().unwrap();
                let version = params["version"].as_u64().unwrap();
                let before = latest.insert(params["uri"].as_str().unwrap().to_owned(), version);
                assert!(before < Some(version), "{before:?} before {version}");
            }
            kind => panic!("{kind:?}"),
        }
    }
    assert_eq!(latest.len() as u64, DOCUMENTS);
    assert!(latest.values().all(|version| *version >= SETS - DOCUMENTS), "{latest:?}");
}

#[tokio::test]
async fn rule_4_13_an_editor_that_vanishes_takes_its_server_along_and_nobody_elses() {
    let house = House::new();
    let mut stays = house.ready_editor().await;
    let record = house.dir.path().join("record");
    let mut vanishes = house.editor(&["--record", record.to_str().unwrap()]).await;
    vanishes.initialize().await;
    let (mine, other) = (stays.server_pid().await, vanishes.server_pid().await);
    assert_ne!(mine, other);
    kill(i32::try_from(vanishes.shim.id().unwrap()).unwrap());
    until("the server of the editor that has vanished ended", || !is_alive(other)).await;
    assert_eq!(stays.server_pid().await, mine);
    assert_eq!(house.status().await.links.len(), 1);
}

#[tokio::test]
async fn of_daemons_that_are_started_at_once_exactly_one_stays() {
    let house = House::new();
    let mut daemons = Vec::new();
    for _ in 0..4 {
        daemons.push(house.start(&[DEMOLISH, "daemon"]).await.shim);
    }
    let stays = || house.daemon_pid().filter(|pid| is_alive(*pid));
    until("a daemon", || stays().is_some() && house.socket().exists()).await;
    let pids: Vec<u32> = daemons.iter().filter_map(|daemon| daemon.id()).collect();
    let alive = || pids.iter().filter(|pid| is_alive(**pid as i32)).count();
    until("one daemon is left", || alive() == 1).await;
    let words = || daemons.iter().flat_map(|daemon| daemon.log().tail()).collect::<Vec<_>>();
    let refused = || words().join("\n").matches("another daemon is running").count();
    until("the others have said why", || refused() == 3).await;
    let (mut one, mut other) = (house.editor(&[]).await, house.editor(&[]).await);
    one.initialize().await;
    other.initialize().await;
    check_works(&mut one, &house).await;
    check_works(&mut other, &house).await;
}

#[tokio::test]
async fn shims_that_each_start_a_daemon_at_once_find_the_same() {
    let house = House::new();
    // Those of our own features are patient: on a busy machine the others would step aside.
    let mut editors = Vec::new();
    for _ in 0..3 {
        editors.push(house.start(&[DEMOLISH, "lsp"]).await);
    }
    for editor in &mut editors {
        editor.initialize().await;
    }
    assert_eq!(house.status().await.links.len(), 3);
}

#[tokio::test]
async fn a_socket_that_a_dead_daemon_has_left_is_replaced() {
    let house = House::new();
    house.daemon().await;
    let dead = house.daemon_pid().unwrap();
    kill(dead);
    until("it is dead", || !is_alive(dead)).await;
    assert!(house.socket().exists());
    let mut editor = house.start(&[DEMOLISH, "lsp"]).await;
    editor.initialize().await;
    assert_ne!(house.daemon_pid().unwrap(), dead);
}

/// A daemon refuses the folder, and both kinds of shim do what they can.
async fn check_refused(house: &House) {
    let folder = house.socket().parent().unwrap().to_string_lossy().into_owned();
    let remedy = format!("run `chmod 700 {folder}`");
    let mut daemon = house.start(&[DEMOLISH, "daemon"]).await.shim;
    let status = tokio::time::timeout(PATIENCE, daemon.wait()).await.unwrap().unwrap();
    assert!(!status.success());
    daemon.log().drained(PATIENCE).await;
    let words = daemon.log().tail().join("\n");
    assert!(words.contains("not private to this user") && words.contains(&remedy), "{words}");
    let mut own = house.start(&[DEMOLISH, "lsp"]).await;
    let id = own.wire.request("initialize", &json!({ "capabilities": {} }));
    let error = own.answer(&id).await.unwrap_err();
    assert!(error.message.contains(&remedy), "{error}");
    let mut wrapped = house.editor(&[]).await;
    wrapped.initialize().await;
    assert_eq!(wrapped.server_pid().await, wrapped.shim.id().unwrap() as i32, "it steps aside");
    assert!(!house.socket().exists());
}

#[tokio::test]
async fn a_folder_that_others_may_enter_holds_no_socket() {
    let house = House::new();
    let folder = house.socket().parent().unwrap().to_owned();
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).unwrap();
    check_refused(&house).await;
}

#[tokio::test]
async fn a_folder_of_somebody_else_holds_no_socket() {
    let house = House::new();
    let folder = house.socket().parent().unwrap().to_owned();
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o700)).unwrap();
    if std::os::unix::fs::chown(&folder, Some(65_534), None).is_err() {
        println!("skipped: only root can give a folder to somebody else");
        return;
    }
    check_refused(&house).await;
}

#[tokio::test]
async fn a_full_disk_for_the_logs_stops_nothing_and_is_said_once() {
    let house = House::new().with("DEMOLISH_LOG", "debug");
    let logs = house.dir.path().join("state/demolish");
    std::fs::create_dir_all(logs.join("servers")).unwrap();
    symlink("/dev/full", logs.join("daemon.log")).unwrap();
    for number in 1..4 {
        symlink("/dev/full", logs.join(format!("servers/demolish-{number}.log"))).unwrap();
    }
    let daemon = house.start(&[DEMOLISH, "daemon"]).await.shim;
    until("a daemon", || house.socket().exists()).await;
    let mut editor = house.editor(&[]).await;
    editor.initialize().await;
    let server = editor.server_pid().await;
    editor.ask("test/stderr", json!({ "lines": 20_000 })).await.unwrap();
    editor.ask("test/rubbish", json!({ "text": "no message\n" })).await.unwrap();
    for number in 0..200 {
        assert_eq!(editor.ask("test/echo", json!(number)).await.unwrap(), number);
    }
    kill(server);
    check_works(&mut editor, &house).await;
    until("it was said", || !daemon.log().tail().is_empty()).await;
    let words = daemon.log().tail();
    let said = words.iter().filter(|line| line.contains("cannot be written")).count();
    assert_eq!(said, 1, "{words:?}");
}

#[tokio::test]
async fn a_disk_without_room_for_a_single_byte_stops_nothing() {
    let house = House::new().with("DEMOLISH_LOG", "debug");
    // Daemon, shim and server may write to no file at all.
    let full = |words: &str| format!("trap '' XFSZ; ulimit -f 0; exec {DEMOLISH} {words}");
    let daemon = house.start(&["/bin/sh", "-c", &full("daemon")]).await.shim;
    until("a daemon", || house.socket().exists()).await;
    let shim = full(&format!("lsp -- {DEMOLISH} fake-server"));
    let mut editor = house.start(&["/bin/sh", "-c", &shim]).await;
    editor.initialize().await;
    let server = editor.server_pid().await;
    editor.open("file:///a", "é");
    editor.ask("test/stderr", json!({ "lines": 5_000 })).await.unwrap();
    for version in 2..50 {
        editor.change("file:///a", version, &"text ".repeat(100));
        assert_eq!(editor.ask("test/echo", json!(version)).await.unwrap(), version);
    }
    kill(server);
    let state = editor.state().await;
    assert_eq!(state["documents"]["file:///a"], json!([49, "text ".repeat(100)]));
    assert!(is_alive(daemon.id().unwrap() as i32));
    let (code, _) = editor.leave().await;
    assert_eq!(code, Some(0));
    kill(daemon.id().unwrap() as i32);
}

#[tokio::test]
async fn rule_4_18_a_server_that_is_stopped_can_be_restarted_by_the_user_and_knows_everything() {
    if !slow() {
        println!("skipped: takes thirty seconds, needs DEMOLISH_SLOW=1");
        return;
    }
    let house = House::new();
    house.daemon().await;
    let mut editor = house.editor(&[]).await;
    let hello = json!({ "capabilities": { "window": { "showMessage": {} } } });
    editor.ask("initialize", hello).await.unwrap();
    editor.wire.notify("initialized", &json!({}));
    editor.open("file:///a", "old");
    let server = editor.server_pid().await;
    signal(server, Signal::STOP);
    editor.change("file:///a", 2, "new 😀");
    let read = editor.wire.request("textDocument/hover", &json!({}));
    tokio::time::sleep(SILENT_AFTER).await;
    let question = editor.find("window/showMessageRequest").await;
    let params: Value = question.params_as().unwrap();
    assert_eq!(params["actions"][0]["title"], "Restart", "{params}");
    editor.wire.answer(question.id().unwrap().clone(), &json!({ "title": "Restart" }));
    assert_eq!(editor.answer(&read).await.unwrap_err().code, codes::CONTENT_MODIFIED);
    let state = editor.state().await;
    assert_ne!(state["pid"], server);
    assert_eq!(state["documents"], json!({ "file:///a": [2, "new 😀"] }));
    until("the one that was stopped is gone", || !is_alive(server)).await;
}

#[tokio::test]
async fn rule_4_14_five_deaths_in_real_time_are_enough_and_are_said() {
    if !slow() {
        println!("skipped: takes forty seconds, needs DEMOLISH_SLOW=1");
        return;
    }
    let house = House::new();
    let mut editor = house.ready_editor().await;
    for deaths in 0..proxy::RESTARTS_MAX {
        let server = editor.server_pid().await;
        kill(server);
        until("it is dead", || !is_alive(server)).await;
        tokio::time::sleep(proxy::BACK_OFF[deaths.min(proxy::BACK_OFF.len() - 1)]).await;
        assert_ne!(editor.server_pid().await, server);
    }
    kill(editor.server_pid().await);
    let shown: Value = editor.find("window/showMessage").await.params_as().unwrap();
    let words = shown["message"].as_str().unwrap();
    assert!(words.contains("keeps ending") && words.contains("restarted 5 times"), "{words}");
    assert!(editor.ask("textDocument/hover", json!({})).await.is_err());
    let (code, _) = editor.leave().await;
    assert_eq!(code, Some(0));
}
