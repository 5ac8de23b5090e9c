//! What the workspace says: its own words, for whoever writes the next ones.
//!
//! Two sides ask. The prompt wants pieces of other files that help to understand the place of the cursor ([`index`]); the sampler
//! wants to know which tokens this workspace writes after these ([`cache`]). One walker feeds both with the text of one file at a time.
//!
//! The crate is pure: no input, no output, nothing async, and no locks; each structure has one owner, who shares it as it likes. What it
//! holds is bounded, in bytes. Decision 12 says why it is a crate of its own.

pub mod cache;
pub mod index;
