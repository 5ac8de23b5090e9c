//! The twins that run: at most a named number within a named memory, the least recently used one goes first; and who is asked
//! where there is none.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use decode::Unknown;
use lang::Language;
use proxy::Quantiles;
use tokio::time::Instant;

use super::builtin::{Builtins, Chosen};
use super::choice::{Backend, Choice, Facts, choose};
use super::instance::Place;
use super::ledger::{Ledger, Page, SpeculationFacts};
use super::memory::{self, Remedy, remedies};
use super::plan::{self, Environment, Lack, Plan, UserServer};
use super::start::{self, Connect, Twin};
use super::{Checker, Critic, Deadlines, Open, Seat};
use crate::config::{Config, Speculation};

/// All twins of this process. Cloning is cheap.
#[derive(Clone)]
pub struct Twins(Arc<Pool>);

struct Pool {
    connect: Connect,
    twins: Mutex<Vec<Used>>,
    ledger: Ledger,
    builtins: Builtins,
    /// The most memory that all twins may take, in bytes; 0 is no limit.
    budget: AtomicU64,
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
    /// How fast its latest answers came.
    pub pace: Option<Quantiles>,
    /// What it takes, if the system tells.
    pub bytes: Option<u64>,
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
        let (ledger, budget) = (Ledger::default(), AtomicU64::new(0));
        let (twins, builtins) = (Mutex::default(), Builtins::default());
        Twins(Arc::new(Pool { connect, twins, ledger, builtins, budget }))
    }

    /// A critic for one request about `subject`. Starts nothing yet.
    #[must_use]
    pub fn critic(&self, subject: Subject<'_>, config: &Config) -> Critic {
        let deadlines = Deadlines {
            start: Duration::from_millis(u64::from(config.twin.start_deadline_ms)),
            check: Duration::from_millis(u64::from(config.twin.check_deadline_ms)),
        };
        if let Some(chosen) = self.0.builtins.choose(subject, config) {
            return match chosen {
                Ok(chosen) => {
                    let server = chosen.server.name().to_owned();
                    Critic::new(server, self.own_seat(chosen, subject, config), deadlines)
                }
                Err(lack) => {
                    Critic::new(lack.server.clone().unwrap_or_default(), Err(lack), deadlines)
                }
            };
        }
        match plan::plan(subject.path, subject.language, subject.users, subject.env, config) {
            Ok(plan) => {
                let (server, place) = (plan.name.clone(), place(subject));
                Critic::new(server, self.seat(plan, place, config), deadlines)
            }
            Err(lack) => Critic::new(lack.server.clone().unwrap_or_default(), Err(lack), deadlines),
        }
    }

    /// A seat at a checker of ours.
    fn own_seat(
        &self,
        chosen: Chosen,
        subject: Subject<'_>,
        config: &Config,
    ) -> Result<Seat, Lack> {
        let Chosen { server, root, checker, grammar } = chosen;
        let page = self.0.ledger.page(&(server.name().to_owned(), root));
        let is_off = config.twin.speculation == Speculation::Off;
        let choice = if is_off {
            Choice { backend: Backend::None, why: "`twin.speculation` is `off`".to_owned() }
        } else {
            Choice { backend: Backend::Builtin, why: "it is part of the program".to_owned() }
        };
        page.lock().unwrap_or_else(PoisonError::into_inner).choice = Some(choice.clone());
        if is_off {
            let server = Some(server.name().to_owned());
            return Err(Lack { reason: Unknown::NoServer, server, hint: Some(choice.why) });
        }
        Ok(Seat { checker: Checker::Builtin(checker, grammar), place: place(subject), page })
    }

    /// Who is asked, by what is known of the server; `Err`: nobody, and why.
    fn seat(&self, plan: Plan, place: Place, config: &Config) -> Result<Seat, Lack> {
        let budget = u64::from(config.twin.memory_max_mib) << 20;
        self.0.budget.store(budget, Ordering::Relaxed);
        let page = self.0.ledger.page(&(plan.name.clone(), plan.root.clone()));
        let no_lease = match (plan.server.leases(), &plan.users.1) {
            (false, _) => Some(format!("{} would be left with traces of it", plan.name)),
            (true, None) => Some("no editor runs it here".to_owned()),
            (true, Some(_)) => None,
        };
        let no_twin = if config.twin.enabled {
            self.too_large(&plan, &page, budget)
        } else {
            Some("`twin.enabled` is off".to_owned())
        };
        let choice = {
            let mut page = page.lock().unwrap_or_else(PoisonError::into_inner);
            let (twin, lease) = (page.twin.quantiles(), page.lease.quantiles());
            let setting = config.twin.speculation;
            let choice = choose(&Facts { setting, no_twin, no_lease, twin, lease });
            page.choice = Some(choice.clone());
            choice
        };
        let checker = match (choice.backend, &plan.users.1) {
            (Backend::Twin, _) => Checker::Twin(self.twin(plan, config)),
            (Backend::Lease, Some(leaser)) => Checker::Lease(leaser.clone()),
            (Backend::Lease | Backend::Builtin | Backend::None, _) => {
                let (reason, server) = (Unknown::NoServer, Some(plan.name));
                return Err(Lack { reason, server, hint: Some(choice.why) });
            }
        };
        Ok(Seat { checker, place, page })
    }

    /// Why there may be no twin of this server: one was too large, or the user's own is already.
    fn too_large(&self, plan: &Plan, page: &Mutex<Page>, budget: u64) -> Option<String> {
        let mut page = page.lock().unwrap_or_else(PoisonError::into_inner);
        let running = || {
            let twins = self.0.twins.lock().unwrap_or_else(PoisonError::into_inner);
            twins.iter().any(|used| used.twin.plan.is_like(plan))
        };
        if budget == 0 || page.refused.is_none() && running() {
            return None;
        }
        let fits = page.twin_bytes.is_some_and(|bytes| bytes <= budget);
        if page.refused.is_none()
            && !fits
            && let Some(pid) = plan.users.0
        {
            let bytes = memory::of_groups(&[pid]).get(&pid).copied();
            page.refused = bytes.filter(|bytes| *bytes > budget).map(|bytes| {
                format!("{} takes {} MiB itself, and {}", plan.name, bytes >> 20, limit(budget))
            });
        }
        page.refused.clone()
    }

    /// What was decided and measured, server by server.
    #[must_use]
    pub fn speculation(&self) -> Vec<SpeculationFacts> {
        self.0.ledger.facts()
    }

    fn twin(&self, plan: Plan, config: &Config) -> Arc<Twin> {
        let now = Instant::now();
        let idle = Duration::from_secs(u64::from(config.twin.idle_s));
        let mut twins = self.0.twins.lock().unwrap_or_else(PoisonError::into_inner);
        if twins.is_empty() {
            self.look_after_them();
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
            twins.swap_remove(oldest).twin.retire("stopped, because others were wanted more");
        }
        let twin = Arc::new(Twin::new(plan, self.0.connect.clone()));
        twins.push(Used { twin: twin.clone(), last: now, idle });
        twin
    }

    /// Stops those that nobody wants any more and those that take too much, while there are any.
    fn look_after_them(&self) {
        let pool = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(memory::LOOK_EVERY).await;
                let Some(pool) = pool.upgrade() else { return };
                let pids: Vec<u32> = {
                    let mut twins = pool.twins.lock().unwrap_or_else(PoisonError::into_inner);
                    twins.retain(|used| {
                        let wanted = used.last.elapsed() < used.idle;
                        if !wanted {
                            used.twin.retire("stopped, because nobody asked it for long");
                        }
                        wanted
                    });
                    if twins.is_empty() {
                        return;
                    }
                    twins.iter().filter_map(|used| used.twin.pid()).collect()
                };
                let looked = tokio::task::spawn_blocking(move || memory::of_groups(&pids)).await;
                pool.weigh(&looked.unwrap_or_default());
            }
        });
    }

    /// What runs.
    #[must_use]
    pub fn facts(&self) -> Vec<TwinFacts> {
        let twins = self.0.twins.lock().unwrap_or_else(PoisonError::into_inner);
        let fact = |used: &Used| {
            let plan = used.twin.plan.clone();
            let page = self.0.ledger.page(&(plan.name.clone(), plan.root.clone()));
            let page = page.lock().unwrap_or_else(PoisonError::into_inner);
            TwinFacts {
                plan,
                pid: used.twin.pid(),
                checks: used.twin.counted(),
                pace: page.twin.quantiles(),
                bytes: page.twin_bytes,
            }
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

impl Pool {
    /// Writes down what the twins take, by their processes, and stops those for which there is no room.
    fn weigh(&self, memory: &HashMap<u32, u64>) {
        let budget = self.budget.load(Ordering::Relaxed);
        let mut twins = self.twins.lock().unwrap_or_else(PoisonError::into_inner);
        twins.sort_by_key(|used| used.last);
        let weights: Vec<Option<u64>> = twins
            .iter()
            .map(|used| used.twin.pid().and_then(|pid| memory.get(&pid).copied()))
            .collect();
        let page = |used: &Used| {
            self.ledger.page(&(used.twin.plan.name.clone(), used.twin.plan.root.clone()))
        };
        for (used, bytes) in twins.iter().zip(&weights).filter(|(_, bytes)| bytes.is_some()) {
            page(used).lock().unwrap_or_else(PoisonError::into_inner).twin_bytes = *bytes;
        }
        if budget == 0 {
            return;
        }
        let mut gone = remedies(budget, &weights);
        gone.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        for (at, remedy) in gone {
            let used = twins.remove(at);
            let mib = weights[at].unwrap_or_default() >> 20;
            let name = &used.twin.plan.name;
            tracing::warn!(server = %name, mib, "a twin is stopped: {}", limit(budget));
            if remedy == Remedy::Refuse {
                let why = format!("its twin took {mib} MiB, and {}", limit(budget));
                page(&used).lock().unwrap_or_else(PoisonError::into_inner).refused = Some(why);
            }
            used.twin.retire("stopped, because twins took too much memory");
        }
    }
}

fn limit(budget: u64) -> String {
    format!("`twin.memory_max_mib` is {}", budget >> 20)
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
