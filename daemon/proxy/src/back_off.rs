//! When a server that died is started again (rule 4.14).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long to wait before the first, second, … restart; the last one counts for all further ones.
pub const BACK_OFF: [Duration; 4] = [
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(15),
];
/// How many restarts there may be in [`RESTARTS_WINDOW`].
pub const RESTARTS_MAX: usize = 5;
/// How long a restart is remembered.
pub const RESTARTS_WINDOW: Duration = Duration::from_secs(180);

/// The restarts of one server.
#[derive(Clone, Debug, Default)]
pub struct BackOff {
    recent: VecDeque<Instant>,
    total: u32,
    eager: bool,
}

impl BackOff {
    /// For what starts in no time, and whose death is seldom its own fault: the first restart is at once, and each further one
    /// waits as long as one before it would have.
    pub fn eager() -> BackOff {
        BackOff { eager: true, ..BackOff::default() }
    }

    /// The server died at `now`: how long to wait before it is started again, or `None` if it has had its chances.
    pub fn died(&mut self, now: Instant) -> Option<Duration> {
        while self.recent.front().is_some_and(|at| now.duration_since(*at) >= RESTARTS_WINDOW) {
            self.recent.pop_front();
        }
        if self.recent.len() >= RESTARTS_MAX {
            return None;
        }
        let step = self.recent.len().checked_sub(usize::from(self.eager));
        let wait = step.map_or(Duration::ZERO, |step| BACK_OFF[step.min(BACK_OFF.len() - 1)]);
        self.recent.push_back(now);
        self.total += 1;
        Some(wait)
    }

    /// The user wants it started again, whatever has happened: it has all its chances anew.
    pub fn forgive(&mut self) {
        self.recent.clear();
    }

    /// How often it was started again.
    pub fn total(&self) -> u32 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_4_14_back_off_grows_ends_and_forgets() {
        let start = Instant::now();
        let mut back_off = BackOff::default();
        let waits: Vec<Option<u64>> = (0..6)
            .map(|n| {
                back_off.died(start + Duration::from_secs(n)).map(|wait| wait.as_millis() as u64)
            })
            .collect();
        assert_eq!(waits, [Some(250), Some(1000), Some(4000), Some(15_000), Some(15_000), None]);
        let mut eager = BackOff::eager();
        let waits: Vec<_> =
            (0..6).map(|_| eager.died(start).map(|wait| wait.as_millis())).collect();
        assert_eq!(waits, [Some(0), Some(250), Some(1000), Some(4000), Some(15_000), None]);
        let later = start + RESTARTS_WINDOW + Duration::from_secs(9);
        assert_eq!(back_off.died(later), Some(BACK_OFF[0]));
        assert_eq!(back_off.total(), 6);
    }
}
