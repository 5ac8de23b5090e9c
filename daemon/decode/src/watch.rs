//! The critic's side of steering: what stood before, one check at a time, the budget and the clock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lang::{Gap, Grammar};
use text::Diagnostic;

use crate::judge::{Before, Desk};
use crate::{BoxFuture, Checked, Critic, Unknown};

/// The checks of one answer.
pub(crate) struct Watch<'a> {
    critic: &'a dyn Critic,
    /// Whether the critic was measured as a judge of text that goes on; else it is asked about whole suggestions only.
    steers: bool,
    before: State<'a>,
    last: Option<(Arc<str>, Checked)>,
    left: u32,
    pub(crate) deadline: Instant,
    pub(crate) baseline: Duration,
    pub(crate) checks: Duration,
    pub(crate) count: u32,
}

/// A check that was asked for.
pub(crate) struct Ask<'a> {
    pub(crate) text: Arc<str>,
    pub(crate) answer: BoxFuture<'a, Checked>,
    asked: Instant,
}

enum State<'a> {
    Pending(BoxFuture<'a, Result<Before, Unknown>>),
    Known(Result<Before, Unknown>),
}

impl<'a> Watch<'a> {
    /// Starts with the baseline, which is asked for when the watch is first polled.
    pub(crate) fn new(
        critic: &'a dyn Critic,
        desk: &'a Desk,
        layout: Option<&'a (Grammar, Gap)>,
        checks_max: u32,
        deadline: Instant,
    ) -> Watch<'a> {
        let before = match unsupported(critic, desk) {
            Some(reason) => State::Known(Err(reason)),
            None => State::Pending(Box::pin(look_before(critic, desk, layout))),
        };
        Watch::start(critic, desk, before, checks_max, deadline)
    }

    /// Starts with a baseline that is known.
    pub(crate) fn over(
        critic: &'a dyn Critic,
        desk: &Desk,
        before: Before,
        checks_max: u32,
        deadline: Instant,
    ) -> Watch<'a> {
        Watch::start(critic, desk, State::Known(Ok(before)), checks_max, deadline)
    }

    fn start(
        critic: &'a dyn Critic,
        desk: &Desk,
        before: State<'a>,
        checks_max: u32,
        deadline: Instant,
    ) -> Watch<'a> {
        let none = Duration::ZERO;
        Watch {
            critic,
            steers: server(critic, desk).is_none_or(lang::Server::steers),
            before,
            last: None,
            left: checks_max,
            deadline,
            baseline: none,
            checks: none,
            count: 0,
        }
    }

    /// What stood before; `Err` says why nothing can be told.
    pub(crate) fn before(&self) -> Option<&Result<Before, Unknown>> {
        match &self.before {
            State::Pending(_) => None,
            State::Known(before) => Some(before),
        }
    }

    /// Waits until what stood before is known. Dropping the future loses nothing.
    pub(crate) async fn settle(&mut self) {
        if let State::Pending(looking) = &mut self.before {
            let asked = Instant::now();
            let before = looking.await;
            self.baseline += asked.elapsed();
            self.before = State::Known(before);
        }
    }

    /// Whether checks make sense and `reserve` of them would be left after one more.
    pub(crate) fn affords(&self, reserve: u32) -> bool {
        self.left > reserve && !matches!(self.before(), Some(Err(_)))
    }

    /// The same for a text that goes on.
    pub(crate) fn affords_line(&self) -> bool {
        self.steers && self.affords(1)
    }

    /// Asks the critic; the answer comes from the [`Ask`].
    pub(crate) fn ask(&mut self, text: Arc<str>) -> Ask<'a> {
        self.left = self.left.saturating_sub(1);
        self.count += 1;
        Ask { answer: self.critic.check(text.clone()), text, asked: Instant::now() }
    }

    /// Takes down what an [`Ask`] answered.
    pub(crate) fn answered(&mut self, ask: &Ask<'_>, checked: &Checked) {
        self.checks += ask.asked.elapsed();
        self.last = Some((ask.text.clone(), checked.clone()));
    }

    /// Waits for an [`Ask`] that already runs, so that [`Watch::check`] of the same text finds its answer.
    pub(crate) async fn await_answer(&mut self, mut ask: Ask<'_>, answer: Option<Checked>) {
        if answer.is_none()
            && let Ok(checked) =
                tokio::time::timeout_at(self.deadline.into(), &mut ask.answer).await
        {
            self.answered(&ask, &checked);
        }
    }

    /// Checks exactly `text`: from the last answer if it was of this text, else by asking. What cannot be told in time or within the budget is unknown.
    pub(crate) async fn check(&mut self, text: &Arc<str>) -> Checked {
        let deadline = self.deadline.into();
        if tokio::time::timeout_at(deadline, self.settle()).await.is_err() {
            return Checked::Unknown(Unknown::Budget);
        }
        if let Some(Err(reason)) = self.before() {
            return Checked::Unknown(reason.clone());
        }
        if let Some((_, checked)) = self.last.as_ref().filter(|(seen, _)| seen == text) {
            return checked.clone();
        }
        if self.left == 0 {
            return Checked::Unknown(Unknown::Budget);
        }
        let mut ask = self.ask(text.clone());
        match tokio::time::timeout_at(deadline, &mut ask.answer).await {
            Ok(checked) => {
                self.answered(&ask, &checked);
                checked
            }
            Err(_) => Checked::Unknown(Unknown::Budget),
        }
    }
}

/// Why no verdict can be had at all.
fn unsupported(critic: &dyn Critic, desk: &Desk) -> Option<Unknown> {
    let name = critic.server();
    if name.is_empty() {
        return None; // Nobody to judge: the critic itself says why.
    }
    if desk.grammar.is_none() {
        return Some(Unknown::NoLanguage);
    }
    let judges = server(critic, desk).is_some_and(|server| server.steers() || server.judges());
    (!judges).then(|| Unknown::NotSupported(name.to_owned()))
}

fn server<'s>(critic: &dyn Critic, desk: &Desk) -> Option<&'s lang::Server> {
    desk.grammar?.language().server(critic.server())
}

/// Checks the document as it stands; once more with the cursor's half statement closed, and once without its line, where that makes a
/// difference: a syntax error at the cursor hides what is wrong elsewhere, and none of that is the candidate's doing.
async fn look_before(
    critic: &dyn Critic,
    desk: &Desk,
    layout: Option<&(Grammar, Gap)>,
) -> Result<Before, Unknown> {
    let mut before = Before::default();
    before.add(desk.offset, &desk.text, &diagnostics(critic, &desk.text).await?);
    let Some(hidden) = desk.hides() else { return Ok(before) };
    let closed = desk.place_unfinished("", layout).text;
    let mended = [(closed != desk.text).then_some(closed), desk.without_line()];
    for text in mended.into_iter().flatten() {
        before.add_mended(&text, hidden, &diagnostics(critic, &text).await?);
    }
    Ok(before)
}

async fn diagnostics(critic: &dyn Critic, text: &Arc<str>) -> Result<Vec<Diagnostic>, Unknown> {
    match critic.check(text.clone()).await {
        Checked::Diagnostics(diagnostics) => Ok(diagnostics),
        Checked::Unknown(reason) => Err(reason),
    }
}
