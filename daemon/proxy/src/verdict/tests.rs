//! The barrier against servers that are slow, silent, stale, restless and dead.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Value, json};
use wire::{Envelope, ResponseError, codes};

use super::*;

const U: &str = "file:///a";

/// A barrier whose steps are shown as short words.
struct Rig {
    barrier: Barrier,
    now: Instant,
    start: Instant,
}

impl Rig {
    fn new(habits: Habits) -> Rig {
        let now = Instant::now();
        Rig { barrier: Barrier::new(habits.name_or("/bin/ls")), now, start: now }
    }

    /// Greeted, with these capabilities, and one document at version 1.
    fn up(habits: Habits, capabilities: &Value) -> Rig {
        let mut rig = Rig::new(habits);
        let result = json!({ "capabilities": capabilities }).to_string();
        rig.barrier.on_capabilities(result.as_bytes());
        rig.barrier.on_server_ready(rig.now);
        rig.open(1);
        rig
    }

    fn open(&mut self, version: i32) -> Vec<String> {
        show(self.barrier.on_open(&U.into(), Revision(version), 0, self.now))
    }

    fn change(&mut self, version: i32) -> Vec<String> {
        show(self.barrier.on_change(U, Revision(version), 0, self.now))
    }

    fn publish(&mut self, version: Option<i32>, items: Value) -> Vec<String> {
        show(self.barrier.on_publish(U, version, &items.to_string().into(), self.now))
    }

    /// Asks with ten seconds' patience.
    fn ask(&mut self, ticket: u64) -> Vec<String> {
        let until = self.now + Duration::from_secs(10);
        show(self.barrier.ask(U, Ticket(ticket), until, self.now))
    }

    fn answer(&mut self, question: u32, result: Value) -> Vec<String> {
        show(self.barrier.on_answer(question, Ok(result.to_string().as_bytes()), self.now))
    }

    fn refuse(&mut self, question: u32, code: i64) -> Vec<String> {
        let error = ResponseError::new(code, "no");
        show(self.barrier.on_answer(question, Err(&error), self.now))
    }

    fn wait(&mut self, ms: u64) -> Vec<String> {
        self.now += Duration::from_millis(ms);
        show(self.barrier.expire(self.now))
    }

    fn notify(&mut self, method: &str, params: Value) -> Vec<String> {
        show(self.barrier.on_notification(&Envelope::notification(method, &params), self.now))
    }

    fn progress(&mut self, token: &str, kind: &str) -> Vec<String> {
        self.notify("$/progress", json!({ "token": token, "value": { "kind": kind } }))
    }
}

fn show(steps: Vec<Step>) -> Vec<String> {
    let one = |step: Step| match step {
        Step::Ask(question, method, params) => {
            let method = method.rsplit('/').next().unwrap_or_default().to_owned();
            let more = params["arguments"][0].as_str().or(params["identifier"].as_str());
            format!("{question} {method}{}", more.map_or_else(String::new, |m| format!(" {m}")))
        }
        Step::Forget(question) => format!("forget {question}"),
        Step::Verdict(Ticket(ticket), verdict) => {
            let state = match &verdict.state {
                State::Unknown(reason) => format!("unknown: {reason}"),
                _ => verdict.word().to_owned(),
            };
            let revision = verdict.revision.map_or(-1, |revision| revision.0);
            format!("#{ticket} v{revision} {state}")
        }
    };
    steps.into_iter().map(one).collect()
}

fn pulls() -> Value {
    json!({ "diagnosticProvider": {} })
}

fn error() -> Value {
    json!([{ "message": "m", "severity": 1 }])
}

fn report(items: Value) -> Value {
    json!({ "kind": "full", "items": items })
}

/// A server that publishes without versions and takes one message after the other.
fn in_order() -> Habits {
    Habits {
        barrier: Some("textDocument/documentSymbol".to_owned()),
        debounce: Duration::from_millis(300),
        ..Habits::default()
    }
}

#[test]
fn rule_4_21_the_answer_to_a_pull_is_of_the_state_in_which_it_was_asked() {
    let mut rig = Rig::up(Habits::default(), &pulls());
    assert_eq!(rig.ask(1), ["1 diagnostic"]);
    assert_eq!(rig.answer(1, report(json!([]))), ["#1 v1 clean"]);
    rig.change(2);
    assert_eq!(rig.ask(2), ["2 diagnostic"], "nothing is remembered of what was asked");
    assert_eq!(rig.answer(2, report(error())), ["#2 v2 findings"]);
}

#[test]
fn rule_4_21_a_change_between_question_and_answer_makes_the_answer_worthless() {
    let mut rig = Rig::up(Habits::default(), &pulls());
    rig.ask(1);
    assert_eq!(rig.change(2), [""; 0], "it is not asked at every keystroke");
    assert_eq!(rig.answer(1, report(json!([]))), ["2 diagnostic"]);
    assert_eq!(rig.answer(2, report(error())), ["#1 v2 findings"]);
}

#[test]
fn rule_4_21_a_server_that_asks_for_patience_is_asked_again_for_a_while() {
    for code in [codes::SERVER_CANCELLED, codes::CONTENT_MODIFIED, codes::REQUEST_CANCELLED] {
        let mut rig = Rig::up(Habits::default(), &pulls());
        rig.ask(1);
        assert_eq!(rig.refuse(1, code), [""; 0]);
        assert_eq!(rig.wait(5), ["2 diagnostic"]);
        assert_eq!(rig.refuse(2, code), [""; 0]);
        assert_eq!(rig.wait(5), [""; 0], "the pauses grow");
        assert_eq!(rig.wait(5), ["3 diagnostic"]);
        assert_eq!(
            rig.wait(10_000),
            ["#1 v1 unknown: the server did not answer in time", "forget 3"]
        );
    }
    let mut rig = Rig::up(Habits::default(), &pulls());
    let far = rig.now + Duration::from_secs(3600);
    rig.barrier.ask(U, Ticket(1), far, rig.now);
    for question in 1..=ASK_AGAIN_MAX {
        assert_eq!(rig.refuse(question, codes::SERVER_CANCELLED), [""; 0]);
        assert_eq!(rig.wait(100), [format!("{} diagnostic", question + 1)]);
    }
    let last = rig.refuse(ASK_AGAIN_MAX + 1, codes::SERVER_CANCELLED);
    assert_eq!(last, ["#1 v1 unknown: the server kept asking for patience"]);
}

#[test]
fn rule_4_21_every_provider_of_a_server_is_pulled_under_its_own_name() {
    let mut rig = Rig::up(Habits::default(), &json!({}));
    let registration = |id: &str, name: &str| {
        let options = json!({ "identifier": name });
        json!({ "id": id, "method": "textDocument/diagnostic", "registerOptions": options })
    };
    rig.ask(1);
    let both = json!({ "registrations": [registration("1", "lint"), registration("2", "types")] });
    let steps = rig.barrier.on_register(both.to_string().as_bytes(), rig.now);
    assert_eq!(show(steps), ["1 diagnostic lint"], "who waits is not forgotten");
    assert_eq!(rig.answer(1, report(json!([]))), ["2 diagnostic types"]);
    assert_eq!(rig.answer(2, report(error())), ["#1 v1 findings"]);
    rig.barrier
        .on_unregister(json!({ "unregisterations": [{ "id": "1" }] }).to_string().as_bytes());
    assert_eq!(rig.ask(2), ["3 diagnostic types"]);
}

#[test]
fn rule_4_21_a_server_that_offered_and_refuses_is_listened_to() {
    let mut rig = Rig::up(Habits::default(), &pulls());
    rig.ask(1);
    assert_eq!(rig.refuse(1, codes::METHOD_NOT_FOUND), [""; 0]);
    assert_eq!(rig.publish(Some(1), error()), ["#1 v1 findings"]);
    let mut rig = Rig::up(Habits::default(), &pulls());
    rig.ask(1);
    let unknown = "#1 v1 unknown: the server refused: no";
    assert_eq!(rig.refuse(1, codes::INTERNAL_ERROR), [unknown]);
}

#[test]
fn rule_4_20_what_is_published_with_the_version_of_the_revision_counts() {
    let mut rig = Rig::up(Habits::default(), &json!({}));
    rig.publish(Some(1), json!([]));
    assert_eq!(rig.ask(1), ["#1 v1 clean"], "it has been said");
    rig.change(2);
    assert_eq!(rig.ask(2), [""; 0]);
    assert_eq!(rig.publish(Some(1), json!([])), [""; 0], "of an older revision");
    assert_eq!(rig.publish(Some(3), json!([])), [""; 0], "of none that there is");
    assert_eq!(rig.publish(Some(2), error()), ["#2 v2 findings"]);
    rig.publish(Some(2), json!([]));
    assert_eq!(rig.ask(3), ["#3 v2 clean"], "the last word counts");
}

#[test]
fn rule_4_20_silence_is_unknown_and_never_clean() {
    let mut rig = Rig::up(Habits::default(), &json!({}));
    rig.publish(Some(1), json!([]));
    rig.change(2);
    assert_eq!(rig.ask(1), [""; 0]);
    assert_eq!(rig.wait(9_999), [""; 0]);
    assert_eq!(rig.wait(1), ["#1 v2 unknown: the server has said nothing about this revision"]);
    assert_eq!(rig.publish(Some(2), json!([])), [""; 0], "nobody waits any more");
}

#[test]
fn rule_4_20_a_version_that_another_text_had_proves_nothing() {
    let mut rig = Rig::up(Habits::default(), &json!({}));
    rig.change(7);
    rig.barrier.on_close(U);
    rig.open(1);
    assert_eq!(rig.ask(1), [""; 0]);
    assert_eq!(rig.publish(Some(1), json!([])), [""; 0], "it may be of the text before");
    rig.change(8);
    assert_eq!(rig.publish(Some(8), error()), ["#1 v8 findings"], "this one is new");
}

#[test]
fn rule_4_20_without_a_version_two_answers_and_quiet_are_the_proof() {
    let mut rig = Rig::up(in_order(), &json!({}));
    rig.change(2);
    assert_eq!(rig.ask(1), ["1 documentSymbol"]);
    assert_eq!(rig.publish(None, json!([])), [""; 0], "before the first answer: of any revision");
    assert_eq!(rig.wait(1000), [""; 0]);
    assert_eq!(rig.answer(1, json!([])), [""; 0]);
    assert_eq!(rig.wait(1000), [""; 0], "silence");
    assert_eq!(rig.publish(None, json!([])), [""; 0]);
    assert_eq!(rig.wait(299), [""; 0]);
    assert_eq!(rig.publish(None, error()), [""; 0], "it had more to say");
    assert_eq!(rig.wait(299), [""; 0]);
    assert_eq!(rig.wait(1), ["2 documentSymbol"]);
    assert_eq!(rig.answer(2, json!([])), ["#1 v2 findings"]);
    assert_eq!(rig.ask(2), ["#2 v2 findings"], "it stays said");
}

#[test]
fn rule_4_20_a_request_that_fails_proves_nothing_and_ends_nothing() {
    let mut rig = Rig::up(in_order(), &json!({}));
    assert_eq!(rig.ask(1), ["1 documentSymbol"]);
    assert_eq!(rig.refuse(1, codes::INTERNAL_ERROR), [""; 0]);
    assert_eq!(rig.publish(None, json!([])), [""; 0], "unproven");
    assert_eq!(rig.publish(Some(1), error()), ["#1 v1 findings"]);
}

#[test]
fn rule_4_20_what_comes_before_the_second_answer_is_waited_for() {
    let mut rig = Rig::up(in_order(), &json!({}));
    rig.ask(1);
    rig.answer(1, json!([]));
    rig.publish(None, json!([]));
    assert_eq!(rig.wait(300), ["2 documentSymbol"]);
    assert_eq!(rig.publish(None, error()), ["forget 2"]);
    assert_eq!(rig.answer(2, json!([])), [""; 0], "nobody asks that any more");
    assert_eq!(rig.wait(300), ["3 documentSymbol"]);
    assert_eq!(rig.answer(3, json!([])), ["#1 v1 findings"]);
}

#[test]
fn rule_4_20_a_change_takes_the_proof_away() {
    let mut rig = Rig::up(in_order(), &json!({}));
    rig.ask(1);
    rig.answer(1, json!([]));
    rig.publish(None, json!([]));
    assert_eq!(rig.change(2), ["2 documentSymbol"]);
    assert_eq!(rig.publish(None, json!([])), [""; 0]);
    assert_eq!(rig.wait(1000), [""; 0]);
    assert_eq!(rig.answer(2, json!([])), [""; 0]);
    rig.publish(None, error());
    assert_eq!(rig.wait(300), ["3 documentSymbol"]);
    assert_eq!(rig.answer(3, json!([])), ["#1 v2 findings"]);
}

#[test]
fn rule_4_20_any_request_of_an_editor_is_a_first_answer_too() {
    let mut rig = Rig::up(in_order(), &json!({}));
    rig.barrier.on_change(U, Revision(2), 41, rig.now);
    rig.barrier.on_any_answer(41, rig.now);
    rig.publish(None, json!([]));
    assert_eq!(rig.ask(1), ["1 documentSymbol"], "41 was asked before the change");
    let mut rig = Rig::up(in_order(), &json!({}));
    rig.barrier.on_change(U, Revision(2), 41, rig.now);
    rig.barrier.on_any_answer(42, rig.now);
    rig.publish(None, error());
    rig.wait(300);
    assert_eq!(rig.ask(1), ["1 documentSymbol"]);
    assert_eq!(rig.answer(1, json!([])), ["#1 v2 findings"], "this was the second");
}

#[test]
fn rule_4_20_a_server_that_does_not_take_messages_in_order_proves_nothing() {
    let mut rig = Rig::up(Habits::default(), &json!({}));
    rig.barrier.on_any_answer(42, rig.now);
    assert_eq!(rig.ask(1), [""; 0]);
    rig.publish(None, json!([]));
    assert_eq!(
        rig.wait(10_000),
        ["#1 v1 unknown: the server has said nothing about this revision"]
    );
}

#[test]
fn rule_4_20_a_server_is_asked_in_its_own_words() {
    let ask = Ask {
        command: "check".to_owned(),
        arguments: vec!["syntax".to_owned(), "types".to_owned()],
        form: AskForm::Tsserver,
    };
    let habits = Habits { ask: Some(ask), ..Habits::default() };
    let offer = json!({ "executeCommandProvider": { "commands": ["check"] } });
    let mut rig = Rig::up(habits.clone(), &offer);
    assert_eq!(rig.ask(1), ["1 executeCommand syntax"]);
    assert_eq!(rig.publish(None, error()), [""; 0], "what it publishes is of no revision");
    assert_eq!(rig.answer(1, json!({ "body": [] })), ["2 executeCommand types"]);
    let start = json!({ "line": 3, "offset": 5 });
    let found =
        json!({ "start": start, "end": start, "text": "no", "code": 7, "category": "error" });
    let steps =
        rig.barrier.on_answer(2, Ok(json!({ "body": [found] }).to_string().as_bytes()), rig.now);
    let [Step::Verdict(_, verdict)] = &steps[..] else { panic!("{steps:?}") };
    let State::Findings(list) = &verdict.state else { panic!("{verdict:?}") };
    let list: Value = wire::parse(list).unwrap();
    assert_eq!(list[0]["range"]["start"], json!({ "line": 2, "character": 4 }));
    assert_eq!(list[0]["code"], 7);
    assert_eq!(rig.ask(2), ["3 executeCommand syntax"]);
    let words = "#2 v1 unknown: the server refused: busy";
    assert_eq!(rig.answer(3, json!({ "message": "busy" })), [words]);
    let mut rig = Rig::up(habits, &json!({}));
    assert_eq!(rig.ask(1), [""; 0], "a command that it does not have");
}

#[test]
fn rule_4_20_what_a_dead_server_said_counts_no_longer() {
    let mut rig = Rig::up(Habits::default(), &json!({}));
    rig.publish(Some(1), json!([]));
    assert_eq!(show(rig.barrier.on_server_gone(true)), [""; 0]);
    assert_eq!(rig.ask(1), [""; 0], "it is expected back");
    assert_eq!(show(rig.barrier.on_server_ready(rig.now)), [""; 0]);
    assert_eq!(rig.publish(Some(1), error()), ["#1 v1 findings"]);
    rig.barrier.on_server_gone(true);
    rig.ask(2);
    assert_eq!(rig.wait(10_000), ["#2 v1 unknown: the server ended and is being started again"]);
    rig.ask(3);
    assert_eq!(show(rig.barrier.on_server_gone(false)), ["#3 v1 unknown: the server has stopped"]);
    assert_eq!(rig.ask(4), ["#4 v1 unknown: the server has stopped"]);
}

#[test]
fn rule_4_20_a_question_survives_the_server_that_it_was_put_to() {
    let mut rig = Rig::up(Habits::default(), &pulls());
    rig.ask(1);
    assert_eq!(show(rig.barrier.on_server_gone(true)), [""; 0]);
    assert_eq!(rig.answer(1, report(json!([]))), [""; 0], "a late answer of the dead one");
    rig.barrier.on_capabilities(json!({ "capabilities": pulls() }).to_string().as_bytes());
    assert_eq!(show(rig.barrier.on_server_ready(rig.now)), ["2 diagnostic"]);
    assert_eq!(rig.answer(2, report(error())), ["#1 v1 findings"]);
}

#[test]
fn rule_4_20_a_server_that_reads_its_project_is_not_believed_yet() {
    let ready = Ready {
        status: Some("experimental/serverStatus".to_owned()),
        progress: vec!["load".to_owned()],
        settle: Duration::from_millis(500),
    };
    let habits = Habits { ready: Some(ready), ..Habits::default() };
    let mut rig = Rig::up(habits.clone(), &pulls());
    assert_eq!(rig.ask(1), [""; 0], "it has not begun");
    rig.progress("load/1", "begin");
    rig.progress("other", "begin");
    rig.progress("load/1", "end");
    assert_eq!(rig.wait(499), [""; 0]);
    rig.progress("load/2", "begin");
    assert_eq!(rig.wait(1000), [""; 0]);
    rig.progress("load/2", "end");
    assert_eq!(rig.wait(500), ["1 diagnostic"]);
    rig.progress("load/3", "begin");
    assert_eq!(rig.answer(1, report(json!([]))), [""; 0], "it reads again: not believed");
    let unknown = "#1 v1 unknown: the server is still reading the project";
    assert_eq!(rig.wait(10_000), [unknown]);

    let mut rig = Rig::up(habits, &pulls());
    let accepts =
        json!({ "capabilities": { "experimental": { "serverStatusNotification": true } } });
    rig.barrier.on_initialize(accepts.to_string().as_bytes());
    rig.ask(1);
    rig.progress("load/1", "begin");
    rig.progress("load/1", "end");
    assert_eq!(rig.wait(5000), [""; 0], "it says so itself");
    assert_eq!(rig.barrier.next_deadline(), Some(rig.start + Duration::from_secs(10)));
    rig.notify("experimental/serverStatus", json!({ "quiescent": false }));
    let steps = rig.notify("experimental/serverStatus", json!({ "quiescent": true }));
    assert_eq!(steps, ["1 diagnostic"]);
}

#[test]
fn rule_4_20_hints_do_not_make_a_finding_and_what_has_no_severity_does() {
    for (items, word) in [
        (json!([]), "clean"),
        (json!([{ "severity": 3 }, { "severity": 4 }]), "clean"),
        (json!([{ "severity": 4 }, { "severity": 2 }]), "findings"),
        (json!([{ "message": "m" }]), "findings"),
        (json!(["rubbish"]), "findings"),
    ] {
        let mut rig = Rig::up(Habits::default(), &json!({}));
        rig.publish(Some(1), items.clone());
        assert_eq!(rig.ask(1), [format!("#1 v1 {word}")], "{items}");
    }
}

#[test]
fn what_is_not_open_or_too_much_is_said() {
    let mut rig = Rig::up(Habits::default(), &pulls());
    let until = rig.now + Duration::from_secs(1);
    let elsewhere = show(rig.barrier.ask("file:///b", Ticket(1), until, rig.now));
    assert_eq!(elsewhere, ["#1 v-1 unknown: the document is not open there"]);
    for ticket in 0..TICKETS_MAX as u64 {
        rig.ask(ticket);
    }
    assert_eq!(rig.ask(99), ["#99 v1 unknown: too much is being asked at once"]);
    let closed = show(rig.barrier.on_close(U));
    assert_eq!(closed.len(), TICKETS_MAX + 1, "one question is dropped, everybody is told");
    let now = show(rig.barrier.ask(U, Ticket(1), rig.now, rig.now));
    assert_eq!(now, ["#1 v-1 unknown: the document is not open there"]);
}

#[test]
fn a_question_without_patience_is_answered_at_once() {
    let mut rig = Rig::up(Habits::default(), &pulls());
    let steps = show(rig.barrier.ask(U, Ticket(1), rig.now, rig.now));
    assert_eq!(
        steps,
        ["1 diagnostic", "#1 v1 unknown: the server did not answer in time", "forget 1"]
    );
}

#[test]
fn only_new_findings_are_introduced_wherever_they_have_moved() {
    let finding = |line: u32, message: &str, text: &str| {
        let place = json!({ "line": line, "character": 0 });
        let range = json!({ "start": place, "end": place });
        (json!({ "range": range, "severity": 1, "message": message }), text.to_owned())
    };
    let before = [finding(0, "no x", "x()"), finding(4, "no y", "y()")];
    let now = [finding(9, "no y", "  y()"), finding(10, "no y", "y()"), finding(1, "no x", "x()")];
    assert_eq!(introduced(&before, &now), [1]);
    assert_eq!(introduced(&[], &now), [0, 1, 2]);
    assert!(introduced(&now, &before).is_empty());
}

#[derive(Clone, Debug)]
enum Event {
    Change,
    /// A publish about one of the latest versions.
    Publish(u8),
    Ask,
    Answer,
    Refuse,
    Wait(u16),
    Die,
    Return,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => Just(Event::Change),
        4 => (0u8..4).prop_map(Event::Publish),
        4 => Just(Event::Ask),
        4 => Just(Event::Answer),
        1 => Just(Event::Refuse),
        2 => (0u16..400).prop_map(Event::Wait),
        1 => Just(Event::Die),
        1 => Just(Event::Return),
    ];
    proptest::collection::vec(event, 0..120)
}

proptest! {
    /// Whatever happens: everybody who asks gets exactly one verdict, none is of a revision before the question, and what is
    /// said of a revision is what the server says of it. A text is wrong if its version is odd.
    #[test]
    fn rule_4_20_no_verdict_is_wrong_and_none_is_missing(events in events(), pulled in any::<bool>()) {
        let offers = if pulled { pulls() } else { json!({}) };
        let mut rig = Rig::up(Habits::default(), &offers);
        let (mut version, mut ticket, mut up) = (1i32, 0u64, true);
        let mut asked_at = std::collections::HashMap::<u64, i32>::new();
        let mut out: Vec<(u32, i32)> = Vec::new();
        let says = |version: i32| if version % 2 == 1 { error() } else { json!([]) };
        for event in events {
            let now = rig.now;
            let steps = match event {
                Event::Change => {
                    version += 1;
                    rig.barrier.on_change(U, Revision(version), 0, now)
                }
                Event::Publish(back) if up => {
                    let of = version - i32::from(back);
                    rig.barrier.on_publish(U, Some(of), &says(of).to_string().into(), now)
                }
                Event::Ask => {
                    ticket += 1;
                    asked_at.insert(ticket, version);
                    rig.barrier.ask(U, Ticket(ticket), now + Duration::from_millis(700), now)
                }
                Event::Answer if !out.is_empty() && up => {
                    // A server may look at the text at any moment between question and answer.
                    let (question, of) = out.remove(0);
                    let body = report(says(of)).to_string();
                    rig.barrier.on_answer(question, Ok(body.as_bytes()), now)
                }
                Event::Refuse if !out.is_empty() && up => {
                    let (question, _) = out.remove(0);
                    let error = ResponseError::new(codes::SERVER_CANCELLED, "later");
                    rig.barrier.on_answer(question, Err(&error), now)
                }
                Event::Wait(ms) => {
                    rig.now += Duration::from_millis(ms.into());
                    rig.barrier.expire(rig.now)
                }
                Event::Die => {
                    (up, out) = (false, Vec::new());
                    rig.barrier.on_server_gone(true)
                }
                Event::Return if !up => {
                    up = true;
                    let result = json!({ "capabilities": offers }).to_string();
                    rig.barrier.on_capabilities(result.as_bytes());
                    rig.barrier.on_server_ready(now)
                }
                _ => Vec::new(),
            };
            for step in &steps {
                match step {
                    Step::Ask(question, ..) => out.push((*question, version)),
                    Step::Forget(question) => out.retain(|(other, _)| other != question),
                    Step::Verdict(Ticket(ticket), verdict) => {
                        let since = asked_at.remove(ticket);
                        prop_assert!(since.is_some(), "a second verdict for {}", ticket);
                        let revision = verdict.revision.unwrap().0;
                        prop_assert!(Some(revision) >= since);
                        let right = match verdict.state {
                            State::Clean => revision % 2 == 0,
                            State::Findings(_) => revision % 2 == 1,
                            State::Unknown(_) => true,
                        };
                        prop_assert!(right, "{:?}", verdict);
                    }
                }
            }
        }
        rig.now += Duration::from_secs(1);
        let late = rig.barrier.expire(rig.now);
        for step in late {
            if let Step::Verdict(Ticket(ticket), _) = step {
                prop_assert!(asked_at.remove(&ticket).is_some());
            }
        }
        prop_assert!(asked_at.is_empty(), "{:?} got none", asked_at);
        prop_assert!(rig.barrier.next_deadline().is_none());
    }
}
