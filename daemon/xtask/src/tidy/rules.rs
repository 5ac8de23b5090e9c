//! The rule book is whole: it has every rule, and every rule has a test that is named for it.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result};

use super::Finding;
use crate::paths;

/// Where the rules stand.
const BOOK: &str = "docs/proxy-rules.md";
/// The last rule of the book, behind the dot.
const RULES_MAX: u32 = 50;

/// Looks through all Rust files among `paths`.
pub(crate) fn check(paths: &[String]) -> Result<Vec<Finding>> {
    let read = |path: &str| {
        fs::read_to_string(paths::root().join(path)).with_context(|| format!("cannot read {path}"))
    };
    let mut tested = BTreeSet::new();
    for path in paths.iter().filter(|path| path.ends_with(".rs")) {
        // A file may have been removed and not yet committed.
        tested.extend(numbers(&read(path).unwrap_or_default(), "fn rule_4_"));
    }
    Ok(findings(&numbers(&read(BOOK)?, "**4."), &tested))
}

/// The numbers that stand behind a mark.
fn numbers(text: &str, mark: &str) -> BTreeSet<u32> {
    let behind = text.split(mark).skip(1);
    let digits = |rest: &str| rest.split(|c: char| !c.is_ascii_digit()).next().map(str::to_owned);
    behind.filter_map(|rest| digits(rest)?.parse().ok()).collect()
}

fn findings(written: &BTreeSet<u32>, tested: &BTreeSet<u32>) -> Vec<Finding> {
    let finding = |message| Finding { path: BOOK.to_owned(), line: 0, message };
    let missing = (1..=RULES_MAX).filter(|rule| !written.contains(rule));
    let missing = missing.map(|rule| finding(format!("has no rule 4.{rule}")));
    let bare = (1..=RULES_MAX).filter(|rule| !tested.contains(rule));
    let bare = bare.map(|rule| {
        finding(format!("rule 4.{rule} has no test: name one `rule_4_{rule}_what_it_holds`"))
    });
    missing.chain(bare).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_without_a_test_is_found() {
        let book = numbers("**4.1 Framing.** x\n**4.2 JSON.** see 4.3", "**4.");
        assert_eq!(book, BTreeSet::from([1, 2]));
        let mut all: BTreeSet<u32> = (1..=RULES_MAX).collect();
        assert_eq!(findings(&all, &all), []);
        let tested = all.clone();
        all.remove(&7);
        let found = findings(&tested, &all);
        assert_eq!(found.len(), 1);
        assert!(found[0].message.contains("rule 4.7 has no test"), "{}", found[0]);
    }
}
