//! One running server behind a twin: what was agreed with it, what it has open, and one question at a time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use decode::Unknown;
use recall::index;
use serde_json::{Value as Json, json};
use text::{Diagnostic, Edit, Encoding};
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::Instant;
use wire::child::Child;
use wire::client::{Client, Handler, RequestError, default_answer};
use wire::{Envelope, ResponseError, codes};

use super::convert::{self, Said};
use super::disk::Change;
use super::documents::{Dialect, Documents, Open};
use super::plan::{Plan, merged};

/// How often one question is asked again after *content modified* or *server cancelled*.
const ASK_AGAIN_MAX: u32 = 20;
/// How long to wait before asking again.
const ASK_AGAIN_MS: u64 = 5;
/// The most quick fixes that are taken of one diagnostic.
const QUICK_FIXES_MAX: usize = 12;

/// A server that is up.
pub(super) struct Instance {
    client: Client,
    /// Held to keep the process alive; absent when the server is at the other end of a memory pipe.
    child: Option<Child>,
    heard: Arc<Heard>,
    dialect: Dialect,
    resolves_actions: bool,
    /// Whether it tells where names are defined.
    defines: bool,
    did_change: Option<&'static Json>,
    /// One permit: whoever holds it owns the conversation, so that an answer is of the text that was sent last.
    turn: Semaphore,
    talk: Mutex<Talk>,
}

/// What the owner of the turn works on.
#[derive(Default)]
struct Talk {
    documents: Documents,
    /// The diagnostics of the last check, with the address and version they belong to.
    last: Option<(String, i32, Arc<[Said]>)>,
}

/// The document that is asked about, and what is open beside it.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) uri: String,
    pub(super) language_id: String,
    pub(super) others: Arc<[Open]>,
}

/// What the server said by itself. Shared with the connection's reader.
pub(super) struct Heard {
    settings: Json,
    pulls: AtomicBool,
    /// The notification that says when it has read the project, if it is one that finds nothing wrong before.
    tells_ready: Option<&'static str>,
    ready: AtomicBool,
    published: Mutex<HashMap<String, (Option<i32>, Json)>>,
    news: Notify,
}

impl Heard {
    pub(super) fn new(plan: &Plan) -> Arc<Heard> {
        Arc::new(Heard {
            settings: plan.settings.clone(),
            pulls: AtomicBool::new(plan.pulls),
            tells_ready: plan.server.ready().and_then(|ready| ready.status.as_deref()),
            ready: AtomicBool::new(false),
            published: Mutex::default(),
            news: Notify::new(),
        })
    }

    fn published(&self, uri: &str, version: i32) -> Option<Json> {
        let published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        let (said_of, list) = published.get(uri)?;
        (*said_of == Some(version)).then(|| list.clone())
    }

    fn section(&self, section: Option<&str>) -> Json {
        let path = section.unwrap_or_default().split('.').filter(|part| !part.is_empty());
        path.fold(&self.settings, |value, part| &value[part]).clone()
    }
}

/// The reader's view of [`Heard`].
pub(super) struct Listener(pub(super) Arc<Heard>);

impl Handler for Listener {
    fn notified(&self, method: &str, envelope: &Envelope) {
        if self.0.tells_ready == Some(method) {
            let quiescent =
                envelope.params_as::<Json>().is_ok_and(|params| params["quiescent"] == true);
            self.0.ready.store(quiescent, Ordering::Relaxed);
            return self.0.news.notify_waiters();
        }
        if method != "textDocument/publishDiagnostics" {
            return;
        }
        let Ok(mut params) = envelope.params_as::<Json>() else { return };
        let Some(uri) = params["uri"].as_str().map(str::to_owned) else { return };
        let version = params["version"].as_i64().and_then(|version| i32::try_from(version).ok());
        let list = params["diagnostics"].take();
        let mut published = self.0.published.lock().unwrap_or_else(PoisonError::into_inner);
        published.insert(uri, (version, list));
        drop(published);
        self.0.news.notify_waiters();
    }

    fn asked(&self, method: &str, envelope: &Envelope) -> Result<Json, ResponseError> {
        let params = || envelope.params_as::<Json>().unwrap_or(Json::Null);
        match method {
            "workspace/configuration" => {
                let params = params();
                let items = params["items"].as_array().map_or(&[][..], Vec::as_slice);
                Ok(items.iter().map(|item| self.0.section(item["section"].as_str())).collect())
            }
            "client/registerCapability" => {
                let params = params();
                let list = params["registrations"].as_array().map_or(&[][..], Vec::as_slice);
                if list
                    .iter()
                    .any(|registration| registration["method"] == "textDocument/diagnostic")
                {
                    self.0.pulls.store(true, Ordering::Relaxed);
                    self.0.news.notify_waiters();
                }
                Ok(Json::Null)
            }
            _ => default_answer(method, envelope),
        }
    }

    fn closed(&self) {
        self.0.news.notify_waiters();
    }
}

impl Instance {
    /// Agrees with a server that has just been started.
    pub(super) async fn agree(
        client: Client,
        child: Option<Child>,
        heard: Arc<Heard>,
        plan: &Plan,
        deadline: Duration,
    ) -> Result<Instance, String> {
        let reply = client
            .initialize(&plan.initialize, deadline)
            .await
            .map_err(|error| error.to_string())?;
        let result: Json = reply.parse().map_err(|error| error.to_string())?;
        let offered = &result["capabilities"];
        let encoding =
            offered["positionEncoding"].as_str().and_then(Encoding::from_lsp).unwrap_or_default();
        let kind =
            offered["textDocumentSync"]["change"].as_u64().or(offered["textDocumentSync"].as_u64());
        if offered["diagnosticProvider"].is_object() {
            heard.pulls.store(true, Ordering::Relaxed);
        }
        if !plan.settings.is_null() {
            let params = json!({"settings": plan.settings});
            client
                .notify("workspace/didChangeConfiguration", &params)
                .map_err(|error| error.to_string())?;
        }
        Ok(Instance {
            dialect: Dialect { encoding, incremental: kind == Some(2) },
            resolves_actions: offered["codeActionProvider"]["resolveProvider"] == true,
            defines: !matches!(offered["definitionProvider"], Json::Null | Json::Bool(false)),
            did_change: plan.did_change,
            client,
            child,
            heard,
            turn: Semaphore::new(1),
            talk: Mutex::default(),
        })
    }

    /// Tells the server that files have changed on disk.
    pub(super) fn changed_on_disk(&self, changes: impl Iterator<Item = (String, Change)>) {
        let changes: Vec<Json> =
            changes.map(|(uri, change)| json!({"uri": uri, "type": change as i32})).collect();
        if !changes.is_empty() {
            let _ =
                self.client.notify("workspace/didChangeWatchedFiles", &json!({"changes": changes}));
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// The last lines of its stderr, for the message about its death.
    pub(super) fn last_words(&self) -> Option<String> {
        let lines = self.child.as_ref()?.log().tail();
        lines.iter().rev().find(|line| !line.trim().is_empty()).cloned()
    }

    /// Waits for the turn.
    pub(super) async fn turn(&self, until: Instant) -> Result<SemaphorePermit<'_>, Unknown> {
        match tokio::time::timeout_at(until, self.turn.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(Unknown::Crashed),
            Err(_) => Err(Unknown::Timeout),
        }
    }

    /// Brings the server to `text` in `place`; gives the version that it then has. The caller holds the turn.
    fn show(&self, place: &Place, text: &Arc<str>) -> Result<i32, Unknown> {
        let mut talk = self.talk.lock().unwrap_or_else(PoisonError::into_inner);
        let mut notes = talk.documents.surround(self.dialect, &place.uri, &place.others);
        if !notes.is_empty() {
            talk.last = None;
        }
        notes.extend(talk.documents.set(self.dialect, &place.uri, &place.language_id, text));
        for mut note in notes {
            if note.method == "textDocument/didChange" {
                note.params = merged(note.params, self.did_change);
            }
            self.client.notify(note.method, &note.params).map_err(|_| Unknown::Crashed)?;
        }
        talk.documents.version(&place.uri).ok_or(Unknown::Stale)
    }

    /// The diagnostics of `text` in `place`. The caller holds the turn.
    pub(super) async fn check(
        &self,
        place: &Place,
        text: &Arc<str>,
        until: Instant,
    ) -> Result<Arc<[Said]>, Unknown> {
        self.until_ready(until).await?;
        let version = self.show(place, text)?;
        let list = match self.pushed(&place.uri, version, until).await? {
            Some(list) => list,
            None => self.pulled(&place.uri, until).await?,
        };
        let mut talk = self.talk.lock().unwrap_or_else(PoisonError::into_inner);
        let document = talk.documents.document(&place.uri).ok_or(Unknown::Stale)?;
        let said: Arc<[Said]> = convert::diagnostics(&list, document, self.dialect.encoding).into();
        talk.last = Some((place.uri.clone(), version, said.clone()));
        Ok(said)
    }

    /// Waits until the server has read the project, where it says so.
    async fn until_ready(&self, until: Instant) -> Result<(), Unknown> {
        loop {
            let news = self.heard.news.notified();
            if self.heard.tells_ready.is_none() || self.heard.ready.load(Ordering::Relaxed) {
                return Ok(());
            }
            if self.is_closed() {
                return Err(Unknown::Crashed);
            }
            tokio::time::timeout_at(until, news).await.map_err(|_| Unknown::Starting)?;
        }
    }

    async fn pulled(&self, uri: &str, until: Instant) -> Result<Json, Unknown> {
        let params = json!({"textDocument": {"uri": uri}});
        let mut report = self.ask("textDocument/diagnostic", &params, until).await?;
        match report["kind"].as_str() {
            // gopls leaves the kind empty.
            Some("full" | "") if report["items"].is_array() => Ok(report["items"].take()),
            kind => Err(Unknown::Failed(format!("a diagnostic report of kind {kind:?}"))),
        }
    }

    /// Waits for diagnostics that the server publishes for exactly this version; `None` if it is one that wants to be asked.
    async fn pushed(
        &self,
        uri: &str,
        version: i32,
        until: Instant,
    ) -> Result<Option<Json>, Unknown> {
        loop {
            let news = self.heard.news.notified();
            if self.heard.pulls.load(Ordering::Relaxed) {
                return Ok(None);
            }
            if let Some(list) = self.heard.published(uri, version) {
                return Ok(Some(list));
            }
            if self.is_closed() {
                return Err(Unknown::Crashed);
            }
            tokio::time::timeout_at(until, news).await.map_err(|_| Unknown::Timeout)?;
        }
    }

    /// Asks until the server has an answer: *content modified* and *server cancelled* mean *ask again*.
    async fn ask(&self, method: &str, params: &Json, until: Instant) -> Result<Json, Unknown> {
        for _ in 0..ASK_AGAIN_MAX {
            let left = until.saturating_duration_since(Instant::now());
            match self.client.request(method, params, left).await {
                Ok(reply) => {
                    return reply.parse().map_err(|error| Unknown::Failed(error.to_string()));
                }
                Err(RequestError::Response(error))
                    if matches!(error.code, codes::CONTENT_MODIFIED | codes::SERVER_CANCELLED) => {}
                Err(RequestError::Response(error)) => return Err(Unknown::Failed(error.message)),
                Err(RequestError::Deadline) => return Err(Unknown::Timeout),
                Err(RequestError::Closed) => return Err(Unknown::Crashed),
                Err(RequestError::Shape(error)) => return Err(Unknown::Failed(error.to_string())),
            }
            tokio::time::sleep(Duration::from_millis(ASK_AGAIN_MS)).await;
        }
        Err(Unknown::Timeout)
    }

    /// The names that could stand where `offset` is. The caller holds the turn.
    ///
    /// The server is asked about the text without the name that stands there, because a list that it has filtered by what
    /// is typed is not all there is (ty marks every list as incomplete for that reason).
    pub(super) async fn completions(
        &self,
        place: &Place,
        text: &Arc<str>,
        offset: usize,
        until: Instant,
    ) -> Result<Option<Vec<String>>, Unknown> {
        let name = convert::name_at(text, offset);
        let without: Arc<str> = format!("{}{}", &text[..name.start], &text[name.end..]).into();
        self.show(place, &without)?;
        let mut params = self.at(place, name.start)?;
        params["context"] = json!({"triggerKind": 1});
        Ok(convert::names(&self.ask("textDocument/completion", &params, until).await?))
    }

    /// Where the name at `offset` of `text` is defined; nowhere if the server does not tell such things. The caller holds the turn.
    pub(super) async fn definition(
        &self,
        place: &Place,
        text: &Arc<str>,
        offset: usize,
        until: Instant,
    ) -> Result<Vec<index::Place>, Unknown> {
        if !self.defines {
            return Ok(Vec::new());
        }
        self.until_ready(until).await?;
        self.show(place, text)?;
        let params = self.at(place, offset)?;
        Ok(convert::places(&self.ask("textDocument/definition", &params, until).await?))
    }

    /// The parameters of a question about one place of a document, as the server has it.
    fn at(&self, place: &Place, offset: usize) -> Result<Json, Unknown> {
        let talk = self.talk.lock().unwrap_or_else(PoisonError::into_inner);
        let document = talk.documents.document(&place.uri).ok_or(Unknown::Stale)?;
        let position = document.position(offset, self.dialect.encoding);
        let position = json!({"line": position.line, "character": position.character});
        Ok(json!({"textDocument": {"uri": place.uri}, "position": position}))
    }

    /// The server's own fixes of `diagnostic` in `text`, those that stay within the document. The caller holds the turn.
    pub(super) async fn quick_fixes(
        &self,
        place: &Place,
        text: &Arc<str>,
        diagnostic: &Diagnostic,
        until: Instant,
    ) -> Result<Vec<Vec<Edit>>, Unknown> {
        let version = self.show(place, text)?;
        let known = {
            let talk = self.talk.lock().unwrap_or_else(PoisonError::into_inner);
            talk.last
                .as_ref()
                .filter(|(uri, of, _)| *uri == place.uri && *of == version)
                .map(|(_, _, said)| said.clone())
        };
        let said = match known {
            Some(said) => said,
            None => self.check(place, text, until).await?,
        };
        let Some(said) = said.iter().find(|said| said.diagnostic == *diagnostic) else {
            return Ok(Vec::new());
        };
        let params = json!({
            "textDocument": {"uri": place.uri},
            "range": said.raw["range"],
            "context": {"diagnostics": [said.raw], "only": ["quickfix"], "triggerKind": 1},
        });
        let offered = self.ask("textDocument/codeAction", &params, until).await?;
        let mut fixes = Vec::new();
        for action in offered.as_array().map_or(&[][..], Vec::as_slice).iter().take(QUICK_FIXES_MAX)
        {
            let Some(edit) = self.edit_of(action, until).await else { continue };
            let talk = self.talk.lock().unwrap_or_else(PoisonError::into_inner);
            let document = talk.documents.document(&place.uri).ok_or(Unknown::Stale)?;
            let edits = convert::edits_of_one(&edit, &place.uri, document, self.dialect.encoding);
            fixes.extend(edits.filter(|edits| !convert::silences(edits)));
        }
        Ok(fixes)
    }

    /// The edit of a code action: its own, or what resolving it gives. Commands are not run, disabled actions are none.
    async fn edit_of(&self, action: &Json, until: Instant) -> Option<Json> {
        let is_fix = action["kind"].as_str().is_none_or(|kind| kind.starts_with("quickfix"));
        if !is_fix || !action["disabled"].is_null() {
            return None;
        }
        if action["edit"].is_object() {
            return Some(action["edit"].clone());
        }
        if !self.resolves_actions || !action["command"].is_null() {
            return None;
        }
        let resolved = self.ask("codeAction/resolve", action, until).await.ok()?;
        resolved["edit"].is_object().then(|| resolved["edit"].clone())
    }
}
