//! `demolish report`

use std::fmt::Write as _;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value as Json, json};
use wire::ext::{GetRecent, GetStatus};

use super::{Exit, Failure, Outcome, control, doctor, trace};
use crate::config::read::{self, Layers};
use crate::redact::Redactor;
use crate::{config, logging};

/// How much of the end of a log goes in.
const LOG_BYTES_MAX: u64 = 256 * 1024;
/// How many logs of servers, and of shims, go in: the latest.
const LOGS_MAX: usize = 12;

/// Gather what a bug report needs into one file, with secrets taken out
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  demolish report
  demolish report --out /tmp/report.tar.gz
  demolish report --dir /tmp/report

Nothing is sent anywhere: look at the file, and attach it where you like. What is in it: versions, doctor, status,
settings, the end of the logs, and names of the messages that passed last. Journals and bodies of messages are not; but
the servers' logs hold what the servers wrote, which may quote your code.")]
pub(super) struct Args {
    /// The file to write, a .tar.gz; nothing is overwritten
    #[arg(long, value_name = "FILE", conflicts_with = "dir")]
    out: Option<PathBuf>,
    /// Write a folder instead
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print an object: path, files
    #[arg(long)]
    json: bool,
}

/// A part of the report: the name of its file, and what is in it.
type Part = (String, String);

pub(super) fn run(args: &Args) -> Outcome {
    let parts = gather(&trace::redactor());
    let path = match &args.dir {
        Some(dir) => folder(dir, &parts).map(|()| dir.clone()),
        None => {
            let path = args.out.clone().unwrap_or_else(default_path);
            archive(&path, &parts).map(|()| path)
        }
    };
    let path = path.map_err(|error| {
        Failure::missing(format!(
            "the report cannot be written ({error}); name another place with --out"
        ))
    })?;
    if args.json {
        let files: Vec<&str> = parts.iter().map(|(name, _)| name.as_str()).collect();
        super::print_json(&json!({ "path": path, "files": files, "sent": false }));
    } else {
        let mut out = String::new();
        for (name, content) in &parts {
            let _ = writeln!(out, "{:>10}  {name}", super::clock::bytes(content.len() as u64));
        }
        let _ = writeln!(
            out,
            "\n{}\nNothing was sent anywhere. Look at it before you attach it to an issue.",
            path.display()
        );
        super::print(&out);
    }
    Ok(Exit::Done)
}

fn default_path() -> PathBuf {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("demolish-report-{}.tar.gz", since.as_secs()).into()
}

fn gather(redactor: &Redactor) -> Vec<Part> {
    let mut parts =
        vec![("README.txt".to_owned(), README.to_owned()), ("versions.txt".to_owned(), versions())];
    let loaded = read::load(&Layers::of_process(Some(Path::new("."))));
    let mut add = |name: &str, value: &Json| {
        let text = serde_json::to_string_pretty(&redactor.value(value)).unwrap_or_default();
        parts.push((name.to_owned(), text + "\n"));
    };
    add("doctor.json", &doctor::as_json(&doctor::checks(&loaded)));
    add("status.json", &asked::<GetStatus>());
    add("recent.json", &asked::<GetRecent>());
    add("settings.json", &settings(&loaded));
    let logs =
        [logging::daemon_log(), old(&logging::daemon_log())].into_iter().map(|path| ("logs", path));
    let servers = latest(&logging::servers_dir()).into_iter().map(|path| ("logs/servers", path));
    let shims = latest(&logging::shims_dir()).into_iter().map(|path| ("logs/shims", path));
    for (folder, path) in logs.chain(servers).chain(shims) {
        let Ok(end) = end_of(&path) else { continue };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        parts.push((format!("{folder}/{name}"), redactor.text(&end)));
    }
    parts
}

const README: &str = "\
A report of Demolish, made by `demolish report`.

Taken out: secrets (by name and by shape), the home folder (~), names of the user and of the machine, environments. Journals
and bodies of messages were never in it. It still tells names of files and of projects, and logs of servers hold what the
servers wrote, which may quote your code: look at it before you show it to others.

versions.txt   program and system       status.json    what the daemon was doing
doctor.json    what was looked at       recent.json    names of the messages that passed last
settings.json  settings in force        logs/          the end of the logs
";

fn versions() -> String {
    let system = rustix::system::uname();
    let word = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    format!(
        "demolish {} (protocol {})\nsystem {} {} {}\ncores {}\nmemory {}\n",
        crate::VERSION,
        wire::ext::PROTOCOL,
        word(system.sysname()),
        word(system.release()),
        word(system.machine()),
        std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        crate::memory::of_machine().map_or_else(|| "unknown".to_owned(), super::clock::bytes),
    )
}

/// The daemon's answer, or why there is none.
fn asked<R>() -> Json
where
    R: wire::lsp::request::Request<Params = ()>,
{
    match control::ask::<R>(()) {
        Ok(Some(answer)) => serde_json::to_value(answer).unwrap_or_default(),
        Ok(None) => json!({ "running": false }),
        Err(failure) => json!({ "failed": failure.message }),
    }
}

fn settings(loaded: &config::Loaded) -> Json {
    let values = loaded.config.values().into_iter().map(|(key, value)| (key.to_owned(), value));
    let problems: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
    json!({
        "values": values.collect::<serde_json::Map<String, Json>>(),
        "decided": loaded.decided,
        "problems": problems,
    })
}

fn old(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".old");
    name.into()
}

/// The latest files of a folder.
fn latest(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut files: Vec<(SystemTime, PathBuf)> = entries
        .filter_map(|entry| {
            let meta = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
            Some((meta.modified().ok()?, entry.path()))
        })
        .collect();
    files.sort_by(|one, other| other.cmp(one));
    files.into_iter().take(LOGS_MAX).map(|(_, path)| path).collect()
}

/// The end of a file, from the beginning of a line.
fn end_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let skipped = file.metadata()?.len().saturating_sub(LOG_BYTES_MAX);
    file.seek(SeekFrom::Start(skipped))?;
    let mut bytes = Vec::new();
    file.take(LOG_BYTES_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    // Half a line may be half a secret, which nobody would know as one.
    let from = if skipped > 0 { text.find('\n').map_or(text.len(), |at| at + 1) } else { 0 };
    Ok(text[from..].to_owned())
}

/// A new file that only the user can read.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn archive(path: &Path, parts: &[Part]) -> io::Result<()> {
    let mut archive = tar::Builder::new(GzEncoder::new(create(path)?, Compression::default()));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    for (name, content) in parts {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(now.as_secs());
        archive.append_data(
            &mut header,
            Path::new("demolish-report").join(name),
            content.as_bytes(),
        )?;
    }
    archive.into_inner()?.finish()?.sync_all()
}

fn folder(dir: &Path, parts: &[Part]) -> io::Result<()> {
    for (name, content) in parts {
        let path = dir.join(name);
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(path.parent().unwrap_or(dir))?;
        create(&path)?.write_all(content.as_bytes())?;
    }
    Ok(())
}
