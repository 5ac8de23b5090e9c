//! The one integration binary: editors, shims, daemons and servers as real processes, and the loop in process.
//!
//! Names of tests carry the numbers of the rules that they hold (`rule_4_17_…`). Everything here is fast; what needs a real
//! language server is skipped unless `DEMOLISH_SLOW=1`.
#![allow(clippy::disallowed_methods, reason = "tests read the environment and write files")]
#![allow(clippy::print_stdout, reason = "a skipped test says so")]
#![allow(unreachable_pub, reason = "a binary has nobody to reach")]

mod house;

mod order;
mod cancel;
mod fidelity;
mod malformed;
mod conformance;
mod tower;
mod death;
mod faults;
mod bad_input;
mod lifecycle;
mod sharing;
mod load;
mod own;
mod lease;
mod real;
mod cli;
mod steering;
mod verdicts;
mod peers;
mod observe;
mod watch;
mod merge;
mod models;
mod toolcall;
