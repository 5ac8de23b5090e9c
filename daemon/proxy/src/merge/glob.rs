//! The protocol's glob patterns: `*` and `?` within a part of a path, `**` for any number of parts, `{a,b}`, `[a-z]`,
//! `[!a-z]`. Small and slow; a file that changes on disk is no keystroke.

/// How many alternatives the braces of one pattern may make.
const ALTERNATIVES_MAX: usize = 256;

/// A pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob {
    /// The pattern without braces, one for each way to choose.
    alternatives: Vec<Vec<char>>,
}

impl Glob {
    /// Reads a pattern. Beyond the limit of alternatives braces are taken literally.
    pub(super) fn new(pattern: &str) -> Glob {
        let mut alternatives = Vec::new();
        expand(pattern, &mut alternatives);
        Glob { alternatives: alternatives.into_iter().map(|one| one.chars().collect()).collect() }
    }

    /// Whether the whole of `path` fits.
    pub(super) fn matches(&self, path: &str) -> bool {
        let path: Vec<char> = path.chars().collect();
        self.alternatives.iter().any(|pattern| fits(pattern, &path))
    }
}

fn expand(pattern: &str, all: &mut Vec<String>) {
    let Some((open, close)) = braces(pattern) else { return all.push(pattern.to_owned()) };
    let (before, after) = (&pattern[..open], &pattern[close + 1..]);
    for choice in choices(&pattern[open + 1..close]) {
        if all.len() >= ALTERNATIVES_MAX {
            return;
        }
        expand(&format!("{before}{choice}{after}"), all);
    }
}

/// The first pair of braces that belong together.
fn braces(pattern: &str) -> Option<(usize, usize)> {
    let open = pattern.find('{')?;
    let mut depth = 0;
    for (at, character) in pattern[open..].char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((open, open + at));
        }
    }
    None
}

/// What stands between the commas of the outermost level.
fn choices(inner: &str) -> Vec<&str> {
    let (mut depth, mut start, mut all) = (0, 0, Vec::new());
    for (at, character) in inner.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                all.push(&inner[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    all.push(&inner[start..]);
    all
}

fn fits(pattern: &[char], path: &[char]) -> bool {
    match pattern {
        [] => path.is_empty(),
        ['*', '*', '/', rest @ ..] => {
            fits(rest, path)
                || (0..path.len()).any(|at| path[at] == '/' && fits(rest, &path[at + 1..]))
        }
        ['*', '*', rest @ ..] => (0..=path.len()).any(|at| fits(rest, &path[at..])),
        ['*', rest @ ..] => {
            let part = path.iter().position(|c| *c == '/').unwrap_or(path.len());
            (0..=part).any(|at| fits(rest, &path[at..]))
        }
        ['?', rest @ ..] => path.first().is_some_and(|c| *c != '/') && fits(rest, &path[1..]),
        ['[', set @ ..] => {
            let Some(end) = set.iter().position(|c| *c == ']') else {
                return path.first() == Some(&'[') && fits(set, &path[1..]);
            };
            let one = path.first().is_some_and(|c| *c != '/' && in_set(&set[..end], *c));
            one && fits(&set[end + 1..], &path[1..])
        }
        [literal, rest @ ..] => path.first() == Some(literal) && fits(rest, &path[1..]),
    }
}

fn in_set(set: &[char], wanted: char) -> bool {
    let (negated, mut set) = match set {
        ['!' | '^', rest @ ..] => (true, rest),
        _ => (false, set),
    };
    let mut found = false;
    while let Some(first) = set.first() {
        if let ['-', last, rest @ ..] = &set[1..] {
            found |= (*first..=*last).contains(&wanted);
            set = rest;
        } else {
            found |= *first == wanted;
            set = &set[1..];
        }
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_4_31_patterns_fit_the_paths_that_they_mean() {
        let check = |pattern: &str, yes: &[&str], no: &[&str]| {
            let glob = Glob::new(pattern);
            for path in yes {
                assert!(glob.matches(path), "{pattern} must fit {path}");
            }
            for path in no {
                assert!(!glob.matches(path), "{pattern} must not fit {path}");
            }
        };
        check("**/*.py", &["/a/b.py", "b.py", "/b.py"], &["/a/b.pyi", "/a.py/b"]);
        check("*.py", &["a.py"], &["/a.py", "x/a.py"]);
        check("**/{ruff,pyproject}.toml", &["/r/ruff.toml", "/pyproject.toml"], &["/x.toml"]);
        check("**/*.{t,j}s{,x}", &["/a.ts", "/a.tsx", "/a.jsx"], &["/a.css"]);
        check("/w/**", &["/w/a", "/w/a/b"], &["/v/a"]);
        check("**/a?[0-9][!x].c", &["/ab1y.c"], &["/ab1x.c", "/abcy.c"]);
        check("**/Cargo.lock", &["/p/Cargo.lock"], &["/p/xCargo.lock"]);
        check("a{b", &["a{b"], &["ab"]);
    }

    #[test]
    fn braces_do_not_grow_without_end() {
        let many = "{a,b,c,d}".repeat(12);
        assert!(Glob::new(&many).alternatives.len() <= ALTERNATIVES_MAX);
    }
}
