//! What `demolish status` shows.

use proxy::ServerState;
use wire::ext::{LatencyStatus, LinkStatus, QueueStatus, ServerStatus, Status};
use wire::peer::Peer;

use crate::handlers::merge;
use crate::{logging, memory};

use super::{Instance, InstanceId, LinkId, LinkState, Role, State};

impl State {
    /// What the daemon is doing.
    pub(crate) fn status(&self) -> Status {
        let mut status = Status {
            version: self.options.version.clone(),
            pid: std::process::id(),
            socket: self.options.socket.display().to_string(),
            uptime_s: self.started.elapsed().as_secs_f64(),
            log: logging::daemon_log().display().to_string(),
            rss_bytes: memory::of_self().unwrap_or_default(),
            links: self.links.iter().filter_map(|(id, link)| self.link_status(*id, link)).collect(),
            tasks: self.tasks.methods(),
            ..Status::default()
        };
        self.features.status(&mut status);
        status
    }

    fn link_status(&self, id: LinkId, link: &LinkState) -> Option<LinkStatus> {
        let mut others = Vec::new();
        let (mode, mirror, pending, server) = match &link.role {
            Role::Greeting(_) | Role::Control => return None,
            Role::Wrap(client) => {
                let instance = self.instances.get(&self.seats.get(client)?.instance)?;
                let link = &instance.link;
                let id = self.seats.get(client)?.instance;
                let mut server = server_status(id, instance);
                let seats = link.clients().filter_map(|client| self.seats.get(&client));
                server.clients = seats.map(|seat| seat.link.0).collect();
                ("wrap", link.mirror(*client)?, link.pending_len(*client), Some(server))
            }
            Role::Merge(merged) => {
                let instances = merge::instances(self, merged);
                let mut servers = instances.into_iter().map(|(id, it)| server_status(id, it));
                let first = servers.next();
                others.extend(servers);
                ("merge", merged.merge.mirror(), merged.merge.pending_len(), first)
            }
            Role::Own(own) => ("own", &own.mirror, 0, None),
        };
        let params = mirror.initialize_params();
        let params: serde_json::Value =
            params.and_then(|raw| wire::parse(raw).ok()).unwrap_or_default();
        Some(LinkStatus {
            link: id.0,
            mode: mode.to_owned(),
            client: params["clientInfo"]["name"].as_str().map(str::to_owned),
            shim_pid: link.hello.as_ref().map_or(0, |hello| hello.pid),
            server,
            others,
            documents: mirror.documents_len(),
            pending,
            to_client: queue(&link.client),
            malformed: link.malformed,
        })
    }
}

fn server_status(id: InstanceId, instance: &Instance) -> ServerStatus {
    let state = match (instance.link.state(), instance.restart_at) {
        (ServerState::Stopped(_), _) => "stopped",
        (_, Some(_)) | (ServerState::Away | ServerState::Greeting, _) => "restarting",
        (ServerState::Starting, _) => "starting",
        (ServerState::Running, _) => "running",
    };
    let server = instance.server.as_ref();
    ServerStatus {
        command: instance.command.to_vec(),
        pid: server.and_then(|server| server.pid),
        state: state.to_owned(),
        clients: Vec::new(),
        apart: instance.apart.clone(),
        restarts: instance.back_off.total(),
        log: server.and_then(|server| server.log.path()).map(|path| path.display().to_string()),
        queue: server.map(|server| queue(&server.peer)).unwrap_or_default(),
        malformed: instance.malformed_total,
        instance: id.0,
        rss_bytes: server.map_or(0, |_| instance.watch.rss_bytes),
        pending: instance.link.unanswered_len(),
        oldest_pending_s: instance.link.waiting_since().map(|since| since.elapsed().as_secs_f64()),
        latency: instance.link.latency().map(|found| LatencyStatus {
            p50_ms: found.p50.as_secs_f64() * 1000.0,
            p95_ms: found.p95.as_secs_f64() * 1000.0,
            count: found.count,
        }),
        last_words: instance.last_words.clone(),
        trouble: match instance.link.state() {
            ServerState::Stopped(reason) => Some(reason.clone()),
            _ => None,
        },
    }
}

fn queue(peer: &Peer) -> QueueStatus {
    let load = peer.sender().load();
    QueueStatus {
        messages: load.messages,
        bytes: load.bytes,
        dropped: load.dropped,
        coalesced: load.coalesced,
    }
}
