//! Progress of several servers on one connection (rule 4.22): every token that a server makes becomes one of ours, the
//! client hears of it when there is something to show, reports come at most ten times a second, and what has begun ends.
//!
//! Tokens that the *client* made, in the parameters of a request, pass as they are.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Branch;

/// How long after a report the next one of the same token waits.
pub const REPORT_INTERVAL: Duration = Duration::from_millis(100);
/// How many tokens of one server are known at a time; the progress of further ones is not shown.
pub const TOKENS_MAX: usize = 256;

/// What the client is to be told of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Show {
    /// Make the token known, by a request; call [`Progress::acknowledged`] with the answer.
    Create(Box<str>),
    /// `$/progress` under this token, with this JSON text as `value`.
    Value(Box<str>, Vec<u8>),
}

/// What kind of message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Begin,
    Report,
    End,
}

/// How far the client knows of a token.
#[derive(Debug, PartialEq, Eq)]
enum Known {
    /// Not at all: nothing has been worth it.
    No,
    /// It has been asked to.
    Asked,
    /// It has said yes.
    Yes,
}

#[derive(Debug)]
struct Token {
    known: Known,
    begin: Option<Vec<u8>>,
    begun: bool,
    /// The last report that was not shown.
    report: Option<Vec<u8>>,
    /// When the next report may be shown.
    next: Option<Instant>,
    end: Option<Vec<u8>>,
}

/// The tokens of all servers.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// By server and the JSON text of its token: our number.
    numbers: BTreeMap<(Branch, Box<str>), u32>,
    tokens: BTreeMap<u32, (Branch, Box<str>, Token)>,
    last: u32,
}

impl Progress {
    /// A server makes a token known. `false`: it has too many.
    pub(super) fn create(&mut self, branch: Branch, token: &str) -> bool {
        let key = (branch, Box::from(token));
        if self.numbers.contains_key(&key) {
            return true;
        }
        if self.numbers.keys().filter(|(of, _)| *of == branch).count() >= TOKENS_MAX {
            return false;
        }
        self.last = self.last.wrapping_add(1);
        let fresh = Token {
            known: Known::No,
            begin: None,
            begun: false,
            report: None,
            next: None,
            end: None,
        };
        self.tokens.insert(self.last, (branch, key.1.clone(), fresh));
        self.numbers.insert(key, self.last);
        true
    }

    /// Whether this is a token that the server has made.
    pub(super) fn knows(&self, branch: Branch, token: &str) -> bool {
        self.numbers.contains_key(&(branch, token.into()))
    }

    /// A server says something about its token. `blank`: a beginning with nothing in it.
    pub(super) fn said(
        &mut self,
        branch: Branch,
        token: &str,
        stage: Stage,
        (value, blank): (&[u8], bool),
        now: Instant,
    ) -> Vec<Show> {
        let Some(number) = self.numbers.get(&(branch, token.into())).copied() else {
            return Vec::new();
        };
        let Some((_, _, state)) = self.tokens.get_mut(&number) else { return Vec::new() };
        match stage {
            Stage::Begin if blank => {}
            Stage::Begin => state.begin = Some(value.to_vec()),
            Stage::Report => state.report = Some(value.to_vec()),
            Stage::End => state.end = Some(value.to_vec()),
        }
        self.step(number, now)
    }

    /// The client has answered the request that made `ours` known.
    pub(super) fn acknowledged(&mut self, ours: &str, accepted: bool, now: Instant) -> Vec<Show> {
        let Some(number) = number(ours) else { return Vec::new() };
        let Some((.., state)) = self.tokens.get_mut(&number) else { return Vec::new() };
        if accepted {
            state.known = Known::Yes;
            return self.step(number, now);
        }
        self.forget(number);
        Vec::new()
    }

    /// Whose token the client calls `ours`, and what that one calls it.
    pub(super) fn owner(&self, ours: &str) -> Option<(Branch, &str)> {
        let (branch, theirs, _) = self.tokens.get(&number(ours)?)?;
        Some((*branch, theirs))
    }

    /// A server is gone: what it has begun ends.
    pub(super) fn died(&mut self, branch: Branch) -> Vec<Show> {
        let numbers: Vec<u32> = self.of(branch);
        let mut show = Vec::new();
        for number in numbers {
            if let Some((.., state)) = self.tokens.get(&number)
                && state.begun
            {
                show.push(Show::Value(name(number), br#"{"kind":"end"}"#.to_vec()));
            }
            self.forget(number);
        }
        show
    }

    /// Reports whose time has come.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Show> {
        let numbers: Vec<u32> = self.tokens.keys().copied().collect();
        numbers.into_iter().flat_map(|number| self.step(number, now)).collect()
    }

    /// When [`Progress::expire`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let waiting = |(.., token): &(Branch, Box<str>, Token)| {
            token.next.filter(|_| token.begun && token.report.is_some())
        };
        self.tokens.values().filter_map(waiting).min()
    }

    fn of(&self, branch: Branch) -> Vec<u32> {
        let of = |(key, number): (&(Branch, Box<str>), &u32)| (key.0 == branch).then_some(*number);
        self.numbers.iter().filter_map(of).collect()
    }

    /// Shows what can be shown of a token now.
    fn step(&mut self, number: u32, now: Instant) -> Vec<Show> {
        let Some((.., token)) = self.tokens.get_mut(&number) else { return Vec::new() };
        let mut show = Vec::new();
        match token.known {
            Known::No if token.end.is_some() => {
                self.forget(number);
                return show;
            }
            Known::No if token.begin.is_some() => {
                token.known = Known::Asked;
                return vec![Show::Create(name(number))];
            }
            Known::No | Known::Asked => return show,
            Known::Yes => {}
        }
        if let Some(begin) = token.begin.take() {
            token.begun = true;
            show.push(Show::Value(name(number), begin));
        }
        if token.next.is_none_or(|next| next <= now)
            && token.end.is_none()
            && let Some(report) = token.report.take()
        {
            token.next = Some(now + REPORT_INTERVAL);
            show.push(Show::Value(name(number), report));
        }
        if let Some(end) = token.end.take() {
            show.push(Show::Value(name(number), end));
            self.forget(number);
        }
        show
    }

    fn forget(&mut self, number: u32) {
        if let Some((branch, theirs, _)) = self.tokens.remove(&number) {
            self.numbers.remove(&(branch, theirs));
        }
    }
}

/// The token that the client knows. It does not begin as those do that a link makes in place of a client's: the shim's link
/// would take it for one of its own that has ended.
fn name(number: u32) -> Box<str> {
    format!("demolish:progress/{number}").into()
}

fn number(ours: &str) -> Option<u32> {
    ours.strip_prefix("demolish:progress/")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Branch = Branch(0);
    const B: Branch = Branch(1);

    fn text(show: &[Show]) -> Vec<String> {
        let text = |one: &Show| match one {
            Show::Create(token) => format!("create {}", token.rsplit('/').next().unwrap_or("")),
            Show::Value(token, value) => {
                let number = token.rsplit('/').next().unwrap_or("");
                format!("{number} {}", String::from_utf8_lossy(value))
            }
        };
        show.iter().map(text).collect()
    }

    #[test]
    fn rule_4_22_two_servers_may_use_the_same_token() {
        let now = Instant::now();
        let mut progress = Progress::default();
        assert!(progress.create(A, "1") && progress.create(B, "1"));
        let begin = |progress: &mut Progress, branch| {
            progress.said(branch, "1", Stage::Begin, (b"b", false), now)
        };
        assert_eq!(text(&begin(&mut progress, A)), ["create 1"]);
        assert_eq!(text(&begin(&mut progress, B)), ["create 2"]);
        assert_eq!(text(&progress.acknowledged("demolish:progress/2", true, now)), ["2 b"]);
        assert_eq!(progress.owner("demolish:progress/1"), Some((A, "1")));
        assert_eq!(progress.owner("demolish:progress/2"), Some((B, "1")));
        assert!(!progress.knows(A, "2"));
    }

    #[test]
    fn rule_4_22_what_is_never_shown_is_never_announced() {
        let now = Instant::now();
        let mut progress = Progress::default();
        progress.create(A, "1");
        assert!(progress.said(A, "1", Stage::Begin, (b"{}", true), now).is_empty());
        assert!(progress.said(A, "1", Stage::End, (b"e", false), now).is_empty());
        assert!(!progress.knows(A, "1"));
    }

    #[test]
    fn rule_4_22_reports_come_ten_times_a_second_and_the_last_one_counts() {
        let mut now = Instant::now();
        let mut progress = Progress::default();
        progress.create(A, "1");
        progress.said(A, "1", Stage::Begin, (b"b", false), now);
        progress.acknowledged("demolish:progress/1", true, now);
        let report = |progress: &mut Progress, value: &str, now| {
            text(&progress.said(A, "1", Stage::Report, (value.as_bytes(), false), now))
        };
        assert_eq!(report(&mut progress, "r1", now), ["1 r1"]);
        assert!(report(&mut progress, "r2", now).is_empty());
        assert!(report(&mut progress, "r3", now).is_empty());
        assert_eq!(progress.next_deadline(), Some(now + REPORT_INTERVAL));
        now += REPORT_INTERVAL;
        assert_eq!(text(&progress.expire(now)), ["1 r3"]);
        assert_eq!(progress.next_deadline(), None);
        assert!(report(&mut progress, "r4", now).is_empty());
        let end = progress.said(A, "1", Stage::End, (b"e", false), now);
        assert_eq!(text(&end), ["1 e"], "a report that nobody saw is not worth one more message");
    }

    #[test]
    fn rule_4_22_what_a_dead_server_began_ends_and_a_refused_token_is_forgotten() {
        let now = Instant::now();
        let mut progress = Progress::default();
        for token in ["1", "\"x\"", "3"] {
            progress.create(A, token);
            progress.said(A, token, Stage::Begin, (b"b", false), now);
        }
        progress.acknowledged("demolish:progress/1", true, now);
        progress.acknowledged("demolish:progress/3", false, now);
        assert_eq!(text(&progress.died(A)), [r#"1 {"kind":"end"}"#]);
        assert!(progress.numbers.is_empty() && progress.tokens.is_empty());
        assert!(progress.acknowledged("demolish:progress/2", true, now).is_empty());
    }

    #[test]
    fn tokens_have_a_limit() {
        let mut progress = Progress::default();
        assert!((0..TOKENS_MAX).all(|n| progress.create(A, &n.to_string())));
        assert!(!progress.create(A, "one more") && progress.create(B, "one more"));
    }
}
