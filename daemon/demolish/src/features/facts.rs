//! What the features know about themselves, for `demolish status`.

use std::collections::BTreeMap;

use engine::{DRAFT_SOURCES, Stats};
use serde_json::{Value as Json, json};
use wire::ext::{
    DraftStatus, MixtureStatus, ModelStatus, SpeculationStatus, TwinStatus, WorkspaceStatus,
};

use super::{Shared, answer};
use crate::logging;
use crate::model::{Model, State};

/// A model, as far as it is.
#[must_use]
pub fn model(model: &Model) -> ModelStatus {
    match model.state() {
        State::Idle => ModelStatus { state: "unloaded".to_owned(), ..ModelStatus::default() },
        State::Loading(path, progress) => ModelStatus {
            name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            path: path.display().to_string(),
            state: "loading".to_owned(),
            bytes_read: Some(progress.bytes),
            bytes_to_read: Some(progress.total),
            ..ModelStatus::default()
        },
        State::Ready(ready) => {
            let info = ready.engine.info();
            let remote = info.remote.as_deref();
            ModelStatus {
                name: info.name.clone(),
                path: remote.map_or_else(|| info.path.display().to_string(), |can| can.url.clone()),
                server: remote.map(|can| can.name()),
                downgrades: remote.map(|can| can.downgrades.clone()).unwrap_or_default(),
                state: "ready".to_owned(),
                error: None,
                bytes_resident: info.bytes_resident,
                leaves_in_s: model.leaves_in().map(|left| left.as_secs_f64().round()),
                drafts: drafts(&ready.engine.stats()),
                ..ModelStatus::default()
            }
        }
        State::Failed(reason) => ModelStatus {
            state: "failed".to_owned(),
            error: Some(reason.to_string()),
            ..ModelStatus::default()
        },
    }
}

/// What came of the drafts of each source that had any.
fn drafts(stats: &Stats) -> BTreeMap<String, DraftStatus> {
    let counts = stats.drafted.into_iter().zip(stats.accepted);
    let sources = DRAFT_SOURCES.iter().zip(counts).filter(|(_, (drafted, _))| *drafted > 0);
    sources
        .map(|(source, (drafted, accepted))| {
            ((*source).to_owned(), DraftStatus { drafted, accepted })
        })
        .collect()
}

/// The twins that run.
#[must_use]
pub fn twins(shared: &Shared) -> Vec<TwinStatus> {
    let twin = |facts: crate::twin::TwinFacts| TwinStatus {
        command: facts.plan.command,
        pid: facts.pid,
        root: facts.plan.root.display().to_string(),
        checks: facts.checks,
        check_ms: facts.pace.and_then(|pace| answer::ms(pace.p50).as_f64()),
        rss_bytes: facts.bytes,
    };
    shared.twins.facts().into_iter().map(twin).collect()
}

/// Who is shown candidates, server by server.
#[must_use]
pub fn speculation(shared: &Shared) -> Vec<SpeculationStatus> {
    let server = |facts: crate::twin::SpeculationFacts| SpeculationStatus {
        server: facts.server,
        root: facts.root.display().to_string(),
        backend: facts.choice.backend.word().to_owned(),
        why: facts.choice.why,
        checks: facts.checks,
        p50_ms: facts.pace.and_then(|pace| answer::ms(pace.p50).as_f64()),
        p95_ms: facts.pace.and_then(|pace| answer::ms(pace.p95).as_f64()),
        twin_bytes: facts.twin_bytes,
    };
    shared.twins.speculation().into_iter().map(server).collect()
}

/// What is known of the workspaces.
#[must_use]
pub fn workspaces(shared: &Shared) -> Vec<WorkspaceStatus> {
    let workspace = |facts: crate::workspace::RootFacts| WorkspaceStatus {
        root: facts.root.display().to_string(),
        state: if facts.walking { "reading" } else { "read" }.to_owned(),
        files: facts.size.files,
        chunks: facts.size.chunks,
        bytes: facts.size.bytes,
        cut: facts.cut,
        left_out: facts.left_out,
        mixture: facts.tokens.map(|size| MixtureStatus {
            files: size.files,
            tokens: size.tokens,
            bytes: size.bytes,
        }),
    };
    shared.workspaces.facts().into_iter().map(workspace).collect()
}

/// All of it.
#[must_use]
pub fn of(shared: &Shared) -> Json {
    let agent = shared.models.agent().map(model);
    let model = model(shared.models.typing());
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "model_error": model.error,
        "model": model,
        "agent_model": agent,
        "twins": twins(shared),
        "speculation": speculation(shared),
        "workspaces": workspaces(shared),
        "log": logging::daemon_log(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_that_drafted_nothing_are_left_out() {
        let mut stats = Stats::default();
        let place = |name| DRAFT_SOURCES.iter().position(|source| *source == name).unwrap();
        (stats.drafted[place("text")], stats.accepted[place("text")]) = (12, 9);
        stats.drafted[place("model")] = 3;
        let told = serde_json::to_value(drafts(&stats)).unwrap();
        let text = json!({ "drafted": 12, "accepted": 9 });
        let model = json!({ "drafted": 3, "accepted": 0 });
        assert_eq!(told, json!({ "text": text, "model": model }));
    }
}
