//! One list of completions out of several (rule 4.38).
//!
//! The first server's items come first and keep their `sortText`; those of the others get one that sorts behind. What a
//! list says by default about its items is written into each, because there can be only one set of defaults.

use super::Part;
use crate::raw::{Raw, Splice, array, find, quoted};

/// How a list says that the values of items and defaults are to be combined, not replaced.
const APPLY_MERGE: u32 = 2;

/// `None` if no part says anything and nobody is missing.
pub(super) fn merge(parts: &[Part<'_>], all_answered: bool) -> Option<Vec<u8>> {
    match parts {
        [] if all_answered => None,
        [] => Some(br#"{"isIncomplete":true,"items":[]}"#.to_vec()),
        [part] if all_answered => Some(part.result.to_vec()),
        [part] => Some(incomplete(part.result)),
        _ => Some(joined(parts, all_answered)),
    }
}

fn joined(parts: &[Part<'_>], all_answered: bool) -> Vec<u8> {
    let mut items = Vec::new();
    let mut incomplete = !all_answered;
    for (rank, part) in parts.iter().enumerate() {
        let list = Raw::new(part.result);
        incomplete |= list.get("isIncomplete").is_some_and(Raw::is_true);
        let defaults = Defaults::of(list);
        let elements = list.get("items").unwrap_or(list).elements();
        items.extend(elements.into_iter().map(|item| completed(item, &defaults, rank)));
    }
    let items = array(items.iter().map(Vec::as_slice));
    [format!(r#"{{"isIncomplete":{incomplete},"items":"#).as_bytes(), &items, b"}"].concat()
}

/// The list, told to be incomplete.
fn incomplete(list: &[u8]) -> Vec<u8> {
    let root = Raw::new(list);
    if root.is_array() {
        return [br#"{"isIncomplete":true,"items":"#, root.bytes(), b"}"].concat();
    }
    let mut splice = Splice::new(list);
    match root.get("isIncomplete") {
        Some(value) => splice.replace(value, b"true".to_vec()),
        None => splice.insert(root, "isIncomplete", b"true"),
    }
    splice.finish()
}

/// What a list says about those of its items that do not say it themselves.
#[derive(Default)]
struct Defaults<'a> {
    /// Members that an item takes as they are.
    plain: Vec<(&'static str, Raw<'a>)>,
    edit_range: Option<Raw<'a>>,
    /// Members that are combined with the item's own.
    combined: Vec<(&'static str, Raw<'a>)>,
}

impl<'a> Defaults<'a> {
    fn of(list: Raw<'a>) -> Defaults<'a> {
        let Some(given) = list.get("itemDefaults") else { return Defaults::default() };
        let given = given.members();
        let mut defaults =
            Defaults { edit_range: find(&given, "editRange"), ..Defaults::default() };
        for name in ["commitCharacters", "insertTextFormat", "insertTextMode", "data"] {
            let Some(value) = find(&given, name) else { continue };
            let apply = list.get("applyKind").and_then(|kinds| kinds.get(name));
            if apply.and_then(Raw::number) == Some(APPLY_MERGE) {
                defaults.combined.push((name, value));
            } else {
                defaults.plain.push((name, value));
            }
        }
        defaults
    }
}

/// The item of the server with this rank, with everything in it that its list says about it.
fn completed(item: Raw<'_>, defaults: &Defaults<'_>, rank: usize) -> Vec<u8> {
    let text = item.bytes();
    let item = Raw::new(text);
    if !item.is_object() {
        return text.to_vec();
    }
    let members = item.members();
    let mut splice = Splice::new(text);
    let label = || find(&members, "label").and_then(Raw::string).unwrap_or_default();
    if rank > 0 {
        let own = find(&members, "sortText");
        let key = own.and_then(Raw::string).unwrap_or_else(label);
        // Behind every letter and digit, and the servers one after the other.
        let key = quoted(&format!("~{rank:02}~{key}"));
        match own {
            Some(own) => splice.replace(own, key),
            None => splice.insert(item, "sortText", &key),
        }
    }
    for (name, value) in &defaults.plain {
        if find(&members, name).is_none() {
            splice.insert(item, name, value.bytes());
        }
    }
    for (name, value) in &defaults.combined {
        match find(&members, name) {
            None => splice.insert(item, name, value.bytes()),
            Some(own) => splice.replace(own, combined(*value, own)),
        }
    }
    if let Some(range) = defaults.edit_range
        && find(&members, "textEdit").is_none()
    {
        let new = find(&members, "textEditText").map(|text| text.bytes().to_vec());
        let new = new.unwrap_or_else(|| quoted(&label()));
        splice.insert(item, "textEdit", &edit(range, &new));
    }
    splice.finish()
}

/// Arrays one behind the other; of objects the item's own members, and the others of the default.
fn combined(default: Raw<'_>, own: Raw<'_>) -> Vec<u8> {
    if default.is_array() && own.is_array() {
        let (own, default) = (own.elements(), default.elements());
        let both = own.iter().chain(
            default
                .iter()
                .filter(|element| !own.iter().any(|mine| mine.bytes() == element.bytes())),
        );
        return array(both.map(|element| element.bytes()));
    }
    if !(default.is_object() && own.is_object()) {
        return own.bytes().to_vec();
    }
    let mut splice = Splice::new(own.bytes());
    let target = Raw::new(own.bytes());
    let has = own.members();
    for member in default.members() {
        let name = member.name();
        if find(&has, &name).is_none() {
            splice.insert(target, &name, member.value.bytes());
        }
    }
    splice.finish()
}

/// A text edit, or one of two ranges, as the default has it.
fn edit(range: Raw<'_>, new: &[u8]) -> Vec<u8> {
    match (range.get("insert"), range.get("replace")) {
        (Some(insert), Some(replace)) => [
            br#"{"newText":"#,
            new,
            br#","insert":"#,
            insert.bytes(),
            br#","replace":"#,
            replace.bytes(),
            b"}",
        ]
        .concat(),
        _ => [br#"{"newText":"#, new, br#","range":"#, range.bytes(), b"}"].concat(),
    }
}
