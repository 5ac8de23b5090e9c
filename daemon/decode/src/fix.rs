//! Search and verify: finds a change that removes one diagnostic and brings in nothing, or says that it found none.
//!
//! The model may be weak, and may be missing: an idea counts only once the server has seen it in place. The cheap ideas come first (the
//! server's quick fixes, names that are nearly the wrong one, small repairs), then the model rewrites the offending lines, steered by the
//! same critic. What stands clean is ranked by the model's likelihood and by how little it changes.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use engine::{Engine, EngineError};
use lang::{Class, Grammar, Policy, indentation};
use text::{Baseline, Diagnostic, Edit, Severity, apply_edits, line_at};

use crate::candidates::{Idea, quick_fixes, repairs, replacements};
use crate::judge::{Before, Desk};
use crate::prompt::{Layout, fill_in};
use crate::rank::{self, Clean};
use crate::steer::{Steer, Terms};
use crate::trim::Place;
use crate::watch::Watch;
use crate::writer::{Manner, Writer};
use crate::{Checked, Critic, Fix, FixError, FixRequest, Origin, Proposal, Refused, Timings};

/// Rewritings that the model is asked for where something clean was found without it: they may still be better.
pub(crate) const REGENERATIONS_BESIDES: u32 = 2;
/// The longest statement that is rewritten as a whole.
pub(crate) const REGION_LINES_MAX: usize = 6;
/// Tokens of one rewriting: so many for each one that it replaces, and some.
const TOKENS_EACH: u32 = 2;
const TOKENS_MORE: u32 = 24;
/// Checks that the steering of one rewriting may spend.
const STEER_CHECKS_MAX: u32 = 6;
/// How much warmer each pair of rewritings is than the one before.
const REGENERATION_TEMPERATURE: f32 = 0.3;
/// A change may not leave less than this share of the letters that it replaces, nor fewer lines.
const KEPT_SHARE_MIN: f32 = 0.5;

/// Looks for a fix of the diagnostic that `request` points at. Dropping the future cancels all of it.
pub async fn fix(
    engine: Option<&Engine>,
    critic: &dyn Critic,
    request: FixRequest,
) -> Result<Fix, FixError> {
    let started = Instant::now();
    let before = match critic.check(request.text.clone()).await {
        Checked::Diagnostics(diagnostics) => diagnostics,
        Checked::Unknown(reason) => return Err(FixError::Unchecked(reason)),
    };
    let policy = request
        .language
        .map_or_else(Policy::unmeasured, |language| language.policy(critic.server()));
    let Some(target) = target(&request, policy, &before) else {
        return Ok(nothing(before, started));
    };
    let mut search = Search::new(engine, critic, &request, policy, before, target, started);
    search.try_cheap_ideas().await;
    search.try_regenerations().await?;
    search.conclude().await
}

/// The diagnostic to fix: the worst one that touches the range, or else its line; without a range the document's first error.
fn target(request: &FixRequest, policy: &Policy, before: &[Diagnostic]) -> Option<Diagnostic> {
    let counts = |diagnostic: &&Diagnostic| policy.class(diagnostic, None) != Class::Ignore;
    let Some(range) = &request.range else {
        let errors = before.iter().filter(counts);
        return errors
            .min_by_key(|diagnostic| (diagnostic.severity, diagnostic.range.start))
            .cloned();
    };
    let lines = line_at(&request.text, range.start).start..line_at(&request.text, range.end).end;
    let within = |wide: &Range<usize>| {
        let wide = wide.clone();
        let near = before.iter().filter(move |diagnostic| {
            diagnostic.range.start <= wide.end && wide.start <= diagnostic.range.end
        });
        let listed = near.filter(|diagnostic| diagnostic.severity <= Severity::Warning);
        listed.min_by_key(|diagnostic| (diagnostic.severity, diagnostic.range.start)).cloned()
    };
    within(range).or_else(|| within(&lines))
}

fn nothing(before: Vec<Diagnostic>, started: Instant) -> Fix {
    let after = before.clone();
    let timings =
        Timings { baseline: started.elapsed(), total: started.elapsed(), ..Timings::default() };
    let reason = Some("there is no diagnostic to fix here".to_owned());
    Fix {
        proposal: None,
        target: None,
        before,
        after,
        candidates: 0,
        refused: Vec::new(),
        reason,
        timings,
    }
}

struct Search<'a> {
    engine: Option<&'a Engine>,
    critic: &'a dyn Critic,
    request: &'a FixRequest,
    policy: &'static Policy,
    grammar: Option<Grammar>,
    before: Vec<Diagnostic>,
    target: Diagnostic,
    /// What stood before, without the target.
    baseline: Baseline,
    seen: Vec<String>,
    clean: Vec<Clean>,
    refused: Vec<Refused>,
    tried: u32,
    left: u32,
    deadline: Instant,
    started: Instant,
    timings: Timings,
}

impl<'a> Search<'a> {
    fn new(
        engine: Option<&'a Engine>,
        critic: &'a dyn Critic,
        request: &'a FixRequest,
        policy: &'static Policy,
        before: Vec<Diagnostic>,
        target: Diagnostic,
        started: Instant,
    ) -> Search<'a> {
        let others: Vec<Diagnostic> = without(&before, &target).into_iter().cloned().collect();
        let baseline = Baseline::new(&request.text, &others);
        let grammar = request.language.map(|language| Grammar::new(language, &request.path));
        let timings = Timings { baseline: started.elapsed(), ..Timings::default() };
        let (seen, clean, refused) = (vec![request.text.to_string()], Vec::new(), Vec::new());
        let (left, deadline) = (request.budget.checks_max, started + request.budget.deadline);
        Search {
            engine,
            critic,
            request,
            policy,
            grammar,
            before,
            target,
            baseline,
            seen,
            clean,
            refused,
            tried: 0,
            left,
            deadline,
            started,
            timings,
        }
    }

    fn spent(&self) -> bool {
        self.left == 0 || Instant::now() >= self.deadline
    }

    async fn try_cheap_ideas(&mut self) {
        let deadline = self.deadline.into();
        let text = &self.request.text;
        let listed = async {
            let mut ideas = quick_fixes(self.critic, text, &self.target).await;
            ideas.extend(replacements(self.critic, self.grammar, text, &self.target).await);
            ideas
        };
        let mut ideas = tokio::time::timeout_at(deadline, listed).await.unwrap_or_default();
        ideas.extend(
            self.grammar.map_or_else(Vec::new, |grammar| repairs(grammar, text, &self.target)),
        );
        for idea in ideas {
            if self.spent() {
                return;
            }
            self.try_idea(idea).await;
        }
    }

    /// Has one idea checked in place.
    async fn try_idea(&mut self, idea: Idea) {
        let Ok(text) = apply_edits(&self.request.text, &idea.edits) else { return };
        if self.seen.contains(&text) || !self.is_honest(&idea, &text) {
            return;
        }
        self.seen.push(text.clone());
        self.tried += 1;
        self.left -= 1;
        let placed: Arc<str> = text.into();
        let asked = Instant::now();
        let checked =
            tokio::time::timeout_at(self.deadline.into(), self.critic.check(placed.clone())).await;
        self.timings.checks += asked.elapsed();
        self.timings.check_count += 1;
        let Ok(Checked::Diagnostics(after)) = checked else { return };
        match self.objection(&placed, &after) {
            Some(diagnostic) => self
                .refused
                .push(Refused { text: changed(&self.request.text, &placed), diagnostic }),
            None => self.clean.push(Clean { idea, text: placed, after, mean_logprob: None }),
        }
    }

    /// What the server still, or newly, has against the document.
    fn objection(&self, text: &str, after: &[Diagnostic]) -> Option<Diagnostic> {
        let same = |one: &Diagnostic, other: &Diagnostic| {
            one.code == other.code && one.message == other.message
        };
        let (lines, _) = rank::changed_lines(&self.request.text, text);
        // What else was wrong in the lines that changed may stay: the baseline knows it by the lines' old text alone.
        let mut stays: Vec<&Diagnostic> = without(&self.before, &self.target);
        stays.retain(|old| lines.contains(&old.range.start));
        let counts = |diagnostic: &&&Diagnostic| {
            same(diagnostic, &self.target) || self.policy.class(diagnostic, None) != Class::Ignore
        };
        let introduced = self.baseline.introduced(text, after);
        let mut left = introduced.iter().filter(counts);
        left.find(|diagnostic| match stays.iter().position(|old| same(old, diagnostic)) {
            Some(index) => {
                stays.remove(index);
                false
            }
            None => true,
        })
        .map(|diagnostic| (*diagnostic).clone())
    }

    /// Whether a change neither silences the checker nor throws the code away.
    fn is_honest(&self, idea: &Idea, text: &str) -> bool {
        let old = &self.request.text;
        let count = |text: &str, word: &str| text.matches(word).count();
        let silences = self.grammar.is_some_and(|grammar| {
            grammar
                .language()
                .suppressions()
                .iter()
                .any(|word| count(text, word) > count(old, word))
        });
        let letters = |text: &str| text.chars().filter(|letter| letter.is_alphanumeric()).count();
        let removed: usize = idea.edits.iter().map(|edit| letters(&old[edit.range.clone()])).sum();
        let added: usize = idea.edits.iter().map(|edit| letters(&edit.text)).sum();
        let keeps =
            idea.origin != Origin::Regenerated || added as f32 >= removed as f32 * KEPT_SHARE_MIN;
        let lines = |text: &str| text.lines().filter(|line| !line.trim().is_empty()).count();
        !silences && keeps && (idea.origin == Origin::QuickFix || lines(text) >= lines(old))
    }

    /// Has the model rewrite the offending place, first the likeliest way, then warmer.
    async fn try_regenerations(&mut self) -> Result<(), FixError> {
        let Some(engine) = self.engine.filter(|engine| engine.tokenizer().fim().is_some()) else {
            return Ok(());
        };
        let holes = self.holes();
        for number in 0..self.request.budget.regenerations {
            if self.spent() || number >= REGENERATIONS_BESIDES && !self.clean.is_empty() {
                break;
            }
            let hole = holes[number as usize % holes.len()].clone();
            let round = number / holes.len() as u32;
            if let Some(idea) = self.regenerate(engine, hole, round).await? {
                self.try_idea(idea).await;
            }
        }
        Ok(())
    }

    /// What is rewritten: from the offending place to the end of its statement, and the statement's lines.
    fn holes(&self) -> Vec<Range<usize>> {
        let text = &self.request.text;
        let line = line_at(text, self.target.range.start);
        let syntax = self.grammar.and_then(|grammar| grammar.parse(text));
        let statement = syntax
            .and_then(|syntax| syntax.statement(self.target.range.start))
            .unwrap_or(line.clone());
        let start = line_at(text, statement.start.min(line.start)).start;
        let end = line_at(text, statement.end.max(self.target.range.end).min(text.len())).end;
        let long = text[start..end].lines().count() > REGION_LINES_MAX;
        let region = if long { line } else { start..end };
        let whole = region.start + indentation(&text[region.clone()]).len()..region.end;
        let tail = self.target.range.start.clamp(whole.start, whole.end)..whole.end;
        if tail == whole { vec![whole] } else { vec![tail, whole] }
    }

    /// What the model, steered, would write in the hole.
    async fn regenerate(
        &mut self,
        engine: &Engine,
        hole: Range<usize>,
        round: u32,
    ) -> Result<Option<Idea>, FixError> {
        let request = self.request;
        let without_hole: Arc<str> =
            [&request.text[..hole.start], &request.text[hole.end..]].concat().into();
        let desk = Desk::new(
            without_hole,
            hole.start,
            request.language,
            &request.path,
            self.critic.server(),
            None,
        );
        let lines = request.text[hole.clone()].lines().count().max(1) as u32;
        let place = Place::new(&desk, lines);
        let Some(layout) = Layout::of(engine) else { return Ok(None) };
        let prompt = fill_in(
            engine.tokenizer(),
            &layout,
            Default::default(),
            &request.path,
            &desk.before,
            &desk.after,
            &[],
        );
        let replaced = engine.tokenizer().encode(&request.text[hole.clone()]);
        let manner = Manner {
            class: engine::Class::Fix,
            temperature: REGENERATION_TEMPERATURE * round as f32,
            seed: request.seed.wrapping_add(u64::from(round)),
            tokens_max: TOKENS_EACH * replaced.len() as u32 + TOKENS_MORE,
            not_first: Vec::new(),
            // Most of it is written again.
            lookup: vec![replaced.into()],
            mixture: None,
        };
        let writer = Writer::start(engine, prompt, manner)
            .map_err(|error| FixError::Engine(error.to_string()))?;
        let mut before = Before::default();
        let others: Vec<Diagnostic> =
            without(&self.before, &self.target).into_iter().cloned().collect();
        before.add(hole.start, &request.text, &others);
        let watch =
            Watch::over(self.critic, &desk, before, self.left.min(STEER_CHECKS_MAX), self.deadline);
        let mut steer = Steer::new(&desk, &place, writer, watch, Terms::ASKED);
        let found = steer.candidate().await?;
        self.timings.prefill += steer.writer.prefill.unwrap_or_default();
        self.timings.decode += steer.writer.decode;
        self.timings.tokens += steer.writer.tokens;
        self.timings.rewinds += steer.writer.rewinds;
        self.timings.checks += steer.watch.checks;
        self.timings.check_count += steer.watch.count;
        self.left = self.left.saturating_sub(steer.watch.count);
        self.tried += steer.refused.len() as u32;
        let line = line_at(&request.text, hole.start).start;
        for mut refused in steer.refused {
            refused.text.insert_str(0, &request.text[line..hole.start]);
            if self.refused.iter().all(|known| known.text != refused.text) {
                self.refused.push(refused);
            }
        }
        let edit = found.map(|found| Edit { range: hole, text: desk.dressed(&found.text).text });
        Ok(edit.map(|edit| Idea { edits: vec![edit], origin: Origin::Regenerated }))
    }

    /// Ranks what stands clean, and proposes the best.
    async fn conclude(mut self) -> Result<Fix, FixError> {
        let asked = Instant::now();
        if let Some(engine) = self.engine {
            let path = &self.request.path;
            let ranking = rank::score(engine, path, &self.request.text, &mut self.clean);
            // Out of time, the order of the origins and the size of the change decide.
            let _ = tokio::time::timeout_at(self.deadline.into(), ranking).await;
        }
        self.timings.score = asked.elapsed();
        self.timings.total = self.started.elapsed();
        let reason = self.reason();
        let best = rank::best(&self.request.text, self.before.len(), self.clean);
        let (proposal, after) = match best {
            Some(best) => {
                let proposal = Proposal {
                    edits: best.idea.edits,
                    origin: best.idea.origin,
                    mean_logprob: best.mean_logprob,
                };
                (Some(proposal), best.after)
            }
            None => (None, self.before.clone()),
        };
        let (target, before, refused, timings) =
            (Some(self.target), self.before, self.refused, self.timings);
        Ok(Fix {
            proposal,
            target,
            before,
            after,
            candidates: self.tried,
            refused,
            reason,
            timings,
        })
    }

    /// Why there is no proposal.
    fn reason(&self) -> Option<String> {
        if !self.clean.is_empty() {
            return None;
        }
        let tried = match self.tried {
            0 => "there was no idea to try".to_owned(),
            1 => "the one change that was tried did not pass the checker".to_owned(),
            tried => format!("none of the {tried} changes that were tried passed the checker"),
        };
        let limit = if Instant::now() >= self.deadline { ", and the time was up" } else { "" };
        let model =
            if self.engine.is_none() { ", and there is no model to write others" } else { "" };
        Some(format!("{tried}{limit}{model}"))
    }
}

/// All but one of those that equal `target`.
fn without<'d>(all: &'d [Diagnostic], target: &Diagnostic) -> Vec<&'d Diagnostic> {
    let index = all.iter().position(|other| other == target);
    all.iter().enumerate().filter(|(at, _)| Some(*at) != index).map(|(_, other)| other).collect()
}

/// The lines of `new` that differ from `old`, without the lines that both share at the start and at the end.
fn changed(old: &str, new: &str) -> String {
    let (_, region) = rank::changed_lines(old, new);
    new[region].trim_end().to_owned()
}

impl From<EngineError> for FixError {
    fn from(error: EngineError) -> Self {
        FixError::Engine(error.to_string())
    }
}
