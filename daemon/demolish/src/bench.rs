//! `demolish bench`: measurements of the real program. Each ends in a [`Report`], the same object for all of them, from
//! which `docs/benchmarks.md` is written: the numbers in the documentation are the ones that were measured.

pub(crate) mod copy;
pub(crate) mod decode;
pub(crate) mod conformance;
pub(crate) mod echo;
pub(crate) mod engine;
pub(crate) mod faults;
pub(crate) mod load;
pub(crate) mod draw;
mod machine;
pub(crate) mod nano;
pub(crate) mod proxy;
pub mod report;
mod sandbox;
pub(crate) mod soak;
pub(crate) mod peers;
pub(crate) mod verdicts;
pub(crate) mod record;
pub(crate) mod playback;
pub(crate) mod replay;
pub(crate) mod retrieval;
mod transcript;
pub(crate) mod speculate;
pub(crate) mod steer;
