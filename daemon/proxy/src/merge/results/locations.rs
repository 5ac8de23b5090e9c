//! Places from several servers, each once. A list may not mix locations and links, so all become what the client can take.

use std::collections::HashSet;

use serde_json::Value;

use super::Part;
use crate::raw::{Raw, array};

/// The union of the lists (or single places) of all parts.
pub(super) fn merge(family: &str, parts: &[Part<'_>], client: &Value) -> Vec<u8> {
    let links = client.pointer(&format!("/textDocument/{family}/linkSupport"));
    let links = links.and_then(Value::as_bool).unwrap_or_default();
    let mut seen = HashSet::new();
    let mut places: Vec<Vec<u8>> = Vec::new();
    for part in parts {
        let result = Raw::new(part.result);
        let list = if result.is_array() { result.elements() } else { vec![result] };
        for place in list {
            let new = key(place).is_none_or(|key| seen.insert(key));
            if new {
                places.push(if links { as_link(place) } else { as_location(place) });
            }
        }
    }
    array(places.iter().map(Vec::as_slice))
}

/// What makes two places the same.
fn key(place: Raw<'_>) -> Option<(String, [u32; 4])> {
    let uri = place.get("uri").or_else(|| place.get("targetUri"))?.string()?;
    let range = place.get("range").or_else(|| target(place))?;
    let at = |path| range.path(path).and_then(Raw::number);
    let range = [at("start.line")?, at("start.character")?, at("end.line")?, at("end.character")?];
    Some((uri, range))
}

fn target(link: Raw<'_>) -> Option<Raw<'_>> {
    link.get("targetSelectionRange").or_else(|| link.get("targetRange"))
}

fn as_link(place: Raw<'_>) -> Vec<u8> {
    let (Some(uri), Some(range)) = (place.get("uri"), place.get("range")) else {
        return place.bytes().to_vec();
    };
    let new = [
        ("targetUri", uri.bytes()),
        ("targetRange", range.bytes()),
        ("targetSelectionRange", range.bytes()),
    ];
    rebuilt(place, &["uri", "range"], &new)
}

fn as_location(place: Raw<'_>) -> Vec<u8> {
    let (Some(uri), Some(range)) = (place.get("targetUri"), target(place)) else {
        return place.bytes().to_vec();
    };
    let old = ["targetUri", "targetRange", "targetSelectionRange", "originSelectionRange"];
    rebuilt(place, &old, &[("uri", uri.bytes()), ("range", range.bytes())])
}

/// The object with the members `new` instead of those called `old`; the others stay.
fn rebuilt(object: Raw<'_>, old: &[&str], new: &[(&str, &[u8])]) -> Vec<u8> {
    let members = object.members();
    let mut out = Vec::with_capacity(object.bytes().len() + 64);
    for (name, value) in new {
        out.push(if out.is_empty() { b'{' } else { b',' });
        out.extend_from_slice(format!("\"{name}\":").as_bytes());
        out.extend_from_slice(value);
    }
    let kept = members.iter().filter(|member| {
        !old.iter().any(|name| member.is(name)) && !new.iter().any(|(name, _)| member.is(name))
    });
    for member in kept {
        out.push(b',');
        out.extend_from_slice(member.bytes());
    }
    out.push(b'}');
    out
}
