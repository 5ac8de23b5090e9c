//! A home of its own for programs under test, so that they see nothing of the user's and leave nothing behind.
//!
//! Every process that is started with the sandbox's environment, and every process that one of those starts, carries a mark
//! in its environment. When the sandbox is dropped, whatever carries the mark and still runs is killed: editors, shims,
//! the daemon, language servers. That reads `/proc`, and so it is thorough on Linux only; elsewhere processes end because
//! their pipes do.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::places;

/// The name of the mark.
const MARK: &str = "DEMOLISH_TESTKIT";

/// How long processes may take to be gone after they were killed.
const GONE_WITHIN: Duration = Duration::from_secs(2);

/// A temporary home. Dropping it kills what runs in it and removes it.
#[derive(Debug)]
pub struct Sandbox {
    dir: TempDir,
    path: Vec<PathBuf>,
}

/// A process in the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Its command line.
    pub command: Vec<String>,
}

impl Sandbox {
    /// An empty home whose PATH begins with `path` and `.tools/bin`.
    ///
    /// # Errors
    /// The folders cannot be made.
    pub fn new(path: &[PathBuf]) -> Result<Sandbox> {
        let dir = tempfile::Builder::new()
            .prefix("demolish-")
            .tempdir()
            .context("making a scratch folder")?;
        for name in ["config", "data", "state", "cache", "run", "work", "tmp"] {
            fs::create_dir(dir.path().join(name))?;
        }
        // The daemon refuses a run-time folder that others can enter.
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(dir.path().join("run"), private)?;
        let mut path = path.to_vec();
        path.push(places::tools_bin());
        Ok(Sandbox { dir, path })
    }

    /// The home.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.dir.path()
    }

    /// Where samples go.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// The variables that a program in the sandbox is started with, over those of this process.
    #[must_use]
    pub fn env(&self) -> Vec<(OsString, OsString)> {
        let home = self.dir.path();
        let inherited = std::env::var_os("PATH").unwrap_or_default();
        let path = self.path.iter().cloned().chain(std::env::split_paths(&inherited));
        let path = std::env::join_paths(path).unwrap_or(inherited);
        let mut env: Vec<(OsString, OsString)> =
            vec![("PATH".into(), path), (MARK.into(), home.into())];
        for (name, dir) in [
            ("HOME", ""),
            ("XDG_CONFIG_HOME", "config"),
            ("XDG_DATA_HOME", "data"),
            ("XDG_STATE_HOME", "state"),
            ("XDG_CACHE_HOME", "cache"),
            ("XDG_RUNTIME_DIR", "run"),
            ("TMPDIR", "tmp"),
        ] {
            env.push((name.into(), home.join(dir).into()));
        }
        env
    }

    /// Copies a folder into the place for samples and returns where it is now.
    ///
    /// # Errors
    /// It cannot be read or copied.
    pub fn copy_in(&self, from: &Path) -> Result<PathBuf> {
        let name = from.file_name().context("a folder without a name")?;
        let to = self.work().join(name);
        copy(from, &to).with_context(|| format!("copying {}", from.display()))?;
        Ok(to)
    }

    /// What runs in the sandbox.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        let mark = format!("{MARK}={}", self.dir.path().display());
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        let mut processes: Vec<Process> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
            .filter(|&pid| carries(pid, mark.as_bytes()))
            .filter_map(|pid| Some(Process { pid, command: command(pid)? }))
            .collect();
        processes.sort_by_key(|process| process.pid);
        processes
    }

    /// The processes of the program `words[0]` whose arguments begin with the other words.
    #[must_use]
    pub fn find(&self, words: &[&str]) -> Vec<Process> {
        let mut found = self.processes();
        found.retain(|process| {
            process.command.len() >= words.len()
                && process
                    .command
                    .iter()
                    .zip(words)
                    .all(|(argument, word)| Path::new(argument).ends_with(word))
        });
        found
    }
}

impl Process {
    /// SIGKILL.
    pub fn kill(&self) {
        if let Some(pid) = Pid::from_raw(self.pid) {
            let _gone_already = kill_process(pid, Signal::KILL);
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let started = Instant::now();
        // A process may be in the middle of starting another.
        loop {
            let processes = self.processes();
            if processes.is_empty() || started.elapsed() > GONE_WITHIN {
                break;
            }
            for process in processes {
                process.kill();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn carries(pid: i32, mark: &[u8]) -> bool {
    fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|environ| environ.split(|&byte| byte == 0).any(|variable| variable == mark))
}

fn command(pid: i32) -> Option<Vec<String>> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = line.split(|&byte| byte == 0).filter(|word| !word.is_empty());
    Some(words.map(|word| String::from_utf8_lossy(word).into_owned()).collect())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn what_runs_in_a_sandbox_ends_with_it() -> Result<()> {
        let sandbox = Sandbox::new(&[])?;
        let mut child =
            Command::new("sh").args(["-c", "sleep 60 & sleep 60"]).envs(sandbox.env()).spawn()?;
        let started = Instant::now();
        while sandbox.find(&["sleep"]).len() < 2 && started.elapsed() < GONE_WITHIN {
            std::thread::sleep(Duration::from_millis(10));
        }
        if cfg!(target_os = "linux") {
            assert_eq!(sandbox.find(&["sleep"]).len(), 2);
        } else {
            child.kill()?;
        }
        drop(sandbox);
        assert!(!child.wait()?.success());
        Ok(())
    }
}
