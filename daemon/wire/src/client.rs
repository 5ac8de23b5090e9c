//! An LSP client of our own: for twins, tests and benchmarks.
//!
//! Requests have deadlines, and dropping a request's future cancels it. What the server sends by itself is given to a
//! [`Handler`] in the order of arrival, on the reader's turn.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{oneshot, watch};

use crate::codec::Incoming;
use crate::peer::{Lane, Peer, PeerEvent, SendError, Sender};
use crate::{Envelope, Id, Kind, ResponseError, codes, lsp};

/// What is done with what the server sends by itself. Both are called on the reader's turn and must be quick.
pub trait Handler: Send + Sync + 'static {
    /// A notification.
    fn notified(&self, method: &str, envelope: &Envelope);

    /// A request; the answer goes out at once.
    fn asked(&self, method: &str, envelope: &Envelope) -> Result<serde_json::Value, ResponseError>;

    /// The server is gone.
    fn closed(&self) {}
}

/// A handler that ignores notifications and gives the answers that keep every server going.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl Handler for Quiet {
    fn notified(&self, _method: &str, _envelope: &Envelope) {}

    fn asked(&self, method: &str, envelope: &Envelope) -> Result<serde_json::Value, ResponseError> {
        default_answer(method, envelope)
    }
}

/// The answer of a client without any settings or user interface: `null` for every configuration item, no edit applied,
/// registrations and progress accepted.
pub fn default_answer(
    method: &str,
    envelope: &Envelope,
) -> Result<serde_json::Value, ResponseError> {
    match method {
        "workspace/configuration" => {
            let items =
                envelope.params_as::<lsp::ConfigurationParams>().map_or(1, |p| p.items.len());
            Ok(vec![serde_json::Value::Null; items].into())
        }
        "workspace/applyEdit" => Ok(serde_json::json!({ "applied": false })),
        "workspace/workspaceFolders" => Ok(serde_json::Value::Null),
        "window/showDocument" => Ok(serde_json::json!({ "success": false })),
        "client/registerCapability"
        | "client/unregisterCapability"
        | "window/workDoneProgress/create"
        | "window/showMessageRequest" => Ok(serde_json::Value::Null),
        _ if method.ends_with("/refresh") => Ok(serde_json::Value::Null),
        _ => Err(ResponseError::new(codes::METHOD_NOT_FOUND, format!("no `{method}` here"))),
    }
}

/// Why a request has no result.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The server answered with an error.
    #[error(transparent)]
    Response(#[from] ResponseError),
    /// The deadline passed; the request was cancelled.
    #[error("no answer in time")]
    Deadline,
    /// The server is gone, or does not read.
    #[error("the server is gone")]
    Closed,
    /// The result is not what the method promises.
    #[error("the answer cannot be read: {0}")]
    Shape(#[from] serde_json::Error),
}

/// The JSON text of a result.
#[derive(Clone, Debug)]
pub struct Reply(Envelope);

impl Reply {
    /// The JSON text.
    pub fn raw(&self) -> &[u8] {
        self.0.outcome().unwrap_or(b"null")
    }

    /// The result as a type.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        crate::parse(self.raw())
    }

    /// The whole response.
    pub fn envelope(&self) -> &Envelope {
        &self.0
    }
}

/// A connection to a server. Clones share it; when the last one is dropped, the connection is closed.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("pending", &self.0.state.lock_pending().len()).finish()
    }
}

struct Inner {
    peer: Peer,
    state: Arc<State>,
}

/// What reader and requests share.
struct State {
    pending: Mutex<HashMap<u32, oneshot::Sender<Envelope>>>,
    next_id: AtomicU32,
    closed: watch::Sender<bool>,
    sender: OnceLock<Sender>,
    handler: Box<dyn Handler>,
}

impl Client {
    /// Starts a client on the two ends of a connection; inside a runtime.
    pub fn start<R, W>(reader: R, writer: W, handler: impl Handler) -> Client
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let state = Arc::new(State {
            pending: Mutex::default(),
            next_id: AtomicU32::new(1),
            closed: watch::Sender::new(false),
            sender: OnceLock::new(),
            handler: Box::new(handler),
        });
        let reading = Arc::clone(&state);
        let peer = Peer::start(reader, writer, move |event| {
            reading.on_event(event);
            std::future::ready(())
        });
        let _ = state.sender.set(peer.sender().clone());
        Client(Arc::new(Inner { peer, state }))
    }

    /// Asks for `method` and waits for the answer until `deadline` has passed. Dropping the future cancels the request.
    pub async fn request(
        &self,
        method: &str,
        params: &impl Serialize,
        deadline: Duration,
    ) -> Result<Reply, RequestError> {
        let state = &self.0.state;
        let id = state.next_id.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        state.lock_pending().insert(id, answer);
        let asked = Asked { client: self, id };
        let request = Envelope::request(Id::number(id), method, params);
        self.send(&request, Some(id))?;
        if self.is_closed() {
            // Nobody will answer any more. If the answer was the last that came, it waits in `answered`.
            state.lock_pending().remove(&id);
        }
        let response = match tokio::time::timeout(deadline, answered).await {
            Ok(Ok(response)) => response,
            Ok(Err(_)) => return Err(RequestError::Closed),
            Err(_) => return Err(RequestError::Deadline),
        };
        drop(asked);
        response.outcome()?;
        Ok(Reply(response))
    }

    /// [`Client::request`] with the protocol's own types.
    pub async fn call<R: lsp::request::Request>(
        &self,
        params: R::Params,
        deadline: Duration,
    ) -> Result<R::Result, RequestError> {
        Ok(self.request(R::METHOD, &params, deadline).await?.parse()?)
    }

    /// Sends a notification.
    pub fn notify(&self, method: &str, params: &impl Serialize) -> Result<(), RequestError> {
        self.send(&Envelope::notification(method, params), None)
    }

    /// Sends a message as it is; the answer to a request of this kind is not waited for.
    pub fn send_raw(&self, envelope: &Envelope) -> Result<(), RequestError> {
        self.send(envelope, None)
    }

    /// `initialize` and `initialized`.
    pub async fn initialize(
        &self,
        params: &impl Serialize,
        deadline: Duration,
    ) -> Result<Reply, RequestError> {
        let reply = self.request("initialize", params, deadline).await?;
        self.notify("initialized", &serde_json::json!({}))?;
        Ok(reply)
    }

    /// `shutdown` and `exit`.
    pub async fn shutdown(&self, deadline: Duration) -> Result<(), RequestError> {
        let answered = self.request("shutdown", &(), deadline).await;
        self.notify("exit", &())?;
        answered.map(drop)
    }

    /// Whether the server is gone.
    pub fn is_closed(&self) -> bool {
        *self.0.state.closed.borrow()
    }

    /// Waits until the server is gone.
    pub async fn closed(&self) {
        let _ = self.0.state.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// The queue to the server.
    pub fn sender(&self) -> &Sender {
        self.0.peer.sender()
    }

    fn send(&self, envelope: &Envelope, tag: Option<u32>) -> Result<(), RequestError> {
        match self.0.peer.sender().send(envelope.body.clone(), Lane::Keep, tag) {
            Ok(_) => Ok(()),
            Err(SendError::Full | SendError::Closed) => Err(RequestError::Closed),
        }
    }
}

/// A request that is out; dropping it before the answer came tells the server.
struct Asked<'c> {
    client: &'c Client,
    id: u32,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let unanswered = self.client.0.state.lock_pending().remove(&self.id).is_some();
        if unanswered && !self.client.sender().withdraw(self.id) {
            let _ = self.client.notify("$/cancelRequest", &serde_json::json!({ "id": self.id }));
        }
    }
}

impl State {
    fn lock_pending(&self) -> MutexGuard<'_, HashMap<u32, oneshot::Sender<Envelope>>> {
        self.pending.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn on_event(&self, event: PeerEvent) {
        let envelope = match event {
            PeerEvent::Incoming(Incoming::Message(envelope)) => envelope,
            PeerEvent::Incoming(Incoming::Malformed(bad)) => {
                tracing::debug!(why = %bad.why, "malformed message from a server");
                let error = ResponseError::new(codes::PARSE_ERROR, bad.why.to_string());
                match bad.id {
                    Some(id) if bad.method.is_none() => Envelope::error(id, &error),
                    _ => return,
                }
            }
            PeerEvent::Incoming(Incoming::Junk(_)) => return,
            PeerEvent::Closed(_) => {
                if !self.closed.send_replace(true) {
                    self.lock_pending().clear();
                    self.handler.closed();
                }
                return;
            }
        };
        match &envelope.kind {
            Kind::Response { id } => {
                let waiting = id.as_u32().and_then(|id| self.lock_pending().remove(&id));
                if let Some(answer) = waiting {
                    let _ = answer.send(envelope);
                }
            }
            Kind::Notification { method } => self.handler.notified(method, &envelope),
            Kind::Request { id, method } => {
                let answer = match self.handler.asked(method, &envelope) {
                    Ok(result) => Envelope::response(id.clone(), &result),
                    Err(error) => Envelope::error(id.clone(), &error),
                };
                if let Some(sender) = self.sender.get() {
                    let _ = sender.send(answer.body, Lane::Keep, None);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
