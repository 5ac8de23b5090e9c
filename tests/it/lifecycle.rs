//! Beginning and end.

use std::time::Duration;

use serde_json::{Value, json};

use crate::house::{DEMOLISH, House, is_alive, until};

#[tokio::test]
async fn rule_4_13_an_editor_that_leaves_is_gone_within_two_seconds() {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    let server = editor.server_pid().await;
    let (code, took) = editor.leave().await;
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(2), "{took:?}");
    until("the server is gone", || !is_alive(server)).await;
    assert!(house.status().await.links.is_empty());
}

#[tokio::test]
async fn rule_4_13_a_server_that_stays_is_ended() {
    let house = House::new();
    house.daemon().await;
    let mut editor = house.editor(&["--stays"]).await;
    editor.initialize().await;
    let server = editor.server_pid().await;
    let (code, took) = editor.leave().await;
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(2), "{took:?}");
    until("the server is gone", || !is_alive(server)).await;
}

#[tokio::test]
async fn rule_4_13_an_editor_that_just_goes_takes_its_server_along() {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    let server = editor.server_pid().await;
    drop(editor.wire);
    let status = editor.shim.wait().await.unwrap();
    assert_eq!(status.code(), Some(1), "no shutdown was seen");
    until("the server is gone", || !is_alive(server)).await;
}

/// The editor hears the reason once, as a message and as the error of `initialize`.
async fn check_refused(editor: &mut crate::house::Editor, words: &[&str]) {
    let id = editor.wire.request("initialize", &json!({ "capabilities": {} }));
    let shown: Value = editor.find("window/showMessage").await.params_as().unwrap();
    let error = editor.answer(&id).await.unwrap_err();
    for word in words {
        assert!(shown["message"].as_str().unwrap().contains(word), "{shown}: {word}");
        assert!(error.message.contains(word), "{error}: {word}");
    }
    assert_eq!(shown["type"], 1);
    editor.wire.expect_silence(Duration::from_millis(50)).await;
}

#[tokio::test]
async fn an_unknown_command_is_one_clear_error() {
    let house = House::new();
    house.daemon().await;
    let mut editor = house.start(&[DEMOLISH, "lsp", "--", "no-such-server", "--stdio"]).await;
    check_refused(&mut editor, &["`no-such-server` was not found", "install it, or correct"]).await;
    let (code, _) = editor.leave().await;
    assert_eq!(code, Some(0));
}

#[tokio::test]
async fn a_server_that_exits_at_once_is_one_clear_error() {
    let house = House::new();
    house.daemon().await;
    let mut editor = house.editor(&["--exits"]).await;
    check_refused(
        &mut editor,
        &["fake-server --exits", "exit status: 7", "no licence found", "run this command"],
    )
    .await;
    let (code, _) = editor.leave().await;
    assert_eq!(code, Some(0));
}

#[tokio::test]
async fn rule_4_48_a_shim_starts_the_daemon_that_it_needs() {
    let house = House::new();
    let mut editor = house.editor(&[]).await;
    editor.initialize().await;
    // On a machine that is busy the shim may have stepped aside; then there is no daemon, and that is right too.
    if house.daemon_pid().is_some() && wire::socket::connect(&house.socket()).await.is_ok() {
        let status = house.status().await;
        assert!(status.links.len() <= 1);
    }
    assert_eq!(editor.ask("test/echo", json!(1)).await.unwrap(), 1);
}

#[tokio::test]
async fn rule_4_48_without_a_daemon_the_shim_becomes_the_server() {
    // The socket's folder cannot be made, so there can be no daemon.
    let house = House::new().with("DEMOLISH_SOCKET", "/proc/nowhere/demolish.sock");
    let mut editor = house.editor(&[]).await;
    editor.initialize().await;
    let shim = editor.shim.id().unwrap();
    assert_eq!(editor.server_pid().await, shim as i32, "same process: exec");
}

#[tokio::test]
async fn rule_4_48_a_daemon_of_another_version_or_a_silent_one_is_passed_by() {
    for says in [r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32600,"message":"old"}}"#, ""] {
        let house = House::new();
        let listener = wire::socket::Listener::bind(&house.socket()).unwrap();
        let old = tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Ok(mut stream) = listener.accept().await {
                use tokio::io::AsyncWriteExt as _;
                if !says.is_empty() {
                    let _ = stream.write_all(&wire::frame::encode(says.as_bytes())).await;
                }
                kept.push(stream);
            }
        });
        let mut editor = house.editor(&[]).await;
        editor.initialize().await;
        assert_eq!(editor.server_pid().await, editor.shim.id().unwrap() as i32);
        old.abort();
        // The lock named this very process; it is not to be killed.
        let _ = std::fs::remove_file(house.socket().with_extension("lock"));
    }
}

#[tokio::test]
async fn rule_4_48_the_kill_switch() {
    let house = House::new().with("DEMOLISH_BYPASS", "1");
    let mut editor = house.editor(&[]).await;
    editor.initialize().await;
    assert_eq!(editor.server_pid().await, editor.shim.id().unwrap() as i32);
    assert!(house.daemon_pid().is_none());
}

#[tokio::test]
async fn a_daemon_that_nobody_needs_ends() {
    let house = House::new().with("DEMOLISH_DAEMON_IDLE_EXIT_S", "1");
    let editor = house.ready_editor().await;
    let daemon = house.daemon_pid().unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(is_alive(daemon), "an editor is there");
    editor.leave().await;
    until("the daemon has ended", || !is_alive(daemon)).await;
    assert!(!house.socket().exists());
}

#[tokio::test]
async fn rule_4_13_a_daemon_that_is_asked_to_end_leaves_nothing_behind() {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    let (daemon, server) = (house.daemon_pid().unwrap(), editor.server_pid().await);
    let pid = rustix::process::Pid::from_raw(daemon).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    until("daemon and server are gone", || !is_alive(daemon) && !is_alive(server)).await;
    // And the editor has another one.
    assert_ne!(editor.server_pid().await, server);
}

#[tokio::test]
async fn the_server_runs_where_the_editor_is_with_the_editors_environment() {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    let state = editor.state().await;
    let expected = house.dir.path().canonicalize().unwrap();
    assert_eq!(state["cwd"], json!(expected));
}

#[tokio::test]
async fn rule_4_16_a_flood_on_stderr_is_drained_and_rotated() {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    editor.ask("test/stderr", json!({ "lines": 50_000 })).await.unwrap();
    let logs = house.dir.path().join("state/demolish/servers");
    let sizes = || -> Vec<u64> {
        let files = std::fs::read_dir(&logs).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len()).collect()
    };
    until("three files, none much above 1 MiB", || {
        sizes().len() == 3 && sizes().iter().sum::<u64>() >= 2 << 20
    })
    .await;
    assert!(sizes().iter().all(|size| *size <= (1 << 20) + 8192), "{:?}", sizes());
}

#[tokio::test]
async fn an_unknown_command_is_one_clear_error_without_a_daemon_too() {
    let house = House::new().with("DEMOLISH_BYPASS", "1");
    let mut editor = house.start(&[DEMOLISH, "lsp", "--", "no-such-server"]).await;
    check_refused(&mut editor, &["`no-such-server` was not found", "install it, or correct"]).await;
    let (code, _) = editor.leave().await;
    assert_eq!(code, Some(0));
}

#[tokio::test]
async fn our_own_features_say_so_if_there_is_no_daemon() {
    let house = House::new().with("DEMOLISH_SOCKET", "/proc/nowhere/demolish.sock");
    let mut editor = house.start(&[DEMOLISH, "lsp"]).await;
    check_refused(&mut editor, &["no daemon", "demolish doctor"]).await;
}

#[tokio::test]
async fn our_own_features_are_one_more_server() {
    let house = House::new();
    house.daemon().await;
    let mut editor = house.start(&[DEMOLISH, "lsp"]).await;
    let result = editor.initialize().await;
    assert!(result["capabilities"].is_object(), "{result}");
    let status = house.status().await;
    assert_eq!(
        (&*status.links[0].mode, status.links[0].client.as_deref()),
        ("own", Some("a test"))
    );
    let (code, took) = editor.leave().await;
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn a_daemon_that_is_stopped_stays_stopped_and_the_servers_go_on() {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    editor.open("file:///a", "text");
    let (daemon, server) = (house.daemon_pid().unwrap(), editor.server_pid().await);
    house.control("demolish/stop").await;
    until("daemon and server are gone", || !is_alive(daemon) && !is_alive(server)).await;
    let state = editor.state().await;
    assert_eq!(state["documents"], json!({ "file:///a": [1, "text"] }));
    assert_eq!(house.daemon_pid(), Some(daemon), "no other daemon was started");
    assert!(!house.socket().exists());
    let (code, _) = editor.leave().await;
    assert_eq!(code, Some(0));
}

#[tokio::test]
async fn the_daemon_writes_nothing_where_the_user_works() {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    std::fs::write(house.dir.path().join("a.txt"), "text\n").unwrap();
    let uri = format!("file://{}/a.txt", house.dir.path().display());
    editor.open(&uri, "text\n");
    editor.change(&uri, 2, "bad\n");
    editor.wire.notify("textDocument/didSave", &json!({ "textDocument": { "uri": uri } }));
    editor.state().await;
    editor.leave().await;
    let mut names: Vec<_> = std::fs::read_dir(house.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    // The socket and the logs are in the folders that the environment names.
    assert_eq!(names, ["a.txt", "run", "state"]);
    assert_eq!(std::fs::read_to_string(house.dir.path().join("a.txt")).unwrap(), "text\n");
}
