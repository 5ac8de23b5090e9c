//! Names of commands (rule 4.36). Two servers may both have a command `fix`; what the client sees carries the server's
//! name, and what the client sends back is stripped of it.

use crate::raw::{Raw, Splice, quoted};

/// What a command of ours begins with.
const PREFIX: &str = "demolish:";

/// Commands that the client runs itself, one a line; a trailing `*` stands for any ending, `#` begins a remark.
const CLIENT_COMMANDS: &str = include_str!("client-commands.txt");

/// What the client is to call the command `command` of the server `child`, which has no colon in its name.
pub fn name(child: &str, command: &str) -> String {
    format!("{PREFIX}{child}:{command}")
}

/// The result `raw` with the server's name before every command that it must run, wherever a command can stand: in code
/// actions, code lenses, completion items, parts of inlay hints, inline completions. `known` are the commands that the server has said
/// to have; other ones stay as they are if they are among those that clients run themselves.
pub fn prefix(raw: &[u8], child_name: &str, known: &[String]) -> Vec<u8> {
    rename(raw, |command| {
        let client = !known.iter().any(|name| name == command) && is_client_side(command);
        (!client && unprefix(command).is_none()).then(|| name(child_name, command))
    })
}

/// `raw` (an item that the client wants resolved) as the server `child_name` wrote it: the reverse of [`prefix`].
pub fn restore(raw: &[u8], child_name: &str) -> Vec<u8> {
    rename(raw, |command| {
        unprefix(command).filter(|(child, _)| *child == child_name).map(|(_, own)| own.to_owned())
    })
}

/// The server and its own name of a command that we have renamed.
pub fn unprefix(command: &str) -> Option<(&str, &str)> {
    command.strip_prefix(PREFIX)?.split_once(':')
}

/// Whether clients run this command themselves.
pub fn is_client_side(command: &str) -> bool {
    let lines = CLIENT_COMMANDS.lines().map(|line| line.split('#').next().unwrap_or(line).trim());
    lines.filter(|line| !line.is_empty()).any(|pattern| match pattern.strip_suffix('*') {
        Some(start) => command.starts_with(start),
        None => command == pattern,
    })
}

fn rename(raw: &[u8], new: impl Fn(&str) -> Option<String>) -> Vec<u8> {
    let root = Raw::new(raw);
    let mut splice = Splice::new(raw);
    let mut change = |command: Raw<'_>| {
        if let Some(new) = command.string().and_then(|old| new(&old)) {
            splice.replace(command, quoted(&new));
        }
    };
    if root.is_array() {
        root.elements().into_iter().for_each(|item| commands(item, &mut change));
    } else if let Some(items) = root.get("items").filter(|items| items.is_array()) {
        items.elements().into_iter().for_each(|item| commands(item, &mut change));
    } else {
        commands(root, &mut change);
    }
    splice.finish()
}

/// The places of commands in one item.
fn commands(item: Raw<'_>, found: &mut impl FnMut(Raw<'_>)) {
    for member in item.members() {
        let value = member.value;
        if member.is("command") {
            // The item is a command itself, or has one.
            let name = if value.is_string() { Some(value) } else { value.get("command") };
            name.filter(|name| name.is_string()).into_iter().for_each(&mut *found);
        } else if member.is("label") && value.is_array() {
            let parts = value.elements().into_iter();
            parts.filter_map(|part| part.path("command.command")).for_each(&mut *found);
        }
    }
}

#[cfg(test)]
mod tests;
