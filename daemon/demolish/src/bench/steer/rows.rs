//! The table of the ablation, and every try as a line of CSV.

use std::io::{self, Write as _};
use std::path::Path;

use super::arms::{Arm, Tried};
use super::{Case, Round};
use crate::bench::draw::hash;
use crate::bench::report::Row;

/// Errors of steering, in those of retries at the same number of tokens.
const ERRORS: f64 = 0.6;
/// Of what is offered as clean, in percent.
const CLEAN_BUT_BROKEN: f64 = 0.5;
/// Tokens where the first draft is right, in those of the first draft.
const OVERHEAD: f64 = 1.1;
/// Resamplings of the bootstrap, and the share of them that its bounds hold.
const RESAMPLINGS: u64 = 2000;
const BOUND: f64 = 0.025;

/// The rows of all languages together, and of each.
pub(super) fn of(rounds: &[Round]) -> Vec<Row> {
    let mut rows = table(rounds, "");
    let mut names: Vec<&str> = rounds.iter().map(|round| round.language.id()).collect();
    names.dedup();
    if names.len() > 1 {
        for name in names {
            let own: Vec<&Round> =
                rounds.iter().filter(|round| round.language.id() == name).collect();
            rows.extend(arms(&own, &format!("_{name}")));
        }
    }
    rows
}

#[allow(clippy::cast_precision_loss, reason = "some thousands")]
fn table(rounds: &[Round], ending: &str) -> Vec<Row> {
    let all: Vec<&Round> = rounds.iter().collect();
    let errors = |arm| all.iter().filter(|round| is_broken(round, arm)).count() as f64;
    let exact =
        |arm| share(&all, |round| round.of(arm).is_some_and(|one| is_exact(&round.case, one)));
    let sound: Vec<bool> = all.iter().filter_map(|round| round.is_sound).collect();
    let broken = sound.iter().filter(|is_sound| !**is_sound).count() as f64;
    let at_once: Vec<&&Round> = all
        .iter()
        .filter(|round| round.of(Arm::Unsteered).is_some_and(|one| one.compiles == Some(true)))
        .collect();
    let tokens = |arm| {
        at_once
            .iter()
            .filter_map(|round| round.of(arm))
            .map(|one| f64::from(one.tokens))
            .sum::<f64>()
    };
    let escapes = |arm| {
        all.iter().filter_map(|round| Some(escapes(round, round.of(arm)?))).sum::<usize>() as f64
    };
    let loops =
        all.iter().filter(|round| round.of(Arm::Steered).is_some_and(|one| one.loops)).count();
    let name = |what: &str| format!("{what}{ending}");
    let (low, high) = bootstrap(&all);
    let mut rows = vec![
        Row::new(
            &name("compile_errors_vs_retry"),
            errors(Arm::Steered) / errors(Arm::Retry).max(1.0),
            "x",
        )
        .at_most(ERRORS)
        .noted(&format!("95 % of resampled packages' holes: {low:.2} to {high:.2}")),
        Row::new(
            &name("exact_match_vs_unsteered"),
            exact(Arm::Steered) - exact(Arm::Unsteered),
            "points",
        )
        .at_least(0.0),
        Row::new(&name("clean_but_broken"), 100.0 * broken / (sound.len() as f64).max(1.0), "%")
            .at_most(CLEAN_BUT_BROKEN)
            .noted(&format!("of {} that were offered as clean, by the full compiler", sound.len())),
        Row::new(
            &name("tokens_where_right_at_once"),
            tokens(Arm::Steered) / tokens(Arm::Unsteered).max(1.0),
            "x",
        )
        .at_most(OVERHEAD),
        Row::new(&name("steered_loops"), loops as f64, "loops").exactly(0.0),
        Row::new(&name("steered_escapes"), escapes(Arm::Steered), "escapes")
            .at_most(escapes(Arm::Unsteered)),
        Row::new(&name("rounds"), all.len() as f64, "holes and seeds"),
    ];
    rows.extend(arms(&all, ending));
    rows
}

/// What each arm came to.
#[allow(clippy::cast_precision_loss, reason = "some thousands")]
fn arms(all: &[&Round], ending: &str) -> Vec<Row> {
    let of = |arm: Arm| {
        let own: Vec<&Tried> = all.iter().filter_map(|round| round.of(arm)).collect();
        let solved = all.iter().filter(|round| is_solved(round, arm)).count().max(1);
        let tokens: f64 = own.iter().map(|one| f64::from(one.tokens)).sum();
        let name = |what: &str| format!("{}_{what}{ending}", arm.name());
        [
            Row::new(&name("compiles"), share(all, |round| is_solved(round, arm)), "%"),
            Row::new(&name("errors"), share(all, |round| is_broken(round, arm)), "%"),
            Row::new(
                &name("exact"),
                share(all, |round| round.of(arm).is_some_and(|one| is_exact(&round.case, one))),
                "%",
            ),
            Row::new(
                &name("similarity"),
                100.0
                    * all
                        .iter()
                        .filter_map(|round| Some(similarity(&round.case, round.of(arm)?)))
                        .sum::<f64>()
                    / all.len().max(1) as f64,
                "%",
            ),
            Row::new(&name("tokens_per_solved"), tokens / solved as f64, "tokens"),
            Row::new(
                &name("ms"),
                own.iter().map(|one| one.ms).sum::<f64>() / own.len().max(1) as f64,
                "ms",
            ),
        ]
    };
    Arm::ALL.into_iter().flat_map(of).collect()
}

/// What was measured on.
pub(super) fn notes(rounds: &[Round]) -> Vec<String> {
    let mut packages: Vec<&str> =
        rounds.iter().map(|round| round.case.program.package.as_str()).collect();
    packages.sort_unstable();
    packages.dedup();
    let unknown =
        rounds.iter().filter(|round| round.tried.iter().any(|one| one.compiles.is_none())).count();
    vec![format!("Holes in {}; of {unknown} the server said nothing", packages.join(", "))]
}

#[allow(clippy::cast_precision_loss, reason = "some thousands")]
fn share(all: &[&Round], holds: impl Fn(&Round) -> bool) -> f64 {
    100.0 * all.iter().filter(|round| holds(round)).count() as f64 / all.len().max(1) as f64
}

/// Something was written that does not compile.
fn is_broken(round: &Round, arm: Arm) -> bool {
    round.of(arm).is_some_and(|one| one.compiles == Some(false) && !one.written.trim().is_empty())
}

/// Something was written that compiles.
fn is_solved(round: &Round, arm: Arm) -> bool {
    round.of(arm).is_some_and(|one| one.compiles == Some(true) && !one.written.trim().is_empty())
}

fn is_exact(case: &Case, one: &Tried) -> bool {
    let (written, truth) = (one.written.trim_end(), case.truth().trim_end());
    // A suggestion may end before the hole does, at the end of a line.
    written == truth
}

fn similarity(case: &Case, one: &Tried) -> f64 {
    strsim::normalized_levenshtein(one.written.trim_end(), case.truth().trim_end())
}

/// What silences the checker in what was written, beyond what the author wrote.
fn escapes(round: &Round, one: &Tried) -> usize {
    let count = |text: &str| {
        round
            .language
            .suppressions()
            .iter()
            .map(|sign| text.matches(sign.as_str()).count())
            .sum::<usize>()
    };
    count(&one.written).saturating_sub(count(round.case.truth()))
}

/// Bounds of the errors of steering in those of retries: holes are drawn anew, all seeds of one together.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "some thousands"
)]
fn bootstrap(all: &[&Round]) -> (f64, f64) {
    let mut holes: Vec<(usize, usize)> = Vec::new();
    let mut last = None;
    for round in all {
        let key = (&round.case.file.path, round.case.hole.start);
        if last != Some(key) {
            holes.push((0, 0));
            last = Some(key);
        }
        if let Some((steered, retry)) = holes.last_mut() {
            *steered += usize::from(is_broken(round, Arm::Steered));
            *retry += usize::from(is_broken(round, Arm::Retry));
        }
    }
    if holes.is_empty() {
        return (0.0, 0.0);
    }
    let mut ratios: Vec<f64> = (0..RESAMPLINGS)
        .map(|number| {
            let drawn = (0..holes.len()).map(|place| {
                let drawn = hash(&[&number.to_string(), &place.to_string()]);
                holes[crate::bench::draw::pick(drawn, holes.len())]
            });
            let (steered, retry) = drawn.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            steered as f64 / (retry as f64).max(1.0)
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    let at = |share: f64| ratios[((ratios.len() - 1) as f64 * share) as usize];
    (at(BOUND), at(1.0 - BOUND))
}

/// Writes a line for each try.
///
/// # Errors
/// The file cannot be written.
pub(super) fn write(out: &Path, rounds: &[Round]) -> io::Result<()> {
    let mut file = std::fs::File::create(out)?;
    writeln!(
        file,
        "language,package,path,at,seed,arm,written,compiles,exact,similarity,verdict,sound,tokens,rewinds,checks,ms,escapes,loops"
    )?;
    for round in rounds {
        for one in &round.tried {
            let said =
                |value: Option<bool>| value.map_or("", |value| if value { "1" } else { "0" });
            let sound = if one.arm == Arm::Steered { said(round.is_sound) } else { "" };
            writeln!(
                file,
                "{},{},{},{},{},{},{},{},{},{:.3},{},{},{},{},{},{:.1},{},{}",
                round.language.id(),
                round.case.program.package,
                round.case.file.path,
                round.case.hole.start,
                round.seed,
                one.arm.name(),
                one.written.trim().len(),
                said(one.compiles),
                u8::from(is_exact(&round.case, one)),
                similarity(&round.case, one),
                one.verdict,
                sound,
                one.tokens,
                one.rewinds,
                one.checks,
                one.ms,
                escapes(round, one),
                u8::from(one.loops),
            )?;
        }
    }
    Ok(())
}
