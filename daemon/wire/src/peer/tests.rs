//! Queues and pumps over memory pipes.

use std::time::Duration;

use tokio::sync::mpsc;

use super::*;
use crate::{Bytes, Envelope};

fn body(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

async fn drain(queue: &Sender) -> Vec<String> {
    queue.close();
    let mut all = Vec::new();
    while let Some(batch) = queue.take().await {
        all.extend(batch.iter().map(|body| String::from_utf8_lossy(body).into_owned()));
        queue.written();
    }
    all
}

#[tokio::test]
async fn rule_4_7_a_full_queue_keeps_what_must_not_be_lost() {
    let queue = Sender::new();
    let latest = |key: &str| Lane::Latest(key.into());
    queue.send(body("old report"), latest("p1"), None).unwrap();
    queue.send(body("other report"), latest("p2"), None).unwrap();
    for n in 0..QUEUE_MESSAGES_MAX - 2 {
        queue.send(body(&n.to_string()), Lane::Keep, None).unwrap();
    }
    queue.send(body("log"), Lane::Log, None).unwrap();
    queue.send(body("new report"), latest("p1"), None).unwrap();
    queue.send(body("kept"), Lane::Keep, None).unwrap();
    let load = queue.load();
    assert_eq!((load.dropped, load.coalesced, load.messages), (1, 1, QUEUE_MESSAGES_MAX + 1));
    let all = drain(&queue).await;
    assert_eq!(all[0], "other report");
    assert_eq!(all[all.len() - 2..], ["new report", "kept"]);
    assert_eq!(queue.load().messages, 0);
}

#[tokio::test]
async fn rule_4_7_a_queue_that_is_twice_full_says_so() {
    let queue = Sender::new();
    for _ in 0..2 * QUEUE_MESSAGES_MAX {
        queue.send(body("x"), Lane::Keep, None).unwrap();
    }
    assert_eq!(queue.send(body("x"), Lane::Keep, None), Err(SendError::Full));
    queue.close();
    assert_eq!(queue.send(body("x"), Lane::Keep, None), Err(SendError::Closed));
}

#[tokio::test]
async fn rule_4_7_bytes_count_too() {
    let queue = Sender::new();
    let big = Bytes::from(vec![0; QUEUE_BYTES_MAX / 2]);
    assert_eq!(queue.send(big.clone(), Lane::Keep, None), Ok(Level::High));
    for _ in 0..3 {
        queue.send(big.clone(), Lane::Keep, None).unwrap();
    }
    assert_eq!(queue.send(big, Lane::Keep, None), Err(SendError::Full));
}

#[tokio::test]
async fn rule_4_17_what_is_not_written_can_be_withdrawn() {
    let queue = Sender::new();
    queue.send(body("a"), Lane::Keep, Some(1)).unwrap();
    queue.send(body("b"), Lane::Keep, Some(2)).unwrap();
    assert!(queue.withdraw(1));
    assert!(!queue.withdraw(1));
    assert_eq!(drain(&queue).await, ["b"]);
    assert!(!queue.withdraw(2));
}

#[tokio::test]
async fn a_reader_is_held_until_the_queue_has_drained() {
    let (far, near) = tokio::io::duplex(1024);
    let (inbox, mut events) = mpsc::channel(16);
    let (reader, writer) = tokio::io::split(near);
    let peer = Peer::start(reader, writer, move |event| {
        let inbox = inbox.clone();
        async move {
            let _ = inbox.send(event).await;
        }
    });
    let slow = Sender::new();
    slow.send(Bytes::from(vec![0; QUEUE_BYTES_MAX / 2]), Lane::Keep, None).unwrap();
    slow.hold(peer.gate());
    assert!(slow.is_holding());
    let other = Sender::new();
    other.hold(peer.gate());
    let (_, mut far_writer) = tokio::io::split(far);
    let message = Envelope::notification("n", &1);
    far_writer.write_all(&frame::encode(&message.body)).await.unwrap();
    // The read that was under way when the gate closed may still deliver; the one after it may not.
    let _ = tokio::time::timeout(Duration::from_millis(50), events.recv()).await;
    far_writer.write_all(&frame::encode(&message.body)).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(50), events.recv()).await.is_err());
    assert!(slow.stalled_for() >= Duration::from_millis(50));
    drain(&slow).await;
    assert!(!slow.is_holding());
    assert!(
        tokio::time::timeout(Duration::from_millis(50), events.recv()).await.is_err(),
        "another queue holds it"
    );
    other.close();
    let event = tokio::time::timeout(Duration::from_secs(5), events.recv()).await.unwrap();
    assert!(matches!(event, Some(PeerEvent::Incoming(Incoming::Message(_)))));
}

#[tokio::test]
async fn finish_writes_what_is_queued() {
    let (mut far, near) = tokio::io::duplex(64);
    let (reader, writer) = tokio::io::split(near);
    let peer = Peer::start(reader, writer, |_| std::future::ready(()));
    let text = "x".repeat(500_000);
    peer.sender().send(body(&text), Lane::Keep, None).unwrap();
    let reading = tokio::spawn(async move {
        let mut all = Vec::new();
        let _ = far.read_to_end(&mut all).await;
        all
    });
    peer.finish(Duration::from_secs(5)).await;
    assert_eq!(reading.await.unwrap(), frame::encode(text.as_bytes()));
}
