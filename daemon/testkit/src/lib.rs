//! What tests and the demo share: a real Neovim that a program drives, and the places of the repository.
//!
//! Nothing here ships: `testkit` is a dev-dependency, and the owner of its one binary, `demo`. Read [`nvim`] next.

#![allow(
    clippy::disallowed_methods,
    reason = "testkit drives programs as a user would: it starts them, sets their environment and writes scratch files"
)]

pub mod hub;
pub mod nvim;
pub mod places;
pub mod sandbox;
