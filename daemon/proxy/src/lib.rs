//! The proxy as a state machine: a message in, routes out. No sockets, no clock of its own, no `async`.
//!
//! A [`Link`] joins clients (editors, mostly one) and one server, in wrapper mode: bytes pass as they are, except for the
//! ids of requests. The daemon has one link per wrapped server; the shim has one whose server is the daemon. What a link must
//! get right is numbered in the design's rule book; tests carry the numbers.
//!
//! The [`Mirror`] knows what a fresh server would have to be told to take over; the [`Tap`] what the server has said about
//! documents; both only listen. A [`verdict`] is what the server provably says of one revision.

mod classify;
pub use classify::{is_read, lane_to_client};
mod ids;
pub use ids::{ClientId, Duplicate, IdTable, Pending};
mod mirror;
pub use mirror::{Mirror, OpenDocument};
mod tap;
pub use tap::{Published, Source, TAP_DOCUMENTS_MAX, Tap};
mod back_off;
pub use back_off::{BACK_OFF, BackOff, RESTARTS_MAX, RESTARTS_WINDOW};
mod latency;
pub use latency::{LATENCIES_MAX, Latencies, Quantiles};
mod lease;
pub use lease::{
    Ground, LEASE_DOCUMENTS_MAX, LEASE_IDLE, LEASE_SETTLE, LEASE_WINDOW_MAX, LEASES_WAITING_MAX,
    Lease, Manner, Question, Refusal, Said, Step,
};
mod link;
pub use link::{
    CANCEL_PATIENCE, HELD_BYTES_MAX, HELD_MESSAGES_MAX, Link, LinkOptions, Outbound, Parted,
    REGISTRATIONS_PATIENCE, Reads, Route, SHUTDOWN_PATIENCE, ServerState,
};
pub mod merge;
mod raw;
pub mod positions;
pub mod verdict;
pub use verdict::Verdict;
