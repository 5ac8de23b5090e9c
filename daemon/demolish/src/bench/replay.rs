//! `demolish bench replay`: how far each server's diagnostics can be trusted about unfinished programs.
//!
//! It needs no model. Real programs ([`programs`]) are typed in line by line ([`typing`]), as they are and with one thing broken
//! ([`breaks`]); after each line the prefix is closed, shown to a twin of the real server, and judged by a policy ([`learn`]) that was
//! learnt from other packages. A false alarm is a line that is objected to in a program that compiles; a broken program is caught when one
//! of its errors is objected to while it is being typed.

mod breaks;
mod learn;
pub(in crate::bench) mod programs;
mod record;
mod rows;
mod typing;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use decode::Critic as _;
use futures_util::{StreamExt as _, TryStreamExt as _};
use lang::{Grammar, Language};

use super::draw::hash;
use super::report::Report;
use super::sandbox::Sandbox;
use crate::config::Config;
use crate::twin::plan::uri_of;
use crate::twin::{Environment, Subject, Twins};
use breaks::Kind;
use programs::Program;
use typing::{Typed, Typist};

/// The languages that are replayed if none is named, the servers' slowest last.
const LANGUAGES: [&str; 6] = ["typescript", "python", "go", "c", "rust", "cpp"];
/// Packages that are typed in at the same time: a server each.
const TOGETHER: usize = 3;
/// How long a server may take to read a project.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long one check and a start may take, in milliseconds.
const CHECK_DEADLINE_MS: u32 = 20_000;
const START_DEADLINE_MS: u32 = 120_000;
/// How often it is asked whether it has.
const AGAIN: Duration = Duration::from_millis(250);
/// How often a program is broken.
const BREAKS: u64 = 2;
/// Kinds of breaking that are tried for one, until the server finds something.
const KINDS_TRIED: u64 = 4;

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// The languages; none: all.
    pub(crate) languages: Vec<String>,
    /// The folder of the projects; `None`: where the recipe writes them.
    pub(crate) programs: Option<PathBuf>,
    /// Programs of each language that compile; the rest is left out.
    pub(crate) count: usize,
    /// Whether the policies that follow are written into the source tree.
    pub(crate) writes: bool,
    /// Where everything is written that was said, as lines of JSON.
    pub(crate) out: Option<PathBuf>,
    /// What was said before, to be learnt from again in the place of a replay.
    pub(crate) from: Option<PathBuf>,
}

/// A program that was typed in.
struct Replayed {
    package: String,
    path: PathBuf,
    /// What was done to it; `None`: nothing, and it compiles.
    kind: Option<Kind>,
    typed: Typed,
}

/// What was left out of a language, and why.
#[derive(Debug, Default)]
struct LeftOut {
    /// Programs that had errors as their authors wrote them: their codes.
    wrong: Vec<String>,
    programs: usize,
    /// Programs of which nothing is known.
    unknown: usize,
}

/// All programs of a language.
struct Replay {
    language: &'static Language,
    server: String,
    replayed: Vec<Replayed>,
    left_out: LeftOut,
}

/// Runs it.
///
/// # Errors
/// There are no programs, or no server for them: one sentence.
pub(crate) async fn run(options: &Options) -> Result<Report, String> {
    if let Some(said) = &options.from {
        return learnt_again(said, options.writes);
    }
    let folder = folder(options.programs.as_deref())?;
    let sandbox = Sandbox::new("replay", "")?;
    let names: Vec<&str> = match options.languages.as_slice() {
        [] => LANGUAGES.to_vec(),
        some => some.iter().map(String::as_str).collect(),
    };
    let (mut all, mut notes) = (Vec::new(), Vec::new());
    for name in names {
        let language = lang::by_id(name).ok_or_else(|| format!("no language is called {name}"))?;
        let done = replay(language, &folder, options, sandbox.env()).await?;
        if options.writes {
            notes.push(learn::write(&done)?);
        }
        all.extend(rows::of(&done));
        notes.extend(rows::notes(&done));
    }
    Ok(Report::new("replay", all).noted(notes))
}

/// Learns from what was said before.
fn learnt_again(said: &Path, writes: bool) -> Result<Report, String> {
    let (mut all, mut notes) = (Vec::new(), Vec::new());
    for replay in record::read(said)? {
        if writes {
            notes.push(learn::write(&replay)?);
        }
        all.extend(rows::of(&replay));
    }
    Ok(Report::new("replay", all).noted(notes))
}

/// The folder of the projects: the one that is named, or where the recipe writes them.
///
/// # Errors
/// It is not there: one sentence.
pub(super) fn folder(named: Option<&Path>) -> Result<PathBuf, String> {
    let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/heldout/projects");
    let folder = named.map_or_else(own, Path::to_owned);
    // Some servers end over an address with `..` in it.
    folder.canonicalize().map_err(|error| {
        format!(
            "{} cannot be read ({error}); `daemon/nano/build.sh projects` writes it",
            folder.display()
        )
    })
}

/// Settings with which no check is cut off.
pub(super) fn config() -> Config {
    let mut config = Config::default();
    config.twin.check_deadline_ms = CHECK_DEADLINE_MS;
    config.twin.start_deadline_ms = START_DEADLINE_MS;
    config.twin.memory_max_mib = 0;
    config
}

async fn replay(
    language: &'static Language,
    folder: &Path,
    options: &Options,
    env: &Environment,
) -> Result<Replay, String> {
    let packages = programs::packages(folder, language)?;
    let share = options.count.div_ceil(packages.len()).max(1);
    let started = Instant::now();
    let jobs = packages.iter().map(|programs| async move {
        let twins = Twins::default();
        let mut done = (Vec::new(), LeftOut::default(), String::new());
        let mut left = share * 2;
        for program in programs {
            if left == 0 {
                break;
            }
            left -= usize::from(one(&twins, language, program, env, &mut done).await?);
        }
        tell(&format!("{} {}: {} programs", language.id(), programs[0].package, done.0.len()));
        Ok::<_, String>(done)
    });
    let mut all = Replay {
        language,
        server: String::new(),
        replayed: Vec::new(),
        left_out: LeftOut::default(),
    };
    let mut jobs = std::pin::pin!(futures_util::stream::iter(jobs).buffered(TOGETHER));
    while let Some((replayed, left_out, server)) = jobs.try_next().await? {
        if let Some(out) = &options.out {
            record::append(out, language, &server, &replayed)
                .map_err(|error| format!("{} cannot be written ({error})", out.display()))?;
        }
        all.replayed.extend(replayed);
        all.left_out.wrong.extend(left_out.wrong);
        all.left_out.programs += left_out.programs;
        all.left_out.unknown += left_out.unknown;
        all.server = if server.is_empty() { all.server } else { server };
    }
    tell(&format!("{} in {:.0} s", language.id(), started.elapsed().as_secs_f64()));
    Ok(all)
}

/// Types one program in, as it is and broken. `false` where it was left out.
async fn one(
    twins: &Twins,
    language: &'static Language,
    program: &Program,
    env: &Environment,
    done: &mut (Vec<Replayed>, LeftOut, String),
) -> Result<bool, String> {
    let config = config();
    let subject = Subject {
        path: &program.path,
        uri: &uri_of(&program.path),
        language: Some(language),
        others: &Arc::default(),
        users: &[],
        env: Some(env),
    };
    let critic = twins.critic(subject, &config);
    if let Some(lack) = critic.lack() {
        return Err(lack.hint.clone().unwrap_or_else(|| lack.reason.to_string()));
    }
    done.2 = critic.server().to_owned();
    let typist = Typist { critic: &critic, grammar: Grammar::new(language, &program.path) };
    let Some(errors) = started(&critic, &program.text).await else {
        done.1.unknown += 1;
        return Ok(false);
    };
    if !errors.is_empty() {
        done.1.programs += 1;
        done.1.wrong.extend(errors);
        return Ok(false);
    }
    let replayed = |kind, typed| Replayed {
        package: program.package.clone(),
        path: program.path.clone(),
        kind,
        typed,
    };
    let Some(typed) = typist.type_in(&program.text, 0).await else { return Ok(false) };
    done.0.push(replayed(None, typed));
    for number in 0..BREAKS {
        let seed = hash(&[
            &program.package,
            &program.path.file_name().unwrap_or_default().to_string_lossy(),
            &number.to_string(),
        ]);
        for tried in 0..KINDS_TRIED {
            let kind = Kind::drawn(hash(&["kind", &seed.to_string(), &tried.to_string()]));
            let Some(broken) = breaks::broken(typist.grammar, &program.text, kind, seed) else {
                continue;
            };
            if !typist
                .check(&broken.text)
                .await
                .is_some_and(|found| found.iter().any(|one| one.severity == text::Severity::Error))
            {
                continue;
            }
            let line = broken.text[..broken.at].matches('\n').count();
            if let Some(mut typed) = typist.type_in(&broken.text, line).await {
                typed.blame(&broken.text, broken.at);
                done.0.push(replayed(Some(kind), typed));
            }
            break;
        }
    }
    Ok(true)
}

/// The codes of a program's errors as its author wrote it, once the server has read the project; `None` where it does not get there.
pub(super) async fn started(critic: &dyn decode::Critic, text: &str) -> Option<Vec<String>> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let decode::Checked::Diagnostics(found) = critic.check(text.into()).await {
            let errors = found.into_iter().filter(|one| one.severity == text::Severity::Error);
            return Some(errors.filter_map(|one| one.code).collect());
        }
        if Instant::now() > end {
            return None;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "replay: {text}");
}
