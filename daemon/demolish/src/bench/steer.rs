//! `demolish bench steer`: what steering is worth, and what it costs.
//!
//! The ablation ([`arms`]): the same model writes statements of real functions ([`cases`]) with the same seeds, unsteered, with whole
//! retries, with repair by the diagnostics, and steered; every arm but the first may spend as many forward tokens as steering took. What
//! was offered as clean is compiled by the full compiler ([`full`]). The cost: from a keystroke to the answer ([`keystroke`]), and what
//! checking adds at the pace of a big model ([`pace`]).

mod arms;
mod cases;
mod full;
pub(in crate::bench) mod keystroke;
mod pace;
mod parse;
mod rows;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use decode::{Checked, Critic as _};
use engine::Engine;
use lang::Language;
use text::{Diagnostic, Severity};

use super::draw::hash;
use super::nano::projects::Projects;
use super::replay::{self, started};
use super::report::Report;
use super::sandbox::Sandbox;
use crate::config::read::{self, Layers};
use crate::model;
use crate::twin::plan::uri_of;
use crate::twin::{Environment, Subject, Twins};
use arms::{Arm, Before, Place, Tried};
use cases::{Case, Package};

/// The languages of the ablation if none is named.
const LANGUAGES: [&str; 3] = ["typescript", "python", "rust"];

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// The languages of the ablation; none: those that have goals.
    pub(crate) languages: Vec<String>,
    /// Holes of each language; 0: no ablation.
    pub(crate) cases: usize,
    /// Seeds of each hole.
    pub(crate) seeds: u64,
    /// The model's folder; `None`: that of the settings.
    pub(crate) model: Option<PathBuf>,
    /// The folder of the projects; `None`: where the recipe writes them.
    pub(crate) programs: Option<PathBuf>,
    /// Where each try is written, a line of CSV.
    pub(crate) out: Option<PathBuf>,
    /// Whether keystrokes are left out.
    pub(crate) only_ablation: bool,
}

/// One hole, one seed: what every arm wrote.
pub(in crate::bench) struct Round {
    language: &'static Language,
    case: Case,
    seed: u64,
    tried: Vec<Tried>,
    /// What the full compiler said of what steering offered as clean.
    is_sound: Option<bool>,
}

impl Round {
    fn of(&self, arm: Arm) -> Option<&Tried> {
        self.tried.iter().find(|tried| tried.arm == arm)
    }
}

/// Runs it.
///
/// # Errors
/// There is no model, no project or no server, or a part of it breaks off: one sentence.
pub(crate) async fn run(options: &Options) -> Result<Report, String> {
    let mut rows = Vec::new();
    let mut notes = Vec::new();
    if !options.only_ablation {
        rows.extend(keystroke::measured().await?);
        rows.extend(pace::rows(options.programs.as_deref()).await?);
    }
    if options.cases > 0 {
        let rounds = ablation(options).await?;
        if let Some(out) = &options.out {
            rows::write(out, &rounds)
                .map_err(|error| format!("{} cannot be written ({error})", out.display()))?;
        }
        rows.extend(rows::of(&rounds));
        notes.extend(rows::notes(&rounds));
    }
    Ok(Report::new("steer", rows).noted(notes))
}

async fn ablation(options: &Options) -> Result<Vec<Round>, String> {
    let folder = replay::folder(options.programs.as_deref())?;
    let engine = load(options)?;
    let sandbox = Sandbox::new("ablation", "")?;
    let names: Vec<&str> = match options.languages.as_slice() {
        [] => LANGUAGES.to_vec(),
        some => some.iter().map(String::as_str).collect(),
    };
    let mut rounds = Vec::new();
    for name in names {
        let language = lang::by_id(name).ok_or_else(|| format!("no language is called {name}"))?;
        rounds.extend(of_language(&engine, language, &folder, options, sandbox.env()).await?);
    }
    Ok(rounds)
}

fn load(options: &Options) -> Result<Engine, String> {
    let dir = match &options.model {
        Some(dir) => dir.clone(),
        None => model::find(&read::load(&Layers::of_process(None)).config.model)?,
    };
    let settings = read::load(&Layers::default()).config.model;
    model::load(&dir, model::options(&settings))
}

async fn of_language(
    engine: &Engine,
    language: &'static Language,
    folder: &Path,
    options: &Options,
    env: &Environment,
) -> Result<Vec<Round>, String> {
    let packages = cases::packages(folder, language)?;
    let share = options.cases.div_ceil(packages.len().max(1));
    let mut rounds = Vec::new();
    for Package { held, cases } in &packages {
        let held = std::slice::from_ref(held);
        let projects = Projects::of(engine, held, held[0].files.iter());
        let twins = Twins::default();
        let mut done = 0;
        for case in cases {
            if done == share {
                break;
            }
            let path = &case.program.path;
            let subject = Subject {
                path,
                uri: &uri_of(path),
                language: Some(language),
                others: &Arc::default(),
                users: &[],
                env: Some(env),
            };
            let critic = twins.critic(subject, &replay::config());
            if let Some(lack) = critic.lack() {
                return Err(lack.hint.clone().unwrap_or_else(|| lack.reason.to_string()));
            }
            // What does not compile as its author wrote it tells nothing.
            if started(&critic, &case.program.text).await.is_none_or(|errors| !errors.is_empty()) {
                continue;
            }
            let Some(before) = before(&critic, case).await else { continue };
            let place = Place { engine, projects: &projects, language, critic: &critic, before };
            let empty = full::errors(case, "", critic.server(), env).await;
            done += 1;
            for number in 0..options.seeds {
                let seed =
                    hash(&[&case.file.path, &case.hole.start.to_string()]) % (1 << 20) + number;
                let tried = place.all(case, seed).await?;
                let is_sound = match &empty {
                    Some(empty) => full::is_sound(case, &tried, empty, critic.server(), env).await,
                    None => None,
                };
                rounds.push(Round { language, case: case.clone(), seed, tried, is_sound });
            }
        }
        tell(&format!("{} {}: {done} holes", language.id(), held[0].files[0].package));
    }
    Ok(rounds)
}

/// What is wrong with the hole left empty; `None` where what stands behind it needs what was in it, for then nothing can be told apart.
async fn before(critic: &dyn decode::Critic, case: &Case) -> Option<Before> {
    let Checked::Diagnostics(found) = critic.check(case.document()).await else { return None };
    let is_behind =
        |one: &Diagnostic| one.severity == Severity::Error && one.range.start > case.hole.start;
    let known = |one: &Diagnostic| (one.code.clone(), one.range.start);
    (!found.iter().any(is_behind)).then(|| found.iter().map(known).collect())
}

fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "steer: {text}");
}
