//! The default model's card: what the benchmark fills in between its markers.

use std::fs;

use anyhow::{Context as _, Result};

use crate::paths;

/// The page.
const PAGE: &str = "docs/models/nano.md";
/// Where the benchmark writes the examples to.
pub(super) const EXAMPLES: &str = "target/nano-examples.md";

/// Writes the card's figures and examples.
pub(super) fn write(figures: &str) -> Result<()> {
    let path = paths::root().join(PAGE);
    let page = fs::read_to_string(&path).with_context(|| format!("cannot read {PAGE}"))?;
    let examples = paths::root().join(EXAMPLES);
    let examples = fs::read_to_string(&examples).context("the benchmark wrote no examples")?;
    let page = filled(&page, "figures", figures)?;
    let page = filled(&page, "examples", &examples)?;
    fs::write(path, page).with_context(|| format!("cannot write {PAGE}"))
}

/// A page with `text` between the markers of this name.
fn filled(page: &str, name: &str, text: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let missing = || format!("{PAGE} has no markers {} and {end}", begin.trim_end());
    let start = page.find(&begin).with_context(missing)? + begin.len();
    let stop = page[start..].find(&end).with_context(missing)? + start;
    Ok([&page[..start], "\n", text.trim(), "\n\n", &page[stop..]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_between_markers_is_replaced_and_nothing_else() {
        let page = "a\n<!-- x -->\nold\n<!-- /x -->\nb\n";
        let once = filled(page, "x", "new").unwrap();
        assert_eq!(once, "a\n<!-- x -->\n\nnew\n\n<!-- /x -->\nb\n");
        assert_eq!(filled(&once, "x", "new").unwrap(), once);
        assert!(filled(page, "y", "new").is_err());
    }
}
