//! The daemon's door to the features: the loop's traits, and its snapshot in the words of this module.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::sync::Arc;

use decode::BoxFuture;
use proxy::OpenDocument;
use serde_json::{Value as Json, json};
use wire::ext::Status;
use wire::{Bytes, Envelope, Kind};

use super::{Own, Scene, Shared, facts, verb};
use crate::state::{self, Outlet, Snapshot, WrappedServer};
use crate::twin::{Environment, Open, UserServer};

impl state::Features for Shared {
    fn own(&self, outlet: Outlet) -> Box<dyn state::Own> {
        let send = Arc::new(move |envelope| -> BoxFuture<'static, bool> {
            let outlet = outlet.clone();
            Box::pin(async move { outlet.send(envelope).await })
        });
        Box::new(Own::new(self.clone(), send))
    }

    fn control(&self, snapshot: Snapshot, envelope: Envelope) -> BoxFuture<'static, Option<Bytes>> {
        let Kind::Request { id, method } = &envelope.kind else {
            return Box::pin(std::future::ready(None));
        };
        let (id, method, shared) = (id.clone(), method.to_string(), self.clone());
        let params: Json = envelope.params_as().unwrap_or(Json::Null);
        Box::pin(async move {
            let answer = verb::answer(&shared, scene(&snapshot), &method, &params).await;
            Some(match answer {
                Ok(result) => Envelope::response(id, &result).body,
                Err(error) => Envelope::error(id, &error).body,
            })
        })
    }

    fn status(&self, status: &mut Status) {
        status.twins = facts::twins(self);
        status.speculation = facts::speculation(self);
        status.workspaces = facts::workspaces(self);
        status.model = Some(facts::model(self.models.typing()));
        status.agent_model = self.models.agent().map(facts::model);
    }
}

impl state::Own for Own {
    fn call(
        &mut self,
        snapshot: Snapshot,
        envelope: Envelope,
    ) -> BoxFuture<'static, Option<Bytes>> {
        Own::call(self, scene(&snapshot), &envelope)
    }
}

/// The snapshot of a link as the features see it. A verb of the command line has no documents of its own: it sees those
/// that the editors' servers have, unsaved as they are.
fn scene(snapshot: &Snapshot) -> Scene {
    let mut documents: Vec<Open> = opened(&snapshot.documents);
    if documents.is_empty() {
        for open in snapshot.servers.iter().flat_map(|server| opened(&server.documents)) {
            if documents.iter().all(|known| known.uri != open.uri) {
                documents.push(open);
            }
        }
    }
    documents.sort_by(|a, b| a.uri.cmp(&b.uri));
    Scene {
        documents: documents.into(),
        users: snapshot.servers.iter().filter(|server| server.running).map(user_server).collect(),
        env: (!snapshot.env.is_empty()).then(|| Arc::new(environment(&snapshot.env))),
        root: None,
        status: Json::Null,
    }
}

fn opened(documents: &HashMap<Arc<str>, OpenDocument>) -> Vec<Open> {
    let open = |(uri, open): (&Arc<str>, &OpenDocument)| Open {
        uri: uri.to_string(),
        language_id: open.language_id.to_string(),
        document: open.document.clone(),
    };
    documents.iter().map(open).collect()
}

fn user_server(server: &WrappedServer) -> UserServer {
    let parsed = |bytes: &Option<Bytes>| {
        bytes.as_ref().and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or(Json::Null)
    };
    let mut settings = parsed(&server.settings);
    let configuration = server.configuration.iter().filter_map(|(item, answer)| {
        let item: Json = serde_json::from_str(item).ok()?;
        Some((
            item["section"].as_str()?.to_owned(),
            serde_json::from_str::<Json>(answer.get()).ok()?,
        ))
    });
    UserServer {
        command: server.command.to_vec(),
        cwd: Some(server.cwd.clone()),
        env: Some(environment(&server.env)),
        initialize: parsed(&server.initialize),
        pid: server.pid,
        leaser: Some(server.leaser.clone()),
        settings: with_sections(settings["settings"].take(), configuration),
    }
}

fn environment(env: &BTreeMap<String, String>) -> Environment {
    env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect()
}

/// What the editor has answered for sections lies over what it has pushed.
fn with_sections(settings: Json, sections: impl Iterator<Item = (String, Json)>) -> Json {
    let mut settings = settings;
    for (section, answer) in sections.filter(|(_, answer)| !answer.is_null()) {
        let nested = section.rsplit('.').fold(answer, |inner, part| json!({part: inner}));
        settings = crate::twin::plan::merged(settings, Some(&nested));
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answered_sections_lie_over_pushed_settings() {
        let sections = [("ty.inlay".to_owned(), json!({"on": true})), ("x".to_owned(), Json::Null)];
        let settings = with_sections(json!({"ty": {"a": 1}}), sections.into_iter());
        assert_eq!(settings, json!({"ty": {"a": 1, "inlay": {"on": true}}}));
        assert_eq!(with_sections(Json::Null, std::iter::empty()), Json::Null);
    }
}
