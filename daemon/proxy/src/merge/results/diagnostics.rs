//! What a server is told of the diagnostics for which actions are wanted: its own (rule 4.11).

use std::cell::LazyCell;

use crate::merge::data;
use crate::raw::{Raw, Splice, array};

/// The parameters of `textDocument/codeAction` for the server `child`: without diagnostics that others have made, and those
/// of its own as it made them.
///
/// Whose one is, is in its `data` if that was wrapped and has come back. Otherwise it is looked for among `published`, the
/// latest diagnostics of each server as JSON arrays; what nobody has made may be anybody's.
pub fn own_diagnostics(params: &[u8], child: usize, published: &[(usize, &[u8])]) -> Vec<u8> {
    let root = Raw::new(params);
    let Some(list) = root.path("context.diagnostics").filter(|list| list.is_array()) else {
        return params.to_vec();
    };
    // Read only if somebody's diagnostic does not say whose it is: a server may have published very many.
    let sets = LazyCell::new(|| {
        let identities = |(maker, set): &(usize, &[u8])| {
            (*maker, Raw::new(set).elements().into_iter().map(Identity::of).collect())
        };
        published.iter().map(identities).collect::<Vec<(usize, Vec<Identity>)>>()
    });
    let mut own: Vec<Vec<u8>> = Vec::new();
    let mut changed = false;
    for diagnostic in list.elements() {
        match data::owner(diagnostic.bytes()) {
            Some((maker, _, raw)) => {
                changed = true;
                own.extend((maker == child).then_some(raw));
            }
            None => {
                let identity = Identity::of(diagnostic);
                let made_by = |(_, set): &&(usize, Vec<Identity>)| set.contains(&identity);
                let mut makers = sets.iter().filter(made_by).peekable();
                if makers.peek().is_none() || makers.any(|(maker, _)| *maker == child) {
                    own.push(diagnostic.bytes().to_vec());
                } else {
                    changed = true;
                }
            }
        }
    }
    if !changed {
        return params.to_vec();
    }
    let mut splice = Splice::new(params);
    splice.replace(list, array(own.iter().map(Vec::as_slice)));
    splice.finish()
}

/// What makes two diagnostics the same (rule 4.19). The source is left out: an empty one is filled in on the way to the
/// client.
#[derive(PartialEq, Eq)]
struct Identity {
    range: Option<[u32; 4]>,
    code: Option<Vec<u8>>,
    message: Option<String>,
}

impl Identity {
    fn of(diagnostic: Raw<'_>) -> Identity {
        let at = |path| diagnostic.path(path)?.number();
        let range = || {
            Some([
                at("range.start.line")?,
                at("range.start.character")?,
                at("range.end.line")?,
                at("range.end.character")?,
            ])
        };
        Identity {
            range: range(),
            code: diagnostic.get("code").map(|code| code.bytes().to_vec()),
            message: diagnostic.get("message").and_then(Raw::string),
        }
    }
}
