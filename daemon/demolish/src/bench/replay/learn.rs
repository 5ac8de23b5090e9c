//! The policy that follows from what was noted, and what a policy makes of programs that it was not learnt from.
//!
//! A code is as definite as its diagnostics are lasting: it may be objected to as soon as the smallest scope is over after which nearly all
//! of them were still there when the program was whole, and after which hardly a program that compiles was ever objected to. What the place
//! looks like ([`Sign`]) splits a code where that makes a difference.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use lang::{Blame, Class, Sign, Until};

use super::typing::{Note, SCOPES};
use super::{Replay, Replayed};

/// The share of a code's diagnostics that has to last.
const PERSISTENCE_MIN: f64 = 0.97;
/// Fewer diagnostics tell nothing: neither that a code may be objected to, nor that a place makes a difference.
const SAMPLE_MIN: u32 = 8;
/// Fewer are not even written down.
const WRITTEN_MIN: u32 = 3;
/// Of so many programs that compile one may be objected to for one code.
const ALARM_OF: usize = 1000;
/// In how many parts the packages are divided: each is judged by what was learnt from the others.
const FOLDS: u64 = 3;

/// What was learnt of a server.
#[derive(Debug, Clone, Default)]
pub(super) struct Learnt {
    codes: BTreeMap<String, Code>,
}

#[derive(Debug, Clone)]
struct Code {
    class: Class,
    signs: BTreeMap<Sign, Class>,
    blame: Blame,
    persistence: f64,
    sample: u32,
    is_error: bool,
}

/// How often a diagnostic was there when a scope was over, how often it lasted, and in how many programs that compile it did not.
#[derive(Debug, Clone, Default)]
struct Count {
    settled: [u32; 4],
    kept: [u32; 4],
    alarms: [BTreeSet<usize>; 4],
}

impl Count {
    fn add(&mut self, note: &Note, program: usize, compiles: bool) {
        for (scope, over) in note.over.iter().enumerate() {
            if over.is_none() {
                continue;
            }
            self.settled[scope] += 1;
            self.kept[scope] += u32::from(note.kept);
            if compiles && !note.kept {
                self.alarms[scope].insert(program);
            }
        }
    }

    fn join(&mut self, other: &Count) {
        for scope in 0..SCOPES.len() {
            self.settled[scope] += other.settled[scope];
            self.kept[scope] += other.kept[scope];
            self.alarms[scope].extend(&other.alarms[scope]);
        }
    }

    fn persistence(&self, scope: usize) -> f64 {
        f64::from(self.kept[scope]) / f64::from(self.settled[scope].max(1))
    }

    /// From when on it may be objected to, learnt from so many programs that compile.
    fn class(&self, compiling: usize) -> Class {
        let holds = |scope: &usize| {
            self.settled[*scope] >= SAMPLE_MIN
                && self.persistence(*scope) >= PERSISTENCE_MIN
                && self.alarms[*scope].len() * ALARM_OF <= compiling
        };
        match (0..SCOPES.len()).find(holds) {
            Some(0) => Class::Definite,
            Some(scope) => Class::Deferred(SCOPES[scope]),
            None => Class::Deferred(Until::File),
        }
    }
}

/// Learns from some programs.
fn learn<'r>(programs: impl Iterator<Item = &'r Replayed>) -> Learnt {
    let mut counts: BTreeMap<(String, bool), BTreeMap<Option<Sign>, Count>> = BTreeMap::new();
    let mut blames: BTreeMap<String, [u32; 2]> = BTreeMap::new();
    let mut compiling = 0;
    for (number, program) in programs.enumerate() {
        compiling += usize::from(program.kind.is_none());
        for note in program.typed.notes.iter().filter(|note| !note.is_late) {
            let signs = counts.entry((note.code.clone(), note.is_error)).or_default();
            signs.entry(note.sign).or_default().add(note, number, program.kind.is_none());
            if let Some(blame) = note.blame {
                blames.entry(note.code.clone()).or_default()
                    [usize::from(blame == Blame::Member)] += 1;
            }
        }
    }
    let mut learnt = Learnt::default();
    for ((name, is_error), signs) in counts {
        let mut all = Count::default();
        signs.values().for_each(|count| all.join(count));
        if name.is_empty() || all.settled[0] < WRITTEN_MIN {
            continue;
        }
        // What has too few of its own is as the rest is.
        let is_own =
            |sign: &Option<Sign>, count: &Count| sign.is_some() && count.settled[0] >= SAMPLE_MIN;
        let mut rest = Count::default();
        signs
            .iter()
            .filter(|(sign, count)| !is_own(sign, count))
            .for_each(|(_, count)| rest.join(count));
        if rest.settled[0] < SAMPLE_MIN {
            rest = all.clone();
        }
        let class = if is_error { rest.class(compiling) } else { Class::Ignore };
        let own = signs.iter().filter(|(sign, count)| is_error && is_own(sign, count));
        let own = own.filter_map(|(sign, count)| Some(((*sign)?, count.class(compiling))));
        let [start, member] = blames.get(&name).copied().unwrap_or_default();
        let code = Code {
            class,
            signs: own.filter(|(_, own)| *own != class).collect(),
            blame: if member > start { Blame::Member } else { Blame::Start },
            persistence: all.persistence(0),
            sample: all.settled[0],
            is_error,
        };
        let better = learnt.codes.get(&name).is_none_or(|other| other.sample < code.sample);
        if better {
            learnt.codes.insert(name, code);
        }
    }
    learnt
}

impl Learnt {
    /// After which line a note is objected to; `None`: while the program is written, never.
    fn objects(&self, note: &Note) -> Option<usize> {
        let counts = |code: &&Code| note.is_error && code.is_error && !note.is_late;
        let code = self.codes.get(&note.code).filter(counts)?;
        let class = note.sign.and_then(|sign| code.signs.get(&sign)).unwrap_or(&code.class);
        match class {
            Class::Definite => note.over[0],
            Class::Deferred(until) => note.over[SCOPES.iter().position(|scope| scope == until)?],
            Class::Ignore => None,
        }
    }
}

/// What a policy makes of programs that it was not learnt from.
#[derive(Debug, Clone, Default)]
pub(super) struct Judged {
    /// Programs that compile, and those of them that were objected to.
    pub(super) compiling: usize,
    pub(super) alarms: usize,
    /// By what was done to them: broken programs, and those of them that were caught.
    pub(super) broken: BTreeMap<super::Kind, [usize; 2]>,
    /// How many lines after the error's own a caught program was first objected to.
    pub(super) lags: Vec<usize>,
    /// The codes that were objected to in vain.
    pub(super) false_codes: BTreeMap<String, usize>,
}

/// Judges each part of the packages by what was learnt from the others.
pub(super) fn judge(replay: &Replay) -> Judged {
    let fold = |program: &Replayed| crate::bench::draw::hash(&["fold", &program.package]) % FOLDS;
    let mut judged = Judged::default();
    for held in 0..FOLDS {
        let learnt = learn(replay.replayed.iter().filter(|program| fold(program) != held));
        for program in replay.replayed.iter().filter(|program| fold(program) == held) {
            judged.add(program, &learnt);
        }
    }
    judged
}

impl Judged {
    fn add(&mut self, program: &Replayed, learnt: &Learnt) {
        let objected =
            || program.typed.notes.iter().filter_map(|note| Some((note, learnt.objects(note)?)));
        for (note, _) in objected().filter(|(note, _)| program.kind.is_none() && !note.kept) {
            *self.false_codes.entry(note.code.clone()).or_default() += 1;
        }
        let Some(kind) = program.kind else {
            self.compiling += 1;
            self.alarms += usize::from(objected().any(|(note, _)| !note.kept));
            return;
        };
        let [all, caught] = self.broken.entry(kind).or_default();
        *all += 1;
        let lag = objected()
            .filter(|(note, _)| note.kept)
            .map(|(note, after)| after - note.line.min(after))
            .min();
        if let Some(lag) = lag {
            *caught += 1;
            self.lags.push(lag);
        }
    }
}

/// Writes the policy that follows from all programs into the source tree; says so in a sentence.
///
/// # Errors
/// It cannot be written: one sentence.
#[allow(
    clippy::disallowed_methods,
    reason = "the policies of the source tree are written, as the user asks"
)]
pub(super) fn write(replay: &Replay) -> Result<String, String> {
    let learnt = learn(replay.replayed.iter());
    let compiling = replay.replayed.iter().filter(|program| program.kind.is_none()).count();
    let packages: BTreeSet<&str> =
        replay.replayed.iter().map(|program| program.package.as_str()).collect();
    let packages = packages.len();
    let mut text = format!(
        "# Learnt by `demolish bench replay --language {} --write` with {}: {compiling} programs that compile and\n# {} with one thing broken, in {packages} packages.\n# persistence: the share of settled diagnostics of that code that the whole program still had; sample: of how many.\n# near, local, outside: what it means where its place shows more (`lang::Sign`).\nerror = {{ deferred = \"file\" }}\nwarning = \"ignore\"\n",
        replay.language.id(),
        replay.server,
        replay.replayed.len() - compiling,
    );
    for (name, code) in &learnt.codes {
        let blame = if code.blame == Blame::Member { ", blame = \"member\"" } else { "" };
        let signs: String = code
            .signs
            .iter()
            .map(|(sign, class)| format!(", {} = {}", sign.name(), said(*class)))
            .collect();
        let _ = writeln!(
            text,
            "code.\"{name}\" = {{ class = {}{signs}{blame}, persistence = {:.3}, sample = {} }}",
            said(code.class),
            code.persistence,
            code.sample
        );
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../grammars");
    let path =
        path.join(replay.language.id()).join("policy").join(format!("{}.toml", replay.server));
    let failed = |error: std::io::Error| format!("{} cannot be written ({error})", path.display());
    std::fs::create_dir_all(path.parent().unwrap_or(&path)).map_err(failed)?;
    std::fs::write(&path, text).map_err(failed)?;
    Ok(format!(
        "{} codes of {} were written into grammars/{}/policy",
        learnt.codes.len(),
        replay.server,
        replay.language.id()
    ))
}

fn said(class: Class) -> String {
    match class {
        Class::Definite => "\"definite\"".to_owned(),
        Class::Ignore => "\"ignore\"".to_owned(),
        Class::Deferred(until) => format!("{{ deferred = \"{}\" }}", until.name()),
    }
}
