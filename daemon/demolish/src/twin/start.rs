//! Starting a twin's server, again if it died, and not for ever.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use decode::{BoxFuture, Unknown};
use tokio::sync::watch;
use tokio::time::Instant;
use wire::child::{Child, ChildOptions};
use wire::client::Client;

use super::disk::{Change, Disk};
use super::instance::{Heard, Instance, Listener};
use super::plan::{Plan, uri_of};
use crate::logging;

/// A server that stops this often within [`DEATHS_WINDOW`] is not started again before the window has passed.
pub(super) const DEATHS_MAX: usize = 5;
/// The time within which deaths are counted.
pub(super) const DEATHS_WINDOW: Duration = Duration::from_secs(180);
/// How often the disk is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Connects a client to a new server: a child process, or the end of a memory pipe in tests.
pub(super) type Connect = Arc<
    dyn Fn(Plan, Listener) -> BoxFuture<'static, Result<(Client, Option<Child>), String>>
        + Send
        + Sync,
>;

/// A server that is started when it is needed.
pub(super) struct Twin {
    pub(super) plan: Plan,
    connect: Connect,
    state: Arc<watch::Sender<State>>,
    deaths: Mutex<VecDeque<Instant>>,
    checks: AtomicU64,
    retired: AtomicBool,
    disk: Arc<Mutex<Looked>>,
}

/// What is known of the disk, and since when.
#[derive(Default)]
struct Looked {
    disk: Disk,
    at: Option<Instant>,
}

#[derive(Clone)]
enum State {
    Idle,
    Starting,
    Up(Arc<Instance>),
    Failed(Unknown),
}

impl Twin {
    pub(super) fn new(plan: Plan, connect: Connect) -> Twin {
        Twin {
            plan,
            connect,
            state: Arc::new(watch::Sender::new(State::Idle)),
            deaths: Mutex::default(),
            checks: AtomicU64::new(0),
            retired: AtomicBool::new(false),
            disk: Arc::default(),
        }
    }

    /// Starts the server unless it is up or starting. The start goes on when nobody waits for it any more.
    pub(super) fn want(&self, deadline: Duration) {
        if self.retired.load(Ordering::Relaxed) {
            return;
        }
        let mut start = false;
        self.state.send_if_modified(|state| {
            let again = match state {
                State::Idle => true,
                State::Starting => false,
                State::Up(instance) if instance.is_closed() => {
                    let words = instance
                        .last_words()
                        .map_or_else(String::new, |words| format!(": {words}"));
                    tracing::warn!(server = %self.plan.name, "a twin has stopped{words}");
                    self.may_start_again()
                }
                State::Up(_) => false,
                State::Failed(_) => self.may_start_again(),
            };
            match (again, &*state) {
                (true, _) => {
                    *state = State::Starting;
                    start = true;
                    true
                }
                (false, State::Up(instance)) if instance.is_closed() => {
                    let reason = format!(
                        "{} stopped {DEATHS_MAX} times in {} s",
                        self.plan.name,
                        DEATHS_WINDOW.as_secs()
                    );
                    *state = State::Failed(Unknown::Failed(reason));
                    true
                }
                _ => false,
            }
        });
        if start {
            let (plan, connect, state) =
                (self.plan.clone(), self.connect.clone(), self.state.clone());
            tokio::spawn(async move {
                let started = begin(&plan, &connect, deadline).await;
                let started = match started {
                    Ok(instance) => State::Up(Arc::new(instance)),
                    Err(reason) => {
                        tracing::warn!(server = %plan.name, "a twin did not start: {reason}");
                        State::Failed(Unknown::Failed(reason))
                    }
                };
                state.send_if_modified(|state| {
                    let awaited = matches!(state, State::Starting);
                    if awaited {
                        *state = started;
                    }
                    awaited
                });
            });
        }
    }

    /// Counts a death; whether another start is allowed.
    fn may_start_again(&self) -> bool {
        let mut deaths = self.deaths.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        while deaths.front().is_some_and(|death| now.duration_since(*death) > DEATHS_WINDOW) {
            deaths.pop_front();
        }
        if deaths.len() >= DEATHS_MAX {
            return false;
        }
        deaths.push_back(now);
        true
    }

    /// The server, once it is up.
    pub(super) async fn instance(&self, deadline: Duration) -> Result<Arc<Instance>, Unknown> {
        self.want(deadline);
        let mut watching = self.state.subscribe();
        let settled = watching.wait_for(|state| matches!(state, State::Up(_) | State::Failed(_)));
        let state = match tokio::time::timeout(deadline, settled).await {
            Ok(Ok(state)) => state.clone(),
            Ok(Err(_)) => return Err(Unknown::Crashed),
            Err(_) => return Err(Unknown::Starting),
        };
        match state {
            State::Up(instance) if !instance.is_closed() => {
                self.look_at_disk(&instance).await;
                Ok(instance)
            }
            State::Failed(reason) => Err(reason),
            _ => Err(Unknown::Crashed),
        }
    }

    /// Tells the server what has changed on disk since the last look, at most every [`LOOK_EVERY`]. The first look is taken
    /// when the server starts.
    async fn look_at_disk(&self, instance: &Instance) {
        {
            let mut looked = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
            if looked.at.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
                return;
            }
            looked.at = Some(Instant::now());
        }
        let (disk, root, name) = (self.disk.clone(), self.plan.root.clone(), self.plan.language);
        let look = tokio::task::spawn_blocking(move || {
            let of_language = |path: &Path| {
                let language = lang::detect(path);
                language.is_some_and(|language| language.id() == name)
                    || path
                        .extension()
                        .is_some_and(|extension| extension == "toml" || extension == "json")
            };
            disk.lock().unwrap_or_else(PoisonError::into_inner).disk.look(&root, &of_language)
        });
        let changes = look.await.unwrap_or_default();
        instance.changed_on_disk(changes.iter().map(|(path, change)| (uri_of(path), *change)));
    }

    /// Tells the server, if it is up, that files were written.
    pub(super) fn changed_on_disk(&self, uris: &[String]) {
        if let State::Up(instance) = &*self.state.borrow() {
            instance.changed_on_disk(uris.iter().map(|uri| (uri.clone(), Change::Changed)));
        }
    }

    /// Counts a check.
    pub(super) fn count(&self) {
        self.checks.fetch_add(1, Ordering::Relaxed);
    }

    /// How many checks there were.
    pub(super) fn counted(&self) -> u64 {
        self.checks.load(Ordering::Relaxed)
    }

    /// It has left the pool: whoever still holds it gets no server from it any more, so that there are never more than configured.
    pub(super) fn retire(&self, why: &str) {
        self.retired.store(true, Ordering::Relaxed);
        self.state.send_replace(State::Failed(Unknown::Failed(why.to_owned())));
    }

    pub(super) fn pid(&self) -> Option<u32> {
        match &*self.state.borrow() {
            State::Up(instance) if !instance.is_closed() => instance.pid(),
            _ => None,
        }
    }
}

async fn begin(plan: &Plan, connect: &Connect, deadline: Duration) -> Result<Instance, String> {
    let heard = Heard::new(plan);
    let (client, child) = connect(plan.clone(), Listener(heard.clone())).await?;
    Instance::agree(client, child, heard, plan, deadline).await
}

/// Connects by starting a child process.
pub(super) fn by_process() -> Connect {
    Arc::new(|plan: Plan, listener| {
        Box::pin(async move {
            let options = ChildOptions {
                command: plan.command.iter().map(OsString::from).collect(),
                cwd: Some(plan.root.clone()),
                env: plan.env.clone(),
                log: Some(log_of(&plan.name)),
            };
            let (child, stdin, stdout) =
                Child::spawn(options).await.map_err(|error| error.to_string())?;
            Ok((Client::start(stdout, stdin, listener), Some(child)))
        })
    })
}

fn log_of(name: &str) -> std::path::PathBuf {
    let safe: String = name.chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect();
    logging::servers_dir().join(Path::new(&format!("twin-{safe}.log")))
}
