//! Whether a job speculates, with which drafts and how far: as long as it is expected to pay, and never at a loss that matters.
//!
//! Everything is counted in passes of one row, because that is what a token costs without speculation. A draft of k tokens of which each
//! is right with chance p yields 1 + p + … + pᵏ tokens for the cost of a pass of k + 1 rows; the source and the k with the best yield
//! are taken where they promise [`GAIN_MIN`] times what plain decoding does.
//!
//! Expectations can be wrong, so every job has an account: what speculation has gained (or lost) so far, and [`ALLOWANCE`] for every
//! token. A pass is made only if the account can bear that all of its draft is wrong. So whatever the text is and whatever it
//! costs, a job loses no more than the allowance and what it took from the engine's spare. Sources that do not pay are tried again from
//! time to time, ever more rarely while they fail.

use super::{
    DEPTHS, Guess, SOURCES, Source,
    costs::{Experience, Yield},
};

/// Speculation that promises less than so many times plain decoding is left.
const GAIN_MIN: f64 = 1.05;
/// A token whose draft is right so rarely is not looked at.
const WORTH_MIN: f64 = 0.02;
/// What may be lost for every token: so much of what it costs.
const ALLOWANCE: f64 = 0.01;
/// What goes to the engine's spare for every token, for jobs to come.
const SAVED: f64 = 0.005;
/// What a job may take from the spare beyond what it has, as far as the spare has it.
const CREDIT_MAX: f64 = 0.75;
/// The share of a gain that fills the spare up, so that jobs too short to earn anything themselves have something to try with.
const SHARED: f64 = 0.25;
/// What a job keeps of its gains to lose again.
const BALANCE_MAX: f64 = 24.0;
/// What all jobs together leave for others.
const SPARE_MAX: f64 = 3.0;
/// A source that does not promise to pay is tried when the account holds so many times what that may cost.
const PROBE_MARGIN: f64 = 2.0;
/// It is tried again after so many tokens for which it had a draft, and after twice as many whenever that fails.
const PROBE_PATIENCE: u32 = 8;
/// But not more.
const PROBE_PATIENCE_MAX: u32 = 512;
/// So many tokens are tried.
const PROBE_LEN: usize = 2;
/// After so many passes of several rows one of a single row is made, to know what that costs now.
const PASSES_MAX: u32 = 64;
/// So many passes of one row are measured before anything is compared with them.
const PLAIN_MIN: u32 = 2;
/// The weight of a new measurement of a pass of one row.
const PLAIN_WEIGHT: f64 = 0.125;
/// It counts as no more than so many times the mean.
const PLAIN_OUTLIER: f64 = 2.0;

/// What a source could draft.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offer {
    pub(crate) guess: Guess,
    /// The most tokens.
    pub(crate) len: usize,
}

/// A choice: this guess, and so many tokens of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) guess: Guess,
    pub(crate) len: usize,
}

/// What came of a pass that one sequence had for itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) rows: usize,
    /// What it took, with drafting.
    pub(crate) seconds: f64,
    /// The draft, and how many of its tokens were right.
    pub(crate) draft: Option<(Choice, usize)>,
    /// Tokens that were forced.
    pub(crate) forced: usize,
    /// Tokens that it gave.
    pub(crate) tokens: usize,
}

/// How patient a job is with a source.
#[derive(Debug, Clone, Copy)]
struct Probe {
    wait: u32,
    /// Tokens for which it had a draft that was not used.
    passed: u32,
}

/// The controller of one job.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    /// Seconds of a pass of one row, and how many were measured.
    plain: f64,
    plain_count: u32,
    /// Passes of several rows since then.
    since_plain: u32,
    balance: f64,
    /// What it may still take from the spare.
    credit: f64,
    yields: [[Yield; DEPTHS]; SOURCES],
    probes: [[Probe; DEPTHS]; SOURCES],
    /// The cache cannot be cut to every length, so that what was right of a draft that was not right as a whole is fed again.
    pub(crate) refeeds: bool,
}

impl Control {
    pub(crate) fn new(experience: &Experience) -> Control {
        Control {
            plain: 0.0,
            plain_count: 0,
            since_plain: 0,
            balance: 0.0,
            credit: CREDIT_MAX,
            yields: experience.yields.map(|depths| depths.map(Yield::as_prior)),
            probes: [[Probe { wait: PROBE_PATIENCE, passed: 0 }; DEPTHS]; SOURCES],
            refeeds: false,
        }
    }

    /// For another line of the same job.
    pub(crate) fn fork(&self) -> Control {
        Control { balance: 0.0, credit: CREDIT_MAX, ..self.clone() }
    }

    /// What to draft in a pass that feeds `pending` rows anyway.
    pub(crate) fn choose(
        &mut self,
        pending: usize,
        offers: &[Offer],
        experience: &Experience,
    ) -> Option<Choice> {
        if self.plain_count < PLAIN_MIN || self.since_plain >= PASSES_MAX {
            return None;
        }
        let without = experience.cost(pending);
        let funds = self.balance + self.credit.min(experience.spare).max(0.0);
        let affords = |offer: &Offer, len: usize, times: f64| {
            let risk = experience.cost(pending + len) - without + drafting(offer, len, experience);
            funds >= risk * times
        };
        let mut best: Option<(f64, Choice)> = None;
        for offer in offers {
            let chance = self.record(offer.guess).chance();
            let (mut expected, mut all_right) = (1.0, 1.0);
            for len in 1..=offer.len {
                all_right *= chance;
                if all_right < WORTH_MIN {
                    break;
                }
                expected += all_right;
                let again = if self.refeeds && len > 1 {
                    // The rows that are fed once more.
                    (1.0 - all_right) * (experience.cost(expected as usize + 1) - 1.0)
                } else {
                    0.0
                };
                let cost = experience.cost(pending + len) + drafting(offer, len, experience);
                let gain = expected * without / (cost + again);
                if gain >= GAIN_MIN
                    && best.is_none_or(|(most, _)| gain > most)
                    && affords(offer, len, 1.0)
                {
                    best = Some((gain, Choice { guess: offer.guess, len }));
                }
            }
        }
        if let Some((_, choice)) = best {
            return Some(choice);
        }
        for offer in offers {
            let len = PROBE_LEN.min(offer.len);
            let is_affordable = affords(offer, len, PROBE_MARGIN);
            let probe = &mut self.probes[offer.guess.source as usize][offer.guess.depth];
            probe.passed = probe.passed.saturating_add(1);
            if len > 0 && is_affordable && probe.passed >= probe.wait {
                return Some(Choice { guess: offer.guess, len });
            }
        }
        None
    }

    fn record(&self, guess: Guess) -> &Yield {
        &self.yields[guess.source as usize][guess.depth]
    }

    /// Learns from a pass.
    pub(crate) fn learn(&mut self, outcome: Outcome, experience: &mut Experience) {
        let Outcome { rows, seconds, draft, forced, tokens } = outcome;
        let allowed = tokens as f64;
        self.balance += ALLOWANCE * allowed;
        experience.spare = (experience.spare + SAVED * allowed).min(SPARE_MAX);
        if rows == 1 {
            self.learn_plain(seconds);
        } else if self.plain_count >= PLAIN_MIN {
            self.since_plain += 1;
        }
        if self.plain_count < PLAIN_MIN {
            return;
        }
        let cost = seconds / self.plain;
        if rows > 1 {
            let drafted = draft.map_or(0.0, |(choice, _)| {
                drafting(&Offer { guess: choice.guess, len: choice.len }, choice.len, experience)
            });
            experience.learn(rows, cost - drafted);
        }
        // What is fed again is the fault of an earlier draft.
        let drafted = draft.map_or(0, |(choice, _)| choice.len);
        let again = rows.saturating_sub(drafted + forced + 1);
        self.balance -= experience.cost(1 + again) - 1.0;
        let Some((choice, kept)) = draft else { return self.borrow(experience) };
        // What is fed anyway is not the draft's fault.
        let without = experience.cost(rows.saturating_sub(choice.len));
        let gain = kept as f64 - (cost - without);
        // A pass that was held up says nothing about its draft: at most what it was expected to lose, and the half of it.
        let risk = experience.cost(rows) - without;
        let gain = gain.max(-1.5 * risk - 0.1);
        let shared = (SHARED * gain).clamp(0.0, (SPARE_MAX - experience.spare).max(0.0));
        experience.spare += shared;
        self.balance += gain - shared;
        self.borrow(experience);
        if self.balance > BALANCE_MAX {
            experience.spare = (experience.spare + self.balance - BALANCE_MAX).min(SPARE_MAX);
            self.balance = BALANCE_MAX;
        }
        self.note(choice, kept, experience);
    }

    /// Of a draft, `kept` tokens were right.
    fn note(&mut self, choice: Choice, kept: usize, experience: &mut Experience) {
        let Guess { source, depth } = choice.guess;
        self.yields[source as usize][depth].learn(choice.len, kept);
        experience.yields[source as usize][depth].learn(choice.len, kept);
        let probe = &mut self.probes[source as usize][depth];
        let wait = if kept > 0 { PROBE_PATIENCE } else { probe.wait * 2 };
        *probe = Probe { wait: wait.min(PROBE_PATIENCE_MAX), passed: 0 };
    }

    /// Learns that what was asked for a draft has failed, after so many seconds: as a draft of which nothing was right.
    pub(crate) fn fails(&mut self, choice: Choice, seconds: f64, experience: &mut Experience) {
        self.note(choice, 0, experience);
        if let Some(plain) = self.plain_seconds() {
            // As of a pass that was held up: no more than it was expected to lose, and the half of it.
            let offer = Offer { guess: choice.guess, len: choice.len };
            let risk = drafting(&offer, choice.len, experience);
            self.balance -= (seconds / plain).min(1.5 * risk + 0.1);
            self.borrow(experience);
        }
    }

    /// Pays from the spare what it has lost beyond what it had.
    fn borrow(&mut self, experience: &mut Experience) {
        let taken = (-self.balance).min(self.credit).min(experience.spare).max(0.0);
        self.balance += taken;
        self.credit -= taken;
        experience.spare -= taken;
    }

    fn learn_plain(&mut self, seconds: f64) {
        self.since_plain = 0;
        let count = f64::from(self.plain_count);
        let seconds = match self.plain_count {
            0..PLAIN_MIN => seconds,
            _ => seconds.min(self.plain * PLAIN_OUTLIER),
        };
        let weight = PLAIN_WEIGHT.max(1.0 / (count + 1.0));
        self.plain += (seconds - self.plain) * weight;
        self.plain_count = self.plain_count.saturating_add(1);
    }

    /// What a pass of one row takes, as far as it is known.
    pub(crate) fn plain_seconds(&self) -> Option<f64> {
        (self.plain_count >= PLAIN_MIN).then_some(self.plain)
    }
}

/// What it costs to make a draft.
fn drafting(offer: &Offer, len: usize, experience: &Experience) -> f64 {
    match offer.guess.source {
        Source::Model | Source::Mtp => len as f64 * experience.draft_token,
        Source::Text | Source::Workspace | Source::Forced => 0.0,
    }
}

#[cfg(test)]
mod tests;
