//! What may happen to a message on its way out.

/// What may happen to a message if the queue is full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Never dropped: requests, responses, document changes, and everything we do not know.
    Keep,
    /// Only the latest with this key counts: reports of one progress token, diagnostics of one document.
    Latest(Box<str>),
    /// May be dropped: log messages, telemetry.
    Log,
}
