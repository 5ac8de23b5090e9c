//! A server that comes back: what the editor need not hear of, and what it must.

use super::*;

fn registration(id: &str, pattern: &str) -> Value {
    let options = json!({ "watchers": [{ "globPattern": pattern }] });
    json!({ "id": id, "method": "workspace/didChangeWatchedFiles", "registerOptions": options })
}

fn register(id: i32, registrations: &[Value]) -> Value {
    let params = json!({ "registrations": registrations });
    json!({ "id": id, "method": "client/registerCapability", "params": params })
}

/// Dies and comes back, with this answer to `initialize`.
fn reborn(rig: &mut Rig, result: &Value) -> Vec<Route> {
    rig.link.on_server_death();
    let greeting = show(&rig.link.on_server_up(Instant::now()));
    let id: u32 = greeting[0].split(' ').nth(1).unwrap().parse().unwrap();
    rig.server_routes(json!({ "id": id, "result": result }))
}

#[test]
fn rule_4_12_what_a_fresh_server_registers_again_is_no_news() {
    let mut rig = Rig::running(Reads::Fail);
    let both = [registration("a", "*.rs"), registration("b", "*.toml")];
    assert_eq!(rig.server(register(7, &both)), ["c 1 client/registerCapability"]);
    rig.client(json!({ "id": 1, "result": null }));
    reborn(&mut rig, &json!({ "capabilities": {} }));
    // One is the same under another id, one has other options.
    assert_eq!(rig.server(register(7, &[registration("x", "*.rs")])), ["s 7="]);
    let routes = rig.server_routes(register(8, &[registration("b", "*.lock")]));
    let expected = ["c 3 client/unregisterCapability", "c 4 client/registerCapability"];
    assert_eq!(show(&routes), expected);
    assert_eq!(body(&routes[0])["params"]["unregisterations"][0]["id"], "b");
    rig.client(json!({ "id": 4, "result": null }));
    // Taken back under the id that the editor knows.
    let gone =
        json!({ "unregisterations": [{ "id": "x", "method": "workspace/didChangeWatchedFiles" }] });
    let gone = json!({ "id": 9, "method": "client/unregisterCapability", "params": gone });
    let routes = rig.server_routes(gone);
    assert_eq!(body(&routes[0])["params"]["unregisterations"][0]["id"], "a");
    rig.client(json!({ "id": 5, "result": null }));
    assert!(rig.wait(REGISTRATIONS_PATIENCE).is_empty());
}

#[test]
fn rule_4_12_what_a_fresh_server_does_not_register_again_is_taken_back() {
    let mut rig = Rig::running(Reads::Fail);
    rig.server(register(7, &[registration("a", "*.rs"), registration("b", "*.toml")]));
    rig.client(json!({ "id": 1, "result": null }));
    reborn(&mut rig, &json!({ "capabilities": {} }));
    // Part of a request is news.
    let routes =
        rig.server_routes(register(7, &[registration("a", "*.rs"), registration("c", "*")]));
    assert_eq!(show(&routes), ["c 3 client/registerCapability"]);
    assert_eq!(body(&routes[0])["params"]["registrations"], json!([registration("c", "*")]));
    rig.client(json!({ "id": 3, "result": null }));
    assert_eq!(rig.link.next_deadline(), Some(rig.now + REGISTRATIONS_PATIENCE));
    rig.now += REGISTRATIONS_PATIENCE;
    let routes = rig.link.expire(rig.now);
    assert_eq!(show(&routes), ["c 4 client/unregisterCapability"]);
    let list = &body(&routes[0])["params"]["unregisterations"];
    assert_eq!(*list, json!([{ "id": "b", "method": "workspace/didChangeWatchedFiles" }]));
    assert_eq!(rig.link.next_deadline(), None);
}

#[test]
fn rule_4_26_a_fresh_server_that_counts_otherwise_is_given_up() {
    let mut rig = Rig::running(Reads::Fail);
    rig.client(request(json!(1), "textDocument/rename"));
    let routes = reborn(&mut rig, &json!({ "capabilities": { "positionEncoding": "utf-8" } }));
    assert_eq!(show(&routes), ["c window/showMessage"]);
    let words = body(&routes[0])["params"]["message"].to_string();
    assert!(words.contains("utf-8") && words.contains("utf-16"), "{words}");
    assert!(matches!(rig.link.state(), ServerState::Stopped(_)));
    assert_eq!(rig.client(request(json!(2), "m")), ["c 2!-32803"]);
}

#[test]
fn rule_4_14_a_fresh_server_with_other_capabilities_is_told_of_once() {
    let mut rig = Rig::running(Reads::Fail);
    let other = json!({ "capabilities": { "hoverProvider": true } });
    let routes = reborn(&mut rig, &other);
    assert_eq!(show(&routes)[..2], ["c window/showMessage", "s initialized"]);
    assert_eq!(body(&routes[0])["params"]["type"], 2);
    assert_eq!(show(&reborn(&mut rig, &other))[..1], ["s initialized"]);
}

#[test]
fn rule_4_15_the_server_is_told_our_process_and_every_other_byte_is_the_client_s() {
    let mut options = LinkOptions::new("ls", Reads::Fail);
    options.process_id = Some(4711);
    let mut link = Link::new(options);
    link.join(ClientId::ONLY);
    link.on_server_up(Instant::now());
    let raw = r#"{"id":"i", "method":"initialize","params":{ "processId" : 1,"x":"\u00e9","processId2":[1]}}"#;
    let now = Instant::now();
    let routes = link.on_client(ClientId::ONLY, Envelope::read(raw.into()).unwrap(), now);
    let Route::Server(outbound) = &routes[0] else { panic!("{routes:?}") };
    let expected =
        raw.replace(r#""i""#, "1").replace(r#""processId" : 1"#, r#""processId" : 4711"#);
    assert_eq!(outbound.body, expected);
    let result = Envelope::read(r#"{"id":1,"result":{"capabilities":{}}}"#.into()).unwrap();
    link.on_server(result, now);
    // The fresh server is told the same; an editor that names no process wants none to be watched.
    link.on_server_death();
    let greeting = body(&link.on_server_up(Instant::now())[0]);
    assert_eq!(greeting["params"]["processId"], 4711);
    let mut link =
        Link::new(LinkOptions { process_id: Some(4711), ..LinkOptions::new("ls", Reads::Fail) });
    link.join(ClientId::ONLY);
    link.on_server_up(Instant::now());
    let params = json!({ "id": 1, "method": "initialize", "params": { "processId": null } });
    let routes =
        link.on_client(ClientId::ONLY, Envelope::read(params.to_string().into()).unwrap(), now);
    assert_eq!(body(&routes[0])["params"]["processId"], Value::Null);
}
