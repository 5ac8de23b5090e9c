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
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

impl RemoteOptions {
    /// The server at `url`, everything else as usual.
    pub fn at(url: &str) -> RemoteOptions {
        RemoteOptions {
            url: url.to_owned(),
            model: None,
            words: RemoteWords::Auto,
            key: None,
            connect: CONNECT_PATIENCE,
            first_token: FIRST_TOKEN_PATIENCE,
            between_tokens: TOKEN_PATIENCE,
            loading: LOADING_PATIENCE,
        }
    }
}
