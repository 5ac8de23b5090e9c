//! Who waits, and what the user is asked.

use std::time::Duration;

use super::*;
use crate::{LinkOptions, Reads};

const CLIENT: ClientId = ClientId::ONLY;

fn link(capabilities: &Value, now: Instant) -> Link {
    let mut link = Link::new(LinkOptions::new("ls", Reads::Fail));
    link.join(CLIENT);
    link.on_server_up(now);
    let params = json!({ "capabilities": capabilities });
    link.on_client(CLIENT, Envelope::request(Id::number(1), "initialize", &params), now);
    link
}

fn greeted(capabilities: &Value, now: Instant) -> Link {
    let mut link = link(capabilities, now);
    link.on_server(Envelope::response(Id::number(1), &json!({ "capabilities": {} })), now);
    link.on_client(CLIENT, Envelope::notification("initialized", &json!({})), now);
    link
}

#[test]
fn rule_4_18_it_is_known_who_waits_and_since_when() {
    let start = Instant::now();
    let later = start + Duration::from_secs(7);
    let mut link = link(&json!({}), start);
    assert_eq!(link.initialize_since(), Some(start));
    link.on_server(Envelope::response(Id::number(1), &json!({ "capabilities": {} })), later);
    assert_eq!((link.initialize_since(), link.waiting_since()), (None, None));
    assert_eq!(link.latency().unwrap().p95, Duration::from_secs(7));
    for (id, method) in [(2, "workspace/diagnostic"), (3, "workspace/executeCommand"), (4, "x/y")] {
        link.on_client(CLIENT, Envelope::request(Id::number(id), method, &json!({})), start);
    }
    assert_eq!(link.waiting_since(), Some(start));
    assert_eq!(link.due_since(), None, "these may take long, for good reasons");
    link.on_client(
        CLIENT,
        Envelope::request(Id::number(5), "textDocument/hover", &json!({})),
        later,
    );
    assert_eq!(link.due_since(), Some(later));
}

#[test]
fn rule_4_14_a_server_that_was_given_up_can_be_had_back() {
    let now = Instant::now();
    let mut refused = link(&json!({}), now);
    refused.give_up("no");
    assert!(!refused.revive(), "its client has seen initialize fail");
    let mut link = greeted(&json!({ "window": { "showMessage": {} } }), now);
    assert!(!link.revive());
    link.give_up("it keeps ending");
    let Some((ours, Route::Client(client, asked))) =
        link.ask_user(MessageType::ERROR, "it keeps ending", &["Restart"])
    else {
        panic!("asked")
    };
    let asked = Envelope::read(asked.body).unwrap();
    assert_eq!(asked.params_as::<Value>().unwrap()["actions"], json!([{ "title": "Restart" }]));
    let answer = Envelope::response(Id::number(ours), &json!({ "title": "Restart" }));
    let routes = link.on_client(client, answer, now);
    assert!(matches!(&routes[..], [Route::Chosen(id, _)] if *id == ours), "{routes:?}");
    assert!(link.revive());
    let Route::Server(greeting) = &link.on_server_up(now)[0] else { panic!("greeted") };
    assert_eq!(Envelope::read(greeting.body.clone()).unwrap().method(), Some("initialize"));
}

#[test]
fn an_editor_that_cannot_show_actions_is_not_asked() {
    let mut link = greeted(&json!({}), Instant::now());
    assert!(link.ask_user(MessageType::ERROR, "?", &["Restart"]).is_none());
    assert_eq!(link.say(MessageType::WARNING, "!").len(), 1);
}
