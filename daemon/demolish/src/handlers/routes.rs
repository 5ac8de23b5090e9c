//! From routes into queues, and what happens when a queue is full (rule 4.7).
//!
//! A queue that is more than half full holds the reader on the other side of the link, as a direct pipe would. A server that
//! takes nothing for [`WEDGED_AFTER`] while its client is held is wedged, and restarted; unless it is held itself, because
//! the client does not read. A client that does not read (an editor that is suspended) only holds its server, for as long
//! as it takes. Whoever's queue is twice full is wedged at once: a server is restarted, a client's link is closed.

use std::time::{Duration, Instant};

use proxy::{Link, Outbound, Route};
use wire::peer::{Level, Peer, SendError};

/// How long a server may take nothing while its client is held because of it.
pub const WEDGED_AFTER: Duration = Duration::from_secs(10);
/// How long a client that is leaving may take to read its last messages.
pub const FINISH_PATIENCE: Duration = Duration::from_secs(1);

/// Which peers of a link no longer take messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wedged {
    /// The client.
    pub client: bool,
    /// The server.
    pub server: bool,
}

/// Queues what `routes` say. What cannot be withdrawn from a queue any more is cancelled instead.
pub fn apply(link: &mut Link, client: &Peer, server: Option<&Peer>, routes: Vec<Route>) -> Wedged {
    let mut wedged = Wedged::default();
    for route in routes {
        match route {
            Route::Client(message) => wedged.client |= to_client(client, server, message),
            Route::Server(message) => wedged.server |= to_server(client, server, message),
            Route::WithdrawFromServer(tag, otherwise) => {
                if server.is_some_and(|server| server.sender().withdraw(tag)) {
                    let answer = link.withdrawn_from_server(tag);
                    wedged = wedged.or(apply(link, client, server, answer));
                } else {
                    wedged.server |= to_server(client, server, otherwise);
                }
            }
            Route::WithdrawFromClient(tag, otherwise) => {
                if client.sender().withdraw(tag) {
                    let answer = link.withdrawn_from_client(tag);
                    wedged = wedged.or(apply(link, client, server, answer));
                } else {
                    wedged.client |= to_client(client, server, otherwise);
                }
            }
        }
    }
    wedged
}

/// Whether the server has taken nothing for longer than `patience`, and it is its own fault.
pub fn stalled(client: &Peer, server: Option<&Peer>, patience: Duration) -> Wedged {
    let server = server.is_some_and(|server| {
        let held = client.sender().is_holding();
        !held && server.sender().is_holding() && server.sender().stalled_for() > patience
    });
    Wedged { client: false, server }
}

/// When [`stalled`] is to be asked again: only if somebody is held.
pub fn next_look(server: Option<&Peer>, now: Instant) -> Option<Instant> {
    server.is_some_and(|server| server.sender().is_holding()).then(|| now + Duration::from_secs(1))
}

fn to_client(client: &Peer, server: Option<&Peer>, message: Outbound) -> bool {
    queue(client, server, message)
}

fn to_server(client: &Peer, server: Option<&Peer>, message: Outbound) -> bool {
    server.is_some_and(|server| queue(server, Some(client), message))
}

/// Queues a message for `to`, and holds `from` if the queue is filling up. `true`: wedged.
fn queue(to: &Peer, from: Option<&Peer>, message: Outbound) -> bool {
    match to.sender().send(message.body, message.lane, message.tag) {
        Ok(Level::Normal) => false,
        Ok(Level::High) => {
            if let Some(from) = from {
                to.sender().hold(from.gate());
            }
            false
        }
        Err(SendError::Full) => true,
        // The peer is gone; its reader says so too.
        Err(SendError::Closed) => false,
    }
}

impl Wedged {
    fn or(self, other: Wedged) -> Wedged {
        Wedged { client: self.client || other.client, server: self.server || other.server }
    }
}
