//! Diagnostics that several servers push for the same document (rules 4.19 and 4.20): a client replaces the whole set with
//! every message, so it gets the union, each time something has changed, at most every [`COALESCE`].
//!
//! What a server has said stays until it says otherwise, or is gone.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Branch;
use super::uri::key;
use crate::raw::{Raw, Splice, array, quoted};

/// How long a document's diagnostics wait for those of other servers.
pub const COALESCE: Duration = Duration::from_millis(50);
/// How many sets (of a server for a document) are remembered; those of further documents pass alone.
pub const SETS_MAX: usize = 16 * 1024;

/// How a set came about; one server may both push and be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    Pushed,
    Pulled,
}

/// What one server says about one document.
#[derive(Clone, Debug)]
struct Set {
    version: Option<i32>,
    /// The JSON text of an array.
    items: Vec<u8>,
}

/// A union to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Union {
    pub(super) uri: Arc<str>,
    pub(super) version: Option<i32>,
    /// The JSON text of an array.
    pub(super) items: Vec<u8>,
}

/// The client's spelling of a document's URI, and what is said about it.
type Document = (Arc<str>, BTreeMap<(Branch, Way), Set>);

#[derive(Debug)]
struct Waiting {
    until: Instant,
    of: BTreeSet<Branch>,
}

/// The diagnostics of all servers.
#[derive(Debug, Default)]
pub(super) struct Diagnostics {
    /// By the key of the URI: the client's spelling, and the sets.
    documents: HashMap<Box<str>, Document>,
    sets: usize,
    waiting: BTreeMap<Box<str>, Waiting>,
}

impl Diagnostics {
    /// A server has said `items` (the JSON text of an array) about `uri`, as the client spells it. `false`: there is no room,
    /// and the set must be published alone.
    pub(super) fn set(
        &mut self,
        (branch, way): (Branch, Way),
        uri: &Arc<str>,
        version: Option<i32>,
        items: Vec<u8>,
        now: Instant,
    ) -> bool {
        let key = key(uri);
        let empty = Raw::new(&items).elements().is_empty();
        let entry = self.documents.get(&key);
        let known = entry.is_some_and(|(_, sets)| sets.contains_key(&(branch, way)));
        if !known && !empty && self.sets >= SETS_MAX {
            return false;
        }
        let (_, sets) =
            self.documents.entry(key.clone()).or_insert_with(|| (Arc::clone(uri), BTreeMap::new()));
        // An empty set is kept only for its version, which is not worth the room.
        if empty {
            self.sets -= usize::from(sets.remove(&(branch, way)).is_some());
        } else {
            self.sets += usize::from(sets.insert((branch, way), Set { version, items }).is_none());
        }
        let until = now + COALESCE;
        let waiting = self.waiting.entry(key).or_insert(Waiting { until, of: BTreeSet::new() });
        waiting.of.insert(branch);
        true
    }

    /// A server is gone: it says nothing about anything.
    pub(super) fn died(&mut self, branch: Branch, now: Instant) {
        for (key, (_, sets)) in &mut self.documents {
            let before = sets.len();
            sets.retain(|(of, _), _| *of != branch);
            self.sets -= before - sets.len();
            if sets.len() < before {
                let waiting = Waiting { until: now, of: BTreeSet::from([branch]) };
                self.waiting.insert(key.clone(), waiting);
            }
        }
    }

    /// The unions whose time has come.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Union> {
        self.take(|waiting| waiting.until <= now)
    }

    /// The unions in which something waits that `branch` has said: whatever it says next must not overtake them (rule 4.8).
    pub(super) fn flush(&mut self, branch: Branch) -> Vec<Union> {
        self.take(|waiting| waiting.of.contains(&branch))
    }

    /// When [`Diagnostics::expire`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.waiting.values().map(|waiting| waiting.until).min()
    }

    /// What each server says about a document: JSON texts of arrays.
    pub(super) fn sets(&self, uri: &str) -> Vec<(Branch, &[u8])> {
        let sets = self.documents.get(&key(uri)).map(|(_, sets)| sets.iter());
        sets.into_iter().flatten().map(|((branch, _), set)| (*branch, &set.items[..])).collect()
    }

    fn take(&mut self, due: impl Fn(&Waiting) -> bool) -> Vec<Union> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        let keys: Vec<Box<str>> = self
            .waiting
            .iter()
            .filter(|(_, waiting)| due(waiting))
            .map(|(key, _)| key.clone())
            .collect();
        keys.into_iter().filter_map(|key| self.union(&key)).collect()
    }

    fn union(&mut self, key: &str) -> Option<Union> {
        self.waiting.remove(key);
        let (uri, sets) = self.documents.get(key)?;
        let union = Union {
            uri: Arc::clone(uri),
            version: sets.values().filter_map(|set| set.version).max(),
            items: joined(sets.values().map(|set| &set.items[..])),
        };
        if sets.is_empty() {
            self.documents.remove(key);
        }
        Some(union)
    }
}

/// All elements of all arrays, those that are exactly alike once.
pub(super) fn joined<'a>(sets: impl Iterator<Item = &'a [u8]> + Clone) -> Vec<u8> {
    if sets.clone().count() == 1 {
        return sets.flatten().copied().collect();
    }
    let mut seen = HashSet::new();
    let mut kept = Vec::new();
    for items in sets {
        // Only across servers: what one server says twice is its own business.
        let faces: Vec<_> = Raw::new(items).elements();
        kept.extend(
            faces.iter().filter(|item| !seen.contains(&face(**item))).map(|item| item.bytes()),
        );
        seen.extend(faces.iter().map(|item| face(*item)));
    }
    array(kept)
}

/// What two diagnostics have in common that are the same finding.
fn face(item: Raw<'_>) -> Vec<Vec<u8>> {
    let numbers =
        ["range.start.line", "range.start.character", "range.end.line", "range.end.character"];
    let raw = |path: &str| item.path(path).map(|value| value.bytes().to_vec()).unwrap_or_default();
    let text = |path: &str| match item.path(path).and_then(Raw::string) {
        Some(text) => text.into_bytes(),
        None => raw(path),
    };
    numbers.into_iter().map(raw).chain(["message", "code", "source"].map(text)).collect()
}

/// The array `items` with `name` as the source of every diagnostic that names none.
pub(super) fn sourced(items: &[u8], name: &str) -> Vec<u8> {
    let mut splice = Splice::new(items);
    for item in Raw::new(items).elements().into_iter().filter(|item| item.is_object()) {
        match item.get("source") {
            None => splice.insert(item, "source", &quoted(name)),
            Some(source) if source.is_null() || source.bytes() == b"\"\"" => {
                splice.replace(source, quoted(name));
            }
            Some(_) => {}
        }
    }
    splice.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const A: Branch = Branch(0);
    const B: Branch = Branch(1);

    struct Rig {
        all: Diagnostics,
        now: Instant,
    }

    impl Rig {
        fn new() -> Rig {
            Rig { all: Diagnostics::default(), now: Instant::now() }
        }

        fn says(&mut self, branch: Branch, uri: &str, version: Option<i32>, items: Value) {
            let items = serde_json::to_vec(&items).unwrap();
            assert!(self.all.set((branch, Way::Pushed), &uri.into(), version, items, self.now));
        }

        fn due(&mut self) -> Vec<(String, Option<i32>, Value)> {
            self.now += COALESCE;
            shown(self.all.expire(self.now))
        }
    }

    fn shown(unions: Vec<Union>) -> Vec<(String, Option<i32>, Value)> {
        let shown = |union: Union| {
            (union.uri.to_string(), union.version, serde_json::from_slice(&union.items).unwrap())
        };
        unions.into_iter().map(shown).collect()
    }

    fn finding(line: u32, message: &str) -> Value {
        let at = json!({ "line": line, "character": 0 });
        json!({ "range": { "start": at, "end": at }, "message": message, "source": "s" })
    }

    #[test]
    fn rule_4_19_the_client_gets_the_union_and_one_server_does_not_clear_the_other() {
        let mut rig = Rig::new();
        rig.says(A, "u", None, json!([finding(1, "a")]));
        rig.says(B, "u", None, json!([finding(2, "b")]));
        assert_eq!(rig.due(), [("u".into(), None, json!([finding(1, "a"), finding(2, "b")]))]);
        rig.says(A, "u", None, json!([]));
        assert_eq!(rig.due(), [("u".into(), None, json!([finding(2, "b")]))]);
        rig.says(B, "u", None, json!([]));
        assert_eq!(rig.due(), [("u".into(), None, json!([]))]);
        assert!(rig.all.documents.is_empty());
        assert_eq!(rig.all.sets, 0);
    }

    #[test]
    fn rule_4_19_only_exact_duplicates_of_another_server_are_left_out() {
        let mut rig = Rig::new();
        let twice = json!([finding(1, "x"), finding(1, "x")]);
        rig.says(A, "u", None, twice);
        let mut coded = finding(1, "x");
        coded["code"] = json!("E1");
        rig.says(B, "u", None, json!([finding(1, "x"), coded]));
        let all = json!([finding(1, "x"), finding(1, "x"), coded]);
        assert_eq!(rig.due(), [("u".into(), None, all)]);
    }

    #[test]
    fn rule_4_19_sets_wait_for_each_other_but_nothing_overtakes_them() {
        let mut rig = Rig::new();
        rig.says(A, "u", Some(3), json!([finding(1, "a")]));
        assert!(rig.all.expire(rig.now).is_empty());
        assert_eq!(rig.all.next_deadline(), Some(rig.now + COALESCE));
        assert!(rig.all.flush(B).is_empty());
        let flushed = shown(rig.all.flush(A));
        assert_eq!(flushed, [("u".into(), Some(3), json!([finding(1, "a")]))]);
        assert!(rig.all.next_deadline().is_none());
    }

    #[test]
    fn rule_4_14_the_findings_of_a_dead_server_go_and_those_of_the_others_stay() {
        let mut rig = Rig::new();
        rig.says(A, "u", None, json!([finding(1, "a")]));
        rig.says(B, "u", None, json!([finding(2, "b")]));
        rig.says(B, "v", None, json!([finding(3, "b")]));
        rig.due();
        rig.all.died(B, rig.now);
        let mut left = shown(rig.all.expire(rig.now));
        left.sort_by(|one, other| one.0.cmp(&other.0));
        let expected =
            [("u".into(), None, json!([finding(1, "a")])), ("v".into(), None, json!([]))];
        assert_eq!(left, expected);
    }

    #[test]
    fn rule_4_19_a_finding_knows_whose_it_is_and_names_its_source() {
        let mut rig = Rig::new();
        rig.says(A, "u", None, json!([finding(1, "a")]));
        rig.says(B, "u", None, json!([finding(2, "b")]));
        let of = |(branch, set): (Branch, &[u8])| (branch, serde_json::from_slice(set).unwrap());
        let sets: Vec<(Branch, Value)> = rig.all.sets("u").into_iter().map(of).collect();
        assert_eq!(sets, [(A, json!([finding(1, "a")])), (B, json!([finding(2, "b")]))]);
        let items = br#"[{"message":"m"},{"message":"n","source":""},{"source":"own"}]"#;
        let named: Value = serde_json::from_slice(&sourced(items, "ruff")).unwrap();
        let sources: Vec<_> =
            named.as_array().unwrap().iter().map(|item| &item["source"]).collect();
        assert_eq!(sources, ["ruff", "ruff", "own"]);
    }
}
