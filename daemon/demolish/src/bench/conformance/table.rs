//! Outcomes as rows and as a table: rules down, proxies across.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::suite::{Check, Outcome, State};
use crate::bench::report::Row;

/// What the suite found of one proxy.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) outcomes: Vec<Outcome>,
}

/// One rule and one proxy.
#[derive(Debug, PartialEq)]
struct Cell {
    held: usize,
    /// Checks that say something about this proxy.
    of: usize,
    /// What failed first, or why nothing could be seen.
    note: Option<String>,
}

impl Column {
    fn cell(&self, rule: u8) -> Cell {
        let mut cell = Cell { held: 0, of: 0, note: None };
        let mut apart = None;
        for outcome in self.outcomes.iter().filter(|outcome| outcome.rule == rule) {
            match &outcome.state {
                State::Holds => {
                    cell.held += 1;
                    cell.of += 1;
                }
                State::Broken(why) => {
                    cell.of += 1;
                    cell.note.get_or_insert_with(|| format!("{}: {why}", outcome.says));
                }
                State::Apart(why) => drop(apart.get_or_insert_with(|| why.clone())),
            }
        }
        if cell.of == 0 {
            cell.note = apart;
        }
        cell
    }
}

impl Cell {
    fn sign(&self) -> String {
        match (self.held, self.of) {
            (_, 0) => "–".to_owned(),
            (held, of) if held == of => "✓".to_owned(),
            (held, of) => format!("✗ {held}/{of}"),
        }
    }
}

fn rules(columns: &[Column]) -> BTreeSet<u8> {
    columns.iter().flat_map(|column| &column.outcomes).map(|outcome| outcome.rule).collect()
}

/// One row per rule and proxy: the share of the checks that hold. A rule that says nothing about a proxy has a row of no
/// checks and no goal.
#[allow(clippy::cast_precision_loss, reason = "a rule has a few dozen checks")]
pub(super) fn rows(columns: &[Column]) -> Vec<Row> {
    let mut rows = Vec::new();
    for rule in rules(columns) {
        for column in columns {
            let cell = column.cell(rule);
            let metric = format!("4.{rule}");
            let mut row = if cell.of == 0 {
                Row::new(&metric, 0.0, "checks")
            } else {
                Row::new(&metric, cell.held as f64 / cell.of as f64, "share").exactly(1.0)
            };
            row.against = Some(column.name.clone());
            row.note = cell.note;
            rows.push(row);
        }
    }
    rows
}

/// For people: the table, and behind it why what failed failed.
pub(super) fn text(columns: &[Column]) -> String {
    let mut text = String::new();
    let widths: Vec<usize> =
        columns.iter().map(|column| column.name.chars().count().max(8)).collect();
    let _ = write!(text, "{:<6}", "rule");
    for (column, width) in columns.iter().zip(&widths) {
        let _ = write!(text, "  {:<width$}", column.name);
    }
    text.push('\n');
    let mut notes = String::new();
    for rule in rules(columns) {
        let _ = write!(text, "{:<6}", format!("4.{rule}"));
        for (column, width) in columns.iter().zip(&widths) {
            let cell = column.cell(rule);
            let _ = write!(text, "  {:<width$}", cell.sign());
            if let (true, Some(note)) = (cell.held < cell.of, &cell.note) {
                let _ = writeln!(notes, "  4.{rule} {}: {note}", column.name);
            }
        }
        text.push('\n');
    }
    let _ = write!(text, "{:<6}", "rules");
    for (column, width) in columns.iter().zip(&widths) {
        let cells: Vec<Cell> = rules(columns).iter().map(|rule| column.cell(*rule)).collect();
        let seen = cells.iter().filter(|cell| cell.of > 0).count();
        let whole = cells.iter().filter(|cell| cell.of > 0 && cell.held == cell.of).count();
        let _ = write!(text, "  {:<width$}", format!("{whole}/{seen}"));
    }
    let text = text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    let notes = if notes.is_empty() { notes } else { format!("\nwhat failed first:\n{notes}") };
    format!("{text}\n{notes}")
}

/// What is checked, by rule.
pub(super) fn list(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        let _ = writeln!(text, "4.{:<3} {}", check.rule, check.says);
    }
    let _ = writeln!(text, "{} checks", checks.len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column() -> Column {
        let outcome = |rule, state| Outcome { rule, says: "it holds".to_owned(), state };
        let outcomes = vec![
            outcome(1, State::Holds),
            outcome(1, State::Broken("no".to_owned())),
            outcome(2, State::Apart("not here".to_owned())),
            outcome(3, State::Apart("not here".to_owned())),
            outcome(3, State::Holds),
        ];
        Column { name: "p".to_owned(), outcomes }
    }

    #[test]
    fn a_rule_is_a_row_per_proxy() {
        let rows = rows(&[column()]);
        let seen: Vec<_> = rows
            .iter()
            .map(|row| (&*row.metric, row.value, &*row.unit, row.holds, row.note.as_deref()))
            .collect();
        let expected = [
            ("4.1", 0.5, "share", Some(false), Some("it holds: no")),
            ("4.2", 0.0, "checks", None, Some("not here")),
            ("4.3", 1.0, "share", Some(true), None),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn the_table_has_rules_down_and_proxies_across() {
        let expected = "rule    p\n4.1     ✗ 1/2\n4.2     –\n4.3     ✓\nrules   1/2\n\
                        \nwhat failed first:\n  4.1 p: it holds: no\n";
        assert_eq!(text(&[column()]), expected);
    }
}
