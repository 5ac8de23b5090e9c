//! What kind of thing a method is.

use wire::{Envelope, Kind, Lane};

/// Whether asking again after a lost answer does no harm: the method only reads.
pub fn is_read(method: &str) -> bool {
    if method.ends_with("/resolve") || method == "completionItem/resolve" {
        return true;
    }
    if let Some(name) = method.strip_prefix("textDocument/") {
        // Everything that is asked about a document is answered with data; edits come back for the client to apply.
        return name != "willSaveWaitUntil";
    }
    matches!(
        method,
        "workspace/symbol"
            | "workspace/diagnostic"
            | "callHierarchy/incomingCalls"
            | "callHierarchy/outgoingCalls"
            | "typeHierarchy/supertypes"
            | "typeHierarchy/subtypes"
    )
}

/// The lane of a message to the client (rule 4.7): what may be dropped or replaced when it does not keep up.
pub fn lane_to_client(envelope: &Envelope) -> Lane {
    let Kind::Notification { method } = &envelope.kind else { return Lane::Keep };
    match &**method {
        "window/logMessage" | "telemetry/event" | "$/logTrace" => Lane::Log,
        _ => Lane::Keep,
    }
}
