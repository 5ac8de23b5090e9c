//! `demolish trace`

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use serde_json::Value as Json;
use wire::client::{Handler, default_answer};
use wire::ext::{Trace, TraceLine, TraceParams, Traced};
use wire::lsp::notification::Notification as _;
use wire::{Envelope, ResponseError};

use super::{Exit, Failure, Outcome, clock, control};
use crate::env_vars;
use crate::redact::Redactor;

/// How many lines may wait to be printed; further ones are counted.
const LINES_WAITING_MAX: usize = 4096;
/// How long the daemon may take to say yes.
const PATIENCE: Duration = Duration::from_secs(5);

/// Follow the messages that pass between editors and servers
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  demolish trace
  demolish trace --server rust-analyzer --method 'textDocument/*'
  demolish trace --from server --bodies
  demolish trace --json -n 100

Bodies are redacted: of text only the length is left, and what looks like a secret is taken out. Following never slows
the daemon; what does not fit is counted and said. Exits with 1 when no daemon is running, or when it ends.")]
pub(super) struct Args {
    /// Only this link (`demolish status` shows their numbers)
    #[arg(long, value_name = "NUMBER")]
    link: Option<u32>,
    /// Only servers with this in their program's name; `demolish` is our own
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    /// Only methods like this; `*` stands for anything
    #[arg(long, value_name = "GLOB")]
    method: Option<String>,
    /// Only what this side sends
    #[arg(long, value_parser = ["editor", "server", "demolish"])]
    from: Option<String>,
    /// Print bodies too, redacted
    #[arg(long)]
    bodies: bool,
    /// Print an object per line
    #[arg(long)]
    json: bool,
    /// End after so many lines
    #[arg(short = 'n', long, value_name = "COUNT")]
    lines: Option<usize>,
}

pub(super) fn run(args: &Args) -> Outcome {
    let (sender, lines) = sync_channel(LINES_WAITING_MAX);
    let listener = Listener(Mutex::new(Some((sender, 0))));
    let wants = TraceParams {
        link: args.link,
        server: args.server.clone(),
        method: args.method.clone(),
        from: args.from.clone(),
        bodies: args.bodies,
    };
    let printing = args.style();
    super::block_on(async move {
        let Some(client) = control::connect_with(listener).await? else {
            super::print("no daemon is running\n");
            return Ok(Exit::No);
        };
        client.call::<Trace>(wants, PATIENCE).await.map_err(Failure::missing)?;
        let printed = tokio::task::spawn_blocking(move || print_all(&lines, &printing)).await;
        printed.map_err(Failure::missing)
    })?
}

/// How lines are printed.
struct Style {
    json: bool,
    lines: Option<usize>,
}

impl Args {
    fn style(&self) -> Style {
        Style { json: self.json, lines: self.lines }
    }
}

/// Prints until enough is printed, or the daemon is gone.
fn print_all(lines: &Receiver<TraceLine>, style: &Style) -> Exit {
    let redactor = redactor();
    let mut left = style.lines.unwrap_or(usize::MAX);
    while left > 0 {
        let Ok(line) = lines.recv() else { return Exit::No };
        let text = if style.json { object(&line, &redactor) } else { words(&line, &redactor) };
        super::print_or_exit(text.as_bytes());
        left -= 1;
    }
    Exit::Done
}

/// What this user's secrets are taken out with.
pub(super) fn redactor() -> Redactor {
    let home = env_vars::home().map(|home| home.to_string_lossy().into_owned());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Redactor::new(home.as_deref(), env_vars::user().as_deref(), Some(&host))
}

/// Hands the lines on as they come, without ever waiting; what does not fit is counted.
struct Listener(Mutex<Option<(SyncSender<TraceLine>, u64)>>);

impl Handler for Listener {
    fn notified(&self, method: &str, envelope: &Envelope) {
        let Ok(mut line) = envelope.params_as::<TraceLine>() else { return };
        let Ok(mut way) = self.0.lock() else { return };
        if let Some((lines, dropped)) = way.as_mut().filter(|_| method == Traced::METHOD) {
            line.dropped += *dropped;
            match lines.try_send(line) {
                Ok(()) => *dropped = 0,
                Err(TrySendError::Full(_)) => *dropped += 1,
                Err(TrySendError::Disconnected(_)) => {}
            }
        }
    }

    fn asked(&self, method: &str, envelope: &Envelope) -> Result<Json, ResponseError> {
        default_answer(method, envelope)
    }

    fn closed(&self) {
        if let Ok(mut way) = self.0.lock() {
            *way = None;
        }
    }
}

/// A line as an object, its body redacted.
fn object(line: &TraceLine, redactor: &Redactor) -> String {
    let mut value =
        serde_json::to_value(TraceLine { body: None, ..line.clone() }).unwrap_or_default();
    if let Some(body) = &line.body {
        value["body"] = body_of(body.get(), redactor);
    }
    format!("{value}\n")
}

/// A line for people: time, link, direction, what, how much, how long.
fn words(line: &TraceLine, redactor: &Redactor) -> String {
    let mut out = String::new();
    if line.dropped > 0 {
        let _ = writeln!(out, "… {} messages were too many and are not shown", line.dropped);
    }
    let arrow = if line.from == "editor" { "→" } else { "←" };
    let kind = match line.kind.as_str() {
        "request" => "req",
        "response" => "res",
        "error" => "ERR",
        _ => "   ",
    };
    let link = line.link.map_or_else(String::new, |link| format!("#{link}"));
    let id = line.id.as_ref().map_or_else(String::new, |id| format!(" ({id})"));
    let took = line.ms.map_or_else(String::new, |ms| format!("  {ms:.1} ms"));
    let _ = writeln!(
        out,
        "{} {link:<4}{} {arrow} {kind} {}{id}  {}{took}",
        clock::time(line.at_ms),
        shortened(&line.server, 14),
        if line.method.is_empty() { "?" } else { &line.method },
        clock::bytes(line.bytes as u64),
    );
    if let Some(body) = &line.body {
        let _ = writeln!(out, "    {}", body_of(body.get(), redactor));
    }
    out
}

fn shortened(name: &str, width: usize) -> String {
    let name: String = name.chars().take(width).collect();
    format!("{name:<width$}")
}

fn body_of(body: &str, redactor: &Redactor) -> Json {
    redactor.value(&serde_json::from_str(body).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn a_line_for_people_and_one_for_programs() {
        let body = r#"{"id":7,"result":{"text":"secret","apiKey":"x"}}"#;
        let line = TraceLine {
            at_ms: 1_795_356_192_345,
            link: Some(3),
            server: "rust-analyzer".to_owned(),
            from: "server".to_owned(),
            kind: "response".to_owned(),
            method: "textDocument/hover".to_owned(),
            id: Some("7".to_owned()),
            bytes: 1229,
            ms: Some(5.12),
            dropped: 2,
            body: RawValue::from_string(body.to_owned()).ok(),
        };
        let expected = "… 2 messages were too many and are not shown\n\
            14:03:12.345 #3  rust-analyzer  ← res textDocument/hover (7)  1.2 KiB  5.1 ms\n    \
            {\"id\":7,\"result\":{\"text\":\"<6 characters>\",\"apiKey\":\"<redacted>\"}}\n";
        assert_eq!(words(&line, &Redactor::default()), expected);
        let object: Json = serde_json::from_str(&object(&line, &Redactor::default())).unwrap();
        assert_eq!(
            (&object["ms"], &object["body"]["result"]["apiKey"]),
            (&5.12.into(), &"<redacted>".into())
        );
    }
}
