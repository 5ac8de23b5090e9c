//! What must be true when the faults are over.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::editor::Editor;
use super::place::Place;
use super::seen::{Seen, Wrong};

/// How long the last answers and diagnostics may take once the server answers again.
const SETTLE_PATIENCE: Duration = Duration::from_secs(8);

/// Nothing more dies: what is sent from here on must arrive. Lets the last messages do so, and compares what the server has with what the editor has.
pub(super) async fn quiet(
    editor: &mut Editor,
    place: &Place,
) -> Result<Vec<(Wrong, String)>, String> {
    editor.number();
    let until = Instant::now() + SETTLE_PATIENCE;
    loop {
        let state = editor.state().await?;
        let mut wrong = documents(editor, &state);
        wrong.extend(order(editor, place, state["pid"].as_i64()));
        wrong.extend(screen(editor, place.is_shared(), &state));
        if state["asked"] != 0 || state["strays"] != 0 {
            let words = format!(
                "{} requests of the server have no answer, {} answers were none of its",
                state["asked"], state["strays"]
            );
            wrong.push((Wrong::Answer, words));
        }
        let open = editor.seen.open();
        if wrong.is_empty() && open.is_empty() || Instant::now() > until {
            return Ok(wrong);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Every request has one answer; at a shim that was killed, at most one.
pub(super) fn answers(seen: &Seen, killed: bool) -> Vec<(Wrong, String)> {
    let wrong = seen.requests_wrong(|id, asked| {
        let right = asked.answers == 1 || killed && asked.answers == 0;
        let words = || format!("request {id} ({}) has {} answers", asked.method, asked.answers);
        (!right).then(words)
    });
    wrong.into_iter().map(|words| (Wrong::Answer, words)).chain(seen.wrong()).collect()
}

fn documents(editor: &Editor, state: &Value) -> Vec<(Wrong, String)> {
    let held: BTreeMap<String, (i64, String)> =
        serde_json::from_value(state["documents"].clone()).unwrap_or_default();
    let mut wrong = Vec::new();
    for (uri, buffer) in &editor.documents {
        match held.get(uri) {
            None => wrong.push(format!("{uri} is not open at the server")),
            Some((version, text)) if *text != buffer.text => wrong.push(format!(
                "{uri} differs: version {version} of {}\n  server {text:?}\n  editor {:?}",
                buffer.version, buffer.text
            )),
            Some((version, _)) if *version != i64::from(buffer.version) => {
                wrong.push(format!("{uri} has version {version}, not {}", buffer.version));
            }
            Some(_) => {}
        }
    }
    let own = |uri: &&String| uri.starts_with(&format!("file:///{}/", editor.name));
    let closed = held.keys().filter(own).filter(|uri| !editor.documents.contains_key(*uri));
    wrong.extend(closed.map(|uri| format!("{uri} is still open at the server")));
    wrong.into_iter().map(|words| (Wrong::Document, words)).collect()
}

/// The serial numbers that each server has heard from one shim follow each other, and the last one of all has arrived.
fn order(editor: &Editor, place: &Place, server: Option<i64>) -> Vec<(Wrong, String)> {
    let mut wrong = Vec::new();
    let mut last: BTreeMap<(String, i32), u64> = BTreeMap::new();
    for (name, pid, number) in place.recorded(&editor.name) {
        if name == "start" {
            continue;
        }
        let before = last.insert((name.clone(), pid), number);
        if before.is_some_and(|before| number != before + 1) {
            let before = before.unwrap_or_default();
            wrong.push(format!("server {pid} heard {number} of {name} after {before}"));
        }
    }
    let server = server.and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
    let heard = last.get(&(editor.record_name(), server));
    if heard != Some(&editor.serial()) {
        wrong.push(format!(
            "the last number is {}, and server {server} heard {heard:?}",
            editor.serial()
        ));
    }
    wrong.into_iter().map(|words| (Wrong::Order, words)).collect()
}

fn screen(editor: &Editor, shared: bool, state: &Value) -> Vec<(Wrong, String)> {
    let (progress, diagnostics) = editor.seen.screen();
    let mut wrong = Vec::new();
    let theirs: Vec<String> = serde_json::from_value(state["progress"].clone()).unwrap_or_default();
    // Who joins a server later does not see what it had begun before.
    let right = progress.iter().all(|token| theirs.contains(token));
    if !right || !shared && progress.len() != theirs.len() {
        wrong.push(format!("progress on the screen {progress:?}, of the server {theirs:?}"));
    }
    for (uri, buffer) in &editor.documents {
        let (shown, right) = (diagnostics.get(uri).copied(), buffer.bad_lines());
        if shown.unwrap_or(0) != right {
            wrong.push(format!("{shown:?} diagnostics of {uri} are shown, {right} are right"));
        }
    }
    wrong.into_iter().map(|words| (Wrong::Screen, words)).collect()
}
