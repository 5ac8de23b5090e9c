//! Figures as rows.

use super::{Replay, learn};
use crate::bench::report::{Row, Samples};
use std::collections::BTreeMap;

/// Goals: of programs that compile, in percent; of broken ones; in lines.
const ALARMS: f64 = 0.2;
const CAUGHT: f64 = 90.0;
const LAG: f64 = 0.0;
/// The languages whose figures have goals.
const WITH_GOALS: [&str; 3] = ["typescript", "python", "rust"];

/// The rows of one language, with its name at the end.
#[allow(clippy::cast_precision_loss, reason = "some thousands")]
pub(super) fn of(replay: &Replay) -> Vec<Row> {
    let id = replay.language.id();
    let judged = learn::judge(replay);
    let share = |count: usize, of: usize| 100.0 * count as f64 / of.max(1) as f64;
    let broken: usize = judged.broken.values().map(|[all, _]| all).sum();
    let caught: usize = judged.broken.values().map(|[_, caught]| caught).sum();
    let (mut times, mut lags) = (Samples::default(), Samples::default());
    replay.replayed.iter().for_each(|program| times.join(&program.typed.times));
    judged.lags.iter().for_each(|lag| lags.push(*lag as f64));
    let unknown: usize = replay.replayed.iter().map(|program| program.typed.unknown).sum();
    let has_goals = WITH_GOALS.contains(&id);
    let goal = |row: Row, goal: fn(Row, f64) -> Row, limit: f64| {
        if has_goals { goal(row, limit) } else { row }
    };
    let name = |what: &str| format!("{what}_{id}");
    let kinds: Vec<String> = judged
        .broken
        .iter()
        .map(|(kind, [all, caught])| {
            format!("{} {:.0} % of {all}", kind.name(), share(*caught, *all))
        })
        .collect();
    let mut rows = vec![
        goal(
            Row::new(&name("false_alarms"), share(judged.alarms, judged.compiling), "%"),
            Row::at_most,
            ALARMS,
        )
        .noted(&told(&judged.false_codes)),
        goal(Row::new(&name("caught"), share(caught, broken), "%"), Row::at_least, CAUGHT)
            .noted(&kinds.join(", ")),
        goal(Row::new(&name("lag"), lags.quantile(0.5), "lines"), Row::at_most, LAG),
        Row::new(&name("lag_p90"), lags.quantile(0.9), "lines"),
        Row::new(&name("programs_compiling"), judged.compiling as f64, "programs"),
        Row::new(&name("programs_broken"), broken as f64, "programs"),
        Row::new(&name("check_p50"), times.quantile(0.5), "ms"),
        Row::new(&name("check_p99"), times.quantile(0.99), "ms"),
        Row::new(&name("checks_unknown"), share(unknown, times.len() + unknown), "%"),
    ];
    rows.iter_mut().for_each(|row| row.note = row.note.take().filter(|note| !note.is_empty()));
    rows
}

/// What was left out, and why: what fails in a real program as its author wrote it is the environment's doing.
pub(super) fn notes(replay: &Replay) -> Vec<String> {
    let mut codes: BTreeMap<String, usize> = BTreeMap::new();
    for code in &replay.left_out.wrong {
        *codes.entry(code.clone()).or_default() += 1;
    }
    let (programs, unknown) = (replay.left_out.programs, replay.left_out.unknown);
    let said = format!(
        "{}: {programs} programs were left out for errors that they had from the beginning ({}), {unknown} because {} said nothing of them",
        replay.language.id(),
        told(&codes),
        replay.server
    );
    vec![said]
}

/// The commonest codes.
fn told(codes: &BTreeMap<String, usize>) -> String {
    let mut all: Vec<_> = codes.iter().collect();
    all.sort_by_key(|(code, count)| (std::cmp::Reverse(**count), (*code).clone()));
    let some = all.iter().take(6).map(|(code, count)| format!("{code} {count}"));
    some.collect::<Vec<_>>().join(", ")
}
