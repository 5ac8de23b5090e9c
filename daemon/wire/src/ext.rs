//! Our own methods, as types. docs/protocol.md describes them; the mirrors in Lua and TypeScript follow this file.
//!
//! Shims and command-line verbs speak the same frames to the daemon as an editor does. A connection begins with
//! [`Hello`], which says what it is to become.

use std::collections::BTreeMap;

use ls_types::notification::Notification;
use ls_types::request::Request;
use ls_types::{Range, TextDocumentIdentifier};
use serde::{Deserialize, Serialize};

/// Counts up when shims and daemons of different builds no longer understand each other.
pub const PROTOCOL: u32 = 1;

/// The first request of every connection to the daemon.
#[derive(Debug)]
pub enum Hello {}

impl Request for Hello {
    type Params = HelloParams;
    type Result = HelloResult;
    const METHOD: &'static str = "demolish/hello";
}

/// Who connects, and what for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HelloParams {
    /// [`PROTOCOL`] of the sender.
    pub protocol: u32,
    /// The version of the sender's build; another one is refused, and the shim runs the server itself.
    pub version: String,
    /// What the connection becomes.
    #[serde(flatten)]
    pub mode: Mode,
    /// Where the editor started the shim.
    pub cwd: String,
    /// The shim's process.
    pub pid: u32,
    /// The shim's environment, which its server is started with. Variables that are not UTF-8 are left out.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The process that started the shim: links of one editor have it in common.
    #[serde(default)]
    pub editor_pid: u32,
    /// Whether the editor has had its answer to `initialize` from a daemon before this one: the server is known to work, and is
    /// started again if it dies before it is greeted.
    #[serde(default)]
    pub resumed: bool,
}

/// What a connection becomes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "mode")]
pub enum Mode {
    /// A link between an editor and a server.
    Wrap {
        /// The server and its arguments.
        command: Vec<String>,
    },
    /// A link between an editor and several servers.
    Merge {
        /// The servers by priority.
        servers: Vec<MergedServer>,
        /// Features that one server has for all, and its name.
        #[serde(default)]
        owners: BTreeMap<String, String>,
    },
    /// A link between an editor and our own features.
    Own,
    /// Requests of this file, from the command line.
    Control,
}

/// One of the servers of a merged link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MergedServer {
    /// What it is called in messages and in names of commands.
    pub name: String,
    /// The server and its arguments.
    pub command: Vec<String>,
    /// Its `initializationOptions`, if it is not the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initialization_options: Option<serde_json::Value>,
    /// Settings that are laid over those of the editor.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    pub settings: serde_json::Value,
}

/// The daemon accepts the connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HelloResult {
    /// The version of the daemon's build.
    pub version: String,
    /// The daemon's process.
    pub pid: u32,
    /// The number of the link.
    pub link: u32,
}

/// Asks the daemon what it is doing.
#[derive(Debug)]
pub enum GetStatus {}

impl Request for GetStatus {
    type Params = ();
    type Result = Status;
    const METHOD: &'static str = "demolish/status";
}

/// What the daemon is doing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// The version of the daemon's build.
    pub version: String,
    /// The daemon's process.
    pub pid: u32,
    /// The path of the socket.
    pub socket: String,
    /// How long it has been running.
    pub uptime_s: f64,
    /// Its resident memory.
    pub rss_bytes: u64,
    /// The path of its log.
    pub log: String,
    /// Its links to editors.
    pub links: Vec<LinkStatus>,
    /// Its speculative instances of servers.
    pub twins: Vec<TwinStatus>,
    /// Who is shown what nobody has typed yet, server by server.
    pub speculation: Vec<SpeculationStatus>,
    /// The model, if one is configured.
    pub model: Option<ModelStatus>,
    /// The agent's model, if it has one of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_model: Option<ModelStatus>,
    /// What is known of the workspaces in which somebody works, the most recently used last.
    pub workspaces: Vec<WorkspaceStatus>,
    /// Background work that is running.
    pub tasks: Vec<String>,
}

/// What is known of a workspace.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkspaceStatus {
    /// Its folder.
    pub root: String,
    /// `reading` or `read`.
    pub state: String,
    /// Files that are remembered.
    pub files: usize,
    /// Chunks of them.
    pub chunks: usize,
    /// The memory that they take.
    pub bytes: usize,
    /// Whether the tree has more entries than are looked at.
    pub cut: bool,
    /// Files for which there was no room (`workspace.files_max`, `workspace.memory_max_mib`).
    pub left_out: usize,
    /// What is known of their tokens, where they are mixed into what the model says (`complete.mixture`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mixture: Option<MixtureStatus>,
}

/// What is known of a workspace's tokens.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MixtureStatus {
    /// Files whose tokens are remembered.
    pub files: usize,
    /// Their tokens.
    pub tokens: usize,
    /// The memory that they take.
    pub bytes: usize,
}

/// One link between an editor and a server, or our own features.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LinkStatus {
    /// Its number.
    pub link: u32,
    /// `wrap`, `merge` or `own`.
    pub mode: String,
    /// The editor's name, as it gave it in `initialize`.
    pub client: Option<String>,
    /// The shim's process.
    pub shim_pid: u32,
    /// The server, in mode `wrap`; in mode `merge` the first one.
    pub server: Option<ServerStatus>,
    /// The further servers, in mode `merge`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<ServerStatus>,
    /// Documents that the editor has open here.
    pub documents: usize,
    /// Requests of the editor without an answer.
    pub pending: usize,
    /// The queue to the editor.
    pub to_client: QueueStatus,
    /// Malformed messages that the editor sent, as far as the shim has told.
    pub malformed: u64,
}

/// A wrapped server.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServerStatus {
    /// The server and its arguments.
    pub command: Vec<String>,
    /// Its process, while it runs.
    pub pid: Option<u32>,
    /// `starting`, `running`, `restarting` or `stopped`.
    pub state: String,
    /// The links that share it, oldest client first.
    pub clients: Vec<u32>,
    /// Why it is not shared with others that once did, in words.
    pub apart: Option<String>,
    /// How often it was started again.
    pub restarts: u32,
    /// The file with its stderr.
    pub log: Option<String>,
    /// The queue to it.
    pub queue: QueueStatus,
    /// Malformed messages that it sent.
    pub malformed: u64,
    /// The number of the instance; links with the same one share the server.
    pub instance: u32,
    /// The memory of its process and of what that has started, as last looked at.
    pub rss_bytes: u64,
    /// Requests that it has not answered.
    pub pending: usize,
    /// Since when the oldest of them waits, in seconds.
    pub oldest_pending_s: Option<f64>,
    /// How long its latest answers took.
    pub latency: Option<LatencyStatus>,
    /// The last lines of the stderr of its life before this one.
    pub last_words: Vec<String>,
    /// Why it is stopped.
    pub trouble: Option<String>,
}

/// How long answers took.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LatencyStatus {
    /// The median, in milliseconds.
    pub p50_ms: f64,
    /// The 95th of a hundred.
    pub p95_ms: f64,
    /// Of how many.
    pub count: usize,
}

/// What a queue holds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QueueStatus {
    /// Messages that wait.
    pub messages: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Log messages that were dropped.
    pub dropped: u64,
    /// Reports and diagnostics that a later one replaced.
    pub coalesced: u64,
}

/// A speculative instance of a server.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TwinStatus {
    /// The server and its arguments.
    pub command: Vec<String>,
    /// Its process, while it runs.
    pub pid: Option<u32>,
    /// Where it works.
    pub root: String,
    /// How many candidates it has checked.
    pub checks: u64,
    /// The median time of a check.
    pub check_ms: Option<f64>,
    /// The resident memory of its processes, where the system tells.
    pub rss_bytes: Option<u64>,
}

/// Who is shown the candidates for one server, and why.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SpeculationStatus {
    /// The server's name.
    pub server: String,
    /// Where it works.
    pub root: String,
    /// `twin`, `lease`, `builtin` or `none`.
    pub backend: String,
    /// Why, one phrase.
    pub why: String,
    /// How many checks that backend has answered.
    pub checks: u64,
    /// Half of the latest took no longer.
    pub p50_ms: Option<f64>,
    /// Nineteen of twenty took no longer.
    pub p95_ms: Option<f64>,
    /// The resident memory of its twin, when it was last seen.
    pub twin_bytes: Option<u64>,
}

/// The model.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ModelStatus {
    /// Its name.
    pub name: String,
    /// Its directory.
    pub path: String,
    /// `loading`, `ready`, `unloaded` or `failed`.
    pub state: String,
    /// Why it failed.
    pub error: Option<String>,
    /// What it holds in memory.
    pub bytes_resident: u64,
    /// While it is loading: how much of its weights was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_read: Option<u64>,
    /// While it is loading: how much will be read; 0 while that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_to_read: Option<u64>,
    /// When it is unloaded if nobody uses it until then, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaves_in_s: Option<f64>,
    /// The server that runs it, if it does not run on this machine: what it is and which version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// What that server does otherwise than an engine of this machine, a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub downgrades: Vec<String>,
    /// What came of tokens that were supposed, by where they came from: `forced`, `text`, `model`, `mtp`; a source that had none is left out.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub drafts: BTreeMap<String, DraftStatus>,
}

/// Tokens that were computed on the supposition that they would be drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DraftStatus {
    /// How many, since the model was loaded.
    pub drafted: u64,
    /// How many of them were drawn.
    pub accepted: u64,
}

/// Asks what the editors' language servers say of open documents, as they stand in the editors now.
#[derive(Debug)]
pub enum GetVerdicts {}

impl Request for GetVerdicts {
    type Params = VerdictsParams;
    type Result = VerdictsResult;
    const METHOD: &'static str = "demolish/verdicts";
}

/// Which documents, and for how long to wait.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VerdictsParams {
    /// Their URIs; none: all that are open.
    pub documents: Vec<String>,
    /// For how long a server may take to have an answer.
    pub wait_ms: u64,
}

/// What the servers say.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct VerdictsResult {
    /// One for every server and document, ordered by document.
    pub verdicts: Vec<DocumentVerdict>,
}

/// What one server says of one document.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DocumentVerdict {
    /// The document, as the editor spells it.
    pub uri: String,
    /// The version that the verdict is about, as the editor counts.
    pub revision: Option<i32>,
    /// The server's name.
    pub server: String,
    /// Which of the daemon's servers it is.
    pub instance: u32,
    /// `clean`, `findings` or `unknown`.
    pub state: String,
    /// Why nothing is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Everything that the server says, if any of it is an error or a warning.
    pub findings: Vec<Finding>,
    /// How long it took.
    pub ms: f64,
}

/// An objection of a server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Finding {
    /// The diagnostic, as the server gave it.
    pub diagnostic: serde_json::Value,
    /// The line on which it begins: with it two findings can be told to be the same although the text moved.
    pub line: String,
}

/// Ends the daemon: links are closed, and shims go on with servers of their own.
#[derive(Debug)]
pub enum Stop {}

impl Request for Stop {
    type Params = ();
    type Result = ();
    const METHOD: &'static str = "demolish/stop";
}

/// Follows the messages that pass: the answer is empty, and then [`Traced`] comes for each, until the connection ends.
#[derive(Debug)]
pub enum Trace {}

impl Request for Trace {
    type Params = TraceParams;
    type Result = ();
    const METHOD: &'static str = "demolish/trace";
}

/// Which messages to follow. What is not given is not asked for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TraceParams {
    /// Those of this link.
    pub link: Option<u32>,
    /// Those of servers in whose command this is.
    pub server: Option<String>,
    /// Those of methods that fit; `*` stands for anything.
    pub method: Option<String>,
    /// Those that `editor`, `server` or `demolish` sends.
    pub from: Option<String>,
    /// Whether their bodies are wanted; they come as they are.
    pub bodies: bool,
}

/// A message has passed.
#[derive(Debug)]
pub enum Traced {}

impl Notification for Traced {
    type Params = TraceLine;
    const METHOD: &'static str = "demolish/traced";
}

/// One message that has passed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TraceLine {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// On which link; the first of several.
    pub link: Option<u32>,
    /// The server's program; `demolish` for our own features.
    pub server: String,
    /// Who sent it: `editor`, `server` or `demolish`.
    pub from: String,
    /// `request`, `notification`, `response` or `error`.
    pub kind: String,
    /// Its method, or that of the request that it answers; empty if nobody knows.
    pub method: String,
    /// The id as the asker has it.
    pub id: Option<String>,
    /// The length of the body.
    pub bytes: usize,
    /// How long an answer took, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ms: Option<f64>,
    /// How many messages before this one had no room.
    #[serde(skip_serializing_if = "is_zero")]
    pub dropped: u64,
    /// The body, if it was asked for and is not too long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Box<serde_json::value::RawValue>>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Asks for the messages that passed last, without their bodies.
#[derive(Debug)]
pub enum GetRecent {}

impl Request for GetRecent {
    type Params = ();
    type Result = Vec<TraceLine>;
    const METHOD: &'static str = "demolish/recent";
}

/// Starts language servers anew, whatever happened to them before.
#[derive(Debug)]
pub enum Restart {}

impl Request for Restart {
    type Params = RestartParams;
    type Result = RestartResult;
    const METHOD: &'static str = "demolish/restart";
}

/// Which servers to restart.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestartParams {
    /// The number of a link, the name of a server's program, or a part of its command.
    pub which: String,
}

/// Which servers were restarted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestartResult {
    /// Their commands.
    pub restarted: Vec<String>,
    /// The commands of all servers.
    pub known: Vec<String>,
}

/// The daemon ends because the user said so: shims look for no other, and run their servers themselves.
#[derive(Debug)]
pub enum Goodbye {}

impl Notification for Goodbye {
    type Params = ();
    const METHOD: &'static str = "demolish/goodbye";
}

/// The editor of a shim sends messages that cannot be read, which end at the shim.
#[derive(Debug)]
pub enum EditorMalformed {}

impl Notification for EditorMalformed {
    type Params = u64;
    const METHOD: &'static str = "demolish/malformed";
}

/// Looks for a change that removes a diagnostic.
#[derive(Debug)]
pub enum Fix {}

impl Request for Fix {
    type Params = FixParams;
    type Result = FixResult;
    const METHOD: &'static str = "demolish/fix";
}

/// Which diagnostic to fix.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FixParams {
    /// The document.
    pub text_document: TextDocumentIdentifier,
    /// Where; the first diagnostic that touches the range is fixed. None: the first of the document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<Range>,
    /// The token under which progress is reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work_done_token: Option<ls_types::ProgressToken>,
}

/// What was found; the shape is that of `demolish fix --json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FixResult {
    /// The best clean change, or none.
    pub proposal: Option<FixProposal>,
    /// The diagnostics before.
    pub before: Vec<ls_types::Diagnostic>,
    /// The diagnostics with the proposal applied.
    pub after: Vec<ls_types::Diagnostic>,
    /// How many candidates were tried.
    pub candidates: u32,
    /// Candidates that the checker refused.
    pub refused: Vec<RefusedCandidate>,
    /// What the parts took.
    pub timings_ms: BTreeMap<String, f64>,
}

/// A change that the checker has accepted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FixProposal {
    /// `quick_fix`, `regenerated` or `replacement`.
    pub origin: String,
    /// The edits.
    pub edits: Vec<ls_types::TextEdit>,
    /// The same as a unified diff.
    pub diff: String,
}

/// Something that the checker refused.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RefusedCandidate {
    /// The text.
    pub text: String,
    /// What the checker said.
    pub diagnostic: ls_types::Diagnostic,
}
