//! What must not leave the machine is taken out: secrets, the text of documents, who and where the user is.
//!
//! One pure module for everything that is shown to others: `demolish trace`, `demolish report`, `demolish status`. It errs
//! on the side of taking out too much: a long identifier with digits in it may be taken for a key.

mod shape;

use std::borrow::Cow;

use serde_json::{Map, Value as Json};

/// What stands where a secret was.
pub const REDACTED: &str = "<redacted>";
/// How deep values are looked into; what is deeper is taken out whole.
const DEPTH_MAX: usize = 64;
/// Names of members that hold text of documents or of the user.
const TEXT_KEYS: [&str; 16] = [
    "text",
    "newtext",
    "oldtext",
    "contents",
    "inserttext",
    "textedittext",
    "documentation",
    "value",
    "diff",
    "prefix",
    "suffix",
    "snippet",
    "newname",
    "placeholder",
    "linetext",
    "sourcecode",
];
/// Parts of names of members, and of variables, that hold secrets.
const SECRET_KEYS: [&str; 14] = [
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "authorization",
    "apikey",
    "accesskey",
    "privatekey",
    "credential",
    "cookie",
    "bearer",
    "licensekey",
    "signingkey",
];
/// Names in the protocol and in our settings that only sound like secrets.
const HARMLESS_KEYS: [&str; 16] = [
    "semantictokens",
    "semantictokensprovider",
    "tokentypes",
    "tokenmodifiers",
    "tokens",
    "tokensmax",
    "tokenize",
    "tokenizer",
    "multilinetokensupport",
    "overlappingtokensupport",
    "augmentssyntaxtokens",
    "semantictokentypes",
    "semantictokenmodifiers",
    "workdonetoken",
    "partialresulttoken",
    "completetokensmax",
];
/// User and host names that stand for nobody.
const NOBODY: [&str; 6] = ["root", "user", "admin", "localhost", "home", "demolish"];

/// Takes out what must not leave the machine.
#[derive(Clone, Debug, Default)]
pub struct Redactor {
    home: Option<String>,
    names: Vec<(String, &'static str)>,
}

impl Redactor {
    /// A redactor that also knows where the user is at home, and the names of the user and the machine.
    #[must_use]
    pub fn new(home: Option<&str>, user: Option<&str>, host: Option<&str>) -> Redactor {
        let home = home.map(|home| home.trim_end_matches('/')).filter(|home| home.len() > 1);
        let mut names = Vec::new();
        let last = home.and_then(|home| home.rsplit('/').next());
        for (name, word) in [(user, "<user>"), (last, "<user>"), (host, "<host>")] {
            let known = |name: &&str| name.len() > 2 && !NOBODY.contains(&&*name.to_lowercase());
            if let Some(name) = name.filter(known) {
                names.push((name.to_owned(), word));
            }
        }
        Redactor { home: home.map(str::to_owned), names }
    }

    /// Free text, such as a line of a log or an argument of a command.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        let mut out = Cow::Borrowed(text);
        if let Some(home) = &self.home {
            out = replace_words(out, home, "~", home_ends);
        }
        let mut out = shape::without_secrets(&out);
        for (name, word) in &self.names {
            out = replace_words(Cow::Owned(out), name, word, name_ends).into_owned();
        }
        out
    }

    /// A value, such as the body of a message: secrets by the names of members and by their shape, and text of
    /// documents, of which the length is left.
    #[must_use]
    pub fn value(&self, value: &Json) -> Json {
        self.at(value, 0)
    }

    fn at(&self, value: &Json, depth: usize) -> Json {
        if depth >= DEPTH_MAX {
            return REDACTED.into();
        }
        match value {
            Json::String(text) => self.text(text).into(),
            Json::Array(items) => self.array(items, depth),
            Json::Object(members) => self.object(members, depth),
            other => other.clone(),
        }
    }

    fn array(&self, items: &[Json], depth: usize) -> Json {
        // A command line: `--token` `abc` is two arguments.
        let mut secret = false;
        let items = items.iter().map(|item| {
            let was = std::mem::take(&mut secret);
            match item.as_str() {
                Some(_) if was => REDACTED.into(),
                Some(text) => {
                    secret = text.starts_with('-') && !text.contains('=') && is_secret(text);
                    self.text(text).into()
                }
                None => self.at(item, depth + 1),
            }
        });
        Json::Array(items.collect())
    }

    fn object(&self, members: &Map<String, Json>, depth: usize) -> Json {
        let redacted = members.iter().map(|(key, value)| {
            let value = if is_secret(key) {
                blotted(value, depth)
            } else if is_env(key) && (value.is_object() || value.is_array()) {
                REDACTED.into()
            } else if TEXT_KEYS.contains(&&*plain(key)) {
                measured(value, depth)
            } else {
                self.at(value, depth + 1)
            };
            (self.text(key), value)
        });
        Json::Object(redacted.collect())
    }
}

/// Whether a member, a variable or an option of this name holds a secret.
fn is_secret(name: &str) -> bool {
    let name = plain(name);
    !HARMLESS_KEYS.contains(&&*name) && SECRET_KEYS.iter().any(|part| name.contains(part))
}

fn is_env(name: &str) -> bool {
    matches!(&*plain(name), "env" | "environment" | "environmentvariables" | "extraenv")
}

/// A name without what styles differ in: `api_key`, `apiKey`, `API-KEY`.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// A value of which only the shape is left.
fn blotted(value: &Json, depth: usize) -> Json {
    match value {
        Json::Null | Json::Bool(_) => value.clone(),
        Json::Array(items) if depth < DEPTH_MAX => {
            items.iter().map(|item| blotted(item, depth + 1)).collect()
        }
        Json::Object(members) if depth < DEPTH_MAX => Json::Object(
            members.iter().map(|(key, value)| (key.clone(), blotted(value, depth + 1))).collect(),
        ),
        _ => REDACTED.into(),
    }
}

/// A value of which only the shape and the lengths of its strings are left.
fn measured(value: &Json, depth: usize) -> Json {
    match value {
        Json::String(text) => format!("<{} characters>", text.chars().count()).into(),
        Json::Array(items) if depth < DEPTH_MAX => {
            items.iter().map(|item| measured(item, depth + 1)).collect()
        }
        Json::Object(members) if depth < DEPTH_MAX => {
            let member = |(key, value): (&String, &Json)| {
                let kind = matches!(key.as_str(), "kind" | "language");
                let value = if kind { value.clone() } else { measured(value, depth + 1) };
                (key.clone(), if is_secret(key) { blotted(&value, depth) } else { value })
            };
            Json::Object(members.iter().map(member).collect())
        }
        Json::Array(_) | Json::Object(_) => REDACTED.into(),
        other => other.clone(),
    }
}

/// Replaces `word` wherever `ends` says that it is not a part of a longer one.
fn replace_words<'t>(
    text: Cow<'t, str>,
    word: &str,
    with: &str,
    ends: fn(before: Option<char>, after: Option<char>) -> bool,
) -> Cow<'t, str> {
    if !text.contains(word) {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for (at, _) in text.match_indices(word) {
        let (before, after) = (&text[..at], &text[at + word.len()..]);
        if ends(before.chars().next_back(), after.chars().next()) {
            out.push_str(&text[done..at]);
            out.push_str(with);
            done = at + word.len();
        }
    }
    out.push_str(&text[done..]);
    Cow::Owned(out)
}

fn home_ends(_: Option<char>, after: Option<char>) -> bool {
    after.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != '-')
}

fn name_ends(before: Option<char>, after: Option<char>) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    !before.is_some_and(inside) && !after.is_some_and(inside)
}

#[cfg(test)]
mod tests;
