//! `workspace/executeCommand`.

use serde_json::{Value as Json, json};
use wire::lsp::{ExecuteCommandParams, LSPAny, WorkspaceEdit};
use wire::tower::jsonrpc::Result;

use super::backend::{Backend, failed, invalid};
use super::{Scene, Shared, code_action, own};
use crate::logging;

/// Fix a diagnostic, and have the editor apply the edit.
pub(super) const FIX: &str = "demolish.fix";
/// What the daemon is doing.
pub(super) const STATUS: &str = "demolish.status";
/// Switch inline completion off or on for this editor.
pub(super) const TOGGLE: &str = "demolish.toggle";
/// Where the daemon's log is.
pub(super) const LOG: &str = "demolish.log";

/// All of them: a finite list, because editors register each.
pub(super) const ALL: &[&str] = &[FIX, STATUS, TOGGLE, LOG];

pub(super) async fn execute(
    backend: &Backend,
    params: ExecuteCommandParams,
) -> Result<Option<LSPAny>> {
    let argument = params.arguments.into_iter().next().unwrap_or(Json::Null);
    let answer = match params.command.as_str() {
        FIX => fix(backend, argument, params.work_done_progress_params.work_done_token).await?,
        STATUS => status(&backend.shared, &own::scene()),
        TOGGLE => {
            let mut inner = backend.inner();
            inner.off = !inner.off;
            json!({"enabled": !inner.off})
        }
        LOG => json!({"path": logging::daemon_log()}),
        unknown => {
            return Err(invalid(format!(
                "there is no command `{unknown}`; there are {}",
                ALL.join(", ")
            )));
        }
    };
    Ok(Some(answer))
}

/// `demolish.fix [{textDocument, range?}]`: the answer is that of `demolish/fix`, with `applied`.
async fn fix(
    backend: &Backend,
    argument: Json,
    token: Option<wire::lsp::ProgressToken>,
) -> Result<Json> {
    let mut found = code_action::fix(backend, &argument, token).await?;
    found["applied"] = Json::Bool(false);
    let edit = found["proposal"]["edit"].clone();
    if edit.is_object() {
        let edit: WorkspaceEdit =
            serde_json::from_value(edit).map_err(|error| failed(error.to_string()))?;
        let answered = backend.client.apply_edit(edit).await?;
        found["applied"] = Json::Bool(answered.applied);
    }
    Ok(found)
}

/// What the daemon says of itself, with what only the features know.
pub(super) fn status(shared: &Shared, scene: &Scene) -> Json {
    let mut status = if scene.status.is_object() { scene.status.clone() } else { json!({}) };
    let facts = super::facts::of(shared);
    for (name, value) in facts.as_object().into_iter().flatten() {
        status[name] = value.clone();
    }
    status
}
