//! Looks whether the system runs short of memory, while there is work: an idle engine does not look.

use std::time::{Duration, Instant};

use super::system::{Machine, machine};

/// How often it is looked at, at most.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The watch of one engine.
pub(crate) struct Pressure {
    machine: Box<dyn Machine + Send>,
    looked: Option<Instant>,
}

impl Pressure {
    pub(crate) fn new() -> Pressure {
        Pressure { machine: machine(), looked: None }
    }

    /// Bytes that ought to be given back now; 0 most of the time, and whenever it was looked at a moment ago.
    pub(crate) fn shortage(&mut self, now: Instant) -> u64 {
        if self.looked.is_some_and(|looked| now.duration_since(looked) < LOOK_EVERY) {
            return 0;
        }
        self.looked = Some(now);
        self.machine.shortage()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Short;

    impl Machine for Short {
        fn available(&self) -> Option<(u64, &'static str)> {
            Some((0, "free"))
        }

        fn shortage(&self) -> u64 {
            7
        }
    }

    #[test]
    fn it_is_looked_at_now_and_then() {
        let mut pressure = Pressure { machine: Box::new(Short), looked: None };
        let start = Instant::now();
        let seen = [0, 100, 1900, 2100, 2200, 4200]
            .map(|ms| pressure.shortage(start + Duration::from_millis(ms)));
        assert_eq!(seen, [7, 0, 0, 7, 0, 7]);
    }
}
