//! How long a server takes to answer: the latest requests, of which the quantiles are told.

use std::time::Duration;

/// How many of the latest answers count.
pub const LATENCIES_MAX: usize = 256;

/// The durations of the latest requests.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    /// In microseconds; a ring once it is full.
    latest: Vec<u32>,
    next: usize,
}

/// Half, and nineteen out of twenty, of the requests took no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantiles {
    /// The median.
    pub p50: Duration,
    /// The 95th of a hundred.
    pub p95: Duration,
    /// Of how many.
    pub count: usize,
}

impl Latencies {
    /// Notes one answer. O(1).
    pub fn note(&mut self, took: Duration) {
        let took = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        if self.latest.len() < LATENCIES_MAX {
            self.latest.push(took);
        } else {
            self.latest[self.next] = took;
            self.next = (self.next + 1) % LATENCIES_MAX;
        }
    }

    /// The quantiles, if there were any answers.
    pub fn quantiles(&self) -> Option<Quantiles> {
        let mut sorted = self.latest.clone();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        let at = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1).min(last);
            Duration::from_micros(sorted[rank].into())
        };
        Some(Quantiles { p50: at(50), p95: at(95), count: sorted.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_count() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantiles(), None);
        latencies.note(Duration::from_micros(7));
        let one = Duration::from_micros(7);
        assert_eq!(latencies.quantiles(), Some(Quantiles { p50: one, p95: one, count: 1 }));
        for micros in 0..1000 {
            latencies.note(Duration::from_micros(micros));
        }
        let found = latencies.quantiles().unwrap();
        // The last 256 were 744 to 999.
        assert_eq!(found.p50, Duration::from_micros(744 + 127));
        assert_eq!(found.p95, Duration::from_micros(744 + 243));
        assert_eq!(found.count, LATENCIES_MAX);
    }
}
