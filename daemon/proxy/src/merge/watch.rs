//! Which files the servers want to hear about (rule 4.31): the client watches the union of their patterns, each once, and
//! an event goes only to those servers whose patterns it fits.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Branch;
use super::glob::Glob;
use super::uri;

/// What a server watches if it does not say: creation, change, deletion.
const ALL_KINDS: u64 = 7;

/// One pattern of one server.
#[derive(Clone, Debug)]
struct Watcher {
    /// The JSON text of the pattern, as the server wrote it.
    pattern: String,
    base: Option<String>,
    glob: Glob,
    kinds: u64,
}

/// The patterns of all servers.
#[derive(Debug, Default)]
pub(super) struct Watches {
    by_branch: BTreeMap<Branch, Vec<Watcher>>,
}

impl Watches {
    /// Everything that a server watches now: the options of its registrations.
    pub(super) fn set<'a>(&mut self, branch: Branch, options: impl Iterator<Item = &'a Value>) {
        let watchers = options.filter_map(|options| options["watchers"].as_array()).flatten();
        let watchers: Vec<Watcher> = watchers.filter_map(watcher).collect();
        if watchers.is_empty() {
            self.by_branch.remove(&branch);
        } else {
            self.by_branch.insert(branch, watchers);
        }
    }

    /// What the client is to watch: every pattern once, with the kinds that anybody wants. `null` if nothing.
    pub(super) fn union(&self) -> Value {
        let mut union: BTreeMap<&str, u64> = BTreeMap::new();
        for watcher in self.by_branch.values().flatten() {
            *union.entry(&watcher.pattern).or_default() |= watcher.kinds;
        }
        if union.is_empty() {
            return Value::Null;
        }
        let watchers = union.into_iter().map(|(pattern, kind)| {
            let pattern: Value = serde_json::from_str(pattern).unwrap_or_default();
            json!({ "globPattern": pattern, "kind": kind })
        });
        json!({ "watchers": watchers.collect::<Vec<_>>() })
    }

    /// Whether a server wants to hear of this event. One that has registered nothing hears of everything: it may count on
    /// what the client is set to watch by itself.
    pub(super) fn wants(&self, branch: Branch, file: &str, kind: u64, roots: &[String]) -> bool {
        let Some(watchers) = self.by_branch.get(&branch) else { return true };
        let Some(path) = uri::path(file) else { return true };
        watchers
            .iter()
            .any(|watcher| watcher.kinds & kind_bit(kind) != 0 && watcher.fits(&path, roots))
    }
}

impl Watcher {
    fn fits(&self, path: &str, roots: &[String]) -> bool {
        let below = |root: &str| path.strip_prefix(root).map(|rest| rest.trim_start_matches('/'));
        match &self.base {
            Some(base) => below(base).is_some_and(|rest| self.glob.matches(rest)),
            None => {
                let relative = roots.iter().filter_map(|root| below(root));
                self.glob.matches(path) || relative.into_iter().any(|rest| self.glob.matches(rest))
            }
        }
    }
}

fn watcher(watcher: &Value) -> Option<Watcher> {
    let pattern = &watcher["globPattern"];
    let (base, glob) = match pattern {
        Value::String(glob) => (None, glob.as_str()),
        Value::Object(relative) => {
            let base = relative.get("baseUri")?;
            let base = base.as_str().or_else(|| base["uri"].as_str())?;
            (Some(uri::path(base)?), relative.get("pattern")?.as_str()?)
        }
        _ => return None,
    };
    let kinds = watcher["kind"].as_u64().unwrap_or(ALL_KINDS);
    Some(Watcher { pattern: pattern.to_string(), base, glob: Glob::new(glob), kinds })
}

/// The bit in a watcher's `kind` that stands for the `type` of an event.
fn kind_bit(kind: u64) -> u64 {
    match kind {
        1 => 1,
        2 => 2,
        3 => 4,
        _ => ALL_KINDS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Branch = Branch(0);
    const B: Branch = Branch(1);

    fn watches(a: Value, b: Value) -> Watches {
        let mut watches = Watches::default();
        watches.set(A, [json!({ "watchers": a })].iter());
        watches.set(B, [json!({ "watchers": b })].iter());
        watches
    }

    #[test]
    fn rule_4_31_the_client_watches_every_pattern_once() {
        let watches = watches(
            json!([{ "globPattern": "**/*.py", "kind": 1 }, { "globPattern": "**/ty.toml" }]),
            json!([{ "globPattern": "**/*.py", "kind": 4 }]),
        );
        let union = json!({ "watchers": [
            { "globPattern": "**/*.py", "kind": 5 }, { "globPattern": "**/ty.toml", "kind": 7 }
        ] });
        assert_eq!(watches.union(), union);
        assert_eq!(Watches::default().union(), Value::Null);
    }

    #[test]
    fn rule_4_31_an_event_goes_to_those_whose_patterns_fit() {
        let relative = json!({ "baseUri": "file:///w/sub", "pattern": "*.toml" });
        let watches = watches(
            json!([{ "globPattern": "**/*.py" }, { "globPattern": relative, "kind": 2 }]),
            json!([{ "globPattern": "ruff.toml" }]),
        );
        let roots = ["/w".to_owned()];
        let check = |branch, file: &str, kind, wanted| {
            assert_eq!(
                watches.wants(branch, file, kind, &roots),
                wanted,
                "{branch:?} {file} {kind}"
            );
        };
        check(A, "file:///w/a%20b.py", 1, true);
        check(B, "file:///w/a.py", 1, false);
        check(B, "file:///w/ruff.toml", 3, true);
        check(B, "file:///w/sub/ruff.toml", 3, false);
        check(A, "file:///w/sub/x.toml", 2, true);
        check(A, "file:///w/sub/x.toml", 1, false);
        check(A, "file:///w/x.toml", 2, false);
        check(Branch(2), "file:///w/x.toml", 2, true);
    }
}
