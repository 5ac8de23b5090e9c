//! A verb's connection to the daemon.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value as Json;
use wire::client::{Client, Handler, Quiet, RequestError};
use wire::ext::{GetVerdicts, Hello, HelloParams, Mode, PROTOCOL, VerdictsParams, VerdictsResult};
use wire::lsp::request::Request;
use wire::{ResponseError, codes};

use super::Failure;
use crate::env_vars;
use crate::features::{Scene, Shared, verb};

/// How long the daemon may take to greet.
const GREETING: Duration = Duration::from_secs(2);
/// How long it may take to answer what is only asked of the loop.
const SOON: Duration = Duration::from_secs(5);
/// How long a search or the load of a model may take.
const LONG: Duration = Duration::from_secs(900);

/// A connection on which the daemon has said hello; `None` if none is running, or one of another version.
pub(super) async fn connect() -> Result<Option<Client>, Failure> {
    connect_with(Quiet).await
}

/// The same with somebody who listens to what the daemon says by itself.
pub(super) async fn connect_with(handler: impl Handler) -> Result<Option<Client>, Failure> {
    let socket = env_vars::socket_path();
    let stream = match wire::socket::connect(&socket).await {
        Ok(stream) => stream,
        Err(wire::socket::SocketError::Io(_)) => return Ok(None),
        Err(error) => return Err(Failure::missing(error)),
    };
    let (reader, writer) = stream.into_split();
    let client = Client::start(reader, writer, handler);
    let hello = HelloParams {
        protocol: PROTOCOL,
        version: crate::VERSION.to_owned(),
        mode: Mode::Control,
        cwd: std::env::current_dir().unwrap_or_default().to_string_lossy().into_owned(),
        pid: std::process::id(),
        env: env_vars::whole(),
        editor_pid: std::os::unix::process::parent_id(),
        resumed: false,
    };
    match client.call::<Hello>(hello, GREETING).await {
        Ok(_) => Ok(Some(client)),
        Err(RequestError::Response(error)) => Err(Failure::missing(format!(
            "the daemon at {} says: {}; `demolish stop` ends it",
            socket.display(),
            error.message
        ))),
        Err(error) => Err(Failure::missing(format!(
            "the daemon at {} does not answer ({error})",
            socket.display()
        ))),
    }
}

/// Asks the running daemon; `None` if there is none.
pub(super) fn ask<R>(params: R::Params) -> Result<Option<R::Result>, Failure>
where
    R: Request,
{
    super::block_on(async {
        let Some(client) = connect().await? else { return Ok(None) };
        match client.call::<R>(params, SOON).await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) => Err(Failure::missing(format!("the daemon does not answer ({error})"))),
        }
    })?
}

/// Asks the running daemon for verdicts, which takes as long as the servers may take; `None` if there is none.
pub(super) fn verdicts(
    params: VerdictsParams,
    wait: Duration,
) -> Result<Option<VerdictsResult>, Failure> {
    super::block_on(async {
        let Some(client) = connect().await? else { return Ok(None) };
        match client.call::<GetVerdicts>(params, wait + SOON).await {
            Ok(answer) => Ok(Some(answer)),
            Err(RequestError::Response(error)) => Err(Failure::missing(error.message)),
            Err(error) => Err(Failure::missing(format!("the daemon does not answer ({error})"))),
        }
    })?
}

/// Has a verb answered: by the daemon if one is running that has the right model, else in this process.
pub(super) fn answered(
    method: &str,
    asked: &verb::Asked,
    no_daemon: bool,
) -> Result<Json, Failure> {
    super::block_on(async {
        if !no_daemon
            && let Ok(Some(client)) = connect().await
            && let Some(answer) = by_daemon(&client, method, asked).await?
        {
            return Ok(answer);
        }
        in_process(method, asked).await
    })?
}

async fn by_daemon(
    client: &Client,
    method: &str,
    asked: &impl Serialize,
) -> Result<Option<Json>, Failure> {
    match client.request(method, asked, LONG).await {
        Ok(reply) => reply.parse().map(Some).map_err(Failure::missing),
        Err(RequestError::Response(error)) if error.code == verb::OTHER_MODEL => Ok(None),
        Err(RequestError::Response(error)) => Err(failure(error)),
        // It has ended in the middle: the question is still a good one.
        Err(_) => Ok(None),
    }
}

async fn in_process(method: &str, asked: &verb::Asked) -> Result<Json, Failure> {
    let config = asked.config();
    let shared = Shared::new(&config);
    let scene = Scene::default();
    // The server starts while the model loads; without this its start would be paid in the first check.
    asked.target().critic(&shared, &scene, &config).warm();
    let params = serde_json::to_value(asked).map_err(Failure::bad)?;
    let answer = verb::answer(&shared, scene, method, &params).await;
    shared.twins.clear();
    answer.map_err(failure)
}

fn failure(error: ResponseError) -> Failure {
    match error.code {
        verb::MISSING => Failure::missing(error.message),
        codes::INVALID_PARAMS | codes::METHOD_NOT_FOUND => {
            Failure::bad(format!("the daemon cannot do that: {}", error.message))
        }
        _ => Failure::bad(error.message),
    }
}
