//! The checks, one file per section of the rule book.

mod diagnostics;
mod documents;
mod fidelity;
mod lifecycle;
mod merged;
mod requests;
mod restart;
mod routing;
mod streams;
mod wire;

use super::suite::Check;

/// All checks.
pub(super) fn all() -> Vec<Check> {
    [
        wire::checks(),
        fidelity::checks(),
        lifecycle::checks(),
        restart::checks(),
        requests::checks(),
        diagnostics::checks(),
        streams::checks(),
        documents::checks(),
        routing::checks(),
        merged::checks(),
    ]
    .concat()
}
