//! Pages of docs/ that are read from the source, so that they cannot rot: the named limits, and the map of the files.

mod code_map;
mod limits;

use std::fs;

use anyhow::{Context as _, Result};
use syn::{Attribute, Expr, Lit, Meta};

use crate::{paths, tidy};

/// A page: where it is, and what writes it.
type Page = (&'static str, fn() -> Result<String>);

const PAGES: &[Page] = &[("docs/limits.md", limits::page), ("docs/code-map.md", code_map::page)];

/// Writes the pages.
pub(crate) fn write() -> Result<bool> {
    for (path, text) in PAGES {
        fs::write(paths::root().join(path), text()?)
            .with_context(|| format!("cannot write {path}"))?;
    }
    Ok(true)
}

/// Whether the pages are what the source says; names those that are not.
pub(crate) fn are_fresh() -> Result<bool> {
    let mut fresh = true;
    for (path, text) in PAGES {
        if fs::read_to_string(paths::root().join(path)).unwrap_or_default() != text()? {
            println!("{path} is stale: `cargo xtask gen` writes it");
            fresh = false;
        }
    }
    Ok(fresh)
}

/// A source file of a crate, its tests left out.
struct Module {
    crate_name: String,
    /// Below the crate's `src`.
    file: String,
    syntax: syn::File,
}

/// The modules of all crates but xtask, in the order of their paths.
fn modules() -> Result<Vec<Module>> {
    let mut modules = Vec::new();
    for path in tidy::files()? {
        let Some((crate_name, file)) =
            path.strip_prefix("daemon/").and_then(|rest| rest.split_once("/src/"))
        else {
            continue;
        };
        let is_test = file.ends_with("tests.rs") || file.contains("tests/");
        if !file.ends_with(".rs") || is_test || crate_name == "xtask" {
            continue;
        }
        let Ok(text) = fs::read_to_string(paths::root().join(&path)) else { continue };
        let syntax = syn::parse_file(&text).with_context(|| format!("cannot parse {path}"))?;
        modules.push(Module { crate_name: crate_name.to_owned(), file: file.to_owned(), syntax });
    }
    Ok(modules)
}

/// The first paragraph of a documentation, on one line, as a cell of a table.
fn first_paragraph(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(text) => Some(text.value().trim().to_owned()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    });
    let paragraph: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    // Links between items lead nowhere outside of rustdoc.
    paragraph.join(" ").replace('|', "\\|").replace("[`", "`").replace("`]", "`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_are_fresh() {
        assert!(are_fresh().unwrap(), "`cargo xtask gen` writes them");
    }
}
