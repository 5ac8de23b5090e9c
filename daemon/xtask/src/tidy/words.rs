//! Words and signs that no file of the repository holds.

use super::{Finding, Source};

/// The parts are joined when they are looked for, so that this table does not find itself.
struct Rule {
    parts: &'static [&'static str],
    why: &'static str,
    places: Places,
}

enum Places {
    Everywhere,
    /// Program text and documents, but no test data.
    NotFixtures,
    Rust,
}

const RULES: &[Rule] = &[
    Rule {
        parts: &["TO", "DO"],
        why: "finish it, file an issue, or write it into docs/shortcomings.md",
        places: Places::NotFixtures,
    },
    Rule {
        parts: &["FIX", "ME"],
        why: "finish it, file an issue, or write it into docs/shortcomings.md",
        places: Places::NotFixtures,
    },
    Rule {
        parts: &["todo", "!("],
        why: "a thing that is not there yet is not called",
        places: Places::Rust,
    },
    Rule {
        parts: &["unimplemented", "!("],
        why: "a thing that is not there yet is not called",
        places: Places::Rust,
    },
    Rule {
        parts: &["unbounded", "_channel"],
        why: "every queue is bounded and has a written policy",
        places: Places::Rust,
    },
    Rule {
        parts: &["mpsc::", "unbounded"],
        why: "every queue is bounded and has a written policy",
        places: Places::Rust,
    },
    Rule {
        parts: &["#[", "instrument"],
        why: "spans stand at boundaries (event, request, engine step), not on functions",
        places: Places::Rust,
    },
    Rule {
        parts: &["tracing::", "instrument]"],
        why: "spans stand at boundaries (event, request, engine step), not on functions",
        places: Places::Rust,
    },
    Rule {
        parts: &["LD_LIBRARY", "_PATH="],
        why: "it leaks into the children and breaks them",
        places: Places::Everywhere,
    },
    Rule {
        parts: &["/wo", "rk/"],
        why: "this is a place on one machine",
        places: Places::Everywhere,
    },
    Rule {
        parts: &["/tmp/", "target-"],
        why: "this is a place on one machine",
        places: Places::Everywhere,
    },
    Rule {
        parts: &["pypi", ".org"],
        why: "package registries are reached as the machine is configured",
        places: Places::Everywhere,
    },
    Rule {
        parts: &["pythonhosted", ".org"],
        why: "package registries are reached as the machine is configured",
        places: Places::Everywhere,
    },
    Rule {
        parts: &["registry", ".npmjs"],
        why: "package registries are reached as the machine is configured",
        places: Places::Everywhere,
    },
    Rule {
        parts: &["static.", "crates.io"],
        why: "package registries are reached as the machine is configured",
        places: Places::Everywhere,
    },
    Rule {
        parts: &["index.", "crates.io"],
        why: "package registries are reached as the machine is configured",
        places: Places::Everywhere,
    },
    Rule {
        parts: &["deb.", "debian.org"],
        why: "package registries are reached as the machine is configured",
        places: Places::Everywhere,
    },
    Rule {
        parts: &["proxy.", "golang.org"],
        why: "package registries are reached as the machine is configured",
        places: Places::Everywhere,
    },
];

pub(crate) fn check(source: &Source<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for rule in RULES {
        let applies = match rule.places {
            Places::Everywhere => true,
            Places::NotFixtures => !source.is_fixture() && is_ours(source.path),
            Places::Rust => source.path.ends_with(".rs"),
        };
        let word = rule.parts.concat();
        if applies && source.text.contains(&word) {
            let line = source
                .text
                .lines()
                .position(|line| line.contains(&word))
                .map_or(0, |index| index + 1);
            findings.push(source.finding(line, format!("holds `{word}`: {}", rule.why)));
        }
    }
    findings.extend(check_signs(source));
    findings
}

/// Vocabularies and the like are lists of words, not text by us.
fn is_ours(path: &str) -> bool {
    let kinds = ["rs", "lua", "md", "toml", "yml", "scm", "sh", "py", "txt"];
    kinds.iter().any(|kind| path.strip_suffix(kind).is_some_and(|rest| rest.ends_with('.')))
        || path == "Makefile"
}

/// Line ends and blanks; test data may be about them.
fn check_signs(source: &Source<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if source.path.starts_with("tests/") || !is_ours(source.path) {
        return findings;
    }
    if source.text.contains('\r') {
        findings.push(source.finding(0, "has carriage returns"));
    }
    if !source.text.is_empty() && !source.text.ends_with('\n') {
        findings.push(source.finding(0, "does not end with a line end"));
    }
    let trailing = |line: &str| line.ends_with([' ', '\t']);
    if let Some(index) = source.text.lines().position(trailing) {
        findings.push(source.finding(index + 1, "has blanks at the end of the line"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_text(path: &str, text: &str) -> Vec<String> {
        check(&Source { path, text }).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn forbidden_words_are_found_with_their_line() {
        let text = format!("//! Head.\nlet (a, b) = {}();\n", ["unbounded", "_channel"].concat());
        let found = check_text("daemon/wire/src/peer.rs", &text);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("daemon/wire/src/peer.rs:2: holds `unbounded"), "{found:?}");
    }

    #[test]
    fn fixtures_may_hold_marks_of_unfinished_work_but_no_machine_paths() {
        let text = ["# TO", "DO: a sample\n"].concat();
        assert!(check_text("tests/demo/sample.py", &text).is_empty());
        assert_eq!(check_text("daemon/nano/train.py", &text).len(), 1);
        let text = ["/wo", "rk/x\n"].concat();
        assert_eq!(check_text("tests/demo/sample.py", &text).len(), 1);
    }

    #[test]
    fn blanks_and_line_ends_are_looked_at() {
        assert_eq!(check_text("docs/a.md", "x \ny").len(), 2);
        assert_eq!(check_text("docs/a.md", "x\r\n").len(), 1);
        assert!(check_text("tests/a.md", "x \r\ny").is_empty());
    }
}
