//! The whole chain with nothing faked: a real Neovim, real language servers, the real daemon and the real default model.
//!
//! Slow: everything here is skipped unless `DEMOLISH_SLOW=1`, and needs `make setup` and `cargo build -p demolish`.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "tests read DEMOLISH_SLOW and say what they skip"
)]

mod e2e {
    pub(crate) mod chain;
    pub(crate) mod crash;
    pub(crate) mod editor;
    pub(crate) mod session;
    pub(crate) mod vscode;
}
