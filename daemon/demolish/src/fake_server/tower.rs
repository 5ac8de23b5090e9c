//! `demolish fake-server --tower`: a server as people write them with tower-lsp, served by its own `Server` on stdin and
//! stdout. The proxy's tests use it to show that a foreign framework works behind it unchanged.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value as Json, json};
use wire::lsp::{
    CompletionItem, CompletionOptions, CompletionParams, CompletionResponse, Diagnostic,
    DidChangeTextDocumentParams, DidOpenTextDocumentParams, ExecuteCommandOptions,
    ExecuteCommandParams, Hover, HoverContents, HoverParams, HoverProviderCapability,
    InitializeParams, InitializeResult, InitializedParams, MarkedString, MessageType, OneOf,
    Position, Range, RenameParams, ServerCapabilities, ServerInfo, TextDocumentSyncCapability,
    TextDocumentSyncKind, TextEdit, Uri, WorkspaceEdit,
};
use wire::tower::jsonrpc::{Error, Result};
use wire::tower::{Client, LanguageServer, LspService, Server};

/// A tiny language server: words are its language.
struct Words {
    client: Client,
    texts: Mutex<HashMap<Uri, String>>,
}

/// Serves until `exit`.
pub(super) fn run() -> std::process::ExitCode {
    let Ok(runtime) =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
    else {
        return std::process::ExitCode::FAILURE;
    };
    runtime.block_on(async {
        let (service, socket) = LspService::new(|client| Words { client, texts: Mutex::default() });
        let (Ok(stdin), Ok(stdout)) = (wire::ends::stdin(), wire::ends::stdout()) else { return };
        Server::new(stdin, stdout, socket).serve(service).await;
    });
    runtime.shutdown_background();
    std::process::ExitCode::SUCCESS
}

impl Words {
    fn text(&self, uri: &Uri) -> Option<String> {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner).get(uri).cloned()
    }

    /// Keeps the text, and objects to every line that holds `bad`.
    async fn set(&self, uri: Uri, version: i32, text: String) {
        let range = |line: usize| {
            let line = u32::try_from(line).unwrap_or(u32::MAX);
            Range::new(Position::new(line, 0), Position::new(line, 3))
        };
        let lines = text.lines().enumerate().filter(|(_, line)| line.contains("bad"));
        let found = lines
            .map(|(line, _)| Diagnostic::new_simple(range(line), "a bad word".to_owned()))
            .collect();
        self.texts.lock().unwrap_or_else(PoisonError::into_inner).insert(uri.clone(), text);
        self.client.publish_diagnostics(uri, found, Some(version)).await;
    }
}

impl LanguageServer for Words {
    async fn initialize(&self, _: InitializeParams) -> Result<InitializeResult> {
        let capabilities = ServerCapabilities {
            text_document_sync: Some(TextDocumentSyncCapability::Kind(TextDocumentSyncKind::FULL)),
            hover_provider: Some(HoverProviderCapability::Simple(true)),
            completion_provider: Some(CompletionOptions::default()),
            rename_provider: Some(OneOf::Left(true)),
            execute_command_provider: Some(ExecuteCommandOptions {
                commands: vec!["words.ask".to_owned()],
                ..ExecuteCommandOptions::default()
            }),
            ..ServerCapabilities::default()
        };
        let server_info = Some(ServerInfo { name: "words".to_owned(), version: None });
        Ok(InitializeResult { capabilities, server_info, ..InitializeResult::default() })
    }

    async fn initialized(&self, _: InitializedParams) {
        self.client.log_message(MessageType::INFO, "ready").await;
    }

    async fn shutdown(&self) -> Result<()> {
        Ok(())
    }

    async fn did_open(&self, params: DidOpenTextDocumentParams) {
        let document = params.text_document;
        self.set(document.uri, document.version, document.text).await;
    }

    async fn did_change(&self, mut params: DidChangeTextDocumentParams) {
        let document = params.text_document;
        if let Some(change) = params.content_changes.pop() {
            self.set(document.uri, document.version, change.text).await;
        }
    }

    async fn hover(&self, params: HoverParams) -> Result<Option<Hover>> {
        let place = params.text_document_position_params;
        let text = self.text(&place.text_document.uri).ok_or_else(Error::invalid_request)?;
        let line = text.lines().nth(place.position.line as usize).map(str::to_owned);
        Ok(line.map(|line| Hover {
            contents: HoverContents::Scalar(MarkedString::String(line)),
            range: None,
        }))
    }

    async fn completion(&self, params: CompletionParams) -> Result<Option<CompletionResponse>> {
        let text = self.text(&params.text_document_position.text_document.uri).unwrap_or_default();
        let items = text
            .split_whitespace()
            .map(|word| CompletionItem::new_simple(word.to_owned(), String::new()));
        Ok(Some(CompletionResponse::Array(items.collect())))
    }

    async fn rename(&self, params: RenameParams) -> Result<Option<WorkspaceEdit>> {
        let place = params.text_document_position;
        let range = Range::new(place.position, place.position);
        let edits = vec![TextEdit::new(range, params.new_name)];
        let changes = HashMap::from([(place.text_document.uri, edits)]);
        Ok(Some(WorkspaceEdit { changes: Some(changes), ..WorkspaceEdit::default() }))
    }

    /// Asks the editor for a setting, and answers with what it says.
    async fn execute_command(&self, _: ExecuteCommandParams) -> Result<Option<Json>> {
        let item = serde_json::from_value(json!({ "section": "words" }));
        let items = item.map_err(|_| Error::internal_error())?;
        let settings = self.client.configuration(vec![items]).await?;
        Ok(Some(json!({ "settings": settings })))
    }
}
