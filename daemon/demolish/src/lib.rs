//! The program: where the crates meet. The loop, its state and its handlers, the features that editors see, the verbs of
//! the command line, and the settings.
//!
//! Start reading at `cli` (every door from outside), then `main_loop` (everything that can wake the daemon).

pub mod bench;
pub mod cli;
pub mod main_loop;
pub mod state;
pub mod handlers;
pub mod tasks;
mod linger;
pub mod daemon;
pub mod shim;
mod conformance_server;
pub mod fake_server;
pub mod config;
pub mod env_vars;
pub mod features;
mod glob;
pub mod journal;
pub mod logging;
pub mod memory;
pub mod model;
pub mod redact;
pub mod twin;
pub mod workspace;

/// The version of this build; shims and daemons must have the same.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
