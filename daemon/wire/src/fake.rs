//! Peers for tests: they speak the real protocol over memory pipes, and fail when dropped if a message was not looked at.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use crate::codec::Incoming;
use crate::peer::{Lane, Peer, PeerEvent};
use crate::{Envelope, Id, Kind, ResponseError};

/// How long a fake waits for a message before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(10);
const PIPE_BYTES: usize = 64 * 1024;
const INBOX_MESSAGES_MAX: usize = 4 * 1024;

/// The other end of a fake's connection.
pub type Ends = (ReadHalf<DuplexStream>, WriteHalf<DuplexStream>);

/// One end of a connection, driven by a test: a server or a client.
#[derive(Debug)]
pub struct FakePeer {
    peer: Peer,
    events: mpsc::Receiver<PeerEvent>,
    unread: VecDeque<Envelope>,
    next_id: u32,
    lenient: bool,
}

/// A fake, and the ends of the pipe that it is connected to; inside a runtime.
pub fn pair() -> (FakePeer, Ends) {
    let (near, far) = tokio::io::duplex(PIPE_BYTES);
    let (reader, writer) = tokio::io::split(near);
    (FakePeer::over(reader, writer), tokio::io::split(far))
}

impl FakePeer {
    /// A fake over any connection; inside a runtime.
    pub fn over<R, W>(reader: R, writer: W) -> FakePeer
    where
        R: tokio::io::AsyncRead + Unpin + Send + 'static,
        W: tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (inbox, events) = mpsc::channel(INBOX_MESSAGES_MAX);
        let peer = Peer::start(reader, writer, move |event| {
            let inbox = inbox.clone();
            async move {
                let _ = inbox.send(event).await;
            }
        });
        FakePeer { peer, events, unread: VecDeque::new(), next_id: 1, lenient: false }
    }

    /// From now on messages may be left unread.
    pub fn lenient(mut self) -> FakePeer {
        self.lenient = true;
        self
    }

    /// The next event; panics if none comes in [`PATIENCE`].
    pub async fn event(&mut self) -> PeerEvent {
        match tokio::time::timeout(PATIENCE, self.events.recv()).await {
            Ok(Some(event)) => event,
            Ok(None) => PeerEvent::Closed(None),
            Err(_) => panic!("nothing came in {PATIENCE:?}; set aside: {:?}", self.unread),
        }
    }

    /// The next message; `None` if the connection is closed.
    pub async fn next(&mut self) -> Option<Envelope> {
        if let Some(envelope) = self.unread.pop_front() {
            return Some(envelope);
        }
        match self.event().await {
            PeerEvent::Incoming(Incoming::Message(envelope)) => Some(envelope),
            PeerEvent::Incoming(other) => panic!("not a message: {other:?}"),
            PeerEvent::Closed(_) => None,
        }
    }

    /// Nothing arrives for `time`.
    pub async fn expect_silence(&mut self, time: Duration) {
        assert!(self.unread.is_empty(), "unread: {:?}", self.unread);
        if let Ok(Some(event)) = tokio::time::timeout(time, self.events.recv()).await {
            panic!("expected silence, got {event:?}");
        }
    }

    /// The next message is a request for `method`: its id and parameters.
    pub async fn expect_request<P: DeserializeOwned>(&mut self, method: &str) -> (Id, P) {
        let envelope = self.expect(method).await;
        let Kind::Request { id, .. } = &envelope.kind else { panic!("no request: {envelope:?}") };
        (id.clone(), envelope.params_as().expect("the parameters fit the method"))
    }

    /// The next message is a notification of `method`: its parameters.
    pub async fn expect_notification<P: DeserializeOwned>(&mut self, method: &str) -> P {
        let envelope = self.expect(method).await;
        assert!(envelope.id().is_none(), "no notification: {envelope:?}");
        envelope.params_as().expect("the parameters fit the method")
    }

    /// The next message is a response: its id and outcome.
    pub async fn expect_response<T: DeserializeOwned>(&mut self) -> (Id, Result<T, ResponseError>) {
        let envelope = self.next().await.expect("the connection is open");
        let Kind::Response { id } = &envelope.kind else { panic!("no response: {envelope:?}") };
        let outcome = envelope.outcome().map(|raw| crate::parse(raw).expect("the result fits"));
        (id.clone(), outcome)
    }

    async fn expect(&mut self, method: &str) -> Envelope {
        let envelope = self.next().await.unwrap_or_else(|| panic!("closed, expected {method}"));
        assert_eq!(envelope.method(), Some(method), "{envelope:?}");
        envelope
    }

    /// Reads until a message of `method` comes; those before it stay for later.
    pub async fn find(&mut self, method: &str) -> Envelope {
        self.find_where(|envelope| envelope.method() == Some(method)).await
    }

    /// Reads until a message of this kind comes; those before it stay for later.
    pub async fn find_where(&mut self, wanted: impl Fn(&Envelope) -> bool) -> Envelope {
        let mut aside = VecDeque::new();
        loop {
            let Some(envelope) = self.next().await else {
                panic!("closed before the message came; set aside: {aside:?}");
            };
            if wanted(&envelope) {
                aside.append(&mut self.unread);
                self.unread = aside;
                return envelope;
            }
            aside.push_back(envelope);
        }
    }

    /// Sends a message.
    pub fn send(&self, envelope: &Envelope) {
        self.send_body(envelope.body.clone());
    }

    /// Sends these bytes as a body.
    pub fn send_body(&self, body: impl Into<bytes::Bytes>) {
        let _ = self.peer.sender().send(body.into(), Lane::Keep, None);
    }

    /// Sends a notification.
    pub fn notify(&self, method: &str, params: &impl Serialize) {
        self.send(&Envelope::notification(method, params));
    }

    /// Sends a request under an id of its own, and returns that.
    pub fn request(&mut self, method: &str, params: &impl Serialize) -> Id {
        let id = Id::number(self.next_id);
        self.next_id += 1;
        self.send(&Envelope::request(id.clone(), method, params));
        id
    }

    /// Answers a request.
    pub fn answer(&self, id: Id, result: &impl Serialize) {
        self.send(&Envelope::response(id, result));
    }

    /// Answers a request with an error.
    pub fn refuse(&self, id: Id, error: &ResponseError) {
        self.send(&Envelope::error(id, error));
    }
}

impl Drop for FakePeer {
    fn drop(&mut self) {
        if self.lenient || std::thread::panicking() {
            return;
        }
        while let Ok(event) = self.events.try_recv() {
            if let PeerEvent::Incoming(incoming) = event {
                panic!("a message was not looked at: {incoming:?}");
            }
        }
        assert!(self.unread.is_empty(), "messages were not looked at: {:?}", self.unread);
    }
}
