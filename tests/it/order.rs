//! Order: what a server says before its answer arrives before its answer.

use serde_json::{Value, json};
use wire::Kind;

use crate::house::House;

async fn check(count: u64, rounds: u32) {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    for _ in 0..rounds {
        let id = editor.wire.request("test/notes", &json!({ "count": count }));
        for number in 0..count {
            let params: Value = editor.wire.expect_notification("test/note").await;
            assert_eq!(params["number"], number);
        }
        let envelope = editor.wire.next().await.unwrap();
        assert!(matches!(&envelope.kind, Kind::Response { id: of } if *of == id), "{envelope:?}");
    }
}

#[tokio::test]
async fn rule_4_8_one_notification_before_a_response() {
    check(1, 200).await;
}

#[tokio::test]
async fn rule_4_8_three_notifications_before_a_response() {
    check(3, 200).await;
}

#[tokio::test]
async fn rule_4_8_a_hundred_notifications_before_a_response() {
    check(100, 40).await;
}

#[tokio::test]
async fn rule_4_8_a_burst_of_requests_is_answered_in_order() {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    let ids: Vec<_> =
        (0..200).map(|n| editor.wire.request("test/notes", &json!({ "count": n % 3 }))).collect();
    for (n, id) in ids.iter().enumerate() {
        for number in 0..n % 3 {
            let params: Value = editor.wire.expect_notification("test/note").await;
            assert_eq!(params["number"], number);
        }
        let (of, _) = editor.wire.expect_response::<Value>().await;
        assert_eq!(of, *id);
    }
}

#[tokio::test]
async fn rule_4_8_a_change_is_heard_before_the_request_after_it() {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    editor.open("file:///a", "0");
    for version in 2..100 {
        editor.change("file:///a", version, &format!("text {version}"));
        let state = editor.state().await;
        assert_eq!(state["documents"]["file:///a"][0], version);
    }
}
