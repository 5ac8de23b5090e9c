//! Bytes to messages and back: the only crate that knows what the language server protocol looks like on the wire.
//!
//! Without the feature `io` this is a pure codec: a lenient [`frame`] decoder and strict encoder, the [`Envelope`] that
//! reads the few members a router needs and leaves the body as the bytes that arrived, and the protocol's types in
//! [`lsp`] and [`ext`]. With `io` it also has what moves bytes: [`peer`], [`child`], [`socket`], an LSP [`client`], and
//! [`fake`] peers for tests.
//!
//! It must not know what a message means beyond its envelope; that is the business of `proxy` and `demolish`.

pub mod frame;
pub mod json;
mod envelope;
pub use envelope::{
    Envelope, EnvelopeError, Id, Kind, Method, ResponseError, Salvaged, codes, parse, salvage,
};
mod lane;
pub use lane::Lane;
pub mod codec;
pub mod lsp;
pub mod ext;

#[cfg(feature = "io")]
pub mod peer;
#[cfg(feature = "io")]
pub mod child;
#[cfg(feature = "io")]
pub mod socket;
#[cfg(feature = "io")]
pub mod client;
#[cfg(feature = "io")]
pub mod fake;
#[cfg(feature = "io")]
pub mod ends;

pub use bytes::Bytes;
/// The server framework that Demolish's own features are written against; called in process, never given a transport.
#[cfg(feature = "io")]
pub use tower_lsp as tower;
#[cfg(feature = "io")]
pub use tower_service;
