//! What background work may look at: a picture of the state, made of shared pieces, that nobody changes.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use proxy::{ClientId, OpenDocument, Published, ServerState};
use serde_json::value::RawValue;
use text::Encoding;
use tokio::sync::mpsc;
use wire::Bytes;

use super::{Instance, LinkId, Role, Seat, State};
use crate::handlers::lease::Leaser;
use crate::main_loop::Event;

/// The documents of a client by URI.
type Documents = Arc<HashMap<Arc<str>, OpenDocument>>;
/// Sets of diagnostics by URI.
type Diagnostics = Arc<HashMap<Arc<str>, Published>>;

/// The world as one link sees it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The link that asks.
    pub link: LinkId,
    /// The editor's process.
    pub editor_pid: u32,
    /// Where the editor started the shim.
    pub cwd: PathBuf,
    /// The environment in which it did; programs that nobody has wrapped are looked for in its `PATH`.
    pub env: BTreeMap<String, String>,
    /// The documents that the editor has open on this link, by URI.
    pub documents: Documents,
    /// The JSON text of this link's `initialize` parameters.
    pub initialize: Option<Bytes>,
    /// The last `workspace/didChangeConfiguration` of this link, whole.
    pub settings: Option<Bytes>,
    /// The language servers that the same editor has wrapped; those of all editors for a command-line verb.
    pub servers: Vec<WrappedServer>,
}

/// A language server of the user, with everything that is needed to start another one like it.
#[derive(Clone, Debug)]
pub struct WrappedServer {
    /// Its link.
    pub link: LinkId,
    /// The server and its arguments.
    pub command: Arc<[String]>,
    /// Where the editor started it.
    pub cwd: PathBuf,
    /// Its environment.
    pub env: Arc<BTreeMap<String, String>>,
    /// Whether it is there, and has answered `initialize`.
    pub running: bool,
    /// The JSON text of the `initialize` parameters that the editor gave it.
    pub initialize: Option<Bytes>,
    /// The JSON text of the capabilities that it answered with.
    pub capabilities: Option<Bytes>,
    /// The last `workspace/didChangeConfiguration`, whole.
    pub settings: Option<Bytes>,
    /// What the editor has answered to its `workspace/configuration`, by the JSON text of the item.
    pub configuration: Arc<BTreeMap<String, Box<RawValue>>>,
    /// Its process, while there is one.
    pub pid: Option<u32>,
    /// How candidates are shown to it.
    pub leaser: Leaser,
    /// How it counts positions.
    pub encoding: Encoding,
    /// The documents that the editor has opened there.
    pub documents: Documents,
    pushed: Diagnostics,
    pulled: Diagnostics,
}

impl WrappedServer {
    /// What it last said about a document.
    pub fn diagnostics(&self, uri: &str) -> Option<&Published> {
        match (self.pushed.get(uri), self.pulled.get(uri)) {
            (Some(push), Some(pull)) => {
                Some(if push.sequence > pull.sequence { push } else { pull })
            }
            (one, other) => one.or(other),
        }
    }
}

impl State {
    /// The world as `link` sees it.
    pub(crate) fn snapshot(&mut self, link: LinkId) -> Snapshot {
        let mut documents = Documents::default();
        let (mut initialize, mut settings, mut all) = (None, None, false);
        let (mut editor_pid, mut cwd, mut env) = (0, PathBuf::new(), BTreeMap::new());
        if let Some(asking) = self.links.get_mut(&link) {
            if let Some(hello) = &asking.hello {
                editor_pid = hello.editor_pid;
                cwd = hello.cwd.clone().into();
                env.clone_from(&hello.env);
            }
            all = matches!(asking.role, Role::Control);
            if let Role::Own(own) = &mut asking.role {
                documents = own.mirror.documents();
                initialize = own.mirror.initialize_params().cloned();
                settings = own.mirror.settings().cloned();
            }
        }
        let (links, instances, inbox) = (&self.links, &mut self.instances, &self.inbox);
        let seen = |link: &LinkId| {
            let hello = links.get(link).and_then(|link| link.hello.as_ref());
            hello.is_some_and(|hello| all || hello.editor_pid == editor_pid)
        };
        let servers = self
            .seats
            .iter()
            .filter(|(_, seat)| seen(&seat.link))
            .filter_map(|(client, seat)| {
                let instance = instances.get_mut(&seat.instance)?;
                wrapped(seat, *client, instance, inbox)
            })
            .collect();
        Snapshot { link, editor_pid, cwd, env, documents, initialize, settings, servers }
    }
}

/// A server as one of its clients sees it.
fn wrapped(
    seat: &Seat,
    client: ClientId,
    instance: &mut Instance,
    inbox: &mpsc::Sender<Event>,
) -> Option<WrappedServer> {
    let documents = instance.link.mirror_mut(client)?.documents();
    let mirror = instance.link.mirror(client)?;
    let (pushed, pulled) = instance.link.said_to(client);
    Some(WrappedServer {
        link: seat.link,
        command: Arc::clone(&instance.command),
        cwd: instance.cwd.clone(),
        env: Arc::clone(&instance.env),
        running: *instance.link.state() == ServerState::Running && mirror.is_initialized(),
        initialize: mirror.initialize_params().cloned(),
        capabilities: mirror.capabilities().cloned(),
        settings: mirror.settings().cloned(),
        configuration: instance.link.settings(),
        pid: instance.server.as_ref().and_then(|server| server.pid),
        leaser: Leaser::new(seat.instance, inbox.clone()),
        encoding: mirror.encoding(),
        documents,
        pushed,
        pulled,
    })
}
