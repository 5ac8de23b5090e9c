//! `demolish bench proxy`: what the daemon adds to a message, and whether every message arrives as it was.
//!
//! One client talks to one echoing server, once directly and once through shim and daemon, in turns, so that both sides
//! of the comparison see the same machine.

use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use tokio::sync::Semaphore;
use wire::child::Child;
use wire::client::{Client, Handler, default_answer};
use wire::{Envelope, ResponseError};

mod flood;

use flood::{Raw, cpu_seconds};

use super::report::{Report, Row, Samples};
use super::sandbox::{Sandbox, program};

/// Requests on each side.
const REQUESTS: usize = 4000;
/// Requests of one side before it is the other's turn.
const TURN: usize = 100;
/// Messages of the test of integrity.
const NOTES: u64 = 100_000;
/// Messages that are out at once: more than a pipe holds, so that queues are in use.
const NOTES_OUT_MAX: usize = 500;
/// The text of an ordinary request: about that of a request for hover, which is answered with as much.
const ASK_BYTES: usize = 400;
/// Requests that come after a pause in which everybody falls asleep.
const PACED_REQUESTS: usize = 200;
const PACE: Duration = Duration::from_millis(5);
/// The text of a big one, and how many there are.
const BIG_BYTES: usize = 4 * 1024 * 1024;
const BIG_REQUESTS: usize = 12;
/// Floods in each direction and on each side: how many, of how many messages, of which length.
const FLOODS: usize = 5;
const FLOOD_MESSAGES: usize = 4000;
const FLOOD_TEXT_BYTES: usize = 64 * 1024;
/// Messages of the flood of small ones, in each direction.
const SMALL_MESSAGES: usize = 300_000;
/// Servers of the daemon that idles, and how long it does.
const IDLE_SERVERS: usize = 3;
const IDLE_TIME: Duration = Duration::from_secs(2);
const MIB: f64 = 1024.0 * 1024.0;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs it.
///
/// # Errors
/// A part of it could not be started or broke off: one sentence.
pub(crate) async fn run() -> Result<Report, String> {
    let sandbox = Sandbox::new("proxy", "")?;
    let program = program();
    let word = |text: &'static str| OsStr::new(text);
    let echo: Vec<&OsStr> = vec![&program, word("bench"), word("echo-server")];
    let behind = |proxy: &[&'static str]| -> Vec<&OsStr> {
        let words = proxy.iter().map(|text| OsStr::new(*text)).chain([OsStr::new("--")]);
        std::iter::once(program.as_os_str()).chain(words).chain(echo.iter().copied()).collect()
    };
    let (wrap, copy) = (behind(&["lsp"]), behind(&["bench", "copy-proxy"]));
    let (_daemon_client, mut daemon) = daemon(&sandbox, &program).await?;
    let daemon_pid = daemon.id().ok_or("the daemon did not start")?;

    let mut rows = latency_rows(&sandbox, &echo, &wrap).await?;
    rows.extend(flood_rows(&sandbox, &copy, &wrap, daemon_pid).await?);
    let flooded = rss_mib(daemon_pid).ok_or("the daemon is gone")?;
    rows.push(Row::new("rss_after_floods", flooded, "MiB"));
    drop(sandbox);
    let _ = tokio::time::timeout(Duration::from_millis(1), daemon.wait()).await;
    rows.push(idle_row().await?);
    Ok(Report::new("proxy", rows))
}

async fn latency_rows(
    sandbox: &Sandbox,
    echo: &[&OsStr],
    wrap: &[&OsStr],
) -> Result<Vec<Row>, String> {
    let notes = Arc::new(Notes::default());
    let (direct, _direct_child) = begin(sandbox, echo, Quiet).await?;
    let (through, _through_child) = begin(sandbox, wrap, Counting(notes.clone())).await?;
    let (mut of_direct, mut of_through) = (Samples::default(), Samples::default());
    for turn in 0..=REQUESTS / TURN {
        // The first turn is not counted: caches, allocators and schedulers settle in it.
        let (a, b) =
            (ping(&direct, TURN, ASK_BYTES).await?, ping(&through, TURN, ASK_BYTES).await?);
        if turn > 0 {
            a.into_iter().for_each(|us| of_direct.push(us));
            b.into_iter().for_each(|us| of_through.push(us));
        }
    }
    let (mut paced_direct, mut paced_through) = (Samples::default(), Samples::default());
    for _ in 0..PACED_REQUESTS {
        for (client, samples) in [(&direct, &mut paced_direct), (&through, &mut paced_through)] {
            tokio::time::sleep(PACE).await;
            ping(client, 1, ASK_BYTES).await?.into_iter().for_each(|us| samples.push(us));
        }
    }
    let (mut big_direct, mut big_through) = (Samples::default(), Samples::default());
    for _ in 0..BIG_REQUESTS {
        ping(&direct, 1, BIG_BYTES).await?.into_iter().for_each(|us| big_direct.push(us));
        ping(&through, 1, BIG_BYTES).await?.into_iter().for_each(|us| big_through.push(us));
    }
    let wrong = integrity(&through, &notes).await?;
    let mut rows = rows(&of_direct, &of_through, &wrong);
    // Everybody had gone to sleep: what it costs to wake two processes more, in each direction.
    let (direct, through) = (paced_direct.quantile(0.5), paced_through.quantile(0.5));
    rows.push(
        Row::new("added_latency_paced_p50", through - direct, "us")
            .against("direct pipe", through / direct.max(f64::MIN_POSITIVE)),
    );
    // A big message goes there, and comes back as it was.
    let mib = 2.0 * BIG_BYTES as f64 / MIB;
    let (direct, through) = (big_direct.quantile(0.5), big_through.quantile(0.5));
    rows.push(
        Row::new("per_mib", (through - direct) / 1000.0 / mib, "ms/MiB")
            .against("direct pipe", through / direct.max(f64::MIN_POSITIVE))
            .at_most(2.0),
    );
    Ok(rows)
}

async fn flood_rows(
    sandbox: &Sandbox,
    copy: &[&OsStr],
    wrap: &[&OsStr],
    daemon: u32,
) -> Result<Vec<Row>, String> {
    let mut copying = Raw::start(sandbox, copy).await?;
    let mut ours = Raw::start(sandbox, wrap).await?;
    let (mut of_copy, mut of_ours) = (Samples::default(), Samples::default());
    for _ in 0..FLOODS {
        for (raw, samples) in [(&mut copying, &mut of_copy), (&mut ours, &mut of_ours)] {
            let there = raw.flood(FLOOD_MESSAGES, FLOOD_TEXT_BYTES).await?;
            let back = raw.gush(FLOOD_MESSAGES, FLOOD_TEXT_BYTES).await?;
            samples.push(there + back);
        }
    }
    let bytes = 2.0 * (FLOOD_MESSAGES * FLOOD_TEXT_BYTES) as f64 / MIB;
    let rate = |samples: &Samples| bytes / samples.quantile(0.5);
    let (copied, passed) = (rate(&of_copy), rate(&of_ours));

    let shim = ours.pid()?;
    let spent = || Some(cpu_seconds(shim)? + cpu_seconds(daemon)?);
    let before = spent().ok_or("the daemon is gone")?;
    ours.flood(SMALL_MESSAGES, ASK_BYTES).await?;
    ours.gush(SMALL_MESSAGES, ASK_BYTES).await?;
    let spent = spent().ok_or("the daemon is gone")? - before;
    Ok(vec![
        Row::new("throughput", passed, "MiB/s"),
        Row::new("throughput_share", passed / copied, "share")
            .against("plain byte-copying proxy", passed / copied)
            .at_least(0.7),
        // Processor time of shim and daemon together: what one core would carry if it had nothing else to do.
        Row::new("messages_per_s", 2.0 * SMALL_MESSAGES as f64 / spent, "messages/s on one core")
            .at_least(50_000.0),
    ])
}

/// What a daemon holds with three servers behind it and no model, once nothing happens any more.
async fn idle_row() -> Result<Row, String> {
    let sandbox = Sandbox::new("proxy-idle", "")?;
    let program = program();
    let (_daemon_client, daemon) = daemon(&sandbox, &program).await?;
    let wrap: Vec<&OsStr> = ["lsp", "--"].map(OsStr::new).to_vec();
    let echo: Vec<&OsStr> = ["bench", "echo-server"].map(OsStr::new).to_vec();
    let command: Vec<&OsStr> =
        [vec![program.as_os_str()], wrap, vec![program.as_os_str()], echo].concat();
    let mut wrapped = Vec::new();
    for _ in 0..IDLE_SERVERS {
        let (client, child) = begin(&sandbox, &command, Quiet).await?;
        ping(&client, TURN, ASK_BYTES).await?;
        wrapped.push((client, child));
    }
    tokio::time::sleep(IDLE_TIME).await;
    let rss = daemon.id().and_then(rss_mib).ok_or("the daemon is gone")?;
    Ok(Row::new("idle_rss", rss, "MiB").at_most(25.0))
}

/// A daemon that listens.
pub(super) async fn daemon(sandbox: &Sandbox, program: &OsStr) -> Result<(Client, Child), String> {
    let started = sandbox.start(&[program, OsStr::new("daemon")], Quiet).await?;
    wait_for_socket(sandbox).await?;
    Ok(started)
}

fn rows(direct: &Samples, through: &Samples, wrong: &Wrong) -> Vec<Row> {
    // Against the median of the direct pipe in both rows: the difference of two tails would mostly be the machine's noise.
    let median = direct.quantile(0.5);
    let added = |share: f64| through.quantile(share) - median;
    let ratio = |share: f64| through.quantile(share) / median.max(f64::MIN_POSITIVE);
    let count = |metric: &str, value: u64| {
        #[allow(clippy::cast_precision_loss, reason = "at most 100,000")]
        Row::new(metric, value as f64, "of 100000 messages").exactly(0.0)
    };
    vec![
        Row::new("added_latency_p50", added(0.5), "us")
            .against("direct pipe", ratio(0.5))
            .at_most(30.0),
        Row::new("added_latency_p99", added(0.99), "us")
            .against("direct pipe's median", ratio(0.99))
            .at_most(200.0),
        Row::new("direct_latency_p50", direct.quantile(0.5), "us"),
        Row::new("direct_latency_p99", direct.quantile(0.99), "us"),
        Row::new("through_latency_p50", through.quantile(0.5), "us"),
        Row::new("through_latency_p99", through.quantile(0.99), "us"),
        count("messages_lost", wrong.lost),
        count("messages_reordered", wrong.reordered),
        count("messages_altered", wrong.altered),
        Row::new("message_rate", wrong.per_second, "messages/s"),
    ]
}

async fn begin(
    sandbox: &Sandbox,
    command: &[&OsStr],
    handler: impl Handler,
) -> Result<(Client, Child), String> {
    let (client, child) = sandbox.start(command, handler).await?;
    client
        .initialize(&json!({"capabilities": {}}), PATIENCE)
        .await
        .map_err(|error| error.to_string())?;
    Ok((client, child))
}

async fn wait_for_socket(sandbox: &Sandbox) -> Result<(), String> {
    let started = Instant::now();
    while !sandbox.socket().exists() {
        if started.elapsed() > PATIENCE {
            return Err("the daemon does not listen".to_owned());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// So many requests, each after the answer to the one before: their latencies in microseconds.
async fn ping(client: &Client, count: usize, text_bytes: usize) -> Result<Vec<f64>, String> {
    let params =
        json!({"textDocument": {"uri": "file:///tmp/a.rs"}, "text": "x".repeat(text_bytes)});
    let mut latencies = Vec::with_capacity(count);
    for _ in 0..count {
        let started = Instant::now();
        client.request("echo/ask", &params, PATIENCE).await.map_err(|error| error.to_string())?;
        latencies.push(started.elapsed().as_secs_f64() * 1e6);
    }
    Ok(latencies)
}

/// What came back of the numbered messages.
struct Notes {
    next: AtomicU64,
    received: AtomicU64,
    reordered: AtomicU64,
    altered: AtomicU64,
    room: Semaphore,
}

impl Default for Notes {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Notes {
            next: zero(),
            received: zero(),
            reordered: zero(),
            altered: zero(),
            room: Semaphore::new(NOTES_OUT_MAX),
        }
    }
}

struct Wrong {
    lost: u64,
    reordered: u64,
    altered: u64,
    per_second: f64,
}

/// The parameters of the message with this number: of many lengths, with text that must survive untouched.
fn note(number: u64) -> Json {
    let len = usize::try_from(number % 97).unwrap_or(0)
        * if number.is_multiple_of(1000) { 200 } else { 3 };
    json!({"number": number, "text": "aé😀\\\"\u{2028}\t".repeat(len / 4), "float": 0.1, "big": u64::MAX - number})
}

struct Counting(Arc<Notes>);

impl Handler for Counting {
    fn notified(&self, method: &str, envelope: &Envelope) {
        if method != "echo/noted" {
            return;
        }
        let notes = &self.0;
        let expected = notes.next.fetch_add(1, Ordering::Relaxed);
        let got: Json = envelope.params_as().unwrap_or(Json::Null);
        if got["number"] != expected {
            notes.reordered.fetch_add(1, Ordering::Relaxed);
            notes.next.store(got["number"].as_u64().unwrap_or(expected) + 1, Ordering::Relaxed);
        } else if envelope.params() != note(expected).to_string().as_bytes() {
            notes.altered.fetch_add(1, Ordering::Relaxed);
        }
        notes.received.fetch_add(1, Ordering::Relaxed);
        notes.room.add_permits(1);
    }

    fn asked(&self, method: &str, envelope: &Envelope) -> Result<Json, ResponseError> {
        default_answer(method, envelope)
    }
}

use wire::client::Quiet;

#[allow(clippy::cast_precision_loss, reason = "at most 100,000")]
async fn integrity(client: &Client, notes: &Notes) -> Result<Wrong, String> {
    let started = Instant::now();
    for number in 0..NOTES {
        let room = tokio::time::timeout(PATIENCE, notes.room.acquire()).await;
        match room {
            Ok(Ok(permit)) => permit.forget(),
            // Nothing comes back any more: what is missing is lost.
            _ => break,
        }
        client.notify("echo/note", &note(number)).map_err(|error| error.to_string())?;
    }
    while notes.received.load(Ordering::Relaxed) < NOTES && started.elapsed() < 4 * PATIENCE {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let took = started.elapsed().as_secs_f64();
    Ok(Wrong {
        lost: NOTES - notes.received.load(Ordering::Relaxed).min(NOTES),
        reordered: notes.reordered.load(Ordering::Relaxed),
        altered: notes.altered.load(Ordering::Relaxed),
        per_second: NOTES as f64 / took,
    })
}

/// The resident memory of a process.
pub(super) fn rss_mib(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}
