//! Several clients of one server.

use super::*;

/// A server that two clients share, with what went to whom: `1 m` is a message to client 1, `s m` one to the server.
struct House {
    link: Link,
    now: Instant,
}

const A: ClientId = ClientId(1);
const B: ClientId = ClientId(2);

fn told(routes: &[Route]) -> Vec<String> {
    let one = |route: &Route| {
        let shown = show(std::slice::from_ref(route)).remove(0);
        match route {
            Route::Client(client, _) => shown.replacen('c', &client.0.to_string(), 1),
            Route::WithdrawFromClient(client, ..) => {
                shown.replacen(" c ", &format!(" {} ", client.0), 1)
            }
            _ => shown,
        }
    };
    routes.iter().map(one).collect()
}

fn params(id: u32) -> Value {
    json!({ "processId": id, "clientInfo": { "version": id }, "rootUri": "file:///r", "capabilities": {} })
}

impl House {
    /// Client 1 has been greeted by the server.
    fn with_one() -> House {
        let mut house =
            House { link: Link::new(LinkOptions::new("ls", Reads::Fail)), now: Instant::now() };
        house.link.join(A);
        house.link.on_server_up(Instant::now());
        house.client(A, json!({ "id": "i", "method": "initialize", "params": params(1) }));
        let result = json!({ "capabilities": {}, "odd": "é" });
        house.server(json!({ "id": 1, "result": result }));
        house.client(A, json!({ "method": "initialized", "params": {} }));
        house
    }

    /// And so has client 2.
    fn with_two() -> House {
        let mut house = House::with_one();
        house.enter(B);
        house
    }

    fn enter(&mut self, client: ClientId) -> Vec<String> {
        let params = params(client.0);
        assert!(self.link.welcomes(params.to_string().as_bytes()));
        self.link.join(client);
        let greeting = json!({ "id": "j", "method": "initialize", "params": params });
        assert_eq!(self.client(client, greeting), [format!("{} \"j\"=", client.0)]);
        self.client(client, json!({ "method": "initialized", "params": {} }))
    }

    fn client(&mut self, client: ClientId, message: Value) -> Vec<String> {
        told(&self.client_routes(client, message))
    }

    fn client_routes(&mut self, client: ClientId, message: Value) -> Vec<Route> {
        let envelope = Envelope::read(message.to_string().into()).unwrap();
        self.link.on_client(client, envelope, self.now)
    }

    fn server(&mut self, message: Value) -> Vec<String> {
        told(&self.server_routes(message))
    }

    fn server_routes(&mut self, message: Value) -> Vec<Route> {
        let envelope = Envelope::read(message.to_string().into()).unwrap();
        self.link.on_server(envelope, self.now)
    }

    fn open(&mut self, client: ClientId, uri: &str, version: i32, text: &str) -> Vec<Route> {
        let item = json!({ "uri": uri, "languageId": "x", "version": version, "text": text });
        let params = json!({ "textDocument": item });
        self.client_routes(client, json!({ "method": "textDocument/didOpen", "params": params }))
    }

    fn change(&mut self, client: ClientId, uri: &str, version: i32, text: &str) -> Vec<Route> {
        let item = json!({ "uri": uri, "version": version });
        let params = json!({ "textDocument": item, "contentChanges": [{ "text": text }] });
        self.client_routes(client, json!({ "method": "textDocument/didChange", "params": params }))
    }

    fn close(&mut self, client: ClientId, uri: &str) -> Vec<Route> {
        let params = json!({ "textDocument": { "uri": uri } });
        self.client_routes(client, json!({ "method": "textDocument/didClose", "params": params }))
    }
}

fn publish(uri: &str, version: i32) -> Value {
    let params = json!({ "uri": uri, "version": version, "diagnostics": [{ "message": "m" }] });
    json!({ "method": "textDocument/publishDiagnostics", "params": params })
}

fn text_of(link: &mut Link, client: ClientId, uri: &str) -> String {
    link.mirror_mut(client).unwrap().documents()[uri].document.text()
}

#[test]
fn rule_4_10_a_second_client_gets_the_answer_that_the_server_gave_to_the_first() {
    let mut house = House::with_one();
    house.link.join(B);
    let greeting = json!({ "id": "j", "method": "initialize", "params": params(2) });
    let routes = house.client_routes(B, greeting);
    assert_eq!(told(&routes), ["2 \"j\"="]);
    assert_eq!(body(&routes[0])["result"], json!({ "capabilities": {}, "odd": "é" }));
    assert!(house.client(B, json!({ "method": "initialized" })).is_empty(), "the server knows");
    assert_eq!(house.client(B, request(json!("i"), "m")), ["s 3 m"]);
    assert_eq!(house.client(A, request(json!("i"), "m")), ["s 4 m"]);
    assert_eq!(house.server(json!({ "id": 4, "result": 1 })), ["1 \"i\"="]);
    assert_eq!(house.server(json!({ "id": 3, "result": 1 })), ["2 \"i\"="]);
}

#[test]
fn rule_4_10_clients_that_want_something_else_do_not_share() {
    let house = House::with_one();
    let welcome = |change: &dyn Fn(&mut Value)| {
        let mut params = params(2);
        change(&mut params);
        house.link.welcomes(params.to_string().as_bytes())
    };
    assert!(welcome(&|_| ()));
    assert!(welcome(&|params| params["trace"] = "verbose".into()));
    assert!(!welcome(&|params| params["rootUri"] = "file:///other".into()));
    assert!(!welcome(&|params| params["capabilities"] = json!({ "window": {} })));
    assert!(!welcome(&|params| params["initializationOptions"] = json!(1)));
}

#[test]
fn rule_4_10_an_answer_that_is_on_its_way_is_waited_for_whoever_asked() {
    let mut house =
        House { link: Link::new(LinkOptions::new("ls", Reads::Fail)), now: Instant::now() };
    house.link.join(A);
    house.link.on_server_up(Instant::now());
    house.client(A, json!({ "id": "i", "method": "initialize", "params": params(1) }));
    house.link.join(B);
    let greeting = json!({ "id": "j", "method": "initialize", "params": params(2) });
    assert!(house.client(B, greeting).is_empty());
    assert!(house.link.leave(A, Instant::now()).is_empty(), "the answer is for the other now");
    assert_eq!(house.server(json!({ "id": 1, "result": { "capabilities": {} } })), ["2 \"j\"="]);
    assert_eq!(house.client(B, json!({ "method": "initialized" })), ["s initialized"]);
}

#[test]
fn rule_4_12_a_late_client_is_told_what_it_missed() {
    let mut house = House::with_one();
    let registration = json!({ "id": "r", "method": "m", "registerOptions": 1 });
    let registrations = json!({ "registrations": [registration] });
    house
        .server(json!({ "id": 5, "method": "client/registerCapability", "params": registrations }));
    house.client(A, json!({ "id": 1, "result": null }));
    house.server(
        json!({ "id": 6, "method": "window/workDoneProgress/create", "params": { "token": "t" } }),
    );
    let begin = json!({ "token": "t", "value": { "kind": "begin", "title": "indexing" } });
    house.server(json!({ "method": "$/progress", "params": begin }));
    house.server(publish("u", 1));
    let expected = [
        "2 3 client/registerCapability",
        "2 4 window/workDoneProgress/create",
        "2 $/progress",
        "2 textDocument/publishDiagnostics",
    ];
    assert_eq!(house.enter(B), expected);
    let end = json!({ "token": "t", "value": { "kind": "end" } });
    let end = json!({ "method": "$/progress", "params": end });
    assert_eq!(house.server(end), ["1 $/progress", "2 $/progress"]);
}

#[test]
fn rule_4_12_the_server_gets_one_answer_whoever_was_asked() {
    let mut house = House::with_two();
    let question = |method: &str| json!({ "id": method, "method": method, "params": {} });
    let asked = house.server(question("client/registerCapability"));
    assert_eq!(asked, ["1 1 client/registerCapability", "2 2 client/registerCapability"]);
    assert!(house.client(B, json!({ "id": 2, "result": null })).is_empty());
    let answered = house.client(A, json!({ "id": 1, "result": null }));
    assert_eq!(answered, ["s \"client/registerCapability\"="]);
    // Rule 4.45: one refresh for everybody.
    let asked = house.server(question("workspace/inlayHint/refresh"));
    assert_eq!(asked.len(), 2);
    // The one whose answer counts goes without giving it.
    assert_eq!(told(&house.link.leave(A, Instant::now())), ["s \"workspace/inlayHint/refresh\"="]);
}

#[test]
fn rule_4_45_a_refresh_reaches_every_window_and_is_answered_once() {
    let mut house = House::with_two();
    let asked = house.server(json!({ "id": "r", "method": "workspace/semanticTokens/refresh" }));
    let method = "workspace/semanticTokens/refresh";
    assert_eq!(asked, [format!("1 1 {method}"), format!("2 2 {method}")]);
    assert_eq!(house.client(A, json!({ "id": 1, "result": null })), ["s \"r\"="]);
    assert!(house.client(B, json!({ "id": 2, "result": null })).is_empty());
    assert!(house.client(A, json!({ "id": 1, "result": null })).is_empty());
}

#[test]
fn rule_4_44_a_question_reaches_one_user_and_the_answer_the_server() {
    let mut house = House::with_two();
    house.client(A, request(json!(1), "workspace/executeCommand"));
    house.client(B, request(json!(1), "m"));
    for method in ["window/showMessageRequest", "window/showDocument"] {
        let asked = house.server(json!({ "id": method, "method": method, "params": {} }));
        let [asked] = &asked[..] else { panic!("{asked:?}") };
        let id: u32 = asked.split(' ').nth(1).unwrap().parse().unwrap();
        assert_eq!(*asked, format!("1 {id} {method}"));
        let answer = json!({ "id": id, "result": { "title": "yes" } });
        assert!(house.client(B, answer.clone()).is_empty(), "nobody has asked it");
        assert_eq!(house.client(A, answer), [format!("s \"{method}\"=")]);
    }
}

#[test]
fn rule_4_33_the_oldest_client_answers_for_the_settings() {
    let mut house = House::with_two();
    house.client(B, request(json!(1), "m"));
    let question =
        json!({ "id": 1, "method": "workspace/configuration", "params": { "items": [] } });
    assert_eq!(house.server(question), ["1 1 workspace/configuration"]);
}

#[test]
fn rule_4_35_an_edit_reaches_the_client_that_caused_it() {
    let mut house = House::with_two();
    let edit =
        |id: i32| json!({ "id": id, "method": "workspace/applyEdit", "params": { "edit": {} } });
    house.client(B, request(json!(1), "m"));
    assert_eq!(house.server(edit(1)), ["2 1 workspace/applyEdit"], "it was active last");
    house.client(A, request(json!(1), "workspace/executeCommand"));
    house.client(B, request(json!(2), "m"));
    assert_eq!(house.server(edit(2)), ["1 2 workspace/applyEdit"], "it is at its command");
    let question = json!({ "id": 3, "method": "custom/question" });
    assert_eq!(house.server(question), ["2 3 custom/question"]);
}

#[test]
fn rule_4_22_tokens_of_two_clients_are_kept_apart() {
    let mut house = House::with_two();
    let ask = |house: &mut House, client| {
        let params = json!({ "workDoneToken": 7, "partialResultToken": "p" });
        let request = json!({ "id": 1, "method": "workspace/symbol", "params": params });
        let routes = house.client_routes(client, request);
        body(&routes[0])["params"]["workDoneToken"].clone()
    };
    let (one, two) = (ask(&mut house, A), ask(&mut house, B));
    assert_ne!(one, two);
    let report = |token: &Value| {
        let params = json!({ "token": token, "value": { "kind": "begin", "title": "t" } });
        json!({ "method": "$/progress", "params": params })
    };
    let routes = house.server_routes(report(&two));
    assert_eq!(told(&routes), ["2 $/progress"]);
    assert_eq!(body(&routes[0])["params"]["token"], 7);
    // A cancel goes back to the one that is meant.
    let cancel = json!({ "method": "window/workDoneProgress/cancel", "params": { "token": 7 } });
    assert_eq!(body(&house.client_routes(B, cancel)[0])["params"]["token"], two);
    // A token lives as long as its request.
    house.server(json!({ "id": 4, "result": null }));
    assert!(house.server(report(&two)).is_empty());
    assert_eq!(house.server(report(&one)), ["1 $/progress"]);
    // But what has begun may end, once, however late.
    let end = json!({ "token": two, "value": { "kind": "end" } });
    let end = json!({ "method": "$/progress", "params": end });
    assert_eq!(house.server(end.clone()), ["2 $/progress"]);
    assert!(house.server(end).is_empty());
    // A token from when there was one client is its own.
    assert_eq!(house.server(report(&json!("old"))), ["1 $/progress"]);
}

#[test]
fn rule_4_22_nothing_of_a_client_that_left_is_ended_on_its_screen() {
    let mut house = House::with_two();
    let request =
        json!({ "id": 1, "method": "workspace/symbol", "params": { "workDoneToken": 7 } });
    let routes = house.client_routes(B, request);
    let token = body(&routes[0])["params"]["workDoneToken"].clone();
    let begin = json!({ "token": token, "value": { "kind": "begin", "title": "t" } });
    assert_eq!(house.server(json!({ "method": "$/progress", "params": begin })), ["2 $/progress"]);
    house.link.leave(B, house.now);
    let death = told(&house.link.on_server_death());
    assert!(!death.iter().any(|route| route.starts_with('2')), "{death:?}");
}

#[test]
fn rule_4_30_a_document_with_the_same_text_is_opened_once_and_closed_once() {
    let mut house = House::with_two();
    assert_eq!(told(&house.open(A, "u", 1, "text")), ["s textDocument/didOpen"]);
    house.server(publish("u", 1));
    let routes = house.open(B, "u", 5, "text");
    assert_eq!(told(&routes), ["2 textDocument/publishDiagnostics"]);
    assert_eq!(body(&routes[0])["params"]["version"], 5);
    // Diagnostics carry the version that each client knows; those about an older text are for its owner alone.
    let routes = house.server_routes(publish("u", 1));
    assert_eq!(
        told(&routes),
        ["1 textDocument/publishDiagnostics", "2 textDocument/publishDiagnostics"]
    );
    let versions: Vec<Value> =
        routes.iter().map(|route| body(route)["params"]["version"].clone()).collect();
    assert_eq!(versions, [1, 5]);
    let said = |client| house.link.said_to(client).0["u"].version;
    assert_eq!((said(A), said(B)), (Some(1), Some(5)));
    assert_eq!(house.server(publish("u", 0)), ["1 textDocument/publishDiagnostics"]);
    // The owner goes: the other's words count.
    let routes = house.close(A, "u");
    assert_eq!(told(&routes), ["s textDocument/didClose", "s textDocument/didOpen"]);
    assert_eq!(body(&routes[1])["params"]["textDocument"]["version"], 5);
    assert_eq!(told(&house.change(B, "u", 6, "new")), ["s textDocument/didChange"]);
    assert_eq!(told(&house.close(B, "u")), ["s textDocument/didClose"]);
}

#[test]
fn rule_4_30_a_change_splits_the_later_client_off() {
    let mut house = House::with_two();
    house.open(A, "u", 1, "text");
    house.open(B, "u", 1, "text");
    house.open(B, "b", 1, "b alone");
    house.client(B, request(json!(1), "textDocument/hover"));
    house.client(B, request(json!(2), "workspace/executeCommand"));
    let routes = house.change(B, "u", 2, "changed");
    let expected =
        ["withdraw s 3", "withdraw s 4", "2 2!-32803", "s textDocument/didClose", "parted 2"];
    assert_eq!(told(&routes), expected);
    assert_eq!(body(&routes[3])["params"]["textDocument"]["uri"], "b");
    let parted = house.link.take_parted(B).unwrap();
    assert_eq!(house.link.clients().collect::<Vec<_>>(), [A]);
    // The other goes on as if nothing had been; the one that left is greeted, replayed and asked again.
    assert_eq!(told(&house.change(A, "u", 2, "mine")), ["s textDocument/didChange"]);
    let mut other = House {
        link: Link::of_parted(LinkOptions::new("ls", Reads::Fail), parted, Instant::now()),
        now: house.now,
    };
    assert_eq!(told(&other.link.on_server_up(Instant::now())), ["s 2 initialize"]);
    let routes = other.server_routes(json!({ "id": 2, "result": { "capabilities": {} } }));
    let expected = [
        "s initialized",
        "s textDocument/didOpen",
        "s textDocument/didOpen",
        "s 1 textDocument/hover",
    ];
    assert_eq!(told(&routes), expected);
    assert_eq!(body(&routes[1])["params"]["textDocument"]["text"], "changed");
    assert_eq!(other.server(json!({ "id": 1, "result": 1 })), ["2 1="]);
}

#[test]
fn rule_4_30_the_older_client_stays_even_if_the_document_was_the_other_s() {
    let mut house = House::with_two();
    house.open(B, "u", 7, "text");
    house.open(A, "u", 1, "text");
    let routes = house.change(A, "u", 2, "changed");
    let expected = [
        "s textDocument/didClose",
        "s textDocument/didOpen",
        "parted 2",
        "s textDocument/didChange",
    ];
    assert_eq!(told(&routes), expected);
    let opened = body(&routes[1])["params"]["textDocument"].clone();
    assert_eq!((&opened["version"], &opened["text"]), (&json!(1), &json!("text")));
    assert!(house.link.take_parted(B).is_some());
    // Opened with another text: the same, and the document is the older client's.
    let mut house = House::with_two();
    house.open(B, "u", 7, "text");
    let routes = house.open(A, "u", 1, "other");
    assert_eq!(told(&routes), ["s textDocument/didClose", "s textDocument/didOpen", "parted 2"]);
    assert_eq!(body(&routes[1])["params"]["textDocument"]["text"], "other");
    // And the other way around.
    let mut house = House::with_two();
    house.open(A, "u", 7, "text");
    assert_eq!(told(&house.open(B, "u", 1, "other")), ["parted 2"]);
    let mut parted = Link::of_parted(
        LinkOptions::new("ls", Reads::Fail),
        house.link.take_parted(B).unwrap(),
        Instant::now(),
    );
    assert_eq!(text_of(&mut parted, B, "u"), "other");
}

#[test]
fn rule_4_30_a_client_that_is_split_off_leaves_a_clean_screen_and_no_open_question() {
    let mut house = House::with_two();
    house.server(
        json!({ "id": 6, "method": "window/workDoneProgress/create", "params": { "token": "t" } }),
    );
    let begin = json!({ "token": "t", "value": { "kind": "begin" } });
    house.server(json!({ "method": "$/progress", "params": begin }));
    house.open(A, "u", 1, "text");
    house.open(B, "u", 1, "text");
    house.server(publish("u", 1));
    house.client(B, request(json!(1), "m"));
    house.server(json!({ "id": 8, "method": "custom/question" }));
    let routes = house.change(B, "u", 2, "changed");
    let expected = [
        "withdraw s 3",
        "2 1!-32803",
        "withdraw 2 3",
        "s 8=",
        "2 $/progress",
        "2 textDocument/publishDiagnostics",
        "parted 2",
    ];
    assert_eq!(told(&routes), expected);
    // A late answer to the old server is not taken for one to the new.
    let parted = house.link.take_parted(B).unwrap();
    let mut other = House {
        link: Link::of_parted(LinkOptions::new("ls", Reads::Fail), parted, Instant::now()),
        now: house.now,
    };
    other.link.on_server_up(Instant::now());
    other.server(json!({ "id": 1, "result": { "capabilities": {} } }));
    assert_eq!(other.server(json!({ "id": 8, "method": "q" })), ["2 4 q"]);
    assert!(other.client(B, json!({ "id": 3, "result": null })).is_empty());
    assert_eq!(other.client(B, json!({ "id": 4, "result": null })), ["s 8="]);
}

#[test]
fn rule_4_32_other_folders_or_settings_are_another_server() {
    let event =
        json!({ "event": { "added": [{ "uri": "file:///x", "name": "x" }], "removed": [] } });
    let folders = json!({ "method": "workspace/didChangeWorkspaceFolders", "params": event });
    for client in [A, B] {
        let mut house = House::with_two();
        assert_eq!(house.client(client, folders.clone()), [format!("parted {}", client.0)]);
        let parted = house.link.take_parted(client).unwrap();
        let mut other =
            Link::of_parted(LinkOptions::new("ls", Reads::Fail), parted, Instant::now());
        other.on_server_up(Instant::now());
        let result = Envelope::read(r#"{"id":1,"result":{"capabilities":{}}}"#.into()).unwrap();
        let routes = other.on_server(result, house.now);
        assert_eq!(show(&routes), ["s initialized", "s workspace/didChangeWorkspaceFolders"]);
        assert!(!other.welcomes(params(3).to_string().as_bytes()), "its folders are others now");
    }
    let settings = |value: i32| json!({ "method": "workspace/didChangeConfiguration", "params": { "settings": value } });
    let mut house = House::with_two();
    assert_eq!(house.client(A, settings(1)), ["s workspace/didChangeConfiguration"]);
    assert!(house.client(B, settings(1)).is_empty(), "the server knows");
    let spelled = |raw: &str| {
        let body = format!(
            r#"{{"method":"workspace/didChangeConfiguration","params":{{"settings":{raw}}}}}"#
        );
        Envelope::read(body.into()).unwrap()
    };
    let routes = house.link.on_client(A, spelled(r#"{"a":1,"b":2}"#), house.now);
    assert_eq!(told(&routes), ["s workspace/didChangeConfiguration"]);
    assert!(house.link.on_client(B, spelled(r#"{"b":2, "a":1}"#), house.now).is_empty());
    assert_eq!(house.client(A, settings(2)), ["s workspace/didChangeConfiguration"]);
    assert_eq!(house.client(B, settings(3)), ["parted 2"]);
}

#[test]
fn rule_4_13_one_of_several_leaves_and_the_server_stays() {
    let mut house = House::with_two();
    house.open(A, "a", 1, "a");
    house.open(A, "u", 1, "u");
    house.open(B, "u", 3, "u");
    assert!(house.link.outlives(A));
    let routes = house.client_routes(A, request(json!(9), "shutdown"));
    let expected =
        ["s textDocument/didClose", "s textDocument/didClose", "s textDocument/didOpen", "1 9="];
    assert_eq!(told(&routes), expected);
    assert_eq!(body(&routes[2])["params"]["textDocument"]["version"], 3);
    assert!(house.client(A, json!({ "method": "exit" })).is_empty());
    assert!(house.link.leave(A, Instant::now()).is_empty());
    // The last one ends it.
    assert!(!house.link.outlives(B));
    assert_eq!(house.client(B, request(json!(9), "shutdown")), ["s 3 shutdown"]);
    assert_eq!(house.server(json!({ "id": 3, "result": null })), ["2 9="]);
    assert_eq!(house.client(B, json!({ "method": "exit" })), ["s exit"]);
}

#[test]
fn rule_4_13_a_client_that_just_goes_is_waited_for_by_nobody() {
    let mut house = House::with_two();
    house.client(A, request(json!(1), "m"));
    house.server(
        json!({ "id": 3, "method": "workspace/configuration", "params": { "items": [{}] } }),
    );
    let routes = house.link.leave(A, Instant::now());
    assert_eq!(told(&routes), ["withdraw s 3", "s 3="]);
    assert!(house.server(json!({ "id": 3, "result": 1 })).is_empty());
}

#[test]
fn rule_4_15_a_server_without_clients_waits_for_the_next() {
    let options = LinkOptions { keep: true, ..LinkOptions::new("ls", Reads::Fail) };
    let mut house = House { link: Link::new(options), now: Instant::now() };
    house.link.join(A);
    house.link.on_server_up(Instant::now());
    house.client(A, json!({ "id": "i", "method": "initialize", "params": params(1) }));
    house.server(json!({ "id": 1, "result": { "capabilities": {} } }));
    house.client(A, json!({ "method": "initialized" }));
    house.open(A, "u", 1, "text");
    assert_eq!(house.client(A, request(json!(2), "shutdown")), ["s textDocument/didClose", "1 2="]);
    assert!(house.client(A, json!({ "method": "exit" })).is_empty());
    house.link.leave(A, Instant::now());
    // Nobody is there to answer, and nothing is lost.
    let registrations = json!({ "registrations": [{ "id": "r", "method": "m" }] });
    let request =
        json!({ "id": 3, "method": "client/registerCapability", "params": registrations });
    assert_eq!(house.server(request), ["s 3="]);
    assert_eq!(house.enter(B), ["2 1 client/registerCapability"]);
    assert_eq!(told(&house.open(B, "u", 1, "text")), ["s textDocument/didOpen"]);
}

#[test]
fn rule_4_14_a_dying_server_is_seen_by_all_and_comes_back_for_all() {
    let mut house = House::with_two();
    house.open(A, "u", 1, "text");
    house.open(B, "u", 4, "text");
    house.open(B, "b", 4, "b");
    house.client(A, request(json!(1), "textDocument/hover"));
    house.client(B, request(json!(1), "workspace/executeCommand"));
    house.server(publish("u", 1));
    let expected = [
        "1 1!-32801",
        "2 1!-32803",
        "1 textDocument/publishDiagnostics",
        "2 textDocument/publishDiagnostics",
    ];
    // The read was kept to be asked again: only in a link that may.
    let routes = house.link.on_server_death();
    assert_eq!(told(&routes), expected);
    house.link.on_server_up(Instant::now());
    let routes = house.server_routes(json!({ "id": 5, "result": { "capabilities": {} } }));
    assert_eq!(
        told(&routes),
        ["s initialized", "s textDocument/didOpen", "s textDocument/didOpen"]
    );
    let versions: Vec<Value> = routes[1..]
        .iter()
        .map(|route| body(route)["params"]["textDocument"]["version"].clone())
        .collect();
    assert_eq!(versions, [1, 4], "each document once, in its owner's words");
}

#[test]
fn rule_4_35_versions_in_edits_are_those_that_the_client_knows() {
    let mut house = House::with_two();
    house.open(A, "u", 1, "text");
    house.open(B, "u", 9, "text");
    let edits = json!({ "documentChanges": [{ "textDocument": { "uri": "u", "version": 1 }, "edits": [] }] });
    house.client(B, request(json!(1), "textDocument/rename"));
    let routes = house.server_routes(json!({ "id": 3, "result": edits }));
    assert_eq!(body(&routes[0])["result"]["documentChanges"][0]["textDocument"]["version"], 9);
    let apply = json!({ "id": 1, "method": "workspace/applyEdit", "params": { "edit": edits } });
    let routes = house.server_routes(apply);
    let edit = body(&routes[0])["params"]["edit"].clone();
    assert_eq!(edit["documentChanges"][0]["textDocument"]["version"], 9);
    house.client(A, request(json!(1), "textDocument/rename"));
    let routes = house.server_routes(json!({ "id": 4, "result": edits }));
    assert_eq!(body(&routes[0])["result"], edits);
}

#[test]
fn rule_4_2_a_lone_surrogate_in_what_is_remembered_reaches_whoever_joins_late() {
    let mut house = House::with_one();
    let odd = r#""\ud800""#;
    for (request, method, params) in [
        (
            Some(1),
            "client/registerCapability",
            format!(r#"{{"registrations":[{{"id":"r","method":"m","registerOptions":{odd}}}]}}"#),
        ),
        (Some(2), "window/workDoneProgress/create", format!(r#"{{"token":{odd}}}"#)),
        (
            None,
            "$/progress",
            format!(r#"{{"token":{odd},"value":{{"kind":"begin","title":"t"}}}}"#),
        ),
        (
            None,
            "textDocument/publishDiagnostics",
            format!(r#"{{"uri":"u","diagnostics":[{{"message":{odd}}}]}}"#),
        ),
    ] {
        let id = request.map_or_else(String::new, |id| format!(r#""id":{id},"#));
        let body = format!(r#"{{"jsonrpc":"2.0",{id}"method":"{method}","params":{params}}}"#);
        let routes = house.link.on_server(Envelope::read(body.into()).unwrap(), house.now);
        for route in routes {
            if let Route::Client(client, Outbound { tag: Some(tag), .. }) = route {
                house.client(client, json!({ "id": tag, "result": null }));
            }
        }
    }
    let params = params(B.0);
    house.link.join(B);
    house.client(B, json!({ "id": "j", "method": "initialize", "params": params }));
    let missed = house.client_routes(B, json!({ "method": "initialized", "params": {} }));
    let heard: Vec<String> = missed
        .iter()
        .filter_map(|route| match route {
            Route::Client(client, Outbound { body, .. }) if *client == B => {
                Some(String::from_utf8(body.to_vec()).unwrap())
            }
            _ => None,
        })
        .collect();
    assert_eq!(heard.len(), 4, "{heard:?}");
    assert!(heard.iter().all(|message| message.contains(odd)), "{heard:?}");
    let ended = house.link.on_server_death();
    let ends = |route: &Route| match route {
        Route::Client(_, Outbound { body, .. }) => {
            body.windows(odd.len()).any(|window| window == odd.as_bytes())
        }
        _ => false,
    };
    assert_eq!(ended.iter().filter(|route| ends(route)).count(), 2, "progress ends at both");
}
