//! `cargo xtask setup`: puts everything that builds, tests and the demo need into `.tools/`.
//!
//! The steps are data (`setup/table.rs`); each kind of step has a file that knows how to do it. Packages are unpacked to
//! `.tools/pkgs/<step>-<recipe>` and become visible by swapping one symbolic link, so a half-done step is never seen and
//! programs that run while a step is renewed keep their files. A stamp per step says that this very recipe has been done.

mod table;
mod stamp;
mod install;
mod apt;
mod deb_prefix;
mod pypi;
mod npm;
mod cargo;
mod cmake;
mod homebrew;

use std::fs;
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::paths;
use install::Site;
pub(crate) use table::Purpose;
use table::{Action, Step};

#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// Do only these steps (comma-separated or repeated).
    #[arg(long, value_name = "STEP", value_delimiter = ',')]
    only: Vec<String>,
    /// Leave these steps out.
    #[arg(long, value_name = "STEP", value_delimiter = ',')]
    skip: Vec<String>,
    /// Do only the steps that this purpose needs.
    #[arg(long = "for", value_name = "PURPOSE", value_enum)]
    purpose: Option<Purpose>,
    /// Do the optional steps too that this purpose needs (`vscode`, `llama`, `cuda`).
    #[arg(long, value_name = "PURPOSE", value_enum)]
    with: Vec<Purpose>,
    /// List the steps and whether they are done; install nothing.
    #[arg(long)]
    list: bool,
    /// Do the steps again, even if they are done.
    #[arg(long)]
    again: bool,
    /// Print one JSON array instead of lines.
    #[arg(long)]
    json: bool,
}

impl Options {
    /// What `purpose` needs, and no more.
    pub(crate) fn only_for(purpose: Purpose) -> Self {
        Self { purpose: Some(purpose), ..Self::default() }
    }
}

/// What became of a step, as `--json` prints it.
#[derive(Serialize)]
struct Report {
    step: &'static str,
    what: &'static str,
    version: &'static str,
    status: Status,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    /// Done now.
    Installed,
    /// Done before, by the same recipe.
    AlreadyThere,
    /// Not done (only with `--list`).
    Missing,
    Failed,
}

/// Does the steps in order. `Ok(false)` when one failed: it has been reported, and the steps after it were still tried.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let steps = chosen(options)?;
    let site = Site::new(paths::tools());
    if options.list {
        let reports: Vec<Report> = steps.iter().map(|step| survey(step, &site)).collect();
        print_all(&reports, options.json)?;
        return Ok(true);
    }
    site.create()?;
    let _lock = site.lock(options.json)?;
    let started = Instant::now();
    let mut reports = Vec::new();
    for step in &steps {
        let report = perform(step, &site, options);
        if !options.json {
            print_line(&report, &site);
        }
        reports.push(report);
    }
    let failed: Vec<&str> =
        reports.iter().filter(|r| r.status == Status::Failed).map(|r| r.step).collect();
    if options.json {
        println!("{}", serde_json::to_string_pretty(&reports)?);
    } else if failed.is_empty() {
        println!(
            "setup: done, {} steps in {:.1} s",
            reports.len(),
            started.elapsed().as_secs_f64()
        );
    } else {
        println!(
            "setup: failed in {}; the next `cargo xtask setup` goes on from there",
            failed.join(", ")
        );
    }
    Ok(failed.is_empty())
}

/// The steps of this system that the options ask for; an unknown name is an error.
fn chosen(options: &Options) -> Result<Vec<&'static Step>> {
    let all = table::steps();
    for name in options.only.iter().chain(&options.skip) {
        if !all.iter().any(|step| step.name == name) {
            let names: Vec<_> = all.iter().map(|step| step.name).collect();
            anyhow::bail!("no step is called `{name}`; the steps are {}", names.join(", "));
        }
    }
    let wanted = |step: &&Step| {
        let named = options.only.iter().any(|name| name == step.name);
        let needed = match options.purpose {
            Some(purpose) => step.needed_for(purpose),
            None => !step.is_optional(),
        };
        let needed = needed || options.with.iter().any(|purpose| step.needed_for(*purpose));
        let wanted = if options.only.is_empty() { needed } else { named };
        wanted && !options.skip.iter().any(|name| name == step.name)
    };
    Ok(all.iter().filter(wanted).collect())
}

/// Whether the step is done, without doing it.
fn survey(step: &Step, site: &Site) -> Report {
    let status = if is_done(step, site) { Status::AlreadyThere } else { Status::Missing };
    report(step, status, 0.0, None)
}

fn is_done(step: &Step, site: &Site) -> bool {
    stamp::matches(step, site) && site.links_resolve(step)
}

/// Does one step unless it is done, and leaves its stamp.
fn perform(step: &Step, site: &Site, options: &Options) -> Report {
    if !options.again && is_done(step, site) {
        return report(step, Status::AlreadyThere, 0.0, None);
    }
    if !options.json {
        println!("setup: {:<14} {} {} …", step.name, step.what, step.version);
    }
    let started = Instant::now();
    let outcome = install_step(step, site);
    let seconds = started.elapsed().as_secs_f64();
    match outcome {
        Ok(()) => report(step, Status::Installed, seconds, None),
        Err(error) => report(step, Status::Failed, seconds, Some(format!("{error:#}"))),
    }
}

fn install_step(step: &Step, site: &Site) -> Result<()> {
    stamp::remove(step, site)?;
    let _ = fs::remove_file(site.log(step));
    match &step.action {
        Action::Apt(packages) => apt::install(packages, site, step)?,
        Action::Brew(packages) => homebrew::install(packages, site, step)?,
        Action::DebPrefix(recipe) => deb_prefix::install(recipe, site, step)?,
        Action::Wheels(packages) => pypi::install(packages, site, step)?,
        Action::Environment(requirements) => pypi::environment(requirements, site, step)?,
        Action::Npm(packages) => npm::install(packages, site, step)?,
        Action::NpmBuilt(packages) => npm::install_built(packages, site, step)?,
        Action::CrateSource { package, folder } => cargo::take_source(package, folder, site, step)?,
        Action::CrateBinary { package, arguments } => {
            cargo::install_binary(package, arguments, site, step)?
        }
        Action::Cmake(recipe) => cmake::install(recipe, site, step)?,
    }
    site.link(step)?;
    site.probe(step).context("it is installed, but does not run")?;
    stamp::write(step, site)?;
    site.sweep(step);
    Ok(())
}

fn report(step: &Step, status: Status, seconds: f64, error: Option<String>) -> Report {
    let remedy = (status == Status::Failed).then_some(step.remedy);
    Report {
        step: step.name,
        what: step.what,
        version: step.version,
        status,
        seconds,
        error,
        remedy,
    }
}

fn print_all(reports: &[Report], json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(reports)?);
        return Ok(());
    }
    for report in reports {
        let state = if report.status == Status::Missing { "missing" } else { "there" };
        println!("{:<14} {:<8} {} {}", report.step, state, report.what, report.version);
    }
    Ok(())
}

fn print_line(report: &Report, site: &Site) {
    match report.status {
        Status::AlreadyThere => println!("setup: {:<14} there already", report.step),
        Status::Installed => println!("setup: {:<14} done in {:.1} s", report.step, report.seconds),
        Status::Missing => println!("setup: {:<14} missing", report.step),
        Status::Failed => {
            println!("setup: {:<14} FAILED after {:.1} s", report.step, report.seconds);
            println!("  why:    {}", report.error.as_deref().unwrap_or_default());
            println!("  remedy: {}", report.remedy.unwrap_or_default());
            println!("  log:    {}", site.log_of(report.step).display());
        }
    }
}
