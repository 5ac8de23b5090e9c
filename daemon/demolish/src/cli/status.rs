//! `demolish status`

use std::fmt::Write as _;

use wire::ext::{GetStatus, LinkStatus, SpeculationStatus, Status};

use super::{Exit, Failure, Outcome, control};

/// Print what the daemon is doing: editors, language servers, twins, the model
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  demolish status\n  demolish status --json | jq .rssBytes\n\nExits with 1 when no daemon is running."
)]
pub(super) struct Args {
    /// Print an object; {"running": false} when no daemon is running
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Outcome {
    let status = control::ask::<GetStatus>(())?;
    if args.json {
        let mut object = match &status {
            Some(status) => serde_json::to_value(status).map_err(Failure::bad)?,
            None => serde_json::json!({}),
        };
        object["running"] = status.is_some().into();
        super::print_json(&object);
    } else {
        super::print(
            &status
                .as_ref()
                .map_or_else(|| "no daemon is running; editors start one\n".to_owned(), told),
        );
    }
    Ok(if status.is_some() { Exit::Done } else { Exit::No })
}

fn told(status: &Status) -> String {
    let mut out = String::new();
    #[allow(clippy::cast_precision_loss, reason = "megabytes")]
    let mib = status.rss_bytes as f64 / f64::from(1 << 20);
    let _ = writeln!(
        out,
        "daemon {} (pid {}), up {:.0} s, {mib:.1} MiB, at {}",
        status.version, status.pid, status.uptime_s, status.socket
    );
    match &status.model {
        Some(model) => {
            let what = model.error.as_deref().unwrap_or(&model.path);
            let line = format!("model  {} {} {what}", model.state, model.name);
            let _ = writeln!(out, "{}", line.trim_end());
        }
        None => out.push_str("model  none\n"),
    }
    for link in &status.links {
        let _ = writeln!(out, "link   {}", link_in_words(link));
    }
    for twin in &status.twins {
        let ms = twin.check_ms.map_or_else(String::new, |ms| format!(", {ms:.1} ms each"));
        let state = twin.pid.map_or_else(|| "not running".to_owned(), |pid| format!("pid {pid}"));
        let _ = writeln!(
            out,
            "twin   {} in {} ({state}): {} checks{ms}",
            twin.command.join(" "),
            twin.root,
            twin.checks
        );
    }
    for choice in &status.speculation {
        let _ = writeln!(out, "checks {}", choice_in_words(choice));
    }
    for task in &status.tasks {
        let _ = writeln!(out, "task   {task}");
    }
    out
}

fn choice_in_words(choice: &SpeculationStatus) -> String {
    let pace = match (choice.p50_ms, choice.p95_ms) {
        (Some(p50), Some(p95)) => format!(", p50 {p50:.1} ms, p95 {p95:.1} ms"),
        _ => String::new(),
    };
    let memory = choice.twin_bytes.map(|bytes| format!(", twin {} MiB", bytes >> 20));
    let (server, root, backend, why) = (&choice.server, &choice.root, &choice.backend, &choice.why);
    format!(
        "{server} in {root}: {backend} ({why}), {} checks{pace}{}",
        choice.checks,
        memory.unwrap_or_default()
    )
}

fn link_in_words(link: &LinkStatus) -> String {
    let client = link.client.as_deref().unwrap_or("an editor");
    let documents = format!("{} documents, {} pending", link.documents, link.pending);
    match &link.server {
        Some(server) => {
            let pid = server.pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
            let shared = match server.clients.len() {
                0 | 1 => String::new(),
                clients => format!(", shared by {clients}"),
            };
            let apart = server.apart.as_ref();
            let apart = apart.map_or_else(String::new, |why| format!(", of its own: {why}"));
            let command = server.command.join(" ");
            format!("{client} - {command}{pid} {}{shared}, {documents}{apart}", server.state)
        }
        None => format!("{client} - demolish, {documents}"),
    }
}
