//! The twins that run: at most a named number, the least recently used one goes first.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lang::Language;
use tokio::time::Instant;

use super::instance::Place;
use super::plan::{self, Environment, Lack, Plan, UserServer};
use super::start::{self, Connect, Twin};
use super::{Critic, Deadlines, Open, Seat};
use crate::config::Config;

/// How often idle twins are looked for.
const SWEEP: Duration = Duration::from_secs(15);

/// All twins of this process. Cloning is cheap.
#[derive(Clone)]
pub struct Twins(Arc<Pool>);

struct Pool {
    connect: Connect,
    twins: Mutex<Vec<Used>>,
}

struct Used {
    twin: Arc<Twin>,
    last: Instant,
    idle: Duration,
}

/// What [`Twins::facts`] tells of one.
#[derive(Debug, Clone)]
pub struct TwinFacts {
    /// How it was started.
    pub plan: Plan,
    /// Its process, while it runs.
    pub pid: Option<u32>,
    /// How many checks it has answered.
    pub checks: u64,
    /// The median duration of the latest ones.
    pub median: Option<Duration>,
}

/// A document to be judged, and who asks.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'s> {
    /// The file.
    pub path: &'s Path,
    /// Its address as the client spells it.
    pub uri: &'s str,
    /// Its language.
    pub language: Option<&'static Language>,
    /// What else the client has open.
    pub others: &'s Arc<[Open]>,
    /// The servers that the client's editor runs through us.
    pub users: &'s [UserServer],
    /// The client's environment; `None` is ours.
    pub env: Option<&'s Environment>,
}

impl Default for Twins {
    fn default() -> Self {
        Twins::connecting(start::by_process())
    }
}

impl Twins {
    pub(super) fn connecting(connect: Connect) -> Twins {
        Twins(Arc::new(Pool { connect, twins: Mutex::default() }))
    }

    /// A critic for one request about `subject`. Starts nothing yet.
    #[must_use]
    pub fn critic(&self, subject: Subject<'_>, config: &Config) -> Critic {
        let deadlines = Deadlines {
            start: Duration::from_millis(u64::from(config.twin.start_deadline_ms)),
            check: Duration::from_millis(u64::from(config.twin.check_deadline_ms)),
        };
        match plan::plan(subject.path, subject.language, subject.users, subject.env, config) {
            Ok(plan) => {
                let place = place(subject);
                let (server, twin) = (plan.name.clone(), self.twin(plan, config));
                Critic::new(server, Ok(Seat { twin, place }), deadlines)
            }
            Err(lack) => Critic::new(lack.server.clone().unwrap_or_default(), Err(lack), deadlines),
        }
    }

    fn twin(&self, plan: Plan, config: &Config) -> Arc<Twin> {
        let now = Instant::now();
        let idle = Duration::from_secs(u64::from(config.twin.idle_s));
        let mut twins = self.0.twins.lock().unwrap_or_else(PoisonError::into_inner);
        if twins.is_empty() {
            self.sweep_while_there_are_twins();
        }
        if let Some(used) = twins.iter_mut().find(|used| used.twin.plan.is_like(&plan)) {
            used.last = now;
            return used.twin.clone();
        }
        while twins.len() >= config.twin.instances_max as usize {
            let oldest = twins
                .iter()
                .enumerate()
                .min_by_key(|(_, used)| used.last)
                .map_or(0, |(index, _)| index);
            twins.swap_remove(oldest);
        }
        let twin = Arc::new(Twin::new(plan, self.0.connect.clone()));
        twins.push(Used { twin: twin.clone(), last: now, idle });
        twin
    }

    fn sweep_while_there_are_twins(&self) {
        let pool = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                let Some(pool) = pool.upgrade() else { return };
                let mut twins = pool.twins.lock().unwrap_or_else(PoisonError::into_inner);
                twins.retain(|used| used.last.elapsed() < used.idle);
                if twins.is_empty() {
                    return;
                }
            }
        });
    }

    /// What runs.
    #[must_use]
    pub fn facts(&self) -> Vec<TwinFacts> {
        let twins = self.0.twins.lock().unwrap_or_else(PoisonError::into_inner);
        let fact = |used: &Used| {
            let (checks, median) = used.twin.counted();
            TwinFacts { plan: used.twin.plan.clone(), pid: used.twin.pid(), checks, median }
        };
        twins.iter().map(fact).collect()
    }

    /// Tells them that files were written.
    pub fn changed_on_disk(&self, uris: &[String]) {
        let twins = self.0.twins.lock().unwrap_or_else(PoisonError::into_inner);
        twins.iter().for_each(|used| used.twin.changed_on_disk(uris));
    }

    /// Stops all of them.
    pub fn clear(&self) {
        self.0.twins.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// What a critic for `subject` would lack, without making one.
    #[must_use]
    pub fn lack(subject: Subject<'_>, config: &Config) -> Option<Lack> {
        plan::plan(subject.path, subject.language, subject.users, subject.env, config).err()
    }
}

/// Where the document is, and those beside it that its server would be told of.
fn place(subject: Subject<'_>) -> Place {
    let language_id =
        subject.language.map_or("", |language| language.lsp_id(subject.path)).to_owned();
    let speaks = |id: &str| {
        subject.language.is_some_and(|language| language.lsp_ids().any(|known| known == id))
    };
    let fits = |open: &&Open| open.uri != subject.uri && speaks(&open.language_id);
    let others = if subject.others.iter().all(|open| fits(&open)) {
        subject.others.clone()
    } else {
        subject.others.iter().filter(fits).cloned().collect()
    };
    Place { uri: subject.uri.to_owned(), language_id, others }
}
