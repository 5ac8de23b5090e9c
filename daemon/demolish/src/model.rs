//! Finding the model and loading it: lazily, in the background, once for all editors.
//!
//! A model that cannot be loaded is an ordinary state: it is said once and clearly, language servers go on, and every
//! feature that needs a model answers with the reason.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use engine::{Engine, LoadOptions};
use tokio::sync::watch;

use crate::config;

/// Where the default model lies below the folder that holds the program's folder.
const INSTALLED: &str = "share/demolish/nano";
/// The file that makes a folder a model.
const CONFIG_FILE: &str = "config.json";

/// The model of this process. Cloning is cheap; all clones share the one model.
#[derive(Debug, Clone)]
pub struct Model {
    settings: Arc<Mutex<config::Model>>,
    state: Arc<watch::Sender<State>>,
}

/// How far the model is.
#[derive(Debug, Clone)]
pub enum State {
    /// Nobody has needed it yet.
    Idle,
    /// It is being read.
    Loading(PathBuf, Instant),
    /// It is there.
    Ready(Ready),
    /// It cannot be had; one sentence says why, and what to do.
    Failed(Arc<str>),
}

/// A loaded model.
#[derive(Clone)]
pub struct Ready {
    /// The engine that runs it.
    pub engine: Engine,
    /// How long loading took.
    pub took: Duration,
}

impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ready")
            .field("model", &self.engine.info().name)
            .field("took", &self.took)
            .finish()
    }
}

impl Model {
    /// The model that the settings ask for; nothing is read yet.
    #[must_use]
    pub fn new(settings: &config::Model) -> Model {
        let settings = Arc::new(Mutex::new(settings.clone()));
        Model { settings, state: Arc::new(watch::Sender::new(State::Idle)) }
    }

    /// A model that is already there: scripted ones in tests.
    #[must_use]
    pub fn ready(engine: Engine) -> Model {
        let state = State::Ready(Ready { engine, took: Duration::ZERO });
        Model { settings: Arc::default(), state: Arc::new(watch::Sender::new(state)) }
    }

    fn settings(&self) -> config::Model {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it is the model that these settings ask for.
    #[must_use]
    pub fn is_for(&self, settings: &config::Model) -> bool {
        self.settings() == *settings
    }

    /// Asks for the model of these settings from now on. `false`: another one is loaded, or being loaded, and stays.
    pub fn adopt(&self, settings: &config::Model) -> bool {
        if self.is_for(settings) {
            return true;
        }
        let mut adopted = false;
        self.state.send_if_modified(|state| {
            adopted = matches!(state, State::Idle | State::Failed(_));
            if adopted {
                *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = settings.clone();
                *state = State::Idle;
            }
            adopted
        });
        adopted
    }

    /// How far it is.
    #[must_use]
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// The engine, if it is loaded. Starts nothing.
    #[must_use]
    pub fn loaded(&self) -> Option<Engine> {
        match &*self.state.borrow() {
            State::Ready(ready) => Some(ready.engine.clone()),
            _ => None,
        }
    }

    /// Starts loading unless that has happened. Needs a tokio runtime; returns at once.
    pub fn want(&self) {
        let mut found = None;
        self.state.send_if_modified(|state| {
            if !matches!(state, State::Idle) {
                return false;
            }
            *state = match find(&self.settings()) {
                Ok(dir) => {
                    found = Some(dir.clone());
                    State::Loading(dir, Instant::now())
                }
                Err(reason) => failed(reason),
            };
            true
        });
        let Some(dir) = found else { return };
        let (state, options) = (self.state.clone(), options(&self.settings()));
        tokio::task::spawn_blocking(move || {
            let started = Instant::now();
            let loaded = load(&dir, options);
            state.send_replace(match loaded {
                Ok(engine) => {
                    let took = started.elapsed();
                    tracing::info!(model = %dir.display(), ms = took.as_millis(), "the model is loaded");
                    State::Ready(Ready { engine, took })
                }
                Err(reason) => failed(reason),
            });
        });
    }

    /// The engine: waits until the model is loaded, and loads it if nobody has asked before.
    ///
    /// # Errors
    /// The model cannot be had: one sentence with the reason and the remedy.
    pub async fn engine(&self) -> Result<Engine, Arc<str>> {
        self.want();
        let mut watching = self.state.subscribe();
        let settled =
            watching.wait_for(|state| matches!(state, State::Ready(_) | State::Failed(_))).await;
        match settled.as_deref() {
            Ok(State::Ready(ready)) => Ok(ready.engine.clone()),
            Ok(State::Failed(reason)) => Err(reason.clone()),
            _ => Err("the model is gone".into()),
        }
    }
}

/// The one place where a failure is logged, because it happens once.
fn failed(reason: String) -> State {
    tracing::warn!("{reason}");
    State::Failed(reason.into())
}

/// How the settings want it loaded.
pub(crate) fn options(settings: &config::Model) -> LoadOptions {
    const GIB: f64 = (1u64 << 30) as f64;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the settings keep it within 0 to 4096 GiB"
    )]
    let bytes = (settings.memory_max_gib * GIB) as u64;
    LoadOptions { memory_max: (bytes > 0).then_some(bytes), ..LoadOptions::AUTO }
}

/// Loads the model of a directory now. Blocks.
///
/// # Errors
/// One sentence with the place, the reason and the remedy.
pub fn load(dir: &Path, options: LoadOptions) -> Result<Engine, String> {
    Engine::load(dir, options).map_err(|error| {
        let remedy = match &error {
            engine::LoadError::TooBig { .. } => {
                "; a smaller model, or `model.memory_max_gib`, helps"
            }
            engine::LoadError::File { .. } => {
                "; a model is a folder with config.json, *.safetensors and tokenizer.json"
            }
            engine::LoadError::Weights { .. }
            | engine::LoadError::Config { .. }
            | engine::LoadError::Tokenizer { .. } => "; copy or convert the model again",
            _ => "",
        };
        let place = dir.display().to_string();
        let message = error.to_string();
        let message = message.trim_end_matches('.');
        if message.contains(&place) {
            format!("cannot load the model: {message}{remedy}")
        } else {
            format!("cannot load the model {place}: {message}{remedy}")
        }
    })
}

/// The directory of the model that the settings ask for.
///
/// # Errors
/// There is none: one sentence with the remedy.
pub fn find(settings: &config::Model) -> Result<PathBuf, String> {
    if !settings.enabled {
        return Err("the model is switched off (`model.enabled`)".to_owned());
    }
    if let Some(asked) = &settings.path {
        let dir = expanded(asked);
        return if dir.is_dir() {
            Ok(dir)
        } else {
            Err(format!(
                "there is no model at {}: no such folder; `model.path` or DEMOLISH_MODEL names it",
                dir.display()
            ))
        };
    }
    let places = default_places();
    places.iter().find(|dir| dir.join(CONFIG_FILE).is_file()).cloned().ok_or_else(|| {
        let looked: Vec<String> = places.iter().map(|dir| dir.display().to_string()).collect();
        format!("there is no default model in {}; set `model.path` or DEMOLISH_MODEL to a folder in MLX format", looked.join(" or "))
    })
}

/// Every place where a model is looked for: the one that the settings name, then those of the default model.
#[must_use]
pub fn places(settings: &config::Model) -> Vec<PathBuf> {
    settings.path.iter().map(|path| expanded(path)).chain(default_places()).collect()
}

/// Beside the installed program, else in the source tree that it was built from.
fn default_places() -> Vec<PathBuf> {
    let program = std::env::current_exe().and_then(|path| path.canonicalize()).ok();
    let installed = program.and_then(|path| Some(path.parent()?.parent()?.join(INSTALLED)));
    let source =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(|daemon| daemon.join("nano/model"));
    installed.into_iter().chain(source).collect()
}

/// `~/…` is below the home folder.
fn expanded(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), crate::env_vars::home()) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(path: &str) -> config::Model {
        config::Model { path: Some(PathBuf::from(path)), ..config::Model::default() }
    }

    #[tokio::test]
    async fn a_model_that_is_missing_is_said_once_and_stays_missing() {
        let model = Model::new(&settings("/nowhere/model"));
        assert!(matches!(model.state(), State::Idle), "nothing is looked for before it is needed");
        let reason = model.engine().await.err().unwrap();
        assert!(reason.starts_with("there is no model at /nowhere/model"), "{reason}");
        assert_eq!(model.engine().await.err().unwrap(), reason);
        assert!(model.loaded().is_none());
    }

    #[tokio::test]
    async fn other_settings_are_adopted_until_a_model_is_loaded() {
        let model = Model::new(&settings("/nowhere/one"));
        assert!(model.engine().await.is_err());
        assert!(model.adopt(&settings("/nowhere/two")), "the first one failed");
        assert!(model.engine().await.err().unwrap().contains("/nowhere/two"));
        let model = Model::ready(Engine::scripted(engine::Script::new()));
        assert!(model.adopt(&config::Model::default()), "nothing else is asked for");
        assert!(!model.adopt(&settings("/nowhere/two")));
        assert!(model.loaded().is_some());
    }

    #[tokio::test]
    async fn a_folder_that_is_no_model_is_refused_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let model = Model::new(&settings(dir.path().to_str().unwrap()));
        let reason = model.engine().await.err().unwrap();
        assert!(reason.contains(dir.path().to_str().unwrap()), "{reason}");
    }

    #[tokio::test]
    async fn a_model_that_is_switched_off_is_not_looked_for() {
        let model = Model::new(&config::Model { enabled: false, ..config::Model::default() });
        assert!(model.engine().await.err().unwrap().contains("switched off"));
    }
}
