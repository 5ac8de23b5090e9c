//! The bodies of the fuzz targets: each takes any bytes, and panics if something does not hold.
//!
//! The bytes are read as choices among the words of the protocol (see [`input`]), so that an input gets past the first
//! bracket. The same bodies run on a few thousand pseudo-random inputs in the ordinary tests (`daemon/proxy/tests/fuzz.rs`), so
//! that they cannot rot.

pub mod input;
pub mod framer;
pub mod envelope;
pub mod edits;
pub mod router;
pub mod merger;
