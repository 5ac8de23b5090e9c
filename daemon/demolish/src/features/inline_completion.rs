//! Completion in place: the room behind `textDocument/inlineCompletion` and `demolish complete`.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use decode::prompt::Layout;
use decode::{
    Budget, CompleteError, CompleteRequest, Completion, Indent, Mixing, OnFindings, Snippet,
    Suggestion, Trigger, Verdict,
};
use engine::{Engine, TokenId};
use recall::index::Chunk;
use serde_json::{Value as Json, json};
use wire::lsp::{InlineCompletionTriggerKind, Position};
use wire::tower::jsonrpc::Result;

use super::answer::{self, Ranges};
use super::backend::Backend;
use super::definitions::Near;
use super::selected::Params;
use super::{Scene, Shared, Target, own};
use crate::config::Config;
use crate::twin::Critic;
use crate::twin::plan::path_of;
use crate::workspace::choice::At;

/// Bytes of code that a token stands for, roughly.
pub(crate) const TOKEN_BYTES: usize = 3;
/// What is said where the settings want no model.
pub(super) const MODEL_OFF: &str = "the model is switched off (`model.enabled`)";

/// What was found for one place.
#[derive(Debug, Clone)]
pub struct Answer {
    /// What every candidate takes the place of, in bytes of the text: nothing, at the cursor, or what the selected item of a menu does.
    pub place: Range<usize>,
    /// Suggestions, refused candidates, timings.
    pub completion: Completion,
    /// The model's name.
    pub model: String,
    /// The server's name; empty if there is none.
    pub server: String,
    /// What would give a verdict where there is none.
    pub hint: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The model is not there; the sentence says why.
    #[error("{0}")]
    Model(Arc<str>),
    /// The model is still being loaded.
    #[error("the model is still loading")]
    Loading,
    /// The engine refused or failed.
    #[error("{0}")]
    Engine(String),
}

/// Who wants a completion, and what it may cost.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    /// Who.
    pub trigger: Trigger,
    /// What it may cost.
    pub budget: Budget,
    /// How long it waits for a model that is still loading.
    pub patience: Duration,
    /// How the editor indents; `None` lets the document tell.
    pub indent: Option<Indent>,
}

/// What a completion may cost, as the settings say.
#[must_use]
pub fn budget(config: &Config) -> Budget {
    let complete = &config.complete;
    Budget {
        deadline: Duration::from_millis(u64::from(complete.deadline_ms)),
        checks_max: complete.checks_max,
        lines_max: complete.lines_max,
        tokens_max: complete.tokens_max,
        candidates: complete.candidates,
    }
}

/// Completes `target` at the byte `offset`.
///
/// # Errors
/// There is no model, or it could not answer; a missing checker is no error, but a verdict.
pub async fn complete(
    shared: &Shared,
    scene: &Scene,
    config: &Config,
    target: &Target,
    offset: usize,
    wish: Wish,
) -> std::result::Result<Answer, NoAnswer> {
    let critic = Arc::new(target.critic(shared, scene, config));
    critic.warm();
    if !config.model.enabled {
        return Err(NoAnswer::Model(MODEL_OFF.into()));
    }
    let engine = match tokio::time::timeout(wish.patience, shared.models.typing().engine()).await {
        Ok(engine) => engine.map_err(NoAnswer::Model)?,
        Err(_) => return Err(NoAnswer::Loading),
    };
    #[allow(clippy::cast_possible_truncation, reason = "the settings keep it within 0 to 2")]
    let temperature = config.complete.temperature as f32;
    let mut request = CompleteRequest::typing(target.shown.clone(), target.text.clone(), offset);
    request.language = target.language;
    request.budget = wish.budget;
    request.trigger = wish.trigger;
    request.indent = wish.indent;
    request.withhold = config.complete.withhold.withhold();
    request.temperature = temperature;
    if config.complete.show_findings {
        request.on_findings = OnFindings::Show;
    }
    request.lookup = around(shared, &engine, target, offset);
    let (context, near) = context(shared, scene, config, &engine, target, offset);
    request.context = context;
    request.mixing = mixing(shared, scene, config, &engine, target);
    let mut completion =
        decode::complete(&engine, &*critic, request).await.map_err(|error| match error {
            CompleteError::Busy(_) | CompleteError::NoFim(_) | CompleteError::Engine(_) => {
                NoAnswer::Engine(error.to_string())
            }
        })?;
    if let Some(near) = near {
        shared.definitions.clone().ask(near, target.text.clone(), critic.clone());
    }
    let (unchecked, only_clean) = (config.complete.show_unchecked, config.complete.only_clean);
    completion.suggestions.retain(|suggestion| match suggestion.verdict {
        Verdict::Clean => true,
        Verdict::Unknown(_) => unchecked && !only_clean,
        Verdict::Findings(_) => !only_clean,
    });
    Ok(Answer {
        place: offset..offset,
        completion,
        model: engine.info().name.clone(),
        server: decode::Critic::server(&*critic).to_owned(),
        hint: hint(&critic),
    })
}

/// What lies around the cursor, as far as its tokens are known; the rest is read meanwhile, for the next keystroke.
fn around(shared: &Shared, engine: &Engine, target: &Target, offset: usize) -> Vec<Arc<[TokenId]>> {
    let tokenizer = engine.words();
    let (known, unread) = shared.around.of(&tokenizer, &target.text, offset);
    if let Some(unread) = unread {
        tokio::task::spawn_blocking(move || unread.read(&tokenizer));
    }
    known
}

/// What is blended into what the model says. A server's model is not seen, so nothing can be.
fn mixing(
    shared: &Shared,
    scene: &Scene,
    config: &Config,
    engine: &Engine,
    target: &Target,
) -> Option<Mixing> {
    if !config.complete.mixture || engine.info().remote.is_some() {
        return None;
    }
    let root = target.workspace(shared, scene, config);
    let fed = root.map(|root| shared.workspaces.tokens(&root, &target.path, &engine.words()));
    let (workspace, key) = fed.unzip();
    Some(Mixing { workspace, key: key.unwrap_or_default() })
}

/// What the rest of the workspace says, as far as it is read, where the model has room for it, and where names near the cursor are
/// defined. A server that runs the model is told nothing of other files.
fn context(
    shared: &Shared,
    scene: &Scene,
    config: &Config,
    engine: &Engine,
    target: &Target,
    offset: usize,
) -> (Vec<Snippet>, Option<Near>) {
    let Some(root) = target.workspace(shared, scene, config) else { return Default::default() };
    let Some(layout) = Layout::of(engine).filter(|layout| layout.context_max > 0) else {
        return Default::default();
    };
    if engine.info().remote.is_some() {
        return Default::default();
    }
    let near = shared.definitions.near(&target.path, &target.text, offset);
    let opened: Vec<PathBuf> =
        scene.documents.iter().filter_map(|open| path_of(&open.uri)).collect();
    let at = At {
        path: &target.path,
        text: &target.text,
        offset,
        opened: &opened,
        definitions: &near.places,
        shown: (layout.prefix_max * TOKEN_BYTES, layout.suffix_max * TOKEN_BYTES),
        budget: layout.context_max * TOKEN_BYTES,
    };
    let chunks = shared.workspaces.context(&root, &at);
    let snippet =
        |chunk: &Chunk| Snippet { path: chunk.path.clone(), text: chunk.text.as_str().into() };
    (chunks.iter().map(snippet).collect(), Some(near))
}

fn hint(critic: &Critic) -> Option<String> {
    critic.lack().and_then(|lack| lack.hint.clone())
}

impl Answer {
    /// What the protocol's items carry as `data.demolish`; for the first suggestion if `suggestion` is none.
    fn data(&self, suggestion: Option<&Suggestion>, ranges: &Ranges) -> Json {
        let completion = &self.completion;
        let hint = self.hint.as_deref();
        let verdict = |found: &Suggestion| {
            let placed = ranges.with(found.range.clone(), &found.text);
            let mut verdict = answer::verdict(&found.verdict, &self.server, hint, &placed);
            // What may still go away as the text goes on is told, but is no objection.
            verdict["deferred"] =
                found.deferred.iter().map(|finding| placed.diagnostic(finding)).collect();
            verdict
        };
        json!({
            "verdict": suggestion.map(verdict),
            "confidence": suggestion.and_then(|suggestion| suggestion.confidence),
            "withheld": completion.withheld.len(),
            "refused": answer::refused(&completion.refused, ranges, &self.place),
            "timings_ms": answer::timings_ms(&completion.timings),
            "work": answer::work(&completion.timings),
            "model": self.model,
        })
    }

    /// The protocol's list. With no item to carry it, the list itself says what was refused.
    #[must_use]
    pub fn list(&self, text: &str) -> Json {
        let ranges = Ranges::of(text);
        let item = |suggestion: &Suggestion| {
            json!({
                "insertText": suggestion.text,
                "range": ranges.range(suggestion.range.clone()),
                "data": {"demolish": self.data(Some(suggestion), &ranges)},
            })
        };
        let items: Vec<Json> = self.completion.suggestions.iter().map(item).collect();
        if items.is_empty() {
            return json!({"items": [], "demolish": self.data(None, &ranges)});
        }
        json!({"items": items})
    }

    /// The object of `demolish complete --json`.
    #[must_use]
    pub fn object(&self, text: &str) -> Json {
        object_of_list(&self.list(text))
    }
}

/// The object of `demolish complete --json` from the protocol's list, which is what the daemon answers with.
#[must_use]
pub fn object_of_list(list: &Json) -> Json {
    let items = list["items"].as_array().map_or(&[][..], Vec::as_slice);
    let first = items.first();
    let data = first.map_or(&list["demolish"], |item| &item["data"]["demolish"]);
    let one = |item: &Json| {
        json!({
            "suggestion": item["insertText"],
            "range": item["range"],
            "verdict": item["data"]["demolish"]["verdict"],
        })
    };
    json!({
        "suggestion": first.map(|item| item["insertText"].clone()),
        "range": first.map(|item| item["range"].clone()),
        "verdict": data["verdict"],
        "alternatives": items.iter().skip(1).map(one).collect::<Vec<_>>(),
        "refused": data["refused"],
        "timings_ms": data["timings_ms"],
        "work": data["work"],
        "model": data["model"],
        "server": data["verdict"]["server"],
    })
}

/// An answer that was shown, and that may be typed into.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    text: Arc<str>,
    offset: usize,
    others: Vec<(String, i32)>,
    answer: Answer,
}

impl Shown {
    pub(super) fn new(scene: &Scene, target: &Target, offset: usize, answer: Answer) -> Shown {
        Shown { text: target.text.clone(), offset, others: revisions(scene, &target.uri), answer }
    }

    /// The answer for a text in which the user has typed what was suggested: the document that results is the same, so
    /// nothing has to be asked again.
    pub(super) fn typed_through(
        &self,
        scene: &Scene,
        target: &Target,
        offset: usize,
    ) -> Option<Answer> {
        let typed = offset.checked_sub(self.offset).filter(|typed| *typed > 0)?;
        let (old, new) = (&*self.text, &*target.text);
        let same_start = new.get(..self.offset)? == old.get(..self.offset)?;
        let same_rest = new.get(offset..)? == old.get(self.offset..)?;
        if !same_start
            || !same_rest
            || typed + old.len() != new.len()
            || self.others != revisions(scene, &target.uri)
        {
            return None;
        }
        let typed = &new[self.offset..offset];
        let left = |suggestion: &Suggestion| {
            suggestion.typed_through(typed).filter(|left| !left.text.is_empty())
        };
        let suggestions: Vec<Suggestion> =
            self.answer.completion.suggestions.iter().filter_map(left).collect();
        if suggestions.is_empty() {
            return None;
        }
        let mut answer = self.answer.clone();
        answer.completion.suggestions = suggestions;
        answer.completion.timings = decode::Timings::default();
        Some(answer)
    }

    pub(super) fn refused(&self) -> Json {
        answer::refused(
            &self.answer.completion.refused,
            &Ranges::of(&self.text),
            &(self.offset..self.offset),
        )
    }
}

/// The revisions of the other documents: a verdict holds only as long as they stand still.
fn revisions(scene: &Scene, uri: &str) -> Vec<(String, i32)> {
    let others = scene.documents.iter().filter(|open| open.uri != uri);
    others.map(|open| (open.uri.clone(), open.document.revision().0)).collect()
}

/// How long a completion waits for a model that is still loading before it answers with nothing.
const MODEL_PATIENCE: Duration = Duration::from_millis(1500);

/// What an explicit request may cost: the user waits for it, and wants a choice.
fn asked(config: &Config) -> Budget {
    let typing = budget(config);
    Budget {
        deadline: typing.deadline.max(Budget::ASKED.deadline),
        checks_max: typing.checks_max.max(Budget::ASKED.checks_max),
        tokens_max: typing.tokens_max.max(Budget::ASKED.tokens_max),
        candidates: typing.candidates.max(Budget::ASKED.candidates),
        ..typing
    }
}

impl Backend {
    /// `textDocument/inlineCompletion`: the best first. A request that is overtaken by the next one for its document, or by a
    /// change of it, is empty, and its work in the engine is dropped.
    pub(super) async fn inline_completion(&self, asked_with: Params) -> Result<Json> {
        let params = &asked_with.own;
        let automatic = params.context.trigger_kind == InlineCompletionTriggerKind::AUTOMATIC;
        let config = self.config();
        let empty = json!({"items": []});
        if automatic && (self.inner().off || !config.complete.enabled) {
            return Ok(empty);
        }
        let position = params.text_document_position.position;
        let uri = params.text_document_position.text_document.uri.as_str().to_owned();
        let (scene, target, _) = self.look(&uri)?;
        let offset = offset_of(&scene, &uri, position);
        let typed_through = self
            .inner()
            .shown
            .get(&uri)
            .and_then(|shown| shown.typed_through(&scene, &target, offset));
        let selected = asked_with.selected(&scene, &uri, offset);
        if let (true, None, Some(answer)) = (automatic, &selected, typed_through) {
            return Ok(answer.list(&target.text));
        }
        if config.model.enabled {
            self.show_loading();
        }
        let (trigger, budget) = if automatic {
            (Trigger::Automatic, budget(&config))
        } else {
            (Trigger::Invoked, asked(&config))
        };
        let (patience, indent) = (MODEL_PATIENCE, asked_with.indent());
        let wish = Wish { trigger, budget, patience, indent };
        let put = selected.as_ref().map(|selected| selected.put(&target));
        let (whole, cursor) = put.as_ref().map_or((&target, offset), |(put, at)| (put, *at));
        let work = complete(&self.shared, &scene, &config, whole, cursor, wish);
        let answered = tokio::select! {
            biased;
            () = own::overtaken() => return Ok(empty),
            answered = work => answered,
        };
        match answered {
            Ok(mut answer) => {
                if let Some(selected) = selected {
                    selected.take_in(&mut answer.completion);
                    answer.place = selected.range();
                    // What is typed next is not what was suggested, but what narrows the menu down.
                    return Ok(answer.list(&target.text));
                }
                let list = answer.list(&target.text);
                self.inner().shown.insert(uri, Shown::new(&scene, &target, offset, answer));
                Ok(list)
            }
            Err(NoAnswer::Model(reason)) => {
                self.say_no_model(&reason).await;
                Ok(json!({"items": [], "demolish": {"error": &*reason}}))
            }
            Err(error) => {
                tracing::debug!(%error, "no completion");
                Ok(json!({"items": [], "demolish": {"error": error.to_string()}}))
            }
        }
    }
}

/// The byte of a position in an open document.
pub(super) fn offset_of(scene: &Scene, uri: &str, position: Position) -> usize {
    let place = text::Position { line: position.line, character: position.character };
    scene.document(uri).map_or(0, |open| open.document.offset(place, answer::ENCODING))
}
