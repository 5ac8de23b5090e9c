//! Verbs of the command line, answered by the daemon: the same rooms, with the verb's own settings and environment.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use wire::{ResponseError, codes};

use super::inline_completion::{self, NoAnswer, Wish};
use super::{Scene, Shared, Target, fix};
use crate::config::Config;
use crate::twin::plan::uri_of;

/// Completes at a place; the answer is the protocol's list of inline completions.
pub const COMPLETE: &str = "demolish/complete";
/// Fixes a diagnostic; the answer is that of `demolish/fix` to an editor.
pub const FIX: &str = "demolish/fix";
/// The daemon has loaded another model than the verb wants: the verb has to do it itself.
pub const OTHER_MODEL: i64 = -32099;
/// The environment is missing something: a model, a language server.
pub const MISSING: i64 = -32098;

/// What a verb asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Asked {
    /// The file, absolute.
    pub path: PathBuf,
    /// Its text, which the verb has read.
    pub text: String,
    /// For a completion the byte of the cursor, for a fix where the diagnostic is; `None` takes the first error.
    pub range: Option<std::ops::Range<usize>>,
    /// The verb's settings, by name.
    pub settings: Map<String, Json>,
    /// The verb's environment; variables that are not UTF-8 are left out.
    pub env: Vec<(String, String)>,
    /// How long to wait for a model that is being loaded, in milliseconds.
    pub patience_ms: u64,
}

impl Asked {
    /// A question of this process.
    #[must_use]
    pub fn new(
        path: PathBuf,
        text: String,
        range: Option<std::ops::Range<usize>>,
        config: &Config,
    ) -> Asked {
        let settings = config.values().into_iter().map(|(key, value)| (key.to_owned(), value));
        Asked {
            path,
            text,
            range,
            settings: settings.collect(),
            env: crate::env_vars::whole().into_iter().collect(),
            patience_ms: 600_000,
        }
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> Config {
        Config::of_values(&self.settings)
    }

    /// The document.
    #[must_use]
    pub fn target(&self) -> Target {
        Target::new(uri_of(&self.path), self.path.clone(), None, Arc::from(self.text.as_str()))
    }
}

/// Answers a verb: in the daemon for a connection of the command line, and in the verb itself without one.
///
/// # Errors
/// One sentence, with a code that says what kind of error it is.
pub async fn answer(
    shared: &Shared,
    mut scene: Scene,
    method: &str,
    params: &Json,
) -> Result<Json, ResponseError> {
    let asked: Asked = match method {
        COMPLETE | FIX => Asked::deserialize(params)
            .map_err(|error| ResponseError::new(codes::INVALID_PARAMS, error.to_string()))?,
        _ => {
            return Err(ResponseError::new(
                codes::METHOD_NOT_FOUND,
                format!("there is no request `{method}`"),
            ));
        }
    };
    let config = asked.config();
    if !shared.models.are_for(&config.model) {
        return Err(ResponseError::new(OTHER_MODEL, "the daemon has another model"));
    }
    let env = asked.env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    scene.env = Some(Arc::new(env.collect()));
    match method {
        COMPLETE => complete(shared, &scene, &config, &asked).await,
        _ => fixed(shared, &scene, &config, &asked).await,
    }
}

async fn complete(
    shared: &Shared,
    scene: &Scene,
    config: &Config,
    asked: &Asked,
) -> Result<Json, ResponseError> {
    let target = asked.target();
    let offset = asked.range.as_ref().map_or(0, |range| range.start);
    let mut budget = inline_completion::budget(config);
    budget.deadline = budget.deadline.max(decode::Budget::ASKED.deadline);
    let patience = Duration::from_millis(asked.patience_ms);
    let wish = Wish { trigger: decode::Trigger::Invoked, budget, patience, indent: None };
    let answer = inline_completion::complete(shared, scene, config, &target, offset, wish).await;
    match answer {
        Ok(answer) => Ok(answer.list(&target.text)),
        Err(error @ (NoAnswer::Model(_) | NoAnswer::Loading)) => {
            Err(ResponseError::new(MISSING, error.to_string()))
        }
        Err(error @ NoAnswer::Engine(_)) => {
            Err(ResponseError::new(codes::REQUEST_FAILED, error.to_string()))
        }
    }
}

async fn fixed(
    shared: &Shared,
    scene: &Scene,
    config: &Config,
    asked: &Asked,
) -> Result<Json, ResponseError> {
    let target = asked.target();
    let answer = fix::fix(shared, scene, config, &target, asked.range.clone()).await;
    let answer = answer.map_err(|reason| ResponseError::new(MISSING, reason))?;
    Ok(answer.object(&target, None))
}
