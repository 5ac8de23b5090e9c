//! Who goes next: classes by urgency with ageing, and within a class by tokens already had.
//!
//! Within a class every run gets the same number of tokens over time, however long the others are (start-time fair queueing: a run
//! carries a tag that grows by what it is served, and the least tag goes first; who comes or comes back starts at the class's clock,
//! so that waiting saves nothing up). Reading and writing have accounts of their own: a run that has read a hundred thousand tokens
//! does not wait until others have written as many.
//!
//! A class gives way to more urgent ones, but not for ever: once it was passed over [`PASSED_OVER_MAX`] times, a tick is its own.
//! Typing is the exception, in both directions: it is never passed over, and what it passes over does not age meanwhile, because a
//! keystroke's job is short and somebody waits for it with their fingers on the keys.

use crate::job::Class;

/// How many ticks in a row a class that wants a turn is passed over at most, except for typing.
pub(crate) const PASSED_OVER_MAX: u32 = 7;

/// How many classes there are.
pub(crate) const CLASSES: usize = 4;

/// What a run does with its turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It reads its prompt, or answers a question.
    Read,
    /// It writes tokens.
    Write,
}

/// What a run was served, in one phase.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Share {
    tag: u64,
    waiting: bool,
}

/// The shares of a run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Shares([Share; 2]);

impl Shares {
    /// Less goes first.
    pub(crate) fn tag(&self, phase: Phase) -> u64 {
        self.0[phase as usize].tag
    }
}

/// The clocks of all queues, and how long each class has been waiting.
#[derive(Debug, Default)]
pub(crate) struct Fairness {
    clocks: [[u64; 2]; CLASSES],
    passed_over: [u32; CLASSES],
}

impl Fairness {
    /// The class of the next tick, of those that want one (in the order of [`Class`]).
    pub(crate) fn class(&mut self, wanting: [bool; CLASSES]) -> Option<usize> {
        let first = wanting.iter().position(|&wants| wants)?;
        if first == Class::Typing as usize {
            return Some(first);
        }
        let overdue = (0..CLASSES)
            .filter(|&class| wanting[class] && self.passed_over[class] >= PASSED_OVER_MAX)
            .max_by_key(|&class| self.passed_over[class]);
        let chosen = overdue.unwrap_or(first);
        for (class, passed_over) in self.passed_over.iter_mut().enumerate() {
            let waits = wanting[class] && class != chosen;
            *passed_over = if waits { *passed_over + 1 } else { 0 };
        }
        Some(chosen)
    }

    /// Whether a run wants turns in this phase. Who comes back starts with the others.
    pub(crate) fn note(&self, shares: &mut Shares, class: Class, phase: Phase, wants: bool) {
        let share = &mut shares.0[phase as usize];
        if wants && !share.waiting {
            share.tag = share.tag.max(self.clocks[class as usize][phase as usize]);
        }
        share.waiting = wants;
    }

    /// A run was served so many tokens.
    pub(crate) fn serve(&mut self, shares: &mut Shares, class: Class, phase: Phase, tokens: usize) {
        let share = &mut shares.0[phase as usize];
        let clock = &mut self.clocks[class as usize][phase as usize];
        *clock = share.tag.max(*clock);
        share.tag += tokens as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_is_never_passed_over_and_ages_nobody() {
        let mut fairness = Fairness::default();
        for _ in 0..100 {
            assert_eq!(fairness.class([true, true, true, true]), Some(0));
        }
        assert_eq!(fairness.class([false, true, true, false]), Some(1));
        assert_eq!(fairness.class([false; CLASSES]), None);
    }

    #[test]
    fn every_waiting_class_gets_a_tick_in_time() {
        let mut fairness = Fairness::default();
        let mut waited = [0u32; CLASSES];
        for tick in 0..1000 {
            let chosen = fairness.class([false, true, true, true]).unwrap();
            for (class, waited) in waited.iter_mut().enumerate().skip(1) {
                *waited = if class == chosen { 0 } else { *waited + 1 };
                assert!(*waited <= PASSED_OVER_MAX + 1, "class {class} at tick {tick}");
            }
        }
    }

    #[test]
    fn tokens_are_shared_equally_whatever_the_pieces() {
        let mut fairness = Fairness::default();
        let pieces = [256, 16, 1];
        let mut shares = [Shares::default(); 3];
        let mut had = [0usize; 3];
        for turn in 0..5000 {
            let late = turn >= 1000;
            for (run, shares) in shares.iter_mut().enumerate() {
                fairness.note(shares, Class::Agent, Phase::Read, run != 2 || late);
            }
            let runs = if late { 0..3 } else { 0..2 };
            let run = runs.min_by_key(|&run| shares[run].tag(Phase::Read)).unwrap();
            fairness.serve(&mut shares[run], Class::Agent, Phase::Read, pieces[run]);
            had[run] += pieces[run];
            assert!(had[0].abs_diff(had[1]) <= 256, "{had:?}");
        }
        assert!(had[2] > 1000, "the late one is served: {had:?}");
        assert!(had[2] < had[0], "and gets nothing for the time before it came: {had:?}");
    }
}
