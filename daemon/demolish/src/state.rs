//! Everything the daemon knows, and who may change it: the loop, and nobody else. There is no lock around [`State`],
//! because there is no second owner; background work gets a [`Snapshot`].

mod snapshot;
mod status;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use proxy::{BackOff, ClientId, Mirror};
use tokio::sync::{mpsc, oneshot};
use wire::child::Log;
use wire::ext::{HelloParams, Status};
use wire::peer::Peer;
use wire::{Bytes, Envelope};

use crate::handlers::lease::Leased;
use crate::handlers::merge::{Merged, Word};
use crate::handlers::trace::Trace;
use crate::handlers::verdicts::Polls;
use crate::handlers::watch::Watch;
use crate::main_loop::Event;
use crate::tasks::Tasks;
pub use snapshot::{Snapshot, WrappedServer};

/// The number of a link; counts up from 1 and is never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u32);

/// The number of an instance; counts up from 1 and is never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(pub u32);

/// One life of an instance's server: restarts count up, so that what the dead one still says is not taken for the new
/// one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerId {
    /// The instance.
    pub instance: InstanceId,
    /// Which start, from 1.
    pub life: u32,
}

/// Demolish's own features, as the loop sees them. One for the whole daemon.
pub trait Features: Send + Sync {
    /// An editor has connected with `demolish lsp`. Messages to it go through `outlet`.
    fn own(&self, outlet: Outlet) -> Box<dyn Own>;

    /// A request of a command-line verb that the loop does not know. The answer is a whole response.
    fn control(&self, snapshot: Snapshot, envelope: Envelope) -> BoxFuture<'static, Option<Bytes>>;

    /// Adds what only the features know: twins, the model.
    fn status(&self, status: &mut Status);
}

/// The features of one link.
pub trait Own: Send {
    /// A message of the editor: every request but `$/cancelRequest`, every response, and every notification except
    /// those that change documents, which the loop mirrors (they are in the snapshot). Called in the order of the wire, and must be
    /// quick; the future runs as a task. A request's future yields the body of the response; dropping it cancels the
    /// request, and the loop then answers.
    fn call(&mut self, snapshot: Snapshot, envelope: Envelope)
    -> BoxFuture<'static, Option<Bytes>>;
}

/// The way from the features of a link to its editor: through the loop's inbox, so that order is kept.
#[derive(Clone, Debug)]
pub struct Outlet {
    link: LinkId,
    inbox: mpsc::Sender<Event>,
}

impl Outlet {
    pub(crate) fn new(link: LinkId, inbox: mpsc::Sender<Event>) -> Outlet {
        Outlet { link, inbox }
    }

    /// The link.
    pub fn link(&self) -> LinkId {
        self.link
    }

    /// Sends a message to the editor; waits for room in the inbox. `false`: the daemon is ending.
    pub async fn send(&self, envelope: Envelope) -> bool {
        self.inbox.send(Event::Own(self.link, envelope)).await.is_ok()
    }
}

/// What the daemon is told when it starts.
#[derive(Clone, Debug)]
pub struct DaemonOptions {
    /// Where it listens.
    pub socket: PathBuf,
    /// After how much time without a link it ends.
    pub idle_exit: Duration,
    /// The folder of the servers' logs; `None` keeps only their last lines.
    pub servers_log_dir: Option<PathBuf>,
    /// Whether editors that want the same of a language server share one.
    pub share: bool,
    /// How long a language server without clients is kept for the next one.
    pub linger: Duration,
    /// The version that shims must have.
    pub version: String,
    /// How many bytes of memory a server may have; `None`: as many as it likes.
    pub memory_max: Option<u64>,
}

/// Everything the daemon knows.
pub struct State {
    /// What it was told at start; never changes.
    pub(crate) options: DaemonOptions,
    /// Our own features. They keep their state to themselves: model, twins, configuration.
    pub(crate) features: Arc<dyn Features>,
    /// The way back into the loop, for pumps and tasks.
    pub(crate) inbox: mpsc::Sender<Event>,
    /// The connections, greeted or not. A link lives as long as its client's connection, at most a moment longer, while
    /// its server is ending.
    pub(crate) links: BTreeMap<LinkId, LinkState>,
    /// Where link numbers come from.
    pub(crate) last_link: u32,
    /// The language servers of the user. One lives as long as somebody has a seat in it.
    pub(crate) instances: BTreeMap<InstanceId, Instance>,
    /// Where instance numbers come from.
    pub(crate) last_instance: u32,
    /// Who sits where. A client may be moved from one instance to another, so that its seat is looked up, not kept.
    pub(crate) seats: BTreeMap<ClientId, Seat>,
    /// Where client numbers come from.
    pub(crate) last_client: u32,
    /// Verbs that wait for verdicts.
    pub(crate) polls: Polls,
    /// What seats of merged connections were told in this turn of the loop, and have not passed on; empty between turns.
    pub(crate) words: VecDeque<Word>,
    /// Background work: requests to our own features. Dropping one cancels it.
    pub(crate) tasks: Tasks,
    /// When the daemon started.
    pub(crate) started: Instant,
    /// What passes, and who follows it.
    pub(crate) trace: Trace,
    /// When servers are looked at next, while there are any.
    pub(crate) watch_at: Instant,
    /// Whether their memory is being looked at.
    pub(crate) sampling: bool,
    /// Since when there has been no link; `None` while there is one.
    pub(crate) idle_since: Option<Instant>,
    /// Set when the loop is to end: a signal, `demolish stop`, or nobody there for too long.
    pub(crate) over: bool,
}

/// A connection and what it is for.
pub(crate) struct LinkState {
    /// What the client said when it connected; `None` until then.
    pub(crate) hello: Option<HelloParams>,
    /// The connection.
    pub(crate) client: Peer,
    /// What it is for.
    pub(crate) role: Role,
    /// How many messages of its editor could not be read; its shim counts them.
    pub(crate) malformed: u64,
}

/// What a connection is for.
pub(crate) enum Role {
    /// Not known yet: it has until then to say so.
    Greeting(Instant),
    /// An editor and a language server: the client that it is there.
    Wrap(ClientId),
    /// An editor and several language servers.
    Merge(Box<Merged>),
    /// An editor and our own features.
    Own(Box<OwnLink>),
    /// A command-line verb.
    Control,
}

/// Where a client of a language server sits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    /// The instance.
    pub(crate) instance: InstanceId,
    /// The connection through which it is reached.
    pub(crate) link: LinkId,
}

/// A language server of the user and its clients, mostly one.
pub(crate) struct Instance {
    /// The joint between them; knows who waits for what.
    pub(crate) link: proxy::Link,
    /// What stands between the joint and the server: candidates of ours come and go there.
    pub(crate) leased: Leased,
    /// The server and its arguments.
    pub(crate) command: Arc<[String]>,
    /// Where the editor started the shim.
    pub(crate) cwd: PathBuf,
    /// The environment in which it did.
    pub(crate) env: Arc<BTreeMap<String, String>>,
    /// Whether such a server has been greeted before, at a daemon that died: one that is not greeted yet is then no reason to
    /// give it up.
    pub(crate) proven: bool,
    /// The server's process, while there is one.
    pub(crate) server: Option<Server>,
    /// Which start that is; see [`ServerId`].
    pub(crate) life: u32,
    /// When the server may be started again after it died.
    pub(crate) back_off: BackOff,
    /// When it will be.
    pub(crate) restart_at: Option<Instant>,
    /// Whether it waits with its process for the first client's `initialize`, because another instance may do.
    pub(crate) waits: bool,
    /// Until when it is kept without clients.
    pub(crate) lingers_until: Option<Instant>,
    /// Why its client was split off another instance, in words.
    pub(crate) apart: Option<String>,
    /// Set once the last editor has said `exit`: until then the server may end by itself.
    pub(crate) closing: Option<Instant>,
    /// When the server last sent something that is no message; too many in a short time and it is restarted (rule 4.2).
    pub(crate) malformed: VecDeque<Instant>,
    /// How many of them there have been.
    pub(crate) malformed_total: u64,
    /// What is known of the server for the watch over it.
    pub(crate) watch: Watch,
    /// The last lines of the stderr of the server that died last.
    pub(crate) last_words: Vec<String>,
}

/// A running server.
pub(crate) struct Server {
    /// Its pipes.
    pub(crate) peer: Peer,
    /// Its process.
    pub(crate) pid: Option<u32>,
    /// What it says that is no message.
    pub(crate) log: Log,
    /// Dropping it asks the process to end, and kills it if it does not.
    pub(crate) _stop: oneshot::Sender<()>,
    /// The signs of its death, of which there are two (its stdout is closed, its process has ended), in either order.
    pub(crate) dying: Option<Dying>,
}

/// A server of which one of two signs of death was seen.
#[derive(Debug)]
pub(crate) struct Dying {
    /// When the other sign is no longer waited for.
    pub(crate) until: Instant,
    /// How the process ended, if that was the sign.
    pub(crate) how: Option<String>,
}

/// An editor and our own features.
pub(crate) struct OwnLink {
    /// The editor's documents.
    pub(crate) mirror: Mirror,
    /// The features.
    pub(crate) own: Box<dyn Own>,
}

impl State {
    /// The state of a daemon that has just started.
    pub fn new(
        options: DaemonOptions,
        features: Arc<dyn Features>,
        inbox: mpsc::Sender<Event>,
    ) -> State {
        let now = Instant::now();
        State {
            options,
            features,
            polls: Polls::default(),
            tasks: Tasks::new(inbox.clone()),
            inbox,
            links: BTreeMap::new(),
            last_link: 0,
            instances: BTreeMap::new(),
            last_instance: 0,
            seats: BTreeMap::new(),
            words: VecDeque::new(),
            last_client: 0,
            started: now,
            trace: Trace::new(now),
            watch_at: now,
            sampling: false,
            idle_since: Some(now),
            over: false,
        }
    }

    /// Whether the loop is to end.
    pub fn is_over(&self) -> bool {
        self.over
    }
}
