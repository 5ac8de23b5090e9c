//! `demolish verdicts [FILE…]`

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value as Json;
use wire::ext::{DocumentVerdict, Finding, VerdictsParams, VerdictsResult};

use super::{Exit, Failure, Outcome, control};
use crate::twin::plan;

/// A file with earlier verdicts that is larger than this is none.
const BASELINE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Print what the editors' own language servers say of the documents that are open there, saved or not
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A server's word counts only for a revision that it has provably processed: every line is `clean`, `findings` or `unknown` with the
reason, for each server and document. Information and hints are no findings. Silence is unknown.

Exits with 0 if everything is clean, with 1 if there are findings, and with 3 if there are none but something is unknown, no
document is open or no daemon is running.

Examples:
  demolish verdicts
  demolish verdicts src/app.py --wait 30
  demolish verdicts --json > before.json; …; demolish verdicts --baseline before.json")]
pub(super) struct Args {
    /// The documents; without any, all that are open in some editor
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// For how long a server may take
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    wait: f64,
    /// What an earlier `--json` has printed: only findings that it does not have count, wherever they have moved
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Print an object: verdicts, each with uri, revision, server, instance, state, reason, findings (diagnostic, line), ms
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Outcome {
    let wait = Duration::try_from_secs_f64(args.wait)
        .map_err(|_| Failure::bad(format!("`--wait {}` is no time to wait", args.wait)))?;
    let baseline = args.baseline.as_deref().map(read).transpose()?;
    let documents = args.files.iter().map(|file| address(file)).collect::<Result<_, _>>()?;
    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    let params = VerdictsParams { documents, wait_ms };
    let Some(mut result) = control::verdicts(params, wait)? else {
        return Err(Failure::missing("no daemon is running; open the file in an editor"));
    };
    if let Some(baseline) = &baseline {
        subtract(&mut result.verdicts, &baseline.verdicts);
    }
    if args.json {
        super::print_json(&serde_json::to_value(&result).map_err(Failure::bad)?);
    } else {
        super::print(&told(&result.verdicts));
    }
    missing(args, &result.verdicts)?;
    Ok(judged(&result.verdicts))
}

fn judged(verdicts: &[DocumentVerdict]) -> Exit {
    let any = |state: &str| verdicts.iter().any(|verdict| verdict.state == state);
    match (any("findings"), any("unknown") || verdicts.is_empty()) {
        (true, _) => Exit::No,
        (false, true) => Exit::Missing,
        (false, false) => Exit::Done,
    }
}

/// A file of which nobody has said anything is not open anywhere.
fn missing(args: &Args, verdicts: &[DocumentVerdict]) -> Result<(), Failure> {
    let said = |file: &&PathBuf| {
        let uri = address(file).unwrap_or_default();
        let path = plan::path_of(&uri);
        verdicts.iter().any(|verdict| path.is_some() && plan::path_of(&verdict.uri) == path)
    };
    match args.files.iter().find(|file| !said(file)) {
        Some(file) => Err(Failure::missing(format!(
            "{} is not open in an editor whose language server runs behind Demolish",
            file.display()
        ))),
        None => Ok(()),
    }
}

fn address(file: &Path) -> Result<String, Failure> {
    let path = std::path::absolute(file)
        .map_err(|error| Failure::bad(format!("{} is no file ({error})", file.display())))?;
    let path = path.canonicalize().unwrap_or(path);
    Ok(plan::uri_of(&path))
}

fn read(file: &Path) -> Result<VerdictsResult, Failure> {
    let shown = file.display();
    if std::fs::metadata(file).is_ok_and(|meta| meta.len() > BASELINE_BYTES_MAX) {
        return Err(Failure::bad(format!("{shown} is too large to be earlier verdicts")));
    }
    let text = std::fs::read(file)
        .map_err(|error| Failure::bad(format!("{shown} cannot be read ({error})")))?;
    serde_json::from_slice(&text).map_err(|error| {
        Failure::bad(format!("{shown} is not what `demolish verdicts --json` prints ({error})"))
    })
}

/// Takes out what was there before; a verdict that nothing is left of is clean.
fn subtract(verdicts: &mut [DocumentVerdict], before: &[DocumentVerdict]) {
    for verdict in verdicts {
        let same = |old: &&DocumentVerdict| old.uri == verdict.uri && old.server == verdict.server;
        let Some(old) = before.iter().find(same) else { continue };
        let introduced =
            proxy::verdict::introduced(&pairs(&old.findings), &pairs(&verdict.findings));
        let keep = |(at, finding)| introduced.contains(&at).then_some(finding);
        let findings = std::mem::take(&mut verdict.findings);
        verdict.findings = findings.into_iter().enumerate().filter_map(keep).collect();
        let counts = |finding: &Finding| finding.diagnostic["severity"].as_u64().unwrap_or(1) <= 2;
        if verdict.state == "findings" && !verdict.findings.iter().any(counts) {
            "clean".clone_into(&mut verdict.state);
        }
    }
}

fn pairs(findings: &[Finding]) -> Vec<(Json, String)> {
    findings.iter().map(|finding| (finding.diagnostic.clone(), finding.line.clone())).collect()
}

/// For people.
fn told(verdicts: &[DocumentVerdict]) -> String {
    if verdicts.is_empty() {
        return "no document is open\n".to_owned();
    }
    let mut out = String::new();
    for verdict in verdicts {
        let place = plan::path_of(&verdict.uri)
            .map_or_else(|| verdict.uri.clone(), |path| path.display().to_string());
        let revision = verdict.revision.map_or_else(String::new, |number| format!(" v{number}"));
        let reason = verdict.reason.as_deref();
        let reason = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
        let _ = writeln!(
            out,
            "{place}{revision}: {}{reason}, says {}, {:.0} ms",
            verdict.state, verdict.server, verdict.ms
        );
        for finding in &verdict.findings {
            let _ = writeln!(out, "  {}", super::diagnostic(&finding.diagnostic));
            if !finding.line.trim().is_empty() {
                let _ = writeln!(out, "      {}", finding.line.trim());
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn verdict(state: &str, messages: &[(&str, &str)]) -> DocumentVerdict {
        let finding = |(message, line): &(&str, &str)| Finding {
            diagnostic: json!({ "message": message, "severity": 1 }),
            line: (*line).to_owned(),
        };
        DocumentVerdict {
            uri: "file:///a.py".to_owned(),
            revision: Some(7),
            server: "ty".to_owned(),
            state: state.to_owned(),
            findings: messages.iter().map(finding).collect(),
            ms: 12.0,
            ..DocumentVerdict::default()
        }
    }

    #[test]
    fn findings_are_no_and_what_nobody_knows_is_missing() {
        let of = |states: &[&str]| {
            judged(&states.iter().map(|state| verdict(state, &[])).collect::<Vec<_>>())
        };
        assert_eq!(of(&["clean", "clean"]), Exit::Done);
        assert_eq!(of(&["clean", "findings", "unknown"]), Exit::No);
        assert_eq!(of(&["clean", "unknown"]), Exit::Missing);
        assert_eq!(of(&[]), Exit::Missing);
    }

    #[test]
    fn only_what_a_baseline_does_not_have_counts() {
        let before = [verdict("findings", &[("no x", "x()")])];
        let mut now = [verdict("findings", &[("no x", "  x()"), ("no y", "y()")])];
        subtract(&mut now, &before);
        assert_eq!(now, [verdict("findings", &[("no y", "y()")])]);
        let mut now = before.clone();
        subtract(&mut now, &before);
        assert_eq!(judged(&now), Exit::Done);
    }

    #[test]
    fn what_people_read() {
        let mut unknown = verdict("unknown", &[]);
        unknown.reason = Some("the server is starting".to_owned());
        let text = told(&[verdict("findings", &[("no x", "x()")]), unknown]);
        assert_eq!(
            text,
            "/a.py v7: findings, says ty, 12 ms\n  1:1: no x\n      x()\n\
             /a.py v7: unknown (the server is starting), says ty, 12 ms\n"
        );
    }
}
