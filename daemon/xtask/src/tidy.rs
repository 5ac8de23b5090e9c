//! House rules that no compiler checks, as a test: sizes, forbidden words, module heads, where `unsafe` and `Serialize` may
//! stand, dead links in the documents.
//!
//! Exceptions are data (`tidy.toml`), each with its reason. The size list is a ratchet: an entry must say the present size,
//! so it can only shrink, and it must go once the file or function is small enough.

mod exceptions;
mod rust;
mod rules;
mod words;
mod documents;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::paths;
use crate::shell::Shell;
use exceptions::Exceptions;

/// A file above this size stays in every clone for ever, so it must be excepted by name.
const BLOB_BYTES_MAX: u64 = 512 * 1024;

/// One broken rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) path: String,
    /// The first line is 1; 0 stands for the whole file.
    pub(crate) line: usize,
    pub(crate) message: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.line == 0 {
            write!(f, "{}: {}", self.path, self.message)
        } else {
            write!(f, "{}:{}: {}", self.path, self.line, self.message)
        }
    }
}

/// A file of the repository that is being looked at.
pub(crate) struct Source<'t> {
    /// Relative to the root, with `/`.
    pub(crate) path: &'t str,
    pub(crate) text: &'t str,
}

impl Source<'_> {
    pub(crate) fn finding(&self, line: usize, message: impl Into<String>) -> Finding {
        Finding { path: self.path.to_owned(), line, message: message.into() }
    }

    /// The crate that the file belongs to.
    pub(crate) fn crate_name(&self) -> Option<&str> {
        self.path.strip_prefix("daemon/")?.split('/').next()
    }

    /// Test data may look like anything.
    pub(crate) fn is_fixture(&self) -> bool {
        self.path.starts_with("tests/")
            && !self.path.ends_with(".rs")
            && !self.path.ends_with(".lua")
    }
}

/// Looks at every file of the repository.
pub(crate) fn check() -> Result<Vec<String>> {
    let exceptions = Exceptions::read(&paths::root().join("daemon/xtask/tidy.toml"))?;
    let mut findings = Vec::new();
    let files = files()?;
    for path in &files {
        findings.extend(check_file(path, &exceptions)?);
    }
    findings.extend(rules::check(&files)?);
    findings.extend(exceptions.unused());
    Ok(findings.iter().map(ToString::to_string).collect())
}

/// The files that git tracks or would track.
pub(crate) fn files() -> Result<Vec<String>> {
    let query = Shell::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .dir(&paths::root());
    let mut files: Vec<String> = query.read()?.lines().map(str::to_owned).collect();
    files.sort_unstable();
    files.dedup();
    Ok(files)
}

fn check_file(path: &str, exceptions: &Exceptions) -> Result<Vec<Finding>> {
    let place: PathBuf = paths::root().join(path);
    let Ok(meta) = place.symlink_metadata() else { return Ok(Vec::new()) };
    if !meta.is_file() {
        return Ok(Vec::new());
    }
    let bytes = fs::read(&place).with_context(|| format!("cannot read {path}"))?;
    let mut findings = Vec::new();
    if meta.len() > BLOB_BYTES_MAX && !exceptions.blob(path) {
        let message = format!(
            "{} KiB stay in every clone for ever; name it in tidy.toml if that is wanted",
            meta.len() / 1024
        );
        findings.push(Finding { path: path.to_owned(), line: 0, message });
    }
    let Ok(text) = std::str::from_utf8(&bytes) else { return Ok(findings) };
    let source = Source { path, text };
    findings.extend(words::check(&source));
    match Path::new(path).extension().and_then(|extension| extension.to_str()) {
        Some("rs") => findings.extend(rust::check(&source, exceptions)),
        Some("lua") => findings.extend(documents::check_lua(&source, exceptions)),
        Some("md") => {
            findings.extend(documents::check_links(&source));
            findings.extend(documents::check_protocol(&source)?);
        }
        _ => {}
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_house_is_tidy() {
        let wrong = check().unwrap();
        assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    }
}
