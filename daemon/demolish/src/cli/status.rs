//! `demolish status`

use std::fmt::Write as _;
use std::time::Duration;

use wire::ext::{
    GetStatus, LinkStatus, ModelStatus, QueueStatus, ServerStatus, SpeculationStatus, Status,
    TwinStatus, WorkspaceStatus,
};

use super::{Exit, Failure, Outcome, clock, control};
use crate::env_vars;
use crate::redact::Redactor;

/// How often `--watch` looks again.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// How wide what people read is.
const WIDTH: usize = 80;
/// How many of the last words of a server are shown.
const LAST_WORDS_SHOWN: usize = 2;
/// A request that waits longer is worth a line.
const LONG_WAIT_S: f64 = 5.0;

/// Print what the daemon is doing: editors, language servers, twins, the model
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  demolish status\n  demolish status --watch\n  demolish status --json | jq .rssBytes\n\nExits with 1 when no daemon is running."
)]
pub(super) struct Args {
    /// Print an object; {"running": false} when no daemon is running
    #[arg(long)]
    json: bool,
    /// Look again every second, until interrupted
    #[arg(long, conflicts_with = "json")]
    watch: bool,
}

pub(super) fn run(args: &Args) -> Outcome {
    loop {
        let status = control::ask::<GetStatus>(())?;
        if args.json {
            let mut object = match &status {
                Some(status) => serde_json::to_value(status).map_err(Failure::bad)?,
                None => serde_json::json!({}),
            };
            object["running"] = status.is_some().into();
            if let Some(trouble) = env_vars::runtime_dir_trouble() {
                object["runtimeDirTrouble"] = trouble.into();
            }
            super::print_json(&object);
        } else {
            let home = env_vars::home().map(|home| home.to_string_lossy().into_owned());
            let redactor = Redactor::new(home.as_deref(), None, None);
            let text = redactor.text(&status.as_ref().map_or_else(absent, told));
            if args.watch {
                // The screen from its first line, and nothing below what is printed now.
                super::print_or_exit(format!("\u{1b}[H\u{1b}[J{text}").as_bytes());
            } else {
                super::print(&text);
            }
        }
        if !args.watch {
            return Ok(if status.is_some() { Exit::Done } else { Exit::No });
        }
        std::thread::sleep(WATCH_EVERY);
    }
}

/// Why there is nothing to show.
fn absent() -> String {
    let trouble = env_vars::runtime_dir_trouble();
    let trouble = trouble.map(|trouble| format!("{trouble}\n")).unwrap_or_default();
    format!("no daemon is running; editors start one\n{trouble}")
}

fn told(status: &Status) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "daemon   {}, process {}, up {}, {}",
        status.version,
        status.pid,
        clock::stretch(status.uptime_s),
        clock::bytes(status.rss_bytes)
    );
    let _ = writeln!(out, "socket   {}", status.socket);
    match &status.model {
        Some(found) => model(&mut out, "model   ", found),
        None => out.push_str("model    none\n"),
    }
    status.agent_model.iter().for_each(|found| model(&mut out, "agent   ", found));
    servers(&mut out, status);
    let own: Vec<&LinkStatus> = status.links.iter().filter(|link| link.server.is_none()).collect();
    if !own.is_empty() {
        out.push_str("\nDEMOLISH'S OWN FEATURES\n");
        own.into_iter().for_each(|link| client(&mut out, link));
    }
    twins(&mut out, &status.twins);
    speculation(&mut out, &status.speculation);
    workspaces(&mut out, &status.workspaces);
    if !status.tasks.is_empty() {
        let _ = writeln!(out, "\ntasks    {}", status.tasks.join(", "));
    }
    out
}

/// A line for each workspace, and one for what it does not hold.
fn workspaces(out: &mut String, workspaces: &[WorkspaceStatus]) {
    for found in workspaces {
        let _ = writeln!(
            out,
            "\nworkspace {}, {} in {}, {}",
            found.state,
            counted(found.chunks, "chunk"),
            counted(found.files, "file"),
            clock::bytes(found.bytes as u64)
        );
        let _ = writeln!(out, "  {}", found.root);
        if let Some(mixture) = &found.mixture {
            let _ = writeln!(
                out,
                "  mixture of {} in {}, {}",
                counted(mixture.tokens, "token"),
                counted(mixture.files, "file"),
                clock::bytes(mixture.bytes as u64)
            );
        }
        if found.cut {
            wrapped(out, "the tree is too large: the rest of it is not looked at", "  ! ");
        }
        if found.left_out > 0 {
            let what = format!(
                "{} had no room (`workspace.files_max`, `workspace.memory_max_mib`)",
                counted(found.left_out, "file")
            );
            wrapped(out, &what, "  ! ");
        }
    }
}

/// A line for a model: what it is, or why it is not there.
fn model(out: &mut String, what: &str, model: &ModelStatus) {
    let place = model.error.as_deref().unwrap_or(&model.path);
    let mut line = format!("{what} {} {} {place}", model.state, model.name);
    if model.bytes_resident > 0 {
        let _ = write!(line, ", {}", clock::bytes(model.bytes_resident));
    }
    if let (Some(read), Some(all @ 1..)) = (model.bytes_read, model.bytes_to_read) {
        let _ = write!(line, ", {} of {} read", clock::bytes(read), clock::bytes(all));
    }
    if let Some(left) = model.leaves_in_s {
        let _ = write!(line, ", goes if unused for {}", clock::stretch(left));
    }
    if let Some(server) = &model.server {
        let _ = write!(line, ", run by {server}");
    }
    let _ = writeln!(out, "{}", line.trim_end());
    for sentence in &model.downgrades {
        let _ = writeln!(out, "         {sentence}");
    }
}

/// A row for each server, and below it who uses it and what is wrong.
fn servers(out: &mut String, status: &Status) {
    let mut seen = Vec::new();
    for server in status.links.iter().flat_map(servers_of) {
        if seen.contains(&server.instance) {
            continue;
        }
        if seen.is_empty() {
            let _ = writeln!(
                out,
                "\n{:<26} {:<10} {:>8} {:>7} {:>8} {:>8} {:>7}",
                "SERVER", "STATE", "MEMORY", "WAITING", "P50", "P95", "STARTS"
            );
        }
        seen.push(server.instance);
        let latency = |of: fn(&wire::ext::LatencyStatus) -> f64| {
            server.latency.as_ref().map_or_else(|| "-".to_owned(), |found| clock::took(of(found)))
        };
        let memory =
            if server.rss_bytes > 0 { clock::bytes(server.rss_bytes) } else { "-".to_owned() };
        let _ = writeln!(
            out,
            "{:<26} {:<10} {memory:>8} {:>7} {:>8} {:>8} {:>7}",
            fitted(&command(&server.command), 26),
            server.state,
            server.pending,
            latency(|found| found.p50_ms),
            latency(|found| found.p95_ms),
            if server.pid.is_some() || server.restarts > 0 { server.restarts + 1 } else { 0 },
        );
        let of_server =
            |link: &&LinkStatus| servers_of(link).any(|other| other.instance == server.instance);
        status.links.iter().filter(of_server).for_each(|link| client(out, link));
        if let Some(why) = &server.apart {
            wrapped(out, &format!("apart from others: {why}"), "  ! ");
        }
        troubles(out, server);
    }
}

/// The server of a link, or its servers in merged mode.
fn servers_of(link: &LinkStatus) -> impl Iterator<Item = &ServerStatus> {
    link.server.iter().chain(&link.others)
}

/// What is not as it should be with a server.
fn troubles(out: &mut String, server: &ServerStatus) {
    if let Some(waited) = server.oldest_pending_s.filter(|waited| *waited >= LONG_WAIT_S) {
        let _ = writeln!(out, "  ! a request waits for {}", clock::stretch(waited));
    }
    queue(out, "to the server", &server.queue);
    if server.malformed > 0 {
        let _ = writeln!(out, "  ! sent {} malformed messages", server.malformed);
    }
    if let Some(trouble) = &server.trouble {
        wrapped(out, trouble, "  ! ");
    }
    if server.restarts > 0 || server.trouble.is_some() {
        let words = &server.last_words;
        for line in &words[words.len().saturating_sub(LAST_WORDS_SHOWN)..] {
            let _ = writeln!(out, "  | {}", fitted(line, WIDTH - 4));
        }
    }
}

/// A line for an editor.
fn client(out: &mut String, link: &LinkStatus) {
    let name = link.client.as_deref().unwrap_or("an editor");
    let _ = writeln!(
        out,
        "  #{} {name}, {}, {} waiting",
        link.link,
        counted(link.documents, "document"),
        link.pending
    );
    queue(out, "to the editor", &link.to_client);
    if link.malformed > 0 {
        let _ = writeln!(out, "  ! sent {} malformed messages", link.malformed);
    }
}

/// A queue, if there is something to say of it.
fn queue(out: &mut String, whose: &str, queue: &QueueStatus) {
    let mut said = Vec::new();
    if queue.messages > 0 {
        let bytes = clock::bytes(queue.bytes as u64);
        said.push(format!("{} waiting ({bytes})", queue.messages));
    }
    if queue.dropped > 0 {
        said.push(format!("{} dropped", queue.dropped));
    }
    if queue.coalesced > 0 {
        said.push(format!("{} replaced by later ones", queue.coalesced));
    }
    if !said.is_empty() {
        let _ = writeln!(out, "  {whose}: {}", said.join(", "));
    }
}

fn twins(out: &mut String, twins: &[TwinStatus]) {
    for (at, twin) in twins.iter().enumerate() {
        if at == 0 {
            let _ = writeln!(out, "\n{:<26} {:<10} {:>8}", "TWIN", "STATE", "CHECKS");
        }
        let state = if twin.pid.is_some() { "running" } else { "stopped" };
        let took =
            twin.check_ms.map_or_else(String::new, |ms| format!("  {} each", clock::took(ms)));
        let name = fitted(&command(&twin.command), 26);
        let _ =
            writeln!(out, "{name:<26} {state:<10} {:>8}{took}\n  in {}", twin.checks, twin.root);
    }
}

/// Who is shown candidates for each server, and why.
fn speculation(out: &mut String, choices: &[SpeculationStatus]) {
    for (at, choice) in choices.iter().enumerate() {
        if at == 0 {
            let _ = writeln!(
                out,
                "\n{:<26} {:<10} {:>8} {:>7} {:>8} {:>8}",
                "CANDIDATES FOR", "CHECKED BY", "MEMORY", "CHECKS", "P50", "P95"
            );
        }
        let took = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), clock::took);
        let _ = writeln!(
            out,
            "{:<26} {:<10} {:>8} {:>7} {:>8} {:>8}",
            fitted(&choice.server, 26),
            choice.backend,
            choice.twin_bytes.map_or_else(|| "-".to_owned(), clock::bytes),
            choice.checks,
            took(choice.p50_ms),
            took(choice.p95_ms),
        );
        wrapped(out, &format!("{}; in {}", choice.why, choice.root), "  ");
    }
}

/// A command without the folders of its program.
fn command(command: &[String]) -> String {
    let mut words: Vec<&str> = command.iter().map(String::as_str).collect();
    if let Some(program) = words.first_mut() {
        *program = program.rsplit('/').next().unwrap_or(program);
    }
    words.join(" ")
}

fn fitted(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let start: String = text.chars().take(width - 1).collect();
    format!("{start}…")
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// A long sentence, in lines that fit, behind `mark`.
fn wrapped(out: &mut String, sentence: &str, mark: &str) {
    let mut lines = vec![String::new()];
    let room = WIDTH - mark.len();
    for word in sentence.split_whitespace() {
        let Some(line) = lines.last_mut() else { return };
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= room {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    for (at, line) in lines.iter().enumerate() {
        let mark = if at == 0 { mark } else { &" ".repeat(mark.len()) };
        let _ = writeln!(out, "{mark}{line}");
    }
}

#[cfg(test)]
mod tests;
