//! The fix of a diagnostic: the room behind the code action, `demolish/fix` and `demolish fix`.

use std::ops::Range;
use std::time::Duration;

use decode::{Fix, FixBudget, FixError, FixRequest, Refused};
use engine::Class;
use serde_json::{Value as Json, json};

use super::answer::{self, Ranges};
use super::inline_completion::MODEL_OFF;
use super::{Scene, Shared, Target, diff};
use crate::config::Config;

/// How long a fix waits for a model that is still loading; then it searches without one.
const MODEL_PATIENCE: Duration = Duration::from_secs(20);

/// What came of the search.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The proposal, or why there is none.
    pub fix: Fix,
    /// The model's name; `None` if the search went without one.
    pub model: Option<String>,
    /// The server's name.
    pub server: String,
    /// What the search had to do without, one sentence.
    pub without: Option<String>,
}

/// What a fix may cost, as the settings say.
#[must_use]
pub fn budget(config: &Config) -> FixBudget {
    FixBudget {
        deadline: Duration::from_millis(u64::from(config.fix.deadline_ms)),
        checks_max: config.fix.checks_max,
        regenerations: config.fix.regenerations,
    }
}

/// Looks for a change that removes the diagnostic at `range` of `target`, or its first error.
///
/// # Errors
/// One sentence: nothing can be called fixed, because nothing can be checked.
pub async fn fix(
    shared: &Shared,
    scene: &Scene,
    config: &Config,
    target: &Target,
    range: Option<Range<usize>>,
) -> Result<Answer, String> {
    let critic = target.critic(shared, scene, config);
    if let Some(lack) = critic.lack() {
        let hint = lack.hint.as_ref().map_or_else(String::new, |hint| format!(" ({hint})"));
        return Err(format!("cannot tell what is wrong here: {}{hint}", lack.reason));
    }
    critic.warm();
    // Without a model the server's own fixes and name replacements are still worth checking.
    let engine = async {
        if config.model.enabled {
            shared.models.of(Class::Fix).engine().await
        } else {
            Err(MODEL_OFF.into())
        }
    };
    let (engine, without) = match tokio::time::timeout(MODEL_PATIENCE, engine).await {
        Ok(Ok(engine)) => (Some(engine), None),
        Ok(Err(reason)) => (None, Some(reason.to_string())),
        Err(_) => (None, Some("the model is still loading".to_owned())),
    };
    let request = FixRequest {
        path: target.shown.clone(),
        text: target.text.clone(),
        language: target.language,
        range,
        budget: budget(config),
        seed: 0,
    };
    let fix =
        decode::fix(engine.as_ref(), &critic, request).await.map_err(|error| match error {
            FixError::Unchecked(_) | FixError::Engine(_) => error.to_string(),
        })?;
    Ok(Answer {
        fix,
        model: engine.map(|engine| engine.info().name.clone()),
        server: decode::Critic::server(&critic).to_owned(),
        without,
    })
}

impl Answer {
    /// The text with the proposal applied.
    #[must_use]
    pub fn fixed(&self, text: &str) -> Option<String> {
        text::apply_edits(text, &self.fix.proposal.as_ref()?.edits).ok()
    }

    /// Why there is no proposal, one sentence; `None` if there is one.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        if self.fix.proposal.is_some() {
            return None;
        }
        let reason = self.fix.reason.clone().unwrap_or_else(|| "no candidate was clean".to_owned());
        Some(self.without.as_ref().map_or(reason.clone(), |without| {
            format!("{reason} (searched without the model: {without})")
        }))
    }

    /// The `WorkspaceEdit` of the proposal.
    #[must_use]
    pub fn workspace_edit(&self, target: &Target, version: Option<i32>) -> Option<Json> {
        let edits = Ranges::of(&target.text).edits(&self.fix.proposal.as_ref()?.edits);
        Some(
            json!({"documentChanges": [{"textDocument": {"uri": target.uri, "version": version}, "edits": edits}]}),
        )
    }

    /// The object of `demolish fix --json` and of the request `demolish/fix`.
    #[must_use]
    pub fn object(&self, target: &Target, version: Option<i32>) -> Json {
        let text = &*target.text;
        let before = Ranges::of(text);
        let fixed = self.fixed(text);
        let after = fixed.as_deref().map(Ranges::of);
        let after = after.as_ref().unwrap_or(&before);
        let fix = &self.fix;
        let proposal = fix.proposal.as_ref().map(|proposal| {
            json!({
                "origin": proposal.origin.code(),
                "edits": before.edits(&proposal.edits),
                "edit": self.workspace_edit(target, version),
                "diff": diff::unified(&target.shown.to_string_lossy(), text, &proposal.edits),
                "mean_logprob": proposal.mean_logprob,
            })
        });
        json!({
            "proposal": proposal,
            "target": fix.target.as_ref().map(|diagnostic| before.diagnostic(diagnostic)),
            "before": fix.before.iter().map(|diagnostic| before.diagnostic(diagnostic)).collect::<Vec<_>>(),
            "after": fix.after.iter().map(|diagnostic| after.diagnostic(diagnostic)).collect::<Vec<_>>(),
            "candidates": fix.candidates,
            "refused": fix.refused.iter().map(|refused| refused_row(refused, &before)).collect::<Vec<_>>(),
            "reason": self.reason(),
            "timings_ms": answer::timings_ms(&fix.timings),
            "work": answer::work(&fix.timings),
            "model": self.model,
            "server": self.server,
        })
    }
}

/// Where a refused change stood is not told, so the range is that of the document as it is, as far as it reaches.
fn refused_row(refused: &Refused, ranges: &Ranges) -> Json {
    json!({"text": refused.text, "diagnostic": ranges.diagnostic(&refused.diagnostic)})
}
