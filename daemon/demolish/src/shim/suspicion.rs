//! When a daemon is asked whether it still answers, and when it is given up.
//!
//! A daemon that is stopped, or hangs, closes nothing: the system takes what is written to it until its buffers are full. So
//! while something is waited for and nothing is heard, the daemon is asked over a connection of its own, and a daemon that
//! says nothing twice in a row is given up. Twice, because one silence may be our own: a shim that was stopped itself finds
//! its patience at an end before it has looked at what came meanwhile.

use std::time::{Duration, Instant};

/// How long nothing may be heard from the daemon, while something is waited for, before it is asked.
pub(super) const QUIET_MAX: Duration = Duration::from_secs(1);
/// How long until it is asked again at most, after it has answered: a request may take hours, and costs a question a minute.
pub(super) const ASK_EVERY_MAX: Duration = Duration::from_secs(60);
/// How often in a row it may say nothing.
pub(super) const SILENCES_MAX: u32 = 2;

/// What is known about the daemon's silence.
#[derive(Debug)]
pub(super) struct Suspicion {
    due: Option<Instant>,
    wait: Duration,
    asking: bool,
    silences: u32,
}

impl Suspicion {
    pub(super) fn new() -> Suspicion {
        Suspicion { due: None, wait: QUIET_MAX, asking: false, silences: 0 }
    }

    /// The editor has asked for something.
    pub(super) fn asked(&mut self, now: Instant) {
        let soon = now + QUIET_MAX;
        self.wait = QUIET_MAX;
        self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
    }

    /// The daemon has said something; `waiting`: something else is still waited for.
    pub(super) fn heard(&mut self, waiting: bool, now: Instant) {
        self.wait = QUIET_MAX;
        self.silences = 0;
        self.due = waiting.then(|| now + QUIET_MAX);
    }

    /// When [`Suspicion::is_due`].
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.filter(|_| !self.asking)
    }

    /// Whether the daemon is to be asked now; it is taken to be, if so.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.next().is_some_and(|due| due <= now);
        self.asking |= due;
        due
    }

    /// It has been asked. `true`: it is to be given up.
    pub(super) fn answered(&mut self, alive: bool, waiting: bool, now: Instant) -> bool {
        self.asking = false;
        if alive {
            self.silences = 0;
            self.due = waiting.then(|| now + self.wait);
            self.wait = (2 * self.wait).min(ASK_EVERY_MAX);
            return false;
        }
        self.silences += 1;
        self.due = waiting.then_some(now);
        waiting && self.silences >= SILENCES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_daemon_that_is_silent_twice_while_it_is_waited_for_is_given_up() {
        let (mut suspicion, start) = (Suspicion::new(), Instant::now());
        assert_eq!(suspicion.next(), None);
        suspicion.asked(start);
        // What is asked further does not put it off.
        suspicion.asked(start + SECOND / 2);
        assert!(!suspicion.is_due(start + SECOND / 2));
        assert!(suspicion.is_due(start + SECOND));
        assert!(!suspicion.is_due(start + SECOND), "it is being asked");
        assert!(!suspicion.answered(false, true, start + 3 * SECOND));
        assert!(suspicion.is_due(start + 3 * SECOND));
        assert!(suspicion.answered(false, true, start + 5 * SECOND));
    }

    #[test]
    fn whoever_is_heard_or_answers_is_trusted_and_asked_ever_less() {
        let (mut suspicion, start) = (Suspicion::new(), Instant::now());
        suspicion.asked(start);
        assert!(suspicion.is_due(start + SECOND));
        assert!(!suspicion.answered(false, true, start + 3 * SECOND));
        suspicion.heard(true, start + 3 * SECOND);
        let mut at = suspicion.next().unwrap();
        assert_eq!(at, start + 4 * SECOND);
        let mut waits = Vec::new();
        for _ in 0..8 {
            assert!(suspicion.is_due(at));
            assert!(!suspicion.answered(true, true, at));
            waits.push(suspicion.next().unwrap().duration_since(at).as_secs());
            at = suspicion.next().unwrap();
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        suspicion.asked(at - 30 * SECOND);
        assert_eq!(suspicion.next(), Some(at - 29 * SECOND), "somebody is waiting again");
        suspicion.heard(false, at);
        assert_eq!(suspicion.next(), None);
    }

    #[test]
    fn nobody_is_given_up_while_nothing_is_waited_for() {
        let (mut suspicion, start) = (Suspicion::new(), Instant::now());
        suspicion.asked(start);
        assert!(suspicion.is_due(start + SECOND));
        assert!(!suspicion.answered(false, false, start + 3 * SECOND));
        assert_eq!(suspicion.next(), None);
    }
}
