//! The code action *Demolish: fix this diagnostic*, and the request `demolish/fix` behind it and beside it.
//!
//! Offering must be quick, so it only asks whether there is something to fix; the search runs when the action is chosen.

use std::ops::Range;
use std::sync::Arc;

use decode::{Checked, Critic as _};
use serde_json::{Value as Json, json};
use text::{Diagnostic, Severity};
use tokio::sync::Notify;
use wire::lsp::{
    CodeAction, CodeActionDisabled, CodeActionKind, CodeActionOrCommand, CodeActionParams,
    CodeActionResponse, Command, MessageType, Position, ProgressToken, Range as LspRange,
    WorkspaceEdit,
};
use wire::tower::jsonrpc::{Error, ErrorCode, Result};

use super::backend::{Backend, failed, invalid};
use super::fix::{self, Answer};
use super::inline_completion::offset_of;
use super::progress::Progress;
use super::{Scene, Target, command};

const TITLE: &str = "Demolish: fix this diagnostic";

/// `textDocument/codeAction`.
pub(super) async fn offer(
    backend: &Backend,
    params: CodeActionParams,
) -> Result<Option<CodeActionResponse>> {
    let wanted = params.context.only.as_ref().is_none_or(|kinds| {
        kinds.iter().any(|kind| {
            kind.as_str().is_empty() || kind.as_str().starts_with(CodeActionKind::QUICKFIX.as_str())
        })
    });
    if !wanted {
        return Ok(None);
    }
    let uri = params.text_document.uri.as_str();
    let (scene, target, version) = backend.look(uri)?;
    let bytes = bytes_of(&scene, uri, params.range);
    if params.context.diagnostics.is_empty() && !has_fault(backend, &scene, &target, &bytes).await {
        return Ok(None);
    }
    let place = json!({"textDocument": {"uri": uri, "version": version}, "range": params.range});
    let resolves = backend.inner().able.resolves_edits;
    let action = CodeAction {
        title: TITLE.to_owned(),
        kind: Some(CodeActionKind::QUICKFIX),
        diagnostics: (!params.context.diagnostics.is_empty()).then_some(params.context.diagnostics),
        // An editor that does not fetch edits later runs the command, which has it apply one.
        command: (!resolves).then(|| Command {
            title: TITLE.to_owned(),
            command: command::FIX.to_owned(),
            arguments: Some(vec![place.clone()]),
        }),
        data: resolves.then_some(place),
        ..CodeAction::default()
    };
    Ok(Some(vec![CodeActionOrCommand::CodeAction(action)]))
}

/// Whether the twin finds an error or a warning on the lines of `range`.
async fn has_fault(
    backend: &Backend,
    scene: &Scene,
    target: &Target,
    range: &Range<usize>,
) -> bool {
    let critic = target.critic(&backend.shared, scene, &backend.config());
    let lines =
        text::line_at(&target.text, range.start).start..text::line_at(&target.text, range.end).end;
    match critic.check(target.text.clone()).await {
        Checked::Diagnostics(list) => {
            list.iter().any(|found| is_fault(found) && touches(&found.range, &lines))
        }
        Checked::Unknown(_) => false,
    }
}

fn is_fault(diagnostic: &Diagnostic) -> bool {
    matches!(diagnostic.severity, Severity::Error | Severity::Warning)
}

fn touches(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start <= b.end && b.start <= a.end
}

/// `codeAction/resolve`.
pub(super) async fn resolve(backend: &Backend, mut action: CodeAction) -> Result<CodeAction> {
    let Some(place) = action.data.clone() else { return Ok(action) };
    let (answer, target, version) = search(backend, &place, None).await?;
    match (answer.workspace_edit(&target, Some(version)), answer.reason()) {
        (Some(edit), _) => action.edit = Some(edit_of(edit)?),
        (None, reason) => {
            let reason = reason.unwrap_or_else(|| "nothing was found".to_owned());
            backend.show(MessageType::INFO, &reason).await;
            action.edit = Some(WorkspaceEdit::default());
            if backend.inner().able.disabled {
                action.disabled = Some(CodeActionDisabled { reason });
            }
        }
    }
    Ok(action)
}

fn edit_of(edit: Json) -> Result<WorkspaceEdit> {
    serde_json::from_value(edit).map_err(|error| failed(error.to_string()))
}

/// The object of `demolish/fix` for `{textDocument: {uri, version?}, range?}`.
pub(super) async fn fix(
    backend: &Backend,
    place: &Json,
    token: Option<ProgressToken>,
) -> Result<Json> {
    let (answer, target, version) = search(backend, place, token).await?;
    Ok(answer.object(&target, Some(version)))
}

/// Searches, with progress that the user may cancel.
async fn search(
    backend: &Backend,
    place: &Json,
    token: Option<ProgressToken>,
) -> Result<(Answer, Target, i32)> {
    let document = &place["textDocument"];
    let uri = document["uri"].as_str().ok_or_else(|| invalid("textDocument.uri is missing"))?;
    let (scene, target, version) = backend.look(uri)?;
    if document["version"].as_i64().is_some_and(|asked| asked != i64::from(version)) {
        return Err(Error {
            message: "the document has changed".into(),
            ..Error::new(ErrorCode::ContentModified)
        });
    }
    let range: Option<LspRange> = serde_json::from_value(place["range"].clone())
        .map_err(|error| invalid(format!("range: {error}")))?;
    let range = range.map(|range| bytes_of(&scene, uri, range));
    let config = backend.config();
    let own_token = {
        let mut inner = backend.inner();
        inner.last_token += 1;
        inner.able.progress.then(|| format!("demolish/fix/{}", inner.last_token))
    };
    let progress =
        Progress::begin(&backend.client, &backend.send, token, own_token, "Demolish: fix").await;
    let cancel = Arc::new(Notify::new());
    let _listed =
        progress.as_ref().map(|progress| Listed::new(backend, progress.key(), cancel.clone()));
    if let Some(progress) = &progress {
        progress.report("searching, and checking every candidate").await;
    }
    let answer = tokio::select! {
        biased;
        () = cancel.notified() => Err(Error::request_cancelled()),
        answer = fix::fix(&backend.shared, &scene, &config, &target, range) => answer.map_err(failed),
    };
    if let Some(progress) = progress {
        progress.end().await;
    }
    Ok((answer?, target, version))
}

/// Work that can be cancelled, as long as it is listed.
struct Listed<'b> {
    backend: &'b Backend,
    key: String,
}

impl<'b> Listed<'b> {
    fn new(backend: &'b Backend, key: String, cancel: Arc<Notify>) -> Listed<'b> {
        backend.inner().cancels.insert(key.clone(), cancel);
        Listed { backend, key }
    }
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.backend.inner().cancels.remove(&self.key);
    }
}

fn bytes_of(scene: &Scene, uri: &str, range: LspRange) -> Range<usize> {
    let offset = |position: Position| offset_of(scene, uri, position);
    let (start, end) = (offset(range.start), offset(range.end));
    start.min(end)..start.max(end)
}

impl Backend {
    /// `demolish/fix`.
    pub(super) async fn fix(&self, params: Json) -> Result<Json> {
        let token = serde_json::from_value(params["workDoneToken"].clone()).ok();
        fix(self, &params, token).await
    }
}
