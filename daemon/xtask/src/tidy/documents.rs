//! Rules for Lua files and for the links of Markdown files.

use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result};

use super::exceptions::{Exceptions, Ratchet};
use super::{Finding, Source};
use crate::{fingerprint, paths};

/// The largest Lua file.
const LUA_LINES_MAX: usize = 800;

pub(crate) fn check_lua(source: &Source<'_>, exceptions: &Exceptions) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !source.is_fixture() && !source.text.starts_with("--") {
        findings.push(source.finding(1, "opens without a comment that says what the module does"));
    }
    let lines = source.text.lines().count();
    if lines > LUA_LINES_MAX && exceptions.long_file(source.path, lines) != Ratchet::Holds {
        findings.push(
            source.finding(0, format!("has {lines} lines; at most {LUA_LINES_MAX} are allowed")),
        );
    }
    findings
}

/// Every relative link of a document leads to something.
pub(crate) fn check_links(source: &Source<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if source.is_fixture() {
        return findings;
    }
    let folder = Path::new(source.path).parent().unwrap_or(Path::new(""));
    for (index, line) in source.text.lines().enumerate() {
        for target in targets(line) {
            if !paths::root().join(normal(&folder.join(target))).exists() {
                findings.push(
                    source.finding(index + 1, format!("links to {target}, which is not there")),
                );
            }
        }
    }
    findings
}

/// docs/protocol.md carries a fingerprint of the types that it describes: whoever changes them looks at the page too.
pub(crate) fn check_protocol(source: &Source<'_>) -> Result<Vec<Finding>> {
    let Some((_, rest)) = source.text.split_once("<!-- fingerprint of ") else {
        return Ok(Vec::new());
    };
    let (path, written) =
        rest.split(" -->").next().and_then(|mark| mark.split_once(": ")).unwrap_or_default();
    let types =
        fs::read(paths::root().join(path)).with_context(|| format!("cannot read {path}"))?;
    let now = fingerprint::of(&types);
    let message = format!("describes {path}, which has changed: look at both, then write {now}");
    Ok(if now == written { Vec::new() } else { vec![source.finding(0, message)] })
}

/// The relative files that a line links to, without their anchors.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| {
        let target = rest.split(')').next()?.split('#').next()?;
        let outside = target.contains("://") || target.starts_with("mailto:") || target.is_empty();
        let plain = target.chars().all(|c| c.is_ascii_alphanumeric() || "./_-".contains(c));
        (!outside && plain).then_some(target)
    })
}

/// `a/../b` becomes `b`.
fn normal(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut out, part| {
        match part {
            Component::ParentDir => drop(out.pop()),
            Component::CurDir => {}
            other => out.push(other),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_links_are_read() {
        let line = "see [a](docs/a.md#x), [b](https://example.com/b), [c](#here) and [d](../d.md)";
        assert_eq!(targets(line).collect::<Vec<_>>(), ["docs/a.md", "../d.md"]);
        assert_eq!(normal(Path::new("docs/../d.md")), Path::new("d.md"));
    }

    #[test]
    fn a_dead_link_is_found() {
        let found = check_links(&Source {
            path: "docs/x.md",
            text: "[a](nowhere-at-all.md)\n[b](../Cargo.toml)\n",
        });
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].line, 1);
    }
}
