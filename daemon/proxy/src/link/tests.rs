//! Links, message by message, with a clock that the test turns.

mod fresh;
mod shared;
mod traffic;
mod verdicts;

use proptest::prelude::*;
use serde_json::{Value, json};
use wire::Kind;

use super::*;

/// A link with the time, and what went where.
struct Rig {
    link: Link,
    now: Instant,
}

/// Where a message went, and what it was: `c m` is a notification or request `m` to the client, `s 3=` an answer to the
/// server's request 3, `c 4!-32800` an error.
fn show(routes: &[Route]) -> Vec<String> {
    let one = |to: &str, outbound: &Outbound| {
        let envelope = Envelope::read(outbound.body.clone()).unwrap();
        match (&envelope.kind, envelope.outcome()) {
            (Kind::Response { id }, Ok(_)) => format!("{to} {id}="),
            (Kind::Response { id }, Err(error)) => format!("{to} {id}!{}", error.code),
            (Kind::Request { id, method }, _) => format!("{to} {id} {method}"),
            (Kind::Notification { method }, _) => format!("{to} {method}"),
        }
    };
    let shown = routes.iter().map(|route| match route {
        Route::Client(_, outbound) => one("c", outbound),
        Route::Server(outbound) => one("s", outbound),
        Route::WithdrawFromServer(tag, _) => format!("withdraw s {tag}"),
        Route::WithdrawFromClient(_, tag, _) => format!("withdraw c {tag}"),
        Route::Parted(client) => format!("parted {}", client.0),
        Route::Answered(ours, _) => format!("answered {ours}"),
        Route::Chosen(ours, _) => format!("chosen {ours}"),
        Route::Verdict(ticket, verdict) => format!("verdict {} {}", ticket.0, verdict.word()),
    });
    shown.collect()
}

fn body(route: &Route) -> Value {
    let outbound = match route {
        Route::Client(_, outbound)
        | Route::Server(outbound)
        | Route::WithdrawFromServer(_, outbound)
        | Route::WithdrawFromClient(_, _, outbound) => outbound,
        route => panic!("{route:?}"),
    };
    serde_json::from_slice(&outbound.body).unwrap()
}

impl Rig {
    fn new(reads: Reads) -> Rig {
        let mut link = Link::new(LinkOptions::new("ls", reads));
        link.join(ClientId::ONLY);
        Rig { link, now: Instant::now() }
    }

    /// Up, and greeted by a client that can refresh hints.
    fn running(reads: Reads) -> Rig {
        let mut rig = Rig::new(reads);
        rig.link.on_server_up(rig.now);
        let capabilities = json!({ "workspace": { "inlayHint": { "refreshSupport": true } } });
        rig.client(json!({ "id": "i", "method": "initialize", "params": { "capabilities": capabilities } }));
        rig.server(json!({ "id": 1, "result": { "capabilities": {} } }));
        rig.client(json!({ "method": "initialized", "params": {} }));
        rig
    }

    fn client(&mut self, message: Value) -> Vec<String> {
        show(&self.client_routes(message))
    }

    fn client_routes(&mut self, message: Value) -> Vec<Route> {
        let envelope = Envelope::read(message.to_string().into()).unwrap();
        self.link.on_client(ClientId::ONLY, envelope, self.now)
    }

    fn server(&mut self, message: Value) -> Vec<String> {
        show(&self.server_routes(message))
    }

    fn server_routes(&mut self, message: Value) -> Vec<Route> {
        let envelope = Envelope::read(message.to_string().into()).unwrap();
        self.link.on_server(envelope, self.now)
    }

    fn wait(&mut self, time: Duration) -> Vec<String> {
        self.now += time;
        show(&self.link.expire(self.now))
    }
}

fn request(id: Value, method: &str) -> Value {
    json!({ "id": id, "method": method, "params": {} })
}

#[test]
fn rule_4_10_what_is_sent_before_the_server_is_there_waits_in_order() {
    let mut rig = Rig::new(Reads::Fail);
    assert!(rig.client(request(json!("i"), "initialize")).is_empty());
    assert!(rig.client(json!({ "method": "a" })).is_empty());
    assert!(rig.client(request(json!(5), "m")).is_empty());
    assert_eq!(show(&rig.link.on_server_up(rig.now)), ["s 1 initialize", "s a", "s 2 m"]);
    assert_eq!(rig.client(json!({ "method": "b" })), ["s b"]);
}

#[test]
fn rule_4_5_ids_are_ours_on_the_far_side() {
    let mut rig = Rig::running(Reads::Fail);
    assert_eq!(rig.client(request(json!("x"), "m")), ["s 2 m"]);
    assert_eq!(rig.client(request(json!("x"), "m")), ["c \"x\"!-32600"]);
    assert_eq!(rig.server(json!({ "id": 2, "result": 1 })), ["c \"x\"="]);
    assert!(rig.server(json!({ "id": 2, "result": 1 })).is_empty());
    assert!(rig.server(json!({ "id": "2", "result": 1 })).is_empty());
    assert_eq!(rig.server(request(json!(9_000_000_000u64), "q")), ["c 1 q"]);
    assert_eq!(rig.server(request(json!(9_000_000_000u64), "q")), ["s 9000000000!-32600"]);
    assert_eq!(rig.client(json!({ "id": 1, "result": null })), ["s 9000000000="]);
    assert!(rig.client(json!({ "id": 1, "result": null })).is_empty());
}

#[test]
fn rule_4_17_a_cancel_is_answered_once_by_whoever_is_first() {
    let mut rig = Rig::running(Reads::Fail);
    let cancel = json!({ "method": "$/cancelRequest", "params": { "id": "x" } });
    // Still in the queue: taken out.
    rig.client(request(json!("x"), "m"));
    let routes = rig.client_routes(cancel.clone());
    assert_eq!(show(&routes), ["withdraw s 2"]);
    assert_eq!(body(&routes[0])["params"]["id"], 2);
    assert_eq!(show(&rig.link.withdrawn_from_server(2)), ["c \"x\"!-32800"]);
    assert!(rig.client(cancel.clone()).is_empty());
    // The server answers.
    rig.client(request(json!("x"), "m"));
    rig.client(cancel.clone());
    assert_eq!(rig.server(json!({ "id": 3, "result": 1 })), ["c \"x\"="]);
    // The server does not.
    rig.client(request(json!("x"), "m"));
    rig.client(cancel);
    assert_eq!(rig.link.next_deadline(), Some(rig.now + CANCEL_PATIENCE));
    assert_eq!(rig.wait(CANCEL_PATIENCE), ["c \"x\"!-32800"]);
    assert!(rig.server(json!({ "id": 4, "result": 1 })).is_empty());
    assert_eq!(rig.link.next_deadline(), None);
}

#[test]
fn rule_4_18_an_editor_that_never_answers_does_not_hang_the_server() {
    let mut rig = Rig::running(Reads::Fail);
    let items = json!({ "items": [{}, {}, {}] });
    rig.server(json!({ "id": "a", "method": "workspace/configuration", "params": items }));
    rig.server(request(json!("b"), "workspace/applyEdit"));
    rig.server(request(json!("c"), "custom/question"));
    rig.now += Duration::from_secs(31);
    let routes = rig.link.expire(rig.now);
    assert_eq!(show(&routes), ["s \"a\"=", "s \"b\"="]);
    assert_eq!(body(&routes[0])["result"], json!([null, null, null]));
    assert_eq!(body(&routes[1])["result"], json!({ "applied": false }));
    assert!(rig.client(json!({ "id": 1, "result": [] })).is_empty());
}

#[test]
fn rule_4_13_shutdown_is_answered_even_if_the_server_is_silent() {
    let mut rig = Rig::running(Reads::Fail);
    rig.client(request(json!(8), "shutdown"));
    assert_eq!(rig.wait(SHUTDOWN_PATIENCE), ["c 8="]);
}

#[test]
fn rule_4_14_death_leaves_nobody_waiting_and_the_screen_clean() {
    let mut rig = Rig::running(Reads::Fail);
    rig.client(request(json!(1), "textDocument/hover"));
    rig.client(request(json!(2), "workspace/executeCommand"));
    let begin = json!({ "token": "t", "value": { "kind": "begin" } });
    rig.server(json!({ "method": "$/progress", "params": begin }));
    let published = |uri: &str, diagnostics: Value| json!({ "method": "textDocument/publishDiagnostics", "params": { "uri": uri, "diagnostics": diagnostics } });
    rig.server(published("file:///dirty", json!([{ "message": "m" }])));
    rig.server(published("file:///clean", json!([])));
    let registrations =
        json!({ "registrations": [{ "id": "r1", "method": "workspace/didChangeWatchedFiles" }] });
    rig.server(json!({ "id": 4, "method": "client/registerCapability", "params": registrations }));
    rig.client(json!({ "id": 1, "result": null }));
    rig.server(request(json!(5), "window/showMessageRequest"));
    let routes = rig.link.on_server_death();
    let expected = [
        "withdraw c 2",
        "c 1!-32801",
        "c 2!-32803",
        "c $/progress",
        "c textDocument/publishDiagnostics",
    ];
    assert_eq!(show(&routes), expected);
    assert_eq!(body(&routes[4])["params"], json!({ "uri": "file:///dirty", "diagnostics": [] }));
    // Late answers to the dead go nowhere.
    assert!(rig.client(json!({ "id": 2, "result": null })).is_empty());
    // What it had registered is taken back for good once it is given up.
    let routes = rig.link.give_up("why");
    assert_eq!(show(&routes), ["c window/showMessage", "c 3 client/unregisterCapability"]);
    assert_eq!(body(&routes[1])["params"]["unregisterations"][0]["id"], "r1");
    assert!(rig.client(json!({ "id": 3, "result": null })).is_empty());
}

#[test]
fn rule_4_14_what_is_asked_meanwhile_waits_and_documents_are_replayed() {
    let mut rig = Rig::running(Reads::Fail);
    let open = |uri: &str| {
        let document = json!({ "uri": uri, "languageId": "x", "version": 1, "text": "t" });
        json!({ "method": "textDocument/didOpen", "params": { "textDocument": document } })
    };
    rig.client(open("file:///a"));
    rig.link.on_server_death();
    assert!(rig.client(open("file:///b")).is_empty());
    assert!(rig.client(request(json!(7), "textDocument/hover")).is_empty());
    assert!(rig.client(json!({ "method": "custom/note" })).is_empty());
    assert_eq!(show(&rig.link.on_server_up(rig.now)), ["s 3 initialize"]);
    assert_eq!(*rig.link.state(), ServerState::Greeting);
    let routes = rig.server(json!({ "id": 3, "result": {} }));
    let expected = [
        "s initialized",
        "s textDocument/didOpen",
        "s textDocument/didOpen",
        "s 2 textDocument/hover",
        "s custom/note",
        "c 1 workspace/inlayHint/refresh",
    ];
    assert_eq!(routes, expected);
    assert_eq!(rig.server(json!({ "id": 2, "result": null })), ["c 7="]);
    // Nobody waits for the editor's answer to the refresh.
    assert!(rig.client(json!({ "id": 1, "result": null })).is_empty());
}

#[test]
fn rule_4_14_a_server_that_asks_while_it_is_greeted_again_is_answered_at_once_or_never() {
    let mut rig = Rig::running(Reads::Fail);
    rig.link.on_server_death();
    rig.link.on_server_up(rig.now);
    rig.server(request(json!("q"), "workspace/configuration"));
    assert_eq!(rig.client(json!({ "id": 1, "result": [] })), ["s \"q\"="]);
    rig.server(request(json!("r"), "workspace/configuration"));
    rig.link.on_server_death();
    assert!(rig.client(json!({ "id": 2, "result": [] })).is_empty());
    rig.link.on_server_up(rig.now);
    let routes = rig.server(json!({ "id": 3, "result": {} }));
    assert_eq!(routes, ["s initialized", "c 3 workspace/inlayHint/refresh"]);
}

#[test]
fn rule_4_48_a_shim_asks_again_what_only_reads() {
    let mut rig = Rig::running(Reads::Retry);
    rig.client(request(json!(1), "textDocument/hover"));
    rig.client(request(json!(2), "textDocument/rename"));
    rig.client(request(json!(3), "workspace/executeCommand"));
    rig.client(json!({ "method": "$/cancelRequest", "params": { "id": 2 } }));
    assert_eq!(show(&rig.link.on_server_death()), ["c 2!-32800", "c 3!-32803"]);
    rig.link.on_server_up(rig.now);
    let routes = rig.server(json!({ "id": 5, "result": {} }));
    let expected = ["s initialized", "s 2 textDocument/hover", "c 1 workspace/inlayHint/refresh"];
    assert_eq!(routes, expected);
    assert_eq!(rig.server(json!({ "id": 2, "result": 1 })), ["c 1="]);
}

#[test]
fn rule_4_48_an_unanswered_initialize_is_asked_again_by_the_client_s_own_request() {
    let mut rig = Rig::new(Reads::Retry);
    rig.link.on_server_up(rig.now);
    rig.client(request(json!("i"), "initialize"));
    assert!(rig.link.is_initializing());
    assert!(rig.link.on_server_death().is_empty());
    assert_eq!(show(&rig.link.on_server_up(rig.now)), ["s 1 initialize"]);
    assert_eq!(rig.server(json!({ "id": 1, "result": {} })), ["c \"i\"="]);
}

#[test]
fn a_server_given_up_is_told_of_once_and_refuses() {
    let mut rig = Rig::running(Reads::Fail);
    rig.client(request(json!(1), "textDocument/hover"));
    assert_eq!(show(&rig.link.give_up("why")), ["c window/showMessage", "c 1!-32801"]);
    assert_eq!(rig.client(request(json!(2), "m")), ["c 2!-32803"]);
    assert!(rig.client(json!({ "method": "n" })).is_empty());
    assert_eq!(rig.client(request(json!(3), "shutdown")), ["c 3="]);
    assert!(rig.link.on_server_up(rig.now).is_empty());
}

#[test]
fn a_server_that_never_started_is_told_of_when_the_client_says_hello() {
    let mut rig = Rig::new(Reads::Fail);
    assert!(rig.link.give_up("why").is_empty());
    let expected = ["c window/showMessage", "c \"i\"!-32803"];
    assert_eq!(rig.client(request(json!("i"), "initialize")), expected);
    assert_eq!(rig.client(request(json!("j"), "initialize")), ["c \"j\"!-32803"]);
}

#[test]
fn rule_4_7_lanes() {
    let mut rig = Rig::running(Reads::Fail);
    let mut lane = |message: Value| match &rig.server_routes(message)[0] {
        Route::Client(_, outbound) => outbound.lane.clone(),
        route => panic!("{route:?}"),
    };
    let progress =
        |kind: Value| json!({ "method": "$/progress", "params": { "token": 7, "value": kind } });
    assert_eq!(lane(progress(json!({ "kind": "begin" }))), Lane::Keep);
    assert_eq!(lane(progress(json!({ "kind": "report" }))), Lane::Latest("p7".into()));
    assert_eq!(lane(progress(json!([1]))), Lane::Keep, "a partial result");
    assert_eq!(lane(progress(json!({ "kind": "end" }))), Lane::Keep);
    let publish = json!({ "uri": "u", "diagnostics": [] });
    let publish = json!({ "method": "textDocument/publishDiagnostics", "params": publish });
    assert_eq!(lane(publish), Lane::Latest("du".into()));
    assert_eq!(lane(json!({ "method": "window/logMessage" })), Lane::Log);
    assert_eq!(lane(json!({ "method": "custom/note" })), Lane::Keep);
}

#[test]
fn rule_4_21_pulled_diagnostics_belong_to_the_version_that_was_asked_about() {
    let mut rig = Rig::running(Reads::Fail);
    let document = json!({ "uri": "u", "languageId": "x", "version": 4, "text": "t" });
    rig.client(json!({ "method": "textDocument/didOpen", "params": { "textDocument": document } }));
    let pull = json!({ "textDocument": { "uri": "u" } });
    rig.client(json!({ "id": 1, "method": "textDocument/diagnostic", "params": pull }));
    let changed =
        json!({ "textDocument": { "uri": "u", "version": 5 }, "contentChanges": [{ "text": "" }] });
    rig.client(json!({ "method": "textDocument/didChange", "params": changed }));
    rig.server(json!({ "id": 2, "result": { "kind": "full", "items": [{ "message": "m" }] } }));
    assert_eq!(rig.link.tap().latest("u").unwrap().version, Some(4));
}

#[test]
fn rule_4_33_what_the_editor_answers_to_configuration_is_remembered() {
    let mut rig = Rig::running(Reads::Fail);
    let items = json!({ "items": [{ "section": "a" }, { "section": "b" }] });
    rig.server(json!({ "id": 1, "method": "workspace/configuration", "params": items }));
    rig.client(json!({ "id": 1, "result": [{ "x": 1 }, null] }));
    let settings = rig.link.settings();
    assert_eq!(settings[r#"{"section":"a"}"#].get(), r#"{"x":1}"#);
    assert_eq!(settings[r#"{"section":"b"}"#].get(), "null");
}

#[test]
fn a_question_of_our_own_gets_exactly_one_answer() {
    let mut rig = Rig::running(Reads::Fail);
    let ask = |rig: &mut Rig| {
        let deadline = rig.now + Duration::from_secs(1);
        let (ours, route) = rig.link.ask_server("q", &json!({}), Some(deadline));
        assert_eq!(show(&[route]), [format!("s {ours} q")]);
        ours
    };
    let answered = ask(&mut rig);
    assert_eq!(
        rig.server(json!({ "id": answered, "result": 1 })),
        [format!("answered {answered}")]
    );
    assert!(rig.server(json!({ "id": answered, "result": 1 })).is_empty());
    let late = ask(&mut rig);
    let expected = [format!("withdraw s {late}"), format!("answered {late}")];
    assert_eq!(rig.wait(Duration::from_secs(1)), expected);
    let forgotten = ask(&mut rig);
    assert!(rig.link.forget_question(forgotten).is_some());
    assert!(rig.server(json!({ "id": forgotten, "result": 1 })).is_empty());
    let lost = ask(&mut rig);
    assert_eq!(show(&rig.link.on_server_death()), [format!("answered {lost}")]);
    let (ours, route) = rig.link.ask_server("q", &json!({}), None);
    assert_eq!(show(&[route]), [format!("answered {ours}")]);
}

#[test]
fn what_waits_for_a_server_has_a_limit() {
    let mut rig = Rig::new(Reads::Fail);
    for n in 0..HELD_MESSAGES_MAX {
        assert!(rig.client(request(json!(n), "m")).is_empty());
    }
    assert_eq!(rig.client(request(json!("over"), "m")), ["c \"over\"!-32803"]);
    let cancel = json!({ "method": "$/cancelRequest", "params": { "id": 0 } });
    assert_eq!(rig.client(cancel), ["c 0!-32800"]);
    assert!(rig.client(request(json!("room"), "m")).is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Ask(u8),
    Cancel(u8),
    Answer(u8),
    Wait(u16),
    Die,
    Return,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0u8..6).prop_map(Step::Ask),
        2 => (0u8..6).prop_map(Step::Cancel),
        4 => (0u8..12).prop_map(Step::Answer),
        1 => (0u16..1500).prop_map(Step::Wait),
        1 => Just(Step::Die),
        1 => Just(Step::Return),
    ];
    proptest::collection::vec(step, 0..80)
}

proptest! {
    /// Whatever happens, a request gets exactly one answer: none twice, and none is missing once the server is given up.
    #[test]
    fn rule_4_17_every_request_gets_exactly_one_answer(steps in steps(), retry in any::<bool>()) {
        let mut rig = Rig::running(if retry { Reads::Retry } else { Reads::Fail });
        let (mut asked, mut answered) = (0u32, std::collections::HashMap::<String, u32>::new());
        let mut open: Vec<Option<u32>> = vec![None; 6];
        let mut at_server: Vec<u32> = Vec::new();
        let mut all = Vec::new();
        for step in steps {
            let mut routes = match step {
                Step::Ask(slot) => {
                    asked += 1;
                    open[slot as usize] = Some(asked);
                    let method = if slot % 2 == 0 { "textDocument/hover" } else { "workspace/executeCommand" };
                    rig.client_routes(request(json!(asked), method))
                }
                Step::Cancel(slot) => match open[slot as usize] {
                    Some(id) => rig.client_routes(json!({ "method": "$/cancelRequest", "params": { "id": id } })),
                    None => Vec::new(),
                },
                Step::Answer(n) => {
                    let greeting = *rig.link.state() == ServerState::Greeting;
                    match at_server.get(n as usize % at_server.len().max(1)).copied() {
                        Some(id) if *rig.link.state() == ServerState::Running || greeting => {
                            at_server.retain(|other| *other != id);
                            rig.server_routes(json!({ "id": id, "result": {} }))
                        }
                        _ => Vec::new(),
                    }
                }
                Step::Wait(ms) => {
                    rig.now += Duration::from_millis(ms.into());
                    rig.link.expire(rig.now)
                }
                Step::Die => { at_server.clear(); rig.link.on_server_death() }
                Step::Return => rig.link.on_server_up(rig.now),
            };
            // What a queue would do: half of the withdrawals are in time.
            let withdrawn: Vec<u32> = routes.iter().filter_map(|route| match route {
                Route::WithdrawFromServer(tag, _) if tag % 2 == 0 => Some(*tag),
                _ => None,
            }).collect();
            for tag in withdrawn {
                at_server.retain(|other| *other != tag);
                routes.extend(rig.link.withdrawn_from_server(tag));
            }
            for route in &routes {
                if let Route::Server(outbound) = route {
                    let envelope = Envelope::read(outbound.body.clone()).unwrap();
                    at_server.extend(envelope.id().and_then(Id::as_u32));
                }
            }
            all.extend(routes);
        }
        all.extend(rig.link.give_up("the end"));
        for route in &all {
            let Route::Client(_, outbound) = route else { continue };
            let envelope = Envelope::read(outbound.body.clone()).unwrap();
            if let Kind::Response { id } = &envelope.kind {
                *answered.entry(id.raw().to_owned()).or_default() += 1;
            }
        }
        prop_assert_eq!(answered.len() as u32, asked);
        prop_assert!(answered.values().all(|count| *count == 1), "{:?}", answered);
    }
}
