//! Real servers as they were recorded (tests/peers): what reaches the editor through shim and daemon is, byte for byte, what
//! reaches it over a direct connection, and the verdicts come out as they did.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Instant;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use wire::ext::{DocumentVerdict, GetVerdicts, VerdictsParams, VerdictsResult};
use wire::lsp::request::Request as _;
use wire::{Envelope, Id, Kind};

use crate::house::{DEMOLISH, Editor, House, PATIENCE};

/// A line of a transcript.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Peer(#[allow(dead_code, reason = "for people")] Value),
    Client(Box<RawValue>),
    Server(Box<RawValue>),
    Asked(#[allow(dead_code, reason = "the replaying peer reads it")] Value),
    Answered(#[allow(dead_code, reason = "the replaying peer reads it")] Value),
    Verdict { revision: i32, state: String, findings: usize },
}

fn transcript(name: &str) -> (PathBuf, Vec<Line>) {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/peers");
    let path = root.canonicalize().unwrap().join(format!("{name}.jsonl"));
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.len() < 300_000, "{} bytes are too many", text.len());
    let line =
        |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    (path, text.lines().map(line).collect())
}

/// Plays the editor's side: what the editor has received, with the server's own ids.
async fn play(house: &House, editor: &mut Editor, lines: &[Line], behind: bool) -> Vec<String> {
    let mut received = Vec::new();
    // Ids of the server's requests, as they arrive, by those in the transcript.
    let mut ids: HashMap<Id, Id> = HashMap::new();
    let mut last = 0;
    for line in lines {
        match line {
            Line::Peer(_) | Line::Asked(_) | Line::Answered(_) => {}
            Line::Client(raw) => {
                let envelope = Envelope::read(raw.get().to_owned().into()).unwrap();
                match &envelope.kind {
                    Kind::Response { id } => editor.wire.send(&envelope.with_id(ids[id].clone())),
                    Kind::Notification { method } if **method == *"exit" => return received,
                    Kind::Notification { method } if **method == *"$/cancelRequest" && behind => {
                        // One that is still in a queue would never reach the server.
                        house.asked(1).await;
                        settle(house).await;
                        editor.wire.send(&envelope);
                    }
                    _ => editor.wire.send(&envelope),
                }
            }
            Line::Server(raw) => {
                let expected = Envelope::read(raw.get().to_owned().into()).unwrap();
                let Some(mut envelope) = editor.wire.next().await else {
                    panic!("the connection ended; expected {raw}; {:?}", editor.shim.log().tail());
                };
                if let (Kind::Request { id, .. }, Some(theirs)) = (&envelope.kind, expected.id()) {
                    ids.insert(theirs.clone(), id.clone());
                    envelope = envelope.with_id(theirs.clone());
                }
                received.push(String::from_utf8_lossy(&envelope.body).into_owned());
            }
            Line::Verdict { revision, state, findings } if behind => {
                let verdict = verdict(house, *revision).await;
                assert_eq!(verdict.revision, Some(*revision), "{verdict:?}");
                assert_eq!(
                    (&verdict.state, verdict.findings.len()),
                    (state, *findings),
                    "{verdict:?}"
                );
                assert!(*revision > last, "each is about a change");
                last = *revision;
            }
            Line::Verdict { .. } => {}
        }
    }
    received
}

/// What the server says of this revision or a later one, through the daemon. The verb's connection and the editor's are not
/// in step: the daemon may not have heard of the change yet.
async fn verdict(house: &House, revision: i32) -> DocumentVerdict {
    let end = Instant::now() + PATIENCE;
    loop {
        let params = VerdictsParams { documents: Vec::new(), wait_ms: 9_000 };
        let said = house.control_with(GetVerdicts::METHOD, &params).await;
        let mut said: VerdictsResult = serde_json::from_value(said).unwrap();
        assert!(said.verdicts.len() < 2, "{said:?}");
        let said = said.verdicts.pop().filter(|said| said.revision >= Some(revision));
        if let Some(said) = said {
            return said;
        }
        assert!(Instant::now() < end, "no verdict about revision {revision}");
    }
}

/// Waits until the daemon has written everything to its server.
async fn settle(house: &House) {
    let end = Instant::now() + PATIENCE;
    loop {
        let status = house.status().await;
        let server = status.links[0].server.as_ref().unwrap();
        if server.queue.messages == 0 {
            return;
        }
        assert!(Instant::now() < end, "the server does not read");
    }
}

/// How the program of a server is called.
fn program(name: &str) -> &str {
    let known = lang::all().iter().find_map(|language| language.server(name));
    &known.expect("a known server").command()[0]
}

async fn check(name: &str) {
    let (path, lines) = transcript(name);
    let recorded: Vec<String> = lines
        .iter()
        .filter_map(|line| match line {
            Line::Server(raw) => Some(raw.get().to_owned()),
            _ => None,
        })
        .collect();
    let verdicts = lines.iter().filter(|line| matches!(line, Line::Verdict { .. })).count();
    assert!(verdicts >= 3 && recorded.len() > 10, "{name}: a whole conversation");
    let house = House::new();
    // The daemon knows a server by its program's name.
    let program = house.dir.path().join(program(name));
    std::os::unix::fs::symlink(DEMOLISH, &program).unwrap();
    let peer = [program.to_str().unwrap(), "bench", "replay-peer", path.to_str().unwrap()];

    let mut direct = house.start(&peer).await;
    let directly = play(&house, &mut direct, &lines, false).await;
    assert_eq!(directly, recorded);

    house.daemon().await;
    let wrapped = [&[DEMOLISH, "lsp", "--"], &peer[..]].concat();
    let mut editor = house.start(&wrapped).await;
    let through = play(&house, &mut editor, &lines, true).await;
    assert_eq!(through, directly);
}

#[tokio::test]
async fn rule_4_20_the_recorded_rust_analyzer_is_the_same_behind_us_and_its_verdicts_come_out() {
    check("rust-analyzer").await;
}

#[tokio::test]
async fn rule_4_20_the_recorded_gopls_is_the_same_behind_us_and_its_verdicts_come_out() {
    check("gopls").await;
}

#[tokio::test]
async fn rule_4_20_the_recorded_clangd_is_the_same_behind_us_and_its_verdicts_come_out() {
    check("clangd").await;
}

#[tokio::test]
async fn rule_4_21_the_recorded_ty_is_the_same_behind_us_and_its_verdicts_come_out() {
    check("ty").await;
}

#[tokio::test]
async fn rule_4_21_the_recorded_basedpyright_is_the_same_behind_us_and_its_verdicts_come_out() {
    check("basedpyright").await;
}

#[tokio::test]
async fn rule_4_21_the_recorded_native_typescript_is_the_same_behind_us_and_its_verdicts_come_out()
{
    check("tsc").await;
}

#[tokio::test]
async fn rule_4_20_the_recorded_typescript_language_server_is_the_same_and_its_verdicts_come_out() {
    check("typescript-language-server").await;
}
