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

/// Queues what `routes` say, for a link with one client. What cannot be withdrawn from a queue any more is cancelled
/// instead.
pub fn apply(link: &mut Link, client: &Peer, server: Option<&Peer>, routes: Vec<Route>) -> Wedged {
    let mut wedged = Wedged::default();
    for route in routes {
        match route {
            Route::Client(_, message) => wedged.client |= queue(client, server, message),
            Route::Server(message) => {
                wedged.server |= server.is_some_and(|server| queue(server, [client], message));
            }
            Route::WithdrawFromServer(tag, otherwise) => {
                if server.is_some_and(|server| server.sender().withdraw(tag)) {
                    let answer = link.withdrawn_from_server(tag);
                    wedged = wedged.or(apply(link, client, server, answer));
                } else {
                    wedged.server |=
                        server.is_some_and(|server| queue(server, [client], otherwise));
                }
            }
            Route::WithdrawFromClient(_, tag, otherwise) => {
                if client.sender().withdraw(tag) {
                    let answer = link.withdrawn_from_client(tag);
                    wedged = wedged.or(apply(link, client, server, answer));
                } else {
                    wedged.client |= queue(client, server, otherwise);
                }
            }
            // There is one client, and nobody asks questions of its own.
            Route::Parted(_) | Route::Answered(..) | Route::Verdict(..) | Route::Chosen(..) => {}
        }
    }
    wedged
}

/// Whether the server has taken nothing for longer than `patience`, and it is its own fault: no client holds it.
pub fn is_stalled<'p>(
    mut clients: impl Iterator<Item = &'p Peer>,
    server: Option<&Peer>,
    patience: Duration,
) -> bool {
    server.is_some_and(|server| {
        let stalled = server.sender().is_holding() && server.sender().stalled_for() > patience;
        stalled && !clients.any(|client| client.sender().is_holding())
    })
}

/// When [`is_stalled`] is to be asked again: only if somebody is held.
pub fn next_look(server: Option<&Peer>, now: Instant) -> Option<Instant> {
    server.is_some_and(|server| server.sender().is_holding()).then(|| now + Duration::from_secs(1))
}

/// Queues a message for `to`, and holds those that feed the queue if it is filling up. `true`: wedged.
pub(crate) fn queue<'p>(
    to: &Peer,
    from: impl IntoIterator<Item = &'p Peer>,
    message: Outbound,
) -> bool {
    match to.sender().send(message.body, message.lane, message.tag) {
        Ok(Level::Normal) => false,
        Ok(Level::High) => {
            from.into_iter().for_each(|from| to.sender().hold(from.gate()));
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
