//! One fault run: editors speak, faults strike, and in the end everything must be as if there had been none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::chance::Chance;
use super::check;
use super::editor::Editor;
use super::place::Place;
use super::seen::{Way, Wrong};
use super::trace::Trace;

/// How long the processes of a run may take to end after their editors have left.
const END_PATIENCE: Duration = Duration::from_secs(10);
/// A run that takes longer hangs.
const RUN_PATIENCE: Duration = Duration::from_secs(120);
/// How often a server, or a daemon, may be killed in one run: beyond that the waits before restarts become long.
const DEATHS_MAX: u32 = 2;

/// What a run has found.
pub(super) struct Outcome {
    /// Its seed.
    pub(super) seed: u64,
    /// What is wrong.
    pub(super) wrong: Vec<(Wrong, String)>,
    /// What happened.
    pub(super) trace: Trace,
    /// What the daemon has logged.
    pub(super) log: String,
    /// What was measured.
    pub(super) measured: Measured,
}

/// What a run has measured.
#[derive(Default)]
pub(super) struct Measured {
    /// Ways back, in milliseconds.
    pub(super) recovered: Vec<(Way, f64)>,
    /// How many faults struck.
    pub(super) faults: u64,
    /// How many messages the editors have seen, and requests they have asked.
    pub(super) messages: u64,
}

/// What can strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    KillServer,
    KillDaemon,
    KillBoth,
    KillShim,
    ServerExits,
    StopServer,
    StopDaemon,
    HangDaemon,
    Malformed,
    MalformedEditor,
    Junk,
    Stderr,
    SlowServer,
    EditorPauses,
    EditorIsLate,
}

/// How often each of them strikes.
const FAULTS: [(usize, Fault); 15] = [
    (18, Fault::KillServer),
    (15, Fault::KillDaemon),
    (7, Fault::KillBoth),
    (6, Fault::KillShim),
    (6, Fault::ServerExits),
    (11, Fault::StopServer),
    (8, Fault::StopDaemon),
    (1, Fault::HangDaemon),
    (7, Fault::Malformed),
    (5, Fault::MalformedEditor),
    (5, Fault::Junk),
    (3, Fault::Stderr),
    (4, Fault::SlowServer),
    (5, Fault::EditorPauses),
    (5, Fault::EditorIsLate),
];

/// What is to be undone, and when.
enum Undo {
    Continue(&'static str, i32),
    Read(usize),
    Punctual(usize),
}

struct Run {
    place: Place,
    editors: Vec<Editor>,
    chance: Chance,
    trace: Trace,
    undo: Vec<(Instant, Undo)>,
    measured: Measured,
    /// How often the server of each editor was killed.
    server_deaths: Vec<u32>,
    daemon_deaths: u32,
    hung: bool,
}

/// Runs the seed.
pub(super) async fn run(seed: u64) -> Outcome {
    let trace = Trace::new();
    let mut outcome = Outcome {
        seed,
        wrong: Vec::new(),
        trace: trace.clone(),
        log: String::new(),
        measured: Measured::default(),
    };
    let mut chance = Chance::of(seed);
    let editors = chance.weighted(&[(6, 1), (3, 2), (1, 3)]);
    let shared = editors > 1 && chance.percent(60);
    let place = match Place::new(seed, shared, &trace).await {
        Ok(place) => place,
        Err(error) => {
            outcome.wrong.push((Wrong::Other, error));
            return outcome;
        }
    };
    let mut run = Run {
        place,
        editors: Vec::new(),
        chance,
        trace,
        undo: Vec::new(),
        measured: Measured::default(),
        server_deaths: Vec::new(),
        daemon_deaths: 0,
        hung: false,
    };
    let found = match tokio::time::timeout(RUN_PATIENCE, run.play(editors)).await {
        Ok(Ok(wrong)) => wrong,
        Ok(Err(error)) => vec![(Wrong::Other, error)],
        Err(_) => vec![(Wrong::Other, "the run hangs".to_owned())],
    };
    outcome.wrong.extend(found);
    run.finish(&mut outcome).await;
    outcome
}

impl Run {
    async fn play(&mut self, editors: usize) -> Result<Vec<(Wrong, String)>, String> {
        for number in 1..=editors {
            let editor = Editor::start(&self.place, &format!("e{number}"), &self.trace).await?;
            self.editors.push(editor);
            self.server_deaths.push(0);
        }
        for _ in 0..self.chance.between(30, 81) {
            self.undo_due(Instant::now());
            let at = self.chance.below(self.editors.len());
            self.step(at).await?;
            if self.chance.percent(30) {
                let pause = Duration::from_millis(self.chance.below(8) as u64);
                tokio::time::sleep(pause).await;
            }
        }
        while let Some(next) = self.undo.iter().map(|(at, _)| *at).min() {
            tokio::time::sleep_until(next.into()).await;
            self.undo_due(Instant::now());
        }
        self.judge().await
    }

    /// The end of a run: all must be as if nothing had happened.
    async fn judge(&mut self) -> Result<Vec<(Wrong, String)>, String> {
        let mut wrong = Vec::new();
        for editor in &mut self.editors {
            // Once this is answered, whatever died is noticed, and nothing of what was said may still kill.
            editor.cancel(None);
            editor.state().await?;
        }
        for mut editor in std::mem::take(&mut self.editors) {
            wrong.extend(check::quiet(&mut editor, &self.place).await?);
            let all = editor.leave().await?;
            for (at, seen) in all.iter().enumerate() {
                self.measured.messages += seen.messages();
                self.measured.recovered.extend(seen.recovered());
                wrong.extend(check::answers(seen, at + 1 < all.len()));
            }
        }
        Ok(wrong)
    }

    /// Something that an editor does, or a fault.
    async fn step(&mut self, at: usize) -> Result<(), String> {
        let (editor, shared) = (&mut self.editors[at], self.place.is_shared());
        match self.chance.below(100) {
            0..=6 => return self.strike(at).await,
            7..=34 => editor.write(shared, &mut self.chance),
            35..=64 => editor.ask(&mut self.chance),
            65..=84 => editor.number(),
            85..=89 => editor.cancel(Some(&mut self.chance)),
            90..=93 => editor.progress(&mut self.chance),
            _ => {
                let settings = json!({ "settings": { "a": self.chance.below(9) } });
                editor.seen.notify("workspace/didChangeConfiguration", &settings);
            }
        }
        Ok(())
    }

    async fn strike(&mut self, at: usize) -> Result<(), String> {
        let fault = self.chance.weighted(&FAULTS);
        let of_server = matches!(fault, Fault::KillServer | Fault::KillBoth | Fault::ServerExits);
        let of_daemon = matches!(fault, Fault::KillDaemon | Fault::KillBoth);
        // Editors that share a server share its deaths.
        let server = if self.place.is_shared() { 0 } else { at };
        let spent = of_server && self.server_deaths[server] >= DEATHS_MAX
            || of_daemon && self.daemon_deaths >= DEATHS_MAX
            || fault == Fault::HangDaemon && self.hung;
        if spent {
            return Ok(());
        }
        self.server_deaths[server] += u32::from(of_server);
        self.daemon_deaths += u32::from(of_daemon);
        self.measured.faults += 1;
        self.trace.add(format!("FAULT {fault:?} at {}", self.editors[at].name));
        self.editors.iter().for_each(|editor| editor.seen.spoil());
        match fault {
            Fault::KillServer | Fault::KillDaemon | Fault::KillBoth => self.kill(fault, at),
            Fault::KillShim => return self.kill_shim(at).await,
            Fault::HangDaemon => return self.hang_daemon().await,
            Fault::StopServer => {
                let server = self.place.server(&self.editors[at].name);
                self.stop("server", server);
            }
            Fault::StopDaemon => self.stop("daemon", self.place.daemon()),
            _ => self.annoy(fault, at),
        }
        Ok(())
    }

    fn kill(&mut self, fault: Fault, at: usize) {
        let seen = Arc::clone(&self.editors[at].seen);
        let server = self.place.server(&self.editors[at].name);
        let kill = |what, pid: Option<i32>| {
            pid.is_some_and(|pid| self.place.signal(what, pid, Signal::KILL))
        };
        // An editor that does not read, or a daemon that is stopped, would be measured instead.
        let alone = self.undo.is_empty();
        // Later restarts wait longer, as rule 4.14 wants it.
        let first = self.server_deaths.iter().max() == Some(&1);
        if fault != Fault::KillDaemon && kill("server", server) && first && alone {
            seen.recover(Way::Server);
        }
        if fault != Fault::KillServer && kill("daemon", self.place.daemon()) && alone {
            seen.spoil();
            seen.recover(Way::Daemon);
        }
    }

    async fn kill_shim(&mut self, at: usize) -> Result<(), String> {
        // A fresh shim needs a daemon that answers.
        self.undo_due(Instant::now() + RUN_PATIENCE);
        if let Some(pid) = self.editors[at].shim_pid() {
            self.place.signal("shim", pid, Signal::KILL);
        }
        self.editors[at].start_again(&self.place, &self.trace).await
    }

    /// Stops a process for a while.
    fn stop(&mut self, what: &'static str, pid: Option<i32>) {
        let Some(pid) = pid.filter(|pid| self.place.signal(what, *pid, Signal::STOP)) else {
            return;
        };
        self.later(20, 500, Undo::Continue(what, pid));
    }

    /// Stops the daemon for so long that the shims give it up.
    async fn hang_daemon(&mut self) -> Result<(), String> {
        self.hung = true;
        self.undo_due(Instant::now() + RUN_PATIENCE);
        let Some(daemon) = self.place.daemon() else { return Ok(()) };
        if !self.place.signal("daemon", daemon, Signal::STOP) {
            return Ok(());
        }
        self.editors.iter().for_each(|editor| editor.seen.recover(Way::Hang));
        let mut outcome = Ok(());
        for editor in &self.editors {
            let back = editor.wait("a result without the daemon", |e| !e.seen.is_recovering());
            outcome = outcome.and(back.await);
        }
        self.later(1, 300, Undo::Continue("daemon", daemon));
        outcome
    }

    /// What does not kill.
    fn annoy(&mut self, fault: Fault, at: usize) {
        let number = self.chance.below(1000);
        let editor = &self.editors[at];
        let say = |text: &str| editor.seen.ask("test/rubbish", &json!({ "text": text }));
        match fault {
            Fault::ServerExits => drop(editor.seen.ask("test/die", &json!({}))),
            Fault::Malformed => drop(say("Content-Length: 7\r\n\r\n{\"a\":]}")),
            Fault::Junk => drop(say(["warning: something\n", "panic at", "\r\n\r\n"][number % 3])),
            Fault::Stderr => drop(editor.seen.ask("test/stderr", &json!({ "lines": number * 5 }))),
            Fault::SlowServer => drop(editor.seen.ask("test/slow", &json!({ "ms": number / 2 }))),
            Fault::MalformedEditor => editor.seen.ask_badly(),
            Fault::EditorPauses => {
                editor.read(false);
                editor.seen.ask("test/notes", &json!({ "count": 3000, "name": editor.seen.tag() }));
                self.later(20, 400, Undo::Read(at));
            }
            _ => {
                editor.seen.be_late(true);
                self.later(20, 400, Undo::Punctual(at));
            }
        }
    }

    fn later(&mut self, ms_min: usize, ms_max: usize, undo: Undo) {
        let ms = self.chance.between(ms_min, ms_max) as u64;
        self.undo.push((Instant::now() + Duration::from_millis(ms), undo));
    }

    /// Undoes what is due.
    fn undo_due(&mut self, now: Instant) {
        let (due, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.undo).into_iter().partition(|(at, _)| *at <= now);
        self.undo = rest;
        for (_, undo) in due {
            match undo {
                Undo::Continue(what, pid) => drop(self.place.signal(what, pid, Signal::CONT)),
                Undo::Read(at) => self.editors[at].read(true),
                Undo::Punctual(at) => self.editors[at].seen.be_late(false),
            }
        }
    }

    async fn finish(mut self, outcome: &mut Outcome) {
        self.undo_due(Instant::now() + 2 * RUN_PATIENCE);
        self.editors.clear();
        outcome.measured = std::mem::take(&mut self.measured);
        let left = self.place.clear(END_PATIENCE).await;
        if !outcome.wrong.is_empty() {
            outcome.log = self.place.daemon_log();
        } else {
            outcome.wrong.extend(left.into_iter().map(|command| (Wrong::Left, command)));
        }
    }
}
