//! `demolish daemon`: listens, runs the loop, and ends when told to, or when nobody has been there for a while.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use wire::ext::Status;
use wire::socket::{Listener, SocketError};
use wire::{Bytes, Envelope, Kind, ResponseError, codes};

use crate::main_loop::{Event, INBOX_EVENTS_MAX, run as run_loop};
use crate::state::{DaemonOptions, Features, Outlet, Own, Snapshot, State};

/// How long children may take to end after the loop has; those that are left are killed.
pub const CHILDREN_PATIENCE: Duration = Duration::from_secs(2);

/// Why there is no daemon.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The socket cannot be had.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The system refused something that every program gets.
    #[error("the daemon cannot start: {0}")]
    Io(#[from] std::io::Error),
}

/// No features: a daemon that only stands between editors and their language servers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bare;

impl Features for Bare {
    fn own(&self, _outlet: Outlet) -> Box<dyn Own> {
        Box::new(Bare)
    }

    fn control(
        &self,
        _snapshot: Snapshot,
        envelope: Envelope,
    ) -> BoxFuture<'static, Option<Bytes>> {
        refused(&envelope)
    }

    fn status(&self, _status: &mut Status) {}
}

impl Own for Bare {
    fn call(
        &mut self,
        _snapshot: Snapshot,
        envelope: Envelope,
    ) -> BoxFuture<'static, Option<Bytes>> {
        match (&envelope.kind, envelope.method()) {
            (Kind::Request { id, .. }, Some("initialize")) => {
                let result = serde_json::json!({ "capabilities": {} });
                std::future::ready(Some(Envelope::response(id.clone(), &result).body)).boxed()
            }
            (Kind::Request { id, .. }, Some("shutdown")) => {
                std::future::ready(Some(Envelope::response(id.clone(), &()).body)).boxed()
            }
            _ => refused(&envelope),
        }
    }
}

fn refused(envelope: &Envelope) -> BoxFuture<'static, Option<Bytes>> {
    let error =
        ResponseError::new(codes::METHOD_NOT_FOUND, "this daemon has no features of its own");
    let answer = match &envelope.kind {
        Kind::Request { id, .. } => Some(Envelope::error(id.clone(), &error).body),
        Kind::Notification { .. } | Kind::Response { .. } => None,
    };
    std::future::ready(answer).boxed()
}

/// Runs a daemon until it is to end. Everything that only passes messages on runs on this one thread, so that a message
/// crosses the daemon without waking another.
pub fn run(options: DaemonOptions, features: Arc<dyn Features>) -> Result<(), DaemonError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(serve(options, features));
    runtime.shutdown_timeout(Duration::from_millis(100));
    outcome
}

async fn serve(options: DaemonOptions, features: Arc<dyn Features>) -> Result<(), DaemonError> {
    let listener = Listener::bind(&options.socket)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tracing::info!(socket = %options.socket.display(), pid = std::process::id(), "listening");
    let (inbox, mut events) = mpsc::channel(INBOX_EVENTS_MAX);
    let accepting = inbox.clone();
    let listening = tokio::spawn(async move {
        loop {
            let event = tokio::select! {
                stream = listener.accept() => match stream {
                    Ok(stream) => Event::Accepted(stream),
                    Err(error) => {
                        tracing::error!(%error, "no connection");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
                _ = terminate.recv() => Event::Stop,
                _ = interrupt.recv() => Event::Stop,
            };
            if accepting.send(event).await.is_err() {
                break;
            }
        }
    });
    let mut state = State::new(options, features, inbox);
    // A task like the readers and writers: what the runtime itself waits for is looked at only between two looks at the
    // system, and every message would pay for one.
    let looping = tokio::spawn(async move {
        run_loop(&mut state, &mut events).await;
        (state, events)
    });
    let (state, events) = match looping.await {
        Ok(both) => both,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    };
    tracing::info!("ending");
    // The socket first: from now on shims start another daemon.
    listening.abort();
    let _ = listening.await;
    end_links(state, events).await;
    Ok(())
}

/// Lets clients read what is queued for them, and servers end.
async fn end_links(mut state: State, mut events: mpsc::Receiver<Event>) {
    let instances = std::mem::take(&mut state.instances);
    let mut servers = instances.values().filter(|instance| instance.server.is_some()).count();
    drop(instances);
    for (_, link) in std::mem::take(&mut state.links) {
        let crate::state::LinkState { client, role, .. } = link;
        drop(role);
        client.finish(Duration::from_millis(200)).await;
    }
    let all_ended = async {
        while servers > 0 {
            match events.recv().await {
                Some(Event::Ended(..)) => servers -= 1,
                Some(_) => {}
                None => break,
            }
        }
    };
    let _ = tokio::time::timeout(CHILDREN_PATIENCE, all_ended).await;
}
