//! Which server, and how patient to be with it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use crate::tokenizer::Tokenizer;

/// How long a connection may take to come about.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// How long the first token may take, or an answer that is no stream: a long prompt is read first. A server that tells how far it
/// has come is given as long again each time.
const FIRST_TOKEN_PATIENCE: Duration = Duration::from_secs(180);
/// How long each later token may take.
const TOKEN_PATIENCE: Duration = Duration::from_secs(60);
/// How long a server may go on saying that it is loading, or has too much to do.
const LOADING_PATIENCE: Duration = Duration::from_secs(300);

/// Which server, and how patient to be with it.
#[derive(Clone)]
pub struct RemoteOptions {
    /// Its address: `http://host:8080`, with or without `/v1`.
    pub url: String,
    /// The model to ask for, where it serves several; `None`: the first that it names.
    pub model: Option<String>,
    /// Whose tokens callers see.
    pub words: RemoteWords,
    /// What it wants to be shown.
    pub key: Option<Key>,
    /// What is to be found out about it beforehand.
    pub probing: Probing,
    /// How long a connection may take to come about.
    pub connect: Duration,
    /// How long the first token may take.
    pub first_token: Duration,
    /// How long each later token may take.
    pub between_tokens: Duration,
    /// How long it may go on saying that it is loading, or has too much to do.
    pub loading: Duration,
}

/// Where the engine's tokens come from.
#[derive(Clone)]
pub enum RemoteWords {
    /// A tokenizer.json, or the directory that holds one.
    File(PathBuf),
    /// One that is read already.
    Given(Arc<Tokenizer>),
    /// From the server where it tells them, else they are bytes.
    Auto,
}

/// How much is to be found out about a server beforehand: every trial is a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Probing {
    /// What every job needs; grammars and scores are tried when a job needs them.
    Needed,
    /// Everything that can be told about it.
    All,
}

/// A secret that is shown to the server alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// `None`: there is nothing in it that a header could carry.
    pub fn new(text: &str) -> Option<Key> {
        let text = text.trim();
        let is_visible = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_visible.then(|| Key(text.to_owned()))
    }

    pub(super) fn shown(&self) -> &str {
        &self.0
    }

    /// A text without the key, which some servers repeat: as it is, and as JSON writes it.
    pub(super) fn masked(&self, text: &str) -> String {
        let escaped = serde_json::Value::from(self.0.as_str()).to_string();
        let escaped = &escaped[1..escaped.len() - 1];
        let slashes = escaped.replace('/', "\\/");
        [slashes.as_str(), escaped, &self.0]
            .into_iter()
            .fold(text.to_owned(), |text, form| text.replace(form, "…"))
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

impl RemoteOptions {
    /// The address as people may see it: without what may be a secret, which is everything before an `@` and behind a `?`.
    #[must_use]
    pub fn address(&self) -> String {
        let text = self.url.trim();
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.chars().all(char::is_alphanumeric) => {
                (format!("{scheme}://"), rest)
            }
            _ => (String::new(), text),
        };
        let (place, behind) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
        let place = match place.rsplit_once('@') {
            Some((_, place)) => place,
            // Whose it is cannot be said.
            None if behind.contains('@') => "…",
            None => place,
        };
        format!("{scheme}{place}")
    }

    /// The server at `url`, everything else as usual.
    pub fn at(url: &str) -> RemoteOptions {
        RemoteOptions {
            url: url.to_owned(),
            model: None,
            words: RemoteWords::Auto,
            key: None,
            probing: Probing::Needed,
            connect: CONNECT_PATIENCE,
            first_token: FIRST_TOKEN_PATIENCE,
            between_tokens: TOKEN_PATIENCE,
            loading: LOADING_PATIENCE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_secrets() {
        let shown = |url: &str| RemoteOptions::at(url).address();
        assert_eq!(shown(" http://host:8080/v1 "), "http://host:8080/v1");
        assert_eq!(shown("http://me:secret@host:1/v1?key=secret#x"), "http://host:1/v1");
        assert_eq!(shown("me:secret@host"), "host");
        assert_eq!(shown("http://me:se/cret@host"), "http://host");
        assert_eq!(shown("http://me:se?cret@host"), "http://…");
        assert_eq!(shown("secret@http://host"), "http://host");
        assert_eq!(shown("me:secret://x@host"), "host");
        assert_eq!(shown(""), "");
    }

    #[test]
    fn a_key_is_masked_however_it_is_written() {
        let key = Key::new("a/b\"c").expect("a header carries it");
        assert_eq!(key.masked("1 a/b\"c 2 a/b\\\"c 3 a\\/b\\\"c"), "1 … 2 … 3 …");
    }
}
