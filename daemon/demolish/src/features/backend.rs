//! The server that an editor sees when it starts `demolish lsp`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value as Json, json};
use text::Encoding;
use tokio::sync::Notify;
use wire::Envelope;
use wire::lsp::{
    CodeAction, CodeActionKind, CodeActionOptions, CodeActionParams, CodeActionProviderCapability,
    CodeActionResponse, DidChangeConfigurationParams, DidChangeWatchedFilesParams,
    DidCloseTextDocumentParams, DidOpenTextDocumentParams, DidSaveTextDocumentParams,
    ExecuteCommandOptions, ExecuteCommandParams, InitializeParams, InitializeResult,
    InitializedParams, LSPAny, MessageType, OneOf, PositionEncodingKind, SaveOptions,
    ServerCapabilities, ServerInfo, TextDocumentSyncCapability, TextDocumentSyncKind,
    TextDocumentSyncOptions, TextDocumentSyncSaveOptions,
};
use wire::tower::jsonrpc::{Error, ErrorCode, Result};
use wire::tower::{Client, LanguageServer};

use super::inline_completion::Shown;
use super::own::{self, Send};
use super::progress::{self, Progress};
use super::{Scene, Shared, Target, answer, code_action, command};
use crate::config::Config;
use crate::config::read::{self, EDITOR, Layers};

/// A model that is loaded within this time is loaded silently.
const LOADING_UNNOTICED: Duration = Duration::from_millis(500);
/// How often it is said how far a load is.
const LOADING_PERIOD: Duration = Duration::from_millis(200);

/// The server of one link.
pub(super) struct Backend {
    /// For questions to the editor. What is only told goes through `send`, because an answer must not overtake it.
    pub(super) client: Client,
    /// The way to the editor, in the order of calls.
    pub(super) send: Send,
    pub(super) shared: Shared,
    inner: Mutex<Inner>,
}

/// What the server remembers of its editor.
#[derive(Default)]
pub(super) struct Inner {
    /// The settings in force for this editor and its project.
    config: Arc<Config>,
    /// The project.
    root: Option<PathBuf>,
    /// What the editor sent as `initializationOptions`, and later as settings.
    options: Option<Json>,
    /// What was wrong with the settings, until it is said.
    warning: Option<String>,
    /// What the editor can do.
    pub(super) able: Able,
    /// Whether inline completion is switched off for this editor.
    pub(super) off: bool,
    /// The answers that were shown last, by document.
    pub(super) shown: HashMap<String, Shown>,
    /// Whether this editor was told that there is no model.
    told: bool,
    /// Whether the loading of the model is shown, or was.
    shows_loading: bool,
    /// Work that the user may cancel, by the token under which it is shown.
    pub(super) cancels: HashMap<String, Arc<Notify>>,
    /// Where our own progress tokens come from.
    pub(super) last_token: u32,
}

/// What an editor can do, as far as it makes a difference here.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Able {
    /// Fetches the edit of a code action when it is chosen.
    pub(super) resolves_edits: bool,
    /// Lets a server show progress of its own accord.
    pub(super) progress: bool,
    /// Shows why a code action cannot be applied.
    pub(super) disabled: bool,
}

impl Backend {
    pub(super) fn new(client: Client, send: Send, shared: Shared) -> Backend {
        Backend { client, send, shared, inner: Mutex::default() }
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn config(&self) -> Arc<Config> {
        self.inner().config.clone()
    }

    /// Reads the settings for this editor again.
    fn configure(&self) {
        let (root, options) = {
            let inner = self.inner();
            (inner.root.clone(), inner.options.clone())
        };
        let layers = Layers { editor: options, ..Layers::of_process(root.as_deref()) };
        let loaded = read::load(&layers);
        let mut warning = loaded.warning();
        let asks_for_model =
            loaded.decided.iter().any(|(key, place)| key.starts_with("model.") && place == EDITOR);
        if asks_for_model && !self.shared.models.adopt(&loaded.config.model) {
            let note = "the daemon has another model loaded already; `demolish stop` lets the next one load yours";
            warning = Some(
                warning.map_or_else(|| note.to_owned(), |warning| format!("{warning}; {note}")),
            );
        }
        let mut inner = self.inner();
        inner.warning = warning;
        inner.config = Arc::new(loaded.config);
    }

    /// Shows the user a message.
    pub(super) async fn show(&self, kind: MessageType, message: &str) {
        let params = json!({"type": kind, "message": format!("Demolish: {message}")});
        (self.send)(Envelope::notification("window/showMessage", &params)).await;
    }

    async fn say_warning(&self) {
        let warning = self.inner().warning.take();
        if let Some(warning) = warning {
            self.show(MessageType::WARNING, &warning).await;
        }
    }

    /// Tells the editor once why there is no model.
    pub(super) async fn say_no_model(&self, reason: &str) {
        if !std::mem::replace(&mut self.inner().told, true) {
            let message = format!("{reason}; language servers go on without it");
            self.show(MessageType::WARNING, &message).await;
        }
    }

    /// Shows that the model is being loaded, if that takes long enough to be noticed.
    pub(super) fn show_loading(&self) {
        let (client, send, model) =
            (self.client.clone(), self.send.clone(), self.shared.models.typing().clone());
        let mut inner = self.inner();
        let known = model.loaded().is_some() || std::mem::replace(&mut inner.shows_loading, true);
        if known || !inner.able.progress {
            return;
        }
        tokio::spawn(async move {
            if tokio::time::timeout(LOADING_UNNOTICED, model.engine()).await.is_ok() {
                return;
            }
            let (token, title) = (Some("demolish/model".to_owned()), "Demolish: loading the model");
            let shown = Progress::begin(&client, &send, None, token, title).await;
            let mut last = None;
            while let Some(now) = model.loading(last).await {
                last = Some(now);
                if let Some(shown) = shown.as_ref().filter(|_| now.total > 0) {
                    shown.report(&progress::of_load(now)).await;
                }
                tokio::time::sleep(LOADING_PERIOD).await;
            }
            if let Some(shown) = shown {
                shown.end().await;
            }
        });
    }

    /// An open document, and what else there is to see.
    pub(super) fn look(&self, uri: &str) -> Result<(Scene, Target, i32)> {
        let mut scene = own::scene();
        scene.root = self.inner().root.as_deref().map(Arc::from);
        let open = scene.document(uri).ok_or_else(|| invalid(format!("{uri} is not open")))?;
        let version = open.document.revision().0;
        let target = Target::open(open);
        Ok((scene, target, version))
    }

    /// `demolish/status`.
    pub(super) async fn status(&self) -> Result<Json> {
        Ok(command::status(&self.shared, &own::scene()))
    }

    /// `demolish/refused`: what the checker refused on the way to the last answer for a document.
    pub(super) async fn refused(&self, params: Json) -> Result<Json> {
        let uri = params["textDocument"]["uri"].as_str().unwrap_or_default();
        let refused = self.inner().shown.get(uri).map_or_else(|| json!([]), Shown::refused);
        Ok(json!({"refused": refused}))
    }

    /// `window/workDoneProgress/cancel`.
    pub(super) async fn cancel_progress(&self, params: Json) {
        if let Some(cancel) = self.inner().cancels.get(&params["token"].to_string()) {
            cancel.notify_one();
        }
    }
}

/// The parameters cannot be used; one sentence says why.
pub(super) fn invalid(message: impl Into<String>) -> Error {
    Error { code: ErrorCode::InvalidParams, message: message.into().into(), data: None }
}

/// The request was right and could not be done; one sentence says why.
pub(super) fn failed(message: impl Into<String>) -> Error {
    Error {
        code: ErrorCode::ServerError(wire::codes::REQUEST_FAILED),
        message: message.into().into(),
        data: None,
    }
}

fn capabilities() -> ServerCapabilities {
    debug_assert_eq!(answer::ENCODING, Encoding::Utf16);
    ServerCapabilities {
        position_encoding: Some(PositionEncodingKind::UTF16),
        text_document_sync: Some(TextDocumentSyncCapability::Options(TextDocumentSyncOptions {
            open_close: Some(true),
            change: Some(TextDocumentSyncKind::INCREMENTAL),
            save: Some(TextDocumentSyncSaveOptions::SaveOptions(SaveOptions {
                include_text: Some(false),
            })),
            ..TextDocumentSyncOptions::default()
        })),
        inline_completion_provider: Some(OneOf::Left(true)),
        code_action_provider: Some(CodeActionProviderCapability::Options(CodeActionOptions {
            code_action_kinds: Some(vec![CodeActionKind::QUICKFIX]),
            resolve_provider: Some(true),
            ..CodeActionOptions::default()
        })),
        execute_command_provider: Some(ExecuteCommandOptions {
            commands: command::ALL.iter().map(ToString::to_string).collect(),
            ..ExecuteCommandOptions::default()
        }),
        ..ServerCapabilities::default()
    }
}

fn root_of(params: &InitializeParams) -> Option<PathBuf> {
    let folders = params.workspace_folders.as_deref().unwrap_or_default();
    #[allow(deprecated, reason = "older editors send nothing else")]
    let uri = folders.first().map(|folder| &folder.uri).or(params.root_uri.as_ref())?;
    crate::twin::plan::path_of(uri.as_str())
}

fn able(params: &InitializeParams) -> Able {
    let text_document = params.capabilities.text_document.as_ref();
    let code_action = text_document.and_then(|able| able.code_action.as_ref());
    let resolve = code_action.and_then(|able| able.resolve_support.as_ref());
    Able {
        resolves_edits: resolve
            .is_some_and(|able| able.properties.iter().any(|property| property == "edit")),
        progress: params.capabilities.window.as_ref().and_then(|able| able.work_done_progress)
            == Some(true),
        disabled: code_action.and_then(|able| able.disabled_support) == Some(true),
    }
}

impl LanguageServer for Backend {
    async fn initialize(&self, params: InitializeParams) -> Result<InitializeResult> {
        {
            let mut inner = self.inner();
            inner.able = able(&params);
            inner.root = root_of(&params);
            inner.options = params.initialization_options;
        }
        self.configure();
        Ok(InitializeResult {
            capabilities: capabilities(),
            server_info: Some(ServerInfo {
                name: "demolish".to_owned(),
                version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            }),
            ..InitializeResult::default()
        })
    }

    async fn initialized(&self, _: InitializedParams) {
        self.say_warning().await;
    }

    async fn shutdown(&self) -> Result<()> {
        Ok(())
    }

    async fn did_change_configuration(&self, params: DidChangeConfigurationParams) {
        let settings = match params.settings {
            Json::Object(mut fields) => fields.remove("demolish").unwrap_or(Json::Object(fields)),
            _ => return,
        };
        if settings.as_object().is_none_or(serde_json::Map::is_empty) {
            return;
        }
        self.inner().options = Some(settings);
        self.configure();
        self.say_warning().await;
    }

    /// Somebody will type here soon: the server and the model are started, and the workspace is read, in the background.
    async fn did_open(&self, params: DidOpenTextDocumentParams) {
        let config = self.config();
        if !config.complete.enabled {
            return;
        }
        if let Ok((scene, target, _)) = self.look(params.text_document.uri.as_str()) {
            let _ = target.workspace(&self.shared, &scene, &config);
            let critic = target.critic(&self.shared, &scene, &config);
            if critic.lack().is_none() {
                critic.warm();
                if config.model.enabled {
                    self.shared.models.typing().want();
                    self.show_loading();
                }
            }
        }
    }

    /// Other documents may depend on what is on disk now.
    async fn did_save(&self, params: DidSaveTextDocumentParams) {
        let uris = [params.text_document.uri.to_string()];
        self.shared.twins.changed_on_disk(&uris);
        self.shared.workspaces.changed_on_disk(&uris);
    }

    async fn did_close(&self, params: DidCloseTextDocumentParams) {
        self.shared.workspaces.closed(params.text_document.uri.as_str());
    }

    async fn did_change_watched_files(&self, params: DidChangeWatchedFilesParams) {
        let uris: Vec<String> =
            params.changes.iter().map(|change| change.uri.to_string()).collect();
        self.shared.workspaces.changed_on_disk(&uris);
    }

    async fn code_action(&self, params: CodeActionParams) -> Result<Option<CodeActionResponse>> {
        code_action::offer(self, params).await
    }

    async fn code_action_resolve(&self, action: CodeAction) -> Result<CodeAction> {
        code_action::resolve(self, action).await
    }

    async fn execute_command(&self, params: ExecuteCommandParams) -> Result<Option<LSPAny>> {
        command::execute(self, params).await
    }
}
