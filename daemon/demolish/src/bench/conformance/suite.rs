//! Which checks there are, and running them: each on a stage of its own, within its time.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::StreamExt as _;

use super::stage::{Fault, Stage, Verdict};
use super::subject::Subject;
use super::{Wanted, rules};

/// How long one check may take, unless it says that it needs longer.
const CHECK_PATIENCE: Duration = Duration::from_secs(10);
/// The last rule.
pub(crate) const RULES_MAX: u8 = 50;

/// Whose duty a check is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Duty {
    /// It holds between two ends that nothing stands between.
    Pipe,
    /// Only something that stands between can do it.
    Proxy,
    /// It needs several servers behind one connection.
    Merge,
}

/// What runs a check.
pub(super) trait Run {
    /// Runs it on a fresh stage.
    fn run<'a>(&'a self, stage: &'a mut Stage) -> Pin<Box<dyn Future<Output = Verdict> + 'a>>;
}

impl<F: AsyncFn(&mut Stage) -> Verdict> Run for F {
    fn run<'a>(&'a self, stage: &'a mut Stage) -> Pin<Box<dyn Future<Output = Verdict> + 'a>> {
        Box::pin(self(stage))
    }
}

/// One thing that must hold.
#[derive(Clone)]
pub(super) struct Check {
    /// The rule's number behind the dot.
    pub(super) rule: u8,
    pub(super) duty: Duty,
    /// What must hold, in words.
    pub(super) says: String,
    pub(super) patience: Duration,
    run: Rc<dyn Run>,
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "4.{} {}", self.rule, self.says)
    }
}

/// A check.
pub(super) fn check(
    rule: u8,
    duty: Duty,
    says: impl Into<String>,
    run: impl AsyncFn(&mut Stage) -> Verdict + 'static,
) -> Check {
    Check { rule, duty, says: says.into(), patience: CHECK_PATIENCE, run: Rc::new(run) }
}

impl Check {
    /// The same check, with more time.
    pub(super) fn within(mut self, seconds: u64) -> Check {
        self.patience = Duration::from_secs(seconds);
        self
    }
}

/// What one check came to.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) rule: u8,
    pub(crate) says: String,
    pub(crate) state: State,
}

/// How a check ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It holds.
    Holds,
    /// It does not; why.
    Broken(String),
    /// It says nothing about this proxy; why.
    Apart(String),
}

/// The checks of a rule, or all, in the order of the rules.
pub(crate) fn checks(rule: Option<u8>) -> Vec<Check> {
    let mut checks = rules::all();
    checks.retain(|check| rule.is_none_or(|rule| check.rule == rule));
    checks.sort_by_key(|check| check.rule);
    checks
}

/// Runs checks against a proxy, some at a time; `done` hears of each as it ends.
pub(crate) async fn run(
    subject: &Subject,
    checks: &[Check],
    wanted: &Wanted,
    done: impl Fn(&Outcome),
) -> Vec<Outcome> {
    let merges = subject.servers() > 1;
    let apply = checks.iter().filter(|check| merges == (check.duty == Duty::Merge));
    let outcomes = futures_util::stream::iter(apply)
        .map(|check| async {
            let outcome = Outcome {
                rule: check.rule,
                says: check.says.clone(),
                state: run_one(subject, check, wanted.patience).await,
            };
            done(&outcome);
            outcome
        })
        .buffered(wanted.jobs.max(1));
    outcomes.collect().await
}

async fn run_one(subject: &Subject, check: &Check, patience: Duration) -> State {
    if subject.is_pipe && check.duty == Duty::Proxy {
        return State::Apart("nothing stands between".to_owned());
    }
    let mut stage = match Stage::open(subject, patience).await {
        Ok(stage) => stage,
        Err(why) => return State::Broken(format!("cannot be started: {why}")),
    };
    // Who is given more time for an answer has more of them in a check.
    let limit = check.patience + 4 * patience;
    let ran = tokio::time::timeout(limit, check.run.run(&mut stage)).await;
    match ran {
        Ok(Ok(())) => State::Holds,
        Ok(Err(Fault::Broken(why))) => State::Broken(why),
        Ok(Err(Fault::Apart(why))) => State::Apart(why),
        Err(_) => State::Broken(format!("not over after {} s", limit.as_secs())),
    }
}
