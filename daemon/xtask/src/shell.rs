//! Running other programs: with their output kept for the error message, or passed on to the terminal.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context as _, Result, bail};

/// How many of a failed program's last lines an error shows; the log has them all.
const LAST_LINES_MAX: usize = 15;

/// A program with its arguments, run without standard input.
pub(crate) struct Shell {
    command: Command,
    log: Option<PathBuf>,
}

impl Shell {
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        Self { command, log: None }
    }

    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    pub(crate) fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, arguments: I) -> Self {
        self.command.args(arguments);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn dir(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Appends everything that the program prints to `file`.
    pub(crate) fn log(mut self, file: &Path) -> Self {
        self.log = Some(file.to_path_buf());
        self
    }

    /// The command as one would type it.
    pub(crate) fn line(&self) -> String {
        let mut line = self.command.get_program().to_string_lossy().into_owned();
        for argument in self.command.get_args() {
            let argument = argument.to_string_lossy();
            let quoted = argument.is_empty()
                || argument.contains(|c: char| c.is_whitespace() || "\"'$*;&|<>()".contains(c));
            let _ =
                if quoted { write!(line, " '{argument}'") } else { write!(line, " {argument}") };
        }
        line
    }

    /// Runs it quietly. What it printed on standard output comes back; on failure its last lines are in the error.
    pub(crate) fn read(mut self) -> Result<String> {
        let line = self.line();
        let output = self.command.output().with_context(|| format!("cannot start `{line}`"))?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
        if let Some(log) = &self.log {
            let mut file = OpenOptions::new().create(true).append(true).open(log)?;
            write!(file, "$ {line}\n{printed}{complaints}")?;
        }
        if output.status.success() {
            return Ok(printed);
        }
        let all = format!("{printed}\n{complaints}");
        bail!("`{line}` failed ({}). Its last lines:\n{}", output.status, last_lines(&all))
    }

    /// Runs it quietly for its effect.
    pub(crate) fn run(self) -> Result<()> {
        self.read().map(drop)
    }

    /// Runs it quietly and gives what it printed on standard output, however it ended; its complaints go to the terminal.
    pub(crate) fn read_whatever(mut self) -> Result<String> {
        let line = self.line();
        self.command.stderr(Stdio::inherit());
        let output = self.command.output().with_context(|| format!("cannot start `{line}`"))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Lets it read from the terminal.
    pub(crate) fn on_terminal(mut self) -> Self {
        self.command.stdin(Stdio::inherit());
        self
    }

    /// Runs it, passing on what it prints line by line, and keeps that too. `false` when it failed.
    pub(crate) fn show_and_keep(mut self) -> Result<(bool, String)> {
        let line = self.line();
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().with_context(|| format!("cannot start `{line}`"))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let reader = thread::spawn(move || stderr.map_or_else(String::new, pass_on));
        let mut kept = stdout.map_or_else(String::new, pass_on);
        kept.push_str(&reader.join().unwrap_or_default());
        Ok((child.wait()?.success(), kept))
    }

    /// Runs it quietly and keeps everything that it printed. `false` when it failed.
    pub(crate) fn keep(mut self) -> Result<(bool, String)> {
        let line = self.line();
        let output = self.command.output().with_context(|| format!("cannot start `{line}`"))?;
        let printed = [output.stdout, output.stderr]
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Ok((output.status.success(), printed.concat()))
    }

    /// Runs it with the terminal's own output. `false` when it failed.
    pub(crate) fn show(mut self) -> Result<bool> {
        let line = self.line();
        Ok(self.command.status().with_context(|| format!("cannot start `{line}`"))?.success())
    }
}

/// Prints lines as they come, and collects them.
fn pass_on(stream: impl Read) -> String {
    let mut kept = String::new();
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
        let text = String::from_utf8_lossy(&line);
        print!("{text}");
        kept.push_str(&text);
        line.clear();
    }
    kept
}

/// The last lines of a program's output, indented, empty ones left out.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let skipped = lines.len().saturating_sub(LAST_LINES_MAX);
    lines[skipped..].iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

/// Whether a program of this name is on the PATH.
pub(crate) fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_the_command_and_its_last_lines() {
        let error = Shell::new("sh")
            .args(["-c", "seq 40; echo broken >&2; exit 3"])
            .run()
            .unwrap_err()
            .to_string();
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.ends_with("    broken"), "{error}");
        assert!(!error.contains("    20\n"), "{error}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = Shell::new("no-such-program-here").run().unwrap_err();
        assert!(
            format!("{error:#}").starts_with("cannot start `no-such-program-here`"),
            "{error:#}"
        );
    }
}
