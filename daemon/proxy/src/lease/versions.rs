//! The versions of a document that a lease has touched: the server has seen more of them than the editor has made (rule 4.20).

use std::collections::VecDeque;
use std::ops::Range;

use wire::{Bytes, json};

/// How many changes of the difference are remembered; what is older is stale beyond doubt.
const STEPS_MAX: usize = 64;

/// Both sides' versions of one document.
#[derive(Debug)]
pub(super) struct Versions {
    /// From which of the server's versions on which holds; ascending.
    steps: VecDeque<(i32, Step)>,
    /// The last version that the server was sent.
    server: i32,
    /// The last version that the editor has made.
    editor: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The server's version is this much greater than the editor's.
    Ahead(i32),
    /// It is a candidate.
    Candidate,
}

/// What a version of the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The editor's text of this version.
    Editor(i32),
    /// A candidate.
    Candidate,
    /// Too old to be known.
    Forgotten,
}

impl Versions {
    pub(super) fn new(version: i32) -> Versions {
        let steps = VecDeque::from([(i32::MIN, Step::Ahead(0))]);
        Versions { steps, server: version, editor: version }
    }

    /// The version that the editor has made last.
    pub(super) fn editor(&self) -> i32 {
        self.editor
    }

    /// The version that the server was sent last.
    pub(super) fn server(&self) -> i32 {
        self.server
    }

    /// The versions of a candidate and of what takes it back; `None` when numbers run out.
    pub(super) fn lend(&mut self) -> Option<(i32, i32)> {
        let (candidate, back) = (self.server.checked_add(1)?, self.server.checked_add(2)?);
        let ahead = back.checked_sub(self.editor)?;
        self.note(candidate, Step::Candidate);
        self.note(back, Step::Ahead(ahead));
        self.server = back;
        Some((candidate, back))
    }

    /// The editor has made a version: what the server is told instead.
    pub(super) fn made(&mut self, editor: i32) -> i32 {
        let ahead = match self.steps.back() {
            Some((_, Step::Ahead(ahead))) => *ahead,
            _ => 0,
        };
        let server = editor.saturating_add(ahead).max(self.server.saturating_add(1));
        if server.saturating_sub(editor) != ahead {
            self.note(server, Step::Ahead(server.saturating_sub(editor)));
        }
        (self.editor, self.server) = (editor, server);
        server
    }

    /// What a version that the server speaks of is.
    pub(super) fn seen(&self, server: i32) -> Seen {
        if server > self.server {
            // It was never sent: the document has been closed and opened since.
            return Seen::Forgotten;
        }
        match self.steps.iter().rev().find(|(from, _)| *from <= server) {
            Some((_, Step::Ahead(ahead))) => Seen::Editor(server.saturating_sub(*ahead)),
            Some((_, Step::Candidate)) => Seen::Candidate,
            None => Seen::Forgotten,
        }
    }

    fn note(&mut self, from: i32, step: Step) {
        if self.steps.len() == STEPS_MAX {
            self.steps.pop_front();
        }
        self.steps.push_back((from, step));
    }
}

/// The same document, however it is spelled: servers write other signs as `%3A`, and drives in another case.
pub(super) fn key(uri: &str) -> String {
    let bytes = uri.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'%').then(|| uri.get(at + 1..at + 3)).flatten();
        if let Some(byte) = code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            out.push(byte);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    if out.starts_with(b"file:///") && out.get(9) == Some(&b':') {
        out[8] = out[8].to_ascii_lowercase();
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A place in a message where a document is named together with its version.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// The document.
    pub(super) key: String,
    /// The version.
    pub(super) version: i32,
    /// Where the version stands.
    pub(super) at: Range<usize>,
}

/// Every stamp in a message of the server. What a server has wrapped for itself (`data`, the arguments of its commands) is its
/// own business.
pub(super) fn stamps(body: &[u8]) -> Vec<Stamp> {
    let mut found = Vec::new();
    if json::contains(body, b"\"version\"") {
        collect(body, 0, &mut found);
    }
    found
}

fn collect(value: &[u8], base: usize, found: &mut Vec<Stamp>) {
    match value.first() {
        Some(b'{') => {
            let (mut uri, mut version) = (None, None);
            let mut inner = Vec::new();
            let whole = json::members(value, |key, at| match &value[key] {
                b"uri" => uri = wire::parse::<String>(&value[at]).ok(),
                b"version" => version = number(&value[at.clone()]).map(|number| (number, at)),
                b"data" | b"arguments" => {}
                _ => inner.push(at),
            });
            if whole.is_err() {
                return;
            }
            if let (Some(uri), Some((version, at))) = (uri, version) {
                found.push(Stamp { key: key(&uri), version, at: at.start + base..at.end + base });
            }
            for at in inner {
                collect(&value[at.clone()], base + at.start, found);
            }
        }
        Some(b'[') => {
            let mut inner = Vec::new();
            if json::elements(value, |at| inner.push(at)).is_ok() {
                for at in inner {
                    collect(&value[at.clone()], base + at.start, found);
                }
            }
        }
        _ => {}
    }
}

/// Every whole number under the name `version` anywhere in a message: what a server has wrapped for itself comes back so.
pub(super) fn wrapped(body: &[u8]) -> Vec<(i32, Range<usize>)> {
    fn walk(value: &[u8], base: usize, found: &mut Vec<(i32, Range<usize>)>) {
        let mut inner = Vec::new();
        match value.first() {
            Some(b'{') => {
                let _ = json::members(value, |key, at| match &value[key] {
                    b"version" => found.extend(
                        number(&value[at.clone()]).map(|n| (n, at.start + base..at.end + base)),
                    ),
                    _ => inner.push(at),
                });
            }
            Some(b'[') => {
                let _ = json::elements(value, |at| inner.push(at));
            }
            _ => {}
        }
        for at in inner {
            walk(&value[at.clone()], base + at.start, found);
        }
    }
    let mut found = Vec::new();
    if json::contains(body, b"\"version\"") {
        walk(body, 0, &mut found);
    }
    found
}

/// The message with other versions in the places that are named; every other byte stays.
pub(super) fn restamped(body: &Bytes, mut changes: Vec<(Range<usize>, i32)>) -> Bytes {
    if changes.is_empty() {
        return body.clone();
    }
    changes.sort_by_key(|(at, _)| at.start);
    let mut out = Vec::with_capacity(body.len() + changes.len() * 4);
    let mut taken = 0;
    for (at, version) in changes {
        out.extend_from_slice(&body[taken..at.start]);
        out.extend_from_slice(version.to_string().as_bytes());
        taken = at.end;
    }
    out.extend_from_slice(&body[taken..]);
    out.into()
}

fn number(raw: &[u8]) -> Option<i32> {
    std::str::from_utf8(raw).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rule_4_20_a_candidate_is_nobody_s_version_and_what_takes_it_back_is_the_editor_s() {
        let mut versions = Versions::new(7);
        assert_eq!(versions.lend(), Some((8, 9)));
        let seen = |versions: &Versions| [7, 8, 9].map(|version| versions.seen(version));
        assert_eq!(seen(&versions), [Seen::Editor(7), Seen::Candidate, Seen::Editor(7)]);
        assert_eq!(versions.made(8), 10);
        assert_eq!(versions.seen(10), Seen::Editor(8));
        assert_eq!(versions.seen(9), Seen::Editor(7));
        assert_eq!(versions.lend(), Some((11, 12)));
        assert_eq!(versions.seen(12), Seen::Editor(8));
        assert_eq!(Versions::new(i32::MAX - 1).lend(), None);
    }

    #[test]
    fn rule_4_20_stamps_are_found_wherever_a_server_names_a_version() {
        let check = |body: &str, found: &[(&str, i32)]| {
            let stamps = stamps(body.as_bytes());
            let found: Vec<_> = found.iter().map(|(key, v)| ((*key).to_owned(), *v)).collect();
            assert_eq!(
                stamps.iter().map(|s| (s.key.clone(), s.version)).collect::<Vec<_>>(),
                found
            );
            for stamp in stamps {
                assert_eq!(body[stamp.at.clone()].trim(), stamp.version.to_string(), "{body}");
            }
        };
        check(
            r#"{"params":{"uri":"file:///a","version":3,"diagnostics":[]}}"#,
            &[("file:///a", 3)],
        );
        check(
            r#"{"result":[{"edit":{"documentChanges":[{"textDocument":{"version": 4 ,"uri":"file:///C%3A/b"}}]}}]}"#,
            &[("file:///c:/b", 4)],
        );
        check(r#"{"result":{"data":{"uri":"file:///a","version":3}}}"#, &[]);
        check(r#"{"result":{"arguments":[{"uri":"file:///a","version":3}]}}"#, &[]);
        check(r#"{"params":{"uri":"file:///a","version":null}}"#, &[]);
        check(r#"{"result":{"version":3}}"#, &[]);
    }

    #[test]
    fn rule_4_20_only_the_numbers_change() {
        let body = Bytes::from_static(
            br#"{ "v":1,"a":{"uri":"x","version":9}, "b":{"version":10,"uri":"x"} }"#,
        );
        let changes =
            stamps(&body).into_iter().map(|stamp| (stamp.at, stamp.version - 7)).collect();
        assert_eq!(
            restamped(&body, changes),
            &br#"{ "v":1,"a":{"uri":"x","version":2}, "b":{"version":3,"uri":"x"} }"#[..]
        );
    }

    proptest! {
        /// Whatever editors count and however often a candidate is lent: the server sees its versions grow, and every one is told apart.
        #[test]
        fn rule_4_20_the_server_s_versions_grow_and_come_back(steps in prop::collection::vec(prop::option::of(1i32..5), 1..60)) {
            let mut versions = Versions::new(1);
            let (mut editor, mut last) = (1, 1);
            let mut known = vec![(1, Seen::Editor(1))];
            for step in steps {
                match step {
                    Some(more) => {
                        editor += more;
                        let server = versions.made(editor);
                        prop_assert!(server > last);
                        last = server;
                        known.push((server, Seen::Editor(editor)));
                    }
                    None => {
                        let (candidate, back) = versions.lend().unwrap();
                        prop_assert!(candidate > last && back > candidate);
                        last = back;
                        known.push((candidate, Seen::Candidate));
                        known.push((back, Seen::Editor(editor)));
                    }
                }
                let recent = known.len().saturating_sub(STEPS_MAX / 2);
                for (server, seen) in &known[recent..] {
                    prop_assert_eq!(versions.seen(*server), *seen);
                }
            }
        }
    }
}
