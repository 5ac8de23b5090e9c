//! What the editors' own servers say of revisions, through real processes: `demolish verdicts`, the recorded peers, and,
//! in the slow run, the real servers.

use std::process::Command;

use serde_json::{Value, json};

use crate::house::{DEMOLISH, Editor, House};

/// Runs the verb in the house; its exit code and what it prints.
async fn verdicts(house: &House, args: &[&str]) -> (Option<i32>, Value) {
    let mut command = tokio::process::Command::new(DEMOLISH);
    command.arg("verdicts").args(args).arg("--json").env_clear().envs(&house.env);
    let output = command.current_dir(house.dir.path()).output().await.unwrap();
    let printed = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code(), printed)
}

async fn publish(editor: &mut Editor, version: Option<i32>, diagnostics: Value) {
    let params = json!({ "uri": "file:///a", "version": version, "diagnostics": diagnostics });
    let said = json!({ "method": "textDocument/publishDiagnostics", "params": params });
    editor.ask("test/say", said).await.unwrap();
}

#[tokio::test]
async fn rule_4_20_the_verb_says_what_the_editor_s_own_server_has_said_of_this_revision() {
    let house = House::new();
    house.daemon().await;
    let mut editor = house.editor(&["--silent"]).await;
    editor.initialize().await;
    editor.open("file:///a", "one\ntwo\n");
    editor.state().await;
    let wait = ["--wait", "0.2"];
    let (code, said) = verdicts(&house, &wait).await;
    let verdict = &said["verdicts"][0];
    assert_eq!((code, &verdict["state"]), (Some(3), &json!("unknown")), "silence: {said}");
    assert_eq!(verdict["revision"], 1);

    publish(&mut editor, Some(1), json!([])).await;
    let (code, said) = verdicts(&house, &wait).await;
    assert_eq!((code, &said["verdicts"][0]["state"]), (Some(0), &json!("clean")));

    editor.change("file:///a", 2, "three\n  four\n");
    editor.state().await;
    let (code, _) = verdicts(&house, &wait).await;
    assert_eq!(code, Some(3), "of the revision before");
    publish(&mut editor, None, json!([])).await;
    let (code, _) = verdicts(&house, &wait).await;
    assert_eq!(code, Some(3), "of no revision, and nothing is known of this server");

    let place = json!({ "line": 1, "character": 2 });
    let finding =
        json!({ "range": { "start": place, "end": place }, "severity": 1, "message": "no" });
    publish(&mut editor, Some(2), json!([finding])).await;
    let (code, said) = verdicts(&house, &wait).await;
    let verdict = &said["verdicts"][0];
    assert_eq!((code, &verdict["state"]), (Some(1), &json!("findings")));
    assert_eq!((&verdict["revision"], &verdict["server"]), (&json!(2), &json!("demolish")));
    assert_eq!(verdict["findings"][0]["line"], "  four");

    let before = house.dir.path().join("before.json");
    std::fs::write(&before, said.to_string()).unwrap();
    let (code, _) = verdicts(&house, &["--baseline", before.to_str().unwrap()]).await;
    assert_eq!(code, Some(0), "nothing is new");
    let (code, _) = verdicts(&house, &["/b"]).await;
    assert_eq!(code, Some(3), "not open");
}

#[tokio::test]
async fn rule_4_20_windows_that_share_a_server_get_one_verdict_and_differing_texts_one_each() {
    let house = House::new();
    let mut one = house.ready_editor().await;
    let mut other = house.editor(&[]).await;
    other.initialize().await;
    one.open("file:///a", "fine\n");
    one.state().await;
    other.open("file:///a", "fine\n");
    other.state().await;
    let (code, said) = verdicts(&house, &[]).await;
    let list = said["verdicts"].as_array().unwrap();
    assert_eq!((code, list.len()), (Some(0), 1), "one server, one document: {said}");
    other.change("file:///a", 2, "bad\n");
    other.state().await;
    one.change("file:///a", 2, "good\n");
    one.state().await;
    let (code, said) = verdicts(&house, &[]).await;
    let states: Vec<&Value> =
        said["verdicts"].as_array().unwrap().iter().map(|verdict| &verdict["state"]).collect();
    assert_eq!(
        (code, &states[..]),
        (Some(1), &[&json!("clean"), &json!("findings")][..]),
        "{said}"
    );
}

#[tokio::test]
async fn rule_4_20_the_servers_of_all_editors_are_asked_and_the_gone_ones_are_not() {
    let house = House::new();
    house.daemon().await;
    let mut one = house.editor(&["--silent"]).await;
    let mut two = house.editor(&["--silent"]).await;
    one.initialize().await;
    two.initialize().await;
    one.open("file:///a", "x\n");
    two.open("file:///b", "x\n");
    one.state().await;
    two.state().await;
    let (_, said) = verdicts(&house, &["--wait", "0"]).await;
    let uris: Vec<&Value> =
        said["verdicts"].as_array().unwrap().iter().map(|verdict| &verdict["uri"]).collect();
    assert_eq!(uris, ["file:///a", "file:///b"]);
    let waiting = tokio::spawn(async move { verdicts(&house, &["--wait", "2"]).await });
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    one.leave().await;
    let (code, said) = waiting.await.unwrap();
    assert_eq!((code, said["verdicts"].as_array().map(Vec::len)), (Some(3), Some(2)), "{said}");
}

/// A real server through the real shim and daemon: every verdict is right about the revision that it names, none is
/// missing but while the server is dead.
fn real(name: &str, more: &[&str]) {
    if !crate::house::slow() {
        return println!("skipped: needs DEMOLISH_SLOW=1 and a real {name}");
    }
    let args = ["bench", "verdicts", "--only", name, "--json"];
    let output = Command::new(DEMOLISH).args(args).args(more).output().unwrap();
    if output.status.code() == Some(3) {
        return println!("skipped: {}", String::from_utf8_lossy(&output.stderr));
    }
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    let value = |what: &str| {
        let metric = format!("{name}_verdict_{what}");
        let row = report["rows"].as_array().unwrap().iter().find(|row| row["metric"] == *metric);
        row.unwrap_or_else(|| panic!("no {metric}"))["value"].as_f64().unwrap()
    };
    println!("{report:#}");
    assert_eq!(value("wrong"), 0.0);
    assert!(value("asked") >= 90.0);
    assert!(value("unknown") < 5.0, "{} % of the verdicts are unknown", value("unknown"));
    assert_eq!(value("unknown_after_kill"), 1.0);
    assert!(value("back_after_kill") > 0.0);
}

#[test]
fn rule_4_20_rust_analyzer_is_right_about_every_revision() {
    real("rust-analyzer", &[]);
}

#[test]
fn rule_4_20_rust_analyzer_is_right_about_every_revision_in_a_plain_editor_too() {
    real("rust-analyzer", &["--plain"]);
}

#[test]
fn rule_4_20_gopls_is_right_about_every_revision() {
    real("gopls", &[]);
}

#[test]
fn rule_4_20_clangd_is_right_about_every_revision() {
    real("clangd", &[]);
}

#[test]
fn rule_4_20_ty_is_right_about_every_revision() {
    real("ty", &[]);
}

#[test]
fn rule_4_20_basedpyright_is_right_about_every_revision() {
    real("basedpyright", &[]);
}

#[test]
fn rule_4_20_native_typescript_is_right_about_every_revision() {
    real("tsc", &[]);
}

#[test]
fn rule_4_20_typescript_language_server_is_right_about_every_revision() {
    real("typescript-language-server", &[]);
}
