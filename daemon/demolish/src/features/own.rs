//! The features of one link: tower-lsp's service, called in process.
//!
//! The service never sees a transport: requests come in as envelopes in the order of the wire, and what it sends by itself
//! goes out through the loop. Ids are ours on the inside, so that whatever an editor uses as an id comes back as it was.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use decode::BoxFuture;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::sync::oneshot;
use wire::tower::jsonrpc::{Request, Response};
use wire::tower::{ClientSocket, LspService};
use wire::tower_service::Service as _;
use wire::{Bytes, Envelope, Id, Kind};

use super::backend::Backend;
use super::{Scene, Shared};

/// Sends a message to the editor; `false` once nobody is there.
pub type Send = Arc<dyn Fn(Envelope) -> BoxFuture<'static, bool> + std::marker::Send + Sync>;

/// What the handler of one message may look at besides its parameters.
pub(super) struct Turn {
    pub(super) scene: Scene,
    /// Resolves when a newer request of the same kind for the same document has come.
    pub(super) overtaken: Mutex<Option<oneshot::Receiver<()>>>,
}

tokio::task_local! {
    /// The turn of the message that is being handled.
    static TURN: Turn;
}

/// What the client sees at the moment of the message that is being handled.
pub(super) fn scene() -> Scene {
    TURN.try_with(|turn| turn.scene.clone()).unwrap_or_default()
}

/// Waits until the message that is being handled is overtaken; for ever if it cannot be.
pub(super) async fn overtaken() {
    let receiver =
        TURN.try_with(|turn| turn.overtaken.lock().unwrap_or_else(PoisonError::into_inner).take());
    match receiver {
        Ok(Some(receiver)) => {
            // The sender is dropped when the next request takes its place.
            let _ = receiver.await;
        }
        _ => std::future::pending().await,
    }
}

/// The features of one link.
pub struct Own {
    service: Arc<Mutex<LspService<Backend>>>,
    /// Until the first message, when there is a runtime for the task that drains it.
    socket: Option<ClientSocket>,
    answers: Option<tokio::sync::mpsc::Sender<Response>>,
    send: Send,
    last_id: u32,
    /// The document whose completion is running or was the last to run, and what ends when the next one comes.
    completing: Option<(String, oneshot::Sender<()>)>,
}

/// How many answers of the editor to our own questions may wait; more than we ever ask at once.
const ANSWERS_MAX: usize = 64;

impl Own {
    /// The features for an editor that has just connected. Touches no runtime.
    #[must_use]
    pub fn new(shared: Shared, send: Send) -> Own {
        let telling = send.clone();
        let (service, socket) = LspService::build(|client| Backend::new(client, telling, shared))
            .custom_method("textDocument/inlineCompletion", Backend::inline_completion)
            .custom_method("window/workDoneProgress/cancel", Backend::cancel_progress)
            .custom_method("demolish/fix", Backend::fix)
            .custom_method("demolish/refused", Backend::refused)
            .custom_method("demolish/status", Backend::status)
            .finish();
        Own {
            service: Arc::new(Mutex::new(service)),
            socket: Some(socket),
            answers: None,
            send,
            last_id: 0,
            completing: None,
        }
    }

    /// Handles one message. The synchronous part keeps the order of the wire; the future is the work. A request's future
    /// yields the body of the response; dropping it cancels the request.
    pub fn call(&mut self, scene: Scene, envelope: &Envelope) -> BoxFuture<'static, Option<Bytes>> {
        let begin = self.begin_draining();
        match &envelope.kind {
            Kind::Response { .. } => {
                let answers = self.answers.clone();
                let response = serde_json::from_slice::<Response>(&envelope.body).ok();
                Box::pin(async move {
                    begin.await;
                    if let (Some(answers), Some(response)) = (answers, response) {
                        let _ = answers.send(response).await;
                    }
                    None
                })
            }
            Kind::Notification { .. } => {
                let work = self.work(scene, envelope, None);
                Box::pin(async move {
                    begin.await;
                    work.await;
                    None
                })
            }
            Kind::Request { id, method } => {
                let overtaken =
                    (&**method == "textDocument/inlineCompletion").then(|| self.overtake(envelope));
                self.last_id = self.last_id.wrapping_add(1);
                let inner = Id::number(self.last_id);
                let work = self.work(scene, &envelope.with_id(inner.clone()), overtaken.flatten());
                let (outer, cancel) =
                    (id.clone(), Cancel { service: Some(self.service.clone()), id: inner });
                Box::pin(async move {
                    begin.await;
                    let response = work.await;
                    cancel.disarm();
                    let body = serde_json::to_vec(&response?).ok()?;
                    Some(Envelope::read(body.into()).ok()?.with_id(outer).body)
                })
            }
        }
    }

    /// Starts the task that carries what the service sends by itself; once, with the first message's task.
    fn begin_draining(&mut self) -> impl Future<Output = ()> + std::marker::Send + 'static + use<> {
        let socket = self.socket.take().map(|socket| {
            let (answers, received) = tokio::sync::mpsc::channel(ANSWERS_MAX);
            self.answers = Some(answers);
            (socket, received, self.send.clone())
        });
        async move {
            if let Some((socket, received, send)) = socket {
                tokio::spawn(drain(socket, received, send));
            }
        }
    }

    /// Makes this request the newest completion, which ends the one before it if it is for the same document.
    fn overtake(&mut self, envelope: &Envelope) -> Option<oneshot::Receiver<()>> {
        let params: serde_json::Value = envelope.params_as().ok()?;
        let uri = params["textDocument"]["uri"].as_str()?.to_owned();
        let (sender, receiver) = oneshot::channel();
        self.completing = Some((uri, sender));
        Some(receiver)
    }

    fn work(
        &self,
        scene: Scene,
        envelope: &Envelope,
        overtaken: Option<oneshot::Receiver<()>>,
    ) -> BoxFuture<'static, Option<Response>> {
        let turn = Turn { scene, overtaken: Mutex::new(overtaken) };
        let request = match serde_json::from_slice::<Request>(&envelope.body) {
            Ok(request) => request,
            Err(error) => {
                tracing::debug!(%error, "a message that the service cannot read");
                return Box::pin(std::future::ready(None));
            }
        };
        let call = self.service.lock().unwrap_or_else(PoisonError::into_inner).call(request);
        Box::pin(async move { TURN.scope(turn, call).await.ok().flatten() })
    }
}

async fn drain(
    socket: ClientSocket,
    mut answers: tokio::sync::mpsc::Receiver<Response>,
    send: Send,
) {
    let (mut requests, mut sink) = socket.split();
    loop {
        tokio::select! {
            request = requests.next() => {
                let Some(request) = request else { return };
                let Ok(body) = serde_json::to_vec(&request) else { continue };
                let Ok(envelope) = Envelope::read(body.into()) else { continue };
                if !send(envelope).await {
                    return;
                }
            }
            answer = answers.recv() => {
                let Some(answer) = answer else { return };
                if sink.send(answer).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Tells the service that a request is over when its future is dropped before it has ended.
struct Cancel {
    service: Option<Arc<Mutex<LspService<Backend>>>>,
    id: Id,
}

impl Cancel {
    fn disarm(mut self) {
        self.service = None;
    }
}

impl Drop for Cancel {
    fn drop(&mut self) {
        let Some(service) = self.service.take() else { return };
        let Some(number) = self.id.as_u32() else { return };
        let request =
            Request::build("$/cancelRequest").params(serde_json::json!({"id": number})).finish();
        // The handler of a cancel does not wait for anything.
        let _ = service.lock().unwrap_or_else(PoisonError::into_inner).call(request).now_or_never();
    }
}
