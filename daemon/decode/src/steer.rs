//! Line-level steering.
//!
//! After each line that the model completes, the candidate is closed, put in place and checked, while the engine runs ahead. What a
//! line brings in sends the writer back to the token to blame, which is banned there, and the next best is tried. The search ends with a
//! candidate that was checked exactly as it would stand, or with the best one and its honest verdict when the budget is spent.

use std::collections::HashMap;

use engine::EngineError;
use text::{Diagnostic, Severity};

use crate::confidence::{Evidence, Learned, Look as Evident, Withhold};
use crate::judge::{Desk, Judged, Placed, Stage};
use crate::prompt::floor_boundary;
use crate::trim::{End, Place};
use crate::watch::{Ask, Watch};
use crate::writer::{Reached, Writer};
use crate::{Checked, OnFindings, Refused, Trigger, Unknown, Verdict};

/// Other ways that are tried for one line.
pub(crate) const RETRIES_LINE_MAX: u32 = 6;
/// Other ways that are tried for one suggestion.
pub(crate) const RETRIES_MAX: u32 = 9;
/// Of them, those that are tried where the model repeats a line around the cursor.
const REPETITIONS_MAX: u32 = 2;
/// A suggestion that leaves more than this open is not closed for the model, but dropped.
const SIGNS_MAX: usize = 3;
/// So many shorter forms of a candidate are weighed, where the model is not sure of all of it.
const CUTS_MAX: usize = 8;
/// Where the model was surer of a token than this, another token is blamed first.
const SURE: f32 = 0.9;

/// A candidate that the search ended with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Found {
    /// With `\n` line ends.
    pub(crate) text: String,
    pub(crate) verdict: Verdict,
    pub(crate) deferred: Vec<Diagnostic>,
    pub(crate) mean_logprob: f32,
    pub(crate) evidence: Option<Evidence>,
    /// It leads over to what follows on its line.
    pub(crate) fits: bool,
}

/// On which terms a candidate is offered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) on_findings: OnFindings,
    pub(crate) trigger: Trigger,
    /// What was learned of the model, and from which confidence on a candidate is shown; `None`: whatever it is.
    pub(crate) bar: Option<(&'static Learned, Withhold)>,
}

impl Terms {
    /// For somebody who has asked, and wants nothing that has findings.
    pub(crate) const ASKED: Terms =
        Terms { on_findings: OnFindings::Withhold, trigger: Trigger::Invoked, bar: None };

    /// Whether a candidate for which this speaks is shown.
    pub(crate) fn shows(&self, evidence: Option<&Evidence>) -> bool {
        self.bar.zip(evidence).is_none_or(|((learned, withhold), evidence)| {
            learned.shows(withhold, learned.probability(evidence))
        })
    }
}

/// The search for one document and cursor.
pub(crate) struct Steer<'a> {
    desk: &'a Desk,
    place: &'a Place,
    pub(crate) writer: Writer<'a>,
    pub(crate) watch: Watch<'a>,
    terms: Terms,
    pub(crate) refused: Vec<Refused>,
    /// What was refused already, so that it is not checked again.
    known_bad: HashMap<String, Diagnostic>,
    /// Retries by the token that starts the line.
    retries: HashMap<usize, u32>,
    retried: u32,
    /// Bytes of the text whose lines a verdict has let pass.
    committed: usize,
    look: Option<Look<'a>>,
    /// The first refused candidate: what the model would have said by itself.
    unsteered: Option<Found>,
}

/// A check of lines that are not the end yet.
struct Look<'a> {
    placed: Placed,
    /// Bytes of the writer's text that were placed.
    len: usize,
    ask: Ask<'a>,
    answer: Option<Checked>,
}

/// What woke the search.
enum Event {
    Deadline,
    Looked,
    Reached(Reached),
}

/// What a step of the search came to.
enum Outcome {
    Goes,
    Done(Option<Found>),
}

impl<'a> Steer<'a> {
    pub(crate) fn new(
        desk: &'a Desk,
        place: &'a Place,
        writer: Writer<'a>,
        watch: Watch<'a>,
        terms: Terms,
    ) -> Steer<'a> {
        Steer {
            desk,
            place,
            writer,
            watch,
            terms,
            refused: Vec::new(),
            known_bad: HashMap::new(),
            retries: HashMap::new(),
            retried: 0,
            committed: 0,
            look: None,
            unsteered: None,
        }
    }

    /// The next candidate that stands; `None` when there is none, or only ones that are withheld.
    pub(crate) async fn candidate(&mut self) -> Result<Option<Found>, EngineError> {
        loop {
            let outcome = match self.event().await? {
                Event::Deadline => return Ok(self.cut_short()),
                Event::Looked => self.weigh_look().await,
                Event::Reached(_) if self.writer.gave_up() => return Ok(self.best_left().await),
                Event::Reached(reached) => {
                    self.weigh_waiting_look().await;
                    self.weigh_text(reached).await
                }
            };
            if let Outcome::Done(found) = outcome {
                return Ok(found);
            }
        }
    }

    /// Begins the search for another candidate, which does not start as the last one did. `false` when there is nothing to turn from.
    pub(crate) fn start_over(&mut self) -> bool {
        let Some(first) = self.writer.tape.token_at(0) else { return false };
        self.writer.start_over(first);
        self.retries.clear();
        self.retried = 0;
        self.committed = 0;
        self.look = None;
        self.unsteered = None;
        true
    }

    /// Waits for whatever comes first. At the end of a line it waits for the check of the line before.
    async fn event(&mut self) -> Result<Event, EngineError> {
        loop {
            let asked = self.look.as_mut().filter(|look| look.answer.is_none());
            let looking = asked.is_some();
            let hold = looking && self.writer.text().len() > self.place_len() && self.at_line_end();
            let settled = self.watch.before().is_some();
            let deadline = self.watch.deadline.into();
            let look = self.look.as_mut().filter(|look| look.answer.is_none());
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(deadline) => return Ok(Event::Deadline),
                checked = answer(look), if looking => {
                    if let Some(look) = &mut self.look {
                        self.watch.answered(&look.ask, &checked);
                        look.answer = Some(checked);
                    }
                    return Ok(Event::Looked);
                }
                () = self.watch.settle(), if !settled => {}
                reached = self.writer.step(), if !hold => return Ok(Event::Reached(reached?)),
            }
        }
    }

    /// Bytes of the text that the running check covers.
    fn place_len(&self) -> usize {
        self.look.as_ref().map_or(0, |look| look.len)
    }

    /// Whether a line was completed after the one that is being checked.
    fn at_line_end(&self) -> bool {
        let text = self.writer.text();
        self.writer.has_ended()
            || text
                .get(self.place_len()..)
                .is_some_and(|more| more.trim_start_matches('\n').contains('\n'))
    }

    /// Reads the answer of the running check, unless it needs to know how the next line starts and that is not known yet.
    async fn weigh_look(&mut self) -> Outcome {
        let Some(look) = self.look.take() else { return Outcome::Goes };
        let Some(Checked::Diagnostics(diagnostics)) = &look.answer else {
            return self.commit(look.len); // Unknown: it passes for now; the whole is checked at the end.
        };
        self.watch.settle().await;
        let Some(Ok(before)) = self.watch.before() else { return self.commit(look.len) };
        let next = self.writer.text().get(look.len..).unwrap_or("").trim_start();
        let passed = self.desk.dressed(&self.writer.text()[..self.committed.min(look.len)]).text;
        let from = look.placed.inserted.start + passed.len();
        let stage = Stage::Line { next, from };
        let judged = self.desk.judge(before, &look.placed, diagnostics, stage);
        let Some(worst) = judged.bad.first().cloned() else { return self.commit(look.len) };
        if next.is_empty() && !self.writer.has_ended() {
            self.look = Some(look);
            return Outcome::Goes;
        }
        let text = self.writer.text()[..look.len].to_owned();
        self.refuse(&text, &look.placed, worst, Vec::new()).await
    }

    /// Reads a check again that waits for the start of the next line.
    async fn weigh_waiting_look(&mut self) {
        if self.look.as_ref().is_some_and(|look| look.answer.is_some())
            && let Outcome::Done(_) = Box::pin(self.weigh_look()).await
        {
            self.look = None;
        }
    }

    fn commit(&mut self, len: usize) -> Outcome {
        self.committed = self.committed.max(len);
        Outcome::Goes
    }

    /// Sees whether the text is complete, and starts a check where a line is.
    async fn weigh_text(&mut self, reached: Reached) -> Outcome {
        let ended = self.writer.has_ended();
        if let Some(at) = self.writer.special_at(&self.desk.text) {
            let kept = &self.writer.text()[..at];
            let End::At(at) = self.place.end(kept, true) else { return Outcome::Done(None) };
            return self.finish(at).await;
        }
        match self.place.end(self.writer.text(), ended) {
            End::At(at) => return self.finish(at).await,
            End::Open if ended => return self.finish(self.writer.text().len()).await,
            End::Open => {}
        }
        if reached == Reached::Line && self.look.is_none() && self.watch.affords_line() {
            self.start_look();
        }
        Outcome::Goes
    }

    fn start_look(&mut self) {
        let text = self.writer.text();
        let Some(len) = text.rfind('\n') else { return };
        if len <= self.committed || text[..len].trim().is_empty() {
            return;
        }
        let placed = self.desk.place_unfinished(&text[..len], self.place.layout());
        let ask = self.watch.ask(placed.text.clone());
        self.look = Some(Look { placed, len, ask, answer: None });
    }

    /// The candidate is the first `at` bytes: checks them exactly as they would stand.
    async fn finish(&mut self, at: usize) -> Outcome {
        let is_automatic = self.terms.trigger == Trigger::Automatic;
        let fits =
            !is_automatic || self.place.fits(self.writer.text(), at, self.writer.has_ended());
        let text = match self.sure_part(self.completed(at)) {
            Ok(text) if fits || text.trim().is_empty() => text,
            // Nobody has to look at what is not shown.
            Ok(text) | Err(text) => {
                let found = self.found(text, Verdict::Unknown(Unknown::Budget), Vec::new());
                return Outcome::Done(Some(Found { fits, ..found }));
            }
        };
        let placed = self.desk.place(&text);
        if let Some(look) = self.look.take().filter(|look| look.placed.text == placed.text) {
            self.watch.await_answer(look.ask, look.answer).await;
        }
        if text.trim().is_empty() {
            let goes = self.turn_from_repetition();
            return if goes { Outcome::Goes } else { Outcome::Done(None) };
        }
        if let Some(diagnostic) = self.known_bad.get(&text).cloned() {
            return self.refuse(&text, &placed, diagnostic, Vec::new()).await;
        }
        let (verdict, deferred) = self.verdict(&placed).await;
        match verdict {
            Verdict::Findings(bad) => self.refuse(&text, &placed, bad[0].clone(), bad).await,
            verdict => Outcome::Done(Some(self.found(text, verdict, deferred))),
        }
    }

    /// As many lines of a candidate as the model is sure enough of, from its start; `Err` gives it back where there are none.
    fn sure_part(&self, text: String) -> Result<String, String> {
        let is_shown = |text: &str| self.terms.shows(self.evidence(text).as_ref());
        if text.trim().is_empty() || is_shown(&text) {
            return Ok(text);
        }
        let ends = self.place.whole_ends(&text).filter(|at| *at < text.len());
        let sure = ends.take(CUTS_MAX).find(|at| is_shown(&text[..*at]));
        sure.map(|at| text[..at].to_owned()).ok_or(text)
    }

    /// The first `at` bytes of the text; where they leave something open, up to the last line that does not, or with the closing signs.
    fn completed(&self, at: usize) -> String {
        let text = &self.writer.text()[..at];
        if self.place.is_inside() || self.place.is_whole(text) {
            return text.to_owned();
        }
        match (self.place.last_whole(text), self.place.layout()) {
            (0, Some((grammar, gap))) => match grammar.signs(gap, text).0 {
                signs if signs.chars().count() > SIGNS_MAX => String::new(),
                signs => [text.trim_end(), &signs].concat(),
            },
            (whole, _) => text[..whole].to_owned(),
        }
    }

    /// What the critic says of exactly this text.
    async fn verdict(&mut self, placed: &Placed) -> (Verdict, Vec<Diagnostic>) {
        match self.watch.check(&placed.text).await {
            Checked::Unknown(reason) => (Verdict::Unknown(reason), Vec::new()),
            Checked::Diagnostics(diagnostics) => match self.watch.before() {
                Some(Ok(before)) => {
                    let Judged { bad, deferred } =
                        self.desk.judge(before, placed, &diagnostics, Stage::Whole);
                    (if bad.is_empty() { Verdict::Clean } else { Verdict::Findings(bad) }, deferred)
                }
                Some(Err(reason)) => (Verdict::Unknown(reason.clone()), Vec::new()),
                None => (Verdict::Unknown(Unknown::Budget), Vec::new()),
            },
        }
    }

    /// Notes that the checker has refused `text` (`findings`: if exactly it was checked), and goes back to try another way; without one,
    /// takes the best that is left.
    async fn refuse(
        &mut self,
        text: &str,
        placed: &Placed,
        diagnostic: Diagnostic,
        findings: Vec<Diagnostic>,
    ) -> Outcome {
        if self.known_bad.insert(text.to_owned(), diagnostic.clone()).is_none() {
            let own = self.desk.dressed(text.trim_end()).text;
            self.refused.push(Refused { text: own, diagnostic: diagnostic.clone() });
        }
        if self.unsteered.is_none() {
            let verdict = if findings.is_empty() {
                Verdict::Unknown(Unknown::Budget)
            } else {
                Verdict::Findings(findings)
            };
            self.unsteered = Some(self.found(text.to_owned(), verdict, Vec::new()));
        }
        let affordable = self.watch.affords(0) && std::time::Instant::now() < self.watch.deadline;
        if affordable && self.retried < RETRIES_MAX && self.go_back(text.len(), placed, &diagnostic)
        {
            return Outcome::Goes;
        }
        let blamed =
            self.desk.blamed(placed, &diagnostic).map_or(text.len(), |blamed| blamed.start);
        self.committed =
            self.committed.min(text[..blamed.min(text.len())].rfind('\n').unwrap_or(0));
        Outcome::Done(self.best_left().await)
    }

    /// Where all that the model wrote repeats a line around the cursor, goes back to where it was least sure in that, and on another way.
    fn turn_from_repetition(&mut self) -> bool {
        let (text, tape) = (self.writer.text(), &self.writer.tape);
        if self.retried >= REPETITIONS_MAX || !self.place.repeats(text, self.writer.has_ended()) {
            return false;
        }
        let line = text.find('\n').unwrap_or(text.len());
        let last = tape.token_at(line.saturating_sub(1));
        let Some(token) = last.and_then(|last| tape.least_sure(0..last + 1)) else { return false };
        self.retried += 1;
        self.look = None;
        self.writer.go_back(token, token + 1);
        true
    }

    /// Goes back to the token to blame. `false` when the line has used up its retries.
    fn go_back(&mut self, len: usize, placed: &Placed, diagnostic: &Diagnostic) -> bool {
        let text = self.writer.text();
        let len = len.min(text.len());
        let blamed = self.desk.blamed(placed, diagnostic).filter(|blamed| blamed.start < len);
        let point = blamed
            .as_ref()
            .map_or(text[..len].trim_end().len().saturating_sub(1), |blamed| blamed.start);
        let point = floor_boundary(text, point);
        let line = text[..point].rfind('\n').map_or(0, |newline| newline + 1);
        let content = line + text[line..len].len() - text[line..len].trim_start().len();
        let tape = &self.writer.tape;
        let (Some(start), Some(end)) =
            (tape.token_at(content), tape.token_at(len.saturating_sub(1)))
        else {
            return false;
        };
        let count = self.retries.entry(start).or_insert(0);
        if *count >= RETRIES_LINE_MAX {
            return false;
        }
        let until = blamed
            .as_ref()
            .and_then(|blamed| tape.token_at(blamed.end.max(blamed.start + 1) - 1))
            .unwrap_or(end);
        // What is missing at the end is the fault of the token that ended the line.
        let breaker = match text[len..].chars().next() {
            _ if diagnostic.range.start < placed.inserted.end => None,
            Some('\n') => tape.token_at(len),
            Some(_) => None,
            None => self.writer.stopped_at(),
        };
        let first = breaker.or_else(|| blamed.and_then(|blamed| tape.token_at(blamed.start)));
        let ways = [first, tape.least_sure(start..until + 1), Some(start)];
        let sure = |token: usize| token < tape.len() && tape.cell(token).logprob > SURE.ln();
        let open = ways.into_iter().flatten().enumerate().skip(*count as usize);
        let token = open.map(|(_, token)| token).find(|token| !sure(*token)).unwrap_or(start);
        *count += 1;
        self.retried += 1;
        self.look = None;
        self.writer.go_back(token, end.max(token) + 1);
        self.committed =
            self.committed.min(self.writer.text().rfind('\n').map_or(0, |newline| newline + 1));
        true
    }

    /// The lines that have passed, if they can stand alone; else what the model would have said by itself, if findings may be shown.
    async fn best_left(&mut self) -> Option<Found> {
        let passed = self
            .place
            .last_whole(&self.writer.text()[..self.committed.min(self.writer.text().len())]);
        if passed > 0 {
            let text = self.writer.text()[..passed].to_owned();
            let placed = self.desk.place(&text);
            let (verdict, deferred) = self.verdict(&placed).await;
            if !matches!(verdict, Verdict::Findings(_)) {
                return Some(self.found(text, verdict, deferred));
            }
        }
        if self.terms.on_findings == OnFindings::Withhold {
            return None;
        }
        let mut found = self.unsteered.clone()?;
        if !matches!(found.verdict, Verdict::Findings(_)) {
            let placed = self.desk.place(&found.text);
            let (verdict, deferred) = self.verdict(&placed).await;
            found = self.found(found.text, verdict, deferred);
        }
        Some(found)
    }

    /// The clock has run out: the complete lines, of which nothing is known unless exactly they were checked.
    fn cut_short(&mut self) -> Option<Found> {
        let text = self.writer.text();
        let lines = text.rfind('\n').map_or("", |newline| &text[..newline]);
        let whole = self.place.last_whole(lines);
        (whole > 0).then(|| {
            self.found(text[..whole].to_owned(), Verdict::Unknown(Unknown::Budget), Vec::new())
        })
    }

    /// A candidate that is offered. What may yet go away is no reason to withhold it, and none to call it clean.
    fn found(&self, text: String, verdict: Verdict, deferred: Vec<Diagnostic>) -> Found {
        let mean_logprob = self.mean_logprob(&text);
        let open = || deferred.iter().filter(|one| one.severity == Severity::Error).cloned();
        let verdict = match verdict {
            Verdict::Clean if open().next().is_some() => Verdict::Findings(open().collect()),
            verdict => verdict,
        };
        let evidence = self.evidence(&text);
        Found { text, verdict, deferred, mean_logprob, evidence, fits: true }
    }

    fn evidence(&self, text: &str) -> Option<Evidence> {
        // What was added to close it is nobody's choice.
        let own = self.writer.text().bytes().zip(text.bytes()).take_while(|(a, b)| a == b).count();
        let (logprobs, end) = self.writer.sureness(own)?;
        Some(Evidence::of(&Evident {
            logprobs: &logprobs,
            end,
            text,
            line: self.place.line(),
            inside: self.place.is_inside(),
            whole: self.place.is_whole(text),
            turned: self.writer.rewinds > 0,
            language: self.desk.grammar.map_or("", |grammar| grammar.language().id()),
        }))
    }

    fn mean_logprob(&self, text: &str) -> f32 {
        let tokens =
            self.writer.tape.token_at(text.len().saturating_sub(1)).map_or(0, |last| last + 1);
        self.writer.tape.mean_logprob(tokens)
    }
}

async fn answer(look: Option<&mut Look<'_>>) -> Checked {
    match look {
        Some(look) => (&mut look.ask.answer).await,
        None => std::future::pending().await,
    }
}
