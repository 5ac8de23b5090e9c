//! The client against a fake server.

use std::sync::mpsc;

use serde_json::{Value, json};

use super::*;
use crate::fake;

struct Recorder(mpsc::SyncSender<String>);

impl Handler for Recorder {
    fn notified(&self, method: &str, envelope: &Envelope) {
        let params = String::from_utf8_lossy(envelope.params()).into_owned();
        let _ = self.0.try_send(format!("{method} {params}"));
    }

    fn asked(&self, method: &str, envelope: &Envelope) -> Result<Value, ResponseError> {
        default_answer(method, envelope)
    }
}

const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn requests_are_answered_and_notifications_arrive_in_order() {
    let (mut server, (reader, writer)) = fake::pair();
    let (record, records) = mpsc::sync_channel(8);
    let client = Client::start(reader, writer, Recorder(record));
    let asking = client.clone();
    let asked = tokio::spawn(async move { asking.request("a/b", &json!([1]), SOON).await });
    let (id, params) = server.expect_request::<Value>("a/b").await;
    assert_eq!(params, json!([1]));
    server.notify("n", &1);
    server.notify("n", &2);
    server.answer(id, &json!({ "x": 1 }));
    assert_eq!(asked.await.unwrap().unwrap().raw(), br#"{"x":1}"#);
    assert_eq!(records.try_iter().collect::<Vec<_>>(), ["n 1", "n 2"]);
}

#[tokio::test]
async fn the_server_is_answered() {
    let (mut server, (reader, writer)) = fake::pair();
    let _client = Client::start(reader, writer, Quiet);
    let asked = server.request("workspace/configuration", &json!({ "items": [{}, {}] }));
    let (id, answer) = server.expect_response::<Value>().await;
    assert_eq!((id, answer.unwrap()), (asked, json!([null, null])));
    server.request("x/unknown", &json!({}));
    let (_, answer) = server.expect_response::<Value>().await;
    assert_eq!(answer.unwrap_err().code, codes::METHOD_NOT_FOUND);
}

#[tokio::test]
async fn rule_4_17_a_dropped_request_is_cancelled_and_a_deadline_too() {
    let (mut server, (reader, writer)) = fake::pair();
    let client = Client::start(reader, writer, Quiet);
    let late = client.request("slow", &(), Duration::from_millis(30)).await;
    assert!(matches!(late, Err(RequestError::Deadline)));
    let (id, ()) = server.expect_request("slow").await;
    let cancelled: Value = server.expect_notification("$/cancelRequest").await;
    assert_eq!(cancelled["id"].to_string(), id.raw());
}

#[tokio::test]
async fn a_dead_server_fails_what_is_pending() {
    let (mut server, (reader, writer)) = fake::pair();
    let client = Client::start(reader, writer, Quiet);
    let asking = client.clone();
    let asked = tokio::spawn(async move { asking.request("a", &(), SOON).await });
    let _ = server.expect_request::<()>("a").await;
    drop(server);
    assert!(matches!(asked.await.unwrap(), Err(RequestError::Closed)));
    client.closed().await;
    assert!(matches!(client.request("b", &(), SOON).await, Err(RequestError::Closed)));
}
