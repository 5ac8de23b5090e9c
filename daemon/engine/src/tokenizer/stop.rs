//! Texts that end an answer.

/// The most stop texts of one answer.
pub const STOP_TEXTS_MAX: usize = 64;

/// The most bytes of a stop text.
pub const STOP_LEN_MAX: usize = 4096;

/// Ends an answer at the first of several texts, and holds back what may be the beginning of one.
#[derive(Debug, Clone)]
pub struct StopMatcher {
    stops: Vec<String>,
    held: String,
}

/// Stop texts that cannot be looked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StopError {
    /// There are too many.
    #[error("{count} stop texts; at most {STOP_TEXTS_MAX} are allowed")]
    Count {
        /// How many there are.
        count: usize,
    },
    /// One is too long.
    #[error("a stop text of {len} bytes; at most {STOP_LEN_MAX} are allowed")]
    Len {
        /// Its bytes.
        len: usize,
    },
}

/// What may be shown of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Text that belongs to the answer for certain.
    pub text: String,
    /// The answer ends after `text`, before this stop text.
    pub stop: Option<String>,
}

impl StopMatcher {
    /// Looks for these texts; empty ones are ignored.
    pub fn new(stops: impl IntoIterator<Item = String>) -> Result<StopMatcher, StopError> {
        let stops: Vec<String> = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        if stops.len() > STOP_TEXTS_MAX {
            return Err(StopError::Count { count: stops.len() });
        }
        match stops.iter().map(String::len).find(|len| *len > STOP_LEN_MAX) {
            Some(len) => Err(StopError::Len { len }),
            None => Ok(StopMatcher { stops, held: String::new() }),
        }
    }

    /// Takes more of the answer. After a stop the rest of the answer is not wanted.
    pub fn push(&mut self, text: &str) -> Shown {
        self.held.push_str(text);
        // The one that is complete first; of those, the one that began first.
        let found =
            self.stops.iter().filter_map(|stop| Some((self.held.find(stop.as_str())?, stop)));
        if let Some((at, stop)) = found.min_by_key(|(at, stop)| (at + stop.len(), *at)) {
            let stop = stop.clone();
            let text = self.held[..at].to_owned();
            self.held.clear();
            return Shown { text, stop: Some(stop) };
        }
        let may_begin = |rest: &str| self.stops.iter().any(|stop| stop.starts_with(rest));
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let from = self.held.len().saturating_sub(longest);
        let mut places = (from..self.held.len()).filter(|at| self.held.is_char_boundary(*at));
        let at = places.find(|at| may_begin(&self.held[*at..])).unwrap_or(self.held.len());
        let held = self.held.split_off(at);
        Shown { text: std::mem::replace(&mut self.held, held), stop: None }
    }

    /// What was held back when nothing follows.
    pub fn finish(self) -> String {
        self.held
    }
}
