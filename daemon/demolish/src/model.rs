//! Finding the models and loading them: lazily, in the background, once for all editors.
//!
//! There may be two: a small one for whoever types, and a big one for everything that may take longer. A model that cannot
//! be loaded is an ordinary state: it is said once and clearly, language servers go on, and every feature that needs a model
//! answers with the reason. A model that nobody has used for a while is unloaded, and loaded again when somebody wants it.

mod disk;
pub(crate) mod hub;
mod pair;
mod place;
pub(crate) mod shelf;
mod source;
pub(crate) mod space;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use engine::{Engine, LoadProgress, LoadWatch};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config;

pub use pair::{Models, Role};
pub(crate) use place::{expanded, options, refused};
pub use place::{find, find_for, load, load_watched, places};
pub use source::Source;
pub(crate) use source::server;

/// How long a server that could not be had is left alone before whoever needs it asks it again.
const SERVER_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// A model of this process. Cloning is cheap; all clones share the one model.
#[derive(Debug, Clone)]
pub struct Model {
    role: Role,
    settings: Arc<Mutex<config::Model>>,
    state: Arc<watch::Sender<State>>,
    /// When it was last seen in use.
    used: Arc<Mutex<Instant>>,
    /// When a server was last asked in vain, which may be up again.
    refused: Arc<Mutex<Option<Instant>>>,
}

/// How far the model is.
#[derive(Debug, Clone)]
pub enum State {
    /// Nobody has needed it yet, or not for a while.
    Idle,
    /// It is being read, and how far that is.
    Loading(PathBuf, LoadProgress),
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
    /// The model that the settings ask for in a role; nothing is read yet.
    #[must_use]
    pub fn new(settings: &config::Model, role: Role) -> Model {
        Model::with(settings.clone(), role, State::Idle)
    }

    /// A model that is already there: scripted ones in tests.
    #[must_use]
    pub fn ready(engine: Engine) -> Model {
        let ready = Ready { engine, took: Duration::ZERO };
        Model::with(config::Model::default(), Role::Typing, State::Ready(ready))
    }

    fn with(settings: config::Model, role: Role, state: State) -> Model {
        Model {
            role,
            settings: Arc::new(Mutex::new(settings)),
            state: Arc::new(watch::Sender::new(state)),
            used: Arc::new(Mutex::new(Instant::now())),
            refused: Arc::default(),
        }
    }

    /// As if it were being loaded, and so far.
    #[cfg(test)]
    pub(crate) fn load_to(&self, progress: LoadProgress) {
        self.state.send_replace(State::Loading(PathBuf::from("/models/some"), progress));
    }

    /// As if that had failed.
    #[cfg(test)]
    pub(crate) fn give_up(&self) {
        self.state.send_replace(State::Failed("it is too big".into()));
    }

    fn settings(&self) -> config::Model {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it is the model that these settings ask for.
    #[must_use]
    pub fn is_for(&self, settings: &config::Model) -> bool {
        self.settings() == *settings
    }

    /// Whether it is loaded, or being loaded.
    fn stays(&self) -> bool {
        matches!(&*self.state.borrow(), State::Ready(_) | State::Loading(..))
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

    /// How long it may still be unused before it is unloaded; `None`: it is not loaded, or stays.
    #[must_use]
    pub fn leaves_in(&self) -> Option<Duration> {
        match &*self.state.borrow() {
            State::Ready(ready) => idle(&self.settings(), ready)
                .map(|patience| patience.saturating_sub(self.last_used().elapsed())),
            _ => None,
        }
    }

    /// Whether it failed because of a server, long enough ago to ask that again.
    fn may_ask_again(&self) -> bool {
        let refused = *self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.is_some_and(|at| at.elapsed() >= SERVER_AGAIN_AFTER)
    }

    fn last_used(&self) -> Instant {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// The engine, if it is loaded. Starts nothing.
    #[must_use]
    pub fn loaded(&self) -> Option<Engine> {
        match &*self.state.borrow() {
            State::Ready(ready) => {
                self.touch();
                Some(ready.engine.clone())
            }
            _ => None,
        }
    }

    /// Starts loading unless that has happened; a server that could not be had is asked again after a while. Needs a tokio
    /// runtime; returns at once.
    pub fn want(&self) {
        let mut found = None;
        let mut before = None;
        self.state.send_if_modified(|state| {
            before = match state {
                State::Idle => None,
                State::Failed(reason) if self.may_ask_again() => Some(reason.clone()),
                _ => return false,
            };
            *state = match Source::find(&self.settings(), self.role) {
                Ok(source) => {
                    let place = source.place();
                    found = Some(source);
                    State::Loading(place, LoadProgress::BEGUN)
                }
                Err(reason) => failed(reason),
            };
            true
        });
        let Some(source) = found else { return };
        let (model, settings) = (self.clone(), self.settings());
        let runtime = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || {
            let started = Instant::now();
            let state = model.state.clone();
            let watch = LoadWatch::new(move |progress| {
                state.send_if_modified(|state| advance(state, progress));
                ControlFlow::Continue(())
            });
            let loaded = match &source {
                Source::Directory(dir) => place::load_for(dir, &settings, model.role, watch),
                server @ Source::Server(_) => server.load(options(&settings), watch),
            };
            match loaded {
                Ok(engine) => {
                    let took = started.elapsed();
                    tracing::info!(model = %source.place().display(), ms = took.as_millis(), "the model is loaded");
                    if engine.info().remote.is_none() {
                        disk::keep(&engine, &settings);
                    }
                    let _in = runtime.enter();
                    model.settle(Ready { engine, took });
                }
                Err(reason) => {
                    let is_server = matches!(source, Source::Server(_));
                    let at = is_server.then(Instant::now);
                    *model.refused.lock().unwrap_or_else(PoisonError::into_inner) = at;
                    let is_known = before.is_some_and(|before| *before == *reason);
                    let state =
                        if is_known { State::Failed(reason.into()) } else { failed(reason) };
                    model.state.send_replace(state);
                }
            }
        });
    }

    /// It is there, and goes when nobody uses it any more.
    fn settle(&self, ready: Ready) {
        self.touch();
        let patience = idle(&self.settings(), &ready);
        self.state.send_replace(State::Ready(ready));
        if let Some(patience) = patience {
            let model = self.clone();
            tokio::spawn(async move { model.unload_unused(patience).await });
        }
    }

    /// Waits until nobody has used it for `patience`, and unloads it. Sleeps in between: an idle daemon does not look.
    async fn unload_unused(&self, patience: Duration) {
        loop {
            tokio::time::sleep_until(self.last_used() + patience).await;
            let mut gone = None;
            // Under the lock of the state nobody can get hold of the engine.
            self.state.send_if_modified(|state| {
                let State::Ready(ready) = &*state else { return false };
                if ready.engine.is_shared() {
                    self.touch();
                }
                if self.last_used().elapsed() < patience {
                    return false;
                }
                gone = Some(std::mem::replace(state, State::Idle));
                true
            });
            match (gone, &*self.state.borrow()) {
                (Some(State::Ready(ready)), _) => {
                    tracing::info!(
                        model = ready.engine.info().name,
                        "the model is unloaded: nobody has used it for a while"
                    );
                    tokio::task::spawn_blocking(move || drop(ready));
                    return;
                }
                (_, State::Ready(_)) => {}
                _ => return,
            }
        }
    }

    /// Waits until it has gone on with loading, and says how far it is; `None`: it is not being loaded.
    pub(crate) async fn loading(&self, since: Option<LoadProgress>) -> Option<LoadProgress> {
        let mut watching = self.state.subscribe();
        let went_on =
            |state: &State| !matches!(state, State::Loading(_, now) if Some(*now) == since);
        match watching.wait_for(went_on).await.as_deref() {
            Ok(State::Loading(_, now)) => Some(*now),
            _ => None,
        }
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
            Ok(State::Ready(ready)) => {
                self.touch();
                Ok(ready.engine.clone())
            }
            Ok(State::Failed(reason)) => Err(reason.clone()),
            _ => Err("the model is gone".into()),
        }
    }
}

/// A load goes on. `false`: nobody would see a difference.
fn advance(state: &mut State, now: LoadProgress) -> bool {
    let State::Loading(_, before) = state else { return false };
    let percent = |progress: &LoadProgress| (progress.bytes * 100).checked_div(progress.total);
    let differs = before.phase != now.phase || percent(before) != percent(&now);
    if differs {
        *before = now;
    }
    differs
}

/// The one place where a failure is logged: once, however often a server is asked again.
fn failed(reason: String) -> State {
    tracing::warn!("{reason}");
    State::Failed(reason.into())
}

/// How long a model may be unused; `None`: it stays. A server's takes no memory here, and finding out again what it can do costs.
fn idle(settings: &config::Model, ready: &Ready) -> Option<Duration> {
    const MINUTE_S: u64 = 60;
    let minutes = u64::from(settings.idle_unload_min);
    let is_here = ready.engine.info().remote.is_none();
    (minutes > 0 && is_here).then(|| Duration::from_secs(minutes * MINUTE_S))
}
