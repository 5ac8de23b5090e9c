//! `demolish logs`

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Exit, Failure, Outcome};
use crate::logging;

/// How often `--follow` looks for new lines.
const FOLLOW_MS: u64 = 200;
/// Only this much of the end of a log is searched for the last lines.
const TAIL_BYTES_MAX: u64 = 1024 * 1024;

/// Print the end of the daemon's log, of a shim's, or of a language server's stderr
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  demolish logs\n  demolish logs -n 200 -f\n  demolish logs --server ty\n  demolish logs --shim\n  demolish logs --path"
)]
pub(super) struct Args {
    /// How many lines
    #[arg(short = 'n', long, default_value_t = 50)]
    lines: usize,
    /// Go on printing what is added
    #[arg(short, long)]
    follow: bool,
    /// The stderr of a language server (a part of its log's name), instead of the daemon's log
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    /// The log of a shim (its process; without one the latest), instead of the daemon's
    #[arg(long, value_name = "PID", num_args = 0..=1, default_missing_value = "", conflicts_with = "server")]
    shim: Option<String>,
    /// Print the log's path, not its content
    #[arg(long)]
    path: bool,
}

pub(super) fn run(args: &Args) -> Outcome {
    let path = match (&args.server, &args.shim) {
        (None, None) => logging::daemon_log(),
        (Some(name), _) => named(&logging::servers_dir(), name, "a server")?,
        (None, Some(pid)) => named(&logging::shims_dir(), pid, "a shim")?,
    };
    if args.path {
        super::print(&format!("{}\n", path.display()));
        return Ok(Exit::Done);
    }
    let mut file = File::open(&path).map_err(|error| {
        Failure::missing(format!("no log at {} ({error}); has a daemon run yet?", path.display()))
    })?;
    let unreadable =
        |error| Failure::missing(format!("{} cannot be read ({error})", path.display()));
    let len = file.metadata().map_err(unreadable)?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(TAIL_BYTES_MAX))).map_err(unreadable)?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail).map_err(unreadable)?;
    super::print(last_lines(&String::from_utf8_lossy(&tail), args.lines));
    if !args.follow {
        return Ok(Exit::Done);
    }
    loop {
        std::thread::sleep(Duration::from_millis(FOLLOW_MS));
        let mut more = Vec::new();
        if reopened(&path, &mut file).is_some()
            && file.read_to_end(&mut more).is_ok()
            && !more.is_empty()
        {
            super::print_or_exit(&more);
        }
    }
}

/// Follows the log when it is turned over: the path then names a shorter file than the one that is open.
fn reopened(path: &Path, file: &mut File) -> Option<()> {
    let position = file.stream_position().ok()?;
    if std::fs::metadata(path).ok()?.len() < position {
        *file = File::open(path).ok()?;
    }
    Some(())
}

fn last_lines(text: &str, lines: usize) -> &str {
    let body = text.strip_suffix('\n').unwrap_or(text);
    if lines == 0 {
        return "";
    }
    match body.rmatch_indices('\n').nth(lines - 1) {
        Some((at, _)) => &text[at + 1..],
        None => text,
    }
}

/// The latest log in `dir` whose name has `name` in it.
fn named(dir: &Path, name: &str, whose: &str) -> Result<PathBuf, Failure> {
    let mut names: Vec<PathBuf> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    names.sort_by_key(|path| std::fs::metadata(path).and_then(|meta| meta.modified()).ok());
    let label =
        |path: &PathBuf| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    match names.iter().rev().find(|path| label(path).contains(name)) {
        Some(path) => Ok(path.clone()),
        None => {
            let known: Vec<String> = names.iter().map(label).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let name = if name.is_empty() { String::new() } else { format!(" `{name}`") };
            Err(Failure::bad(format!(
                "no log of {whose}{name} in {}; there are: {known}",
                dir.display()
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::last_lines;

    #[test]
    fn the_last_lines() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc\n");
        assert_eq!(last_lines("a\nb\nc", 1), "c");
        assert_eq!(last_lines("a\n", 5), "a\n");
        assert_eq!(last_lines("", 5), "");
        assert_eq!(last_lines("a\n", 0), "");
    }
}
