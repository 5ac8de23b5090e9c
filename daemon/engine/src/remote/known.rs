//! What was found out about servers, for the life of the process: nobody pays twice for finding out the same.

use std::sync::{Arc, Mutex, PoisonError};

use super::{
    capabilities::{Capabilities, Prompts},
    kind::Greeting,
    options::{Key, Probing, RemoteOptions},
    probe::TEXT,
    server::Server,
    tried::Tried,
};
use crate::job::TokenId;

/// About how many servers something is remembered.
const KNOWN_MAX: usize = 16;

static KNOWN: Mutex<Vec<(Known, Found)>> = Mutex::new(Vec::new());

/// Which server it is: where it is, and what it says of itself, which costs nothing to ask. Who asks, and in whose words.
#[derive(Clone, PartialEq)]
pub(super) struct Known {
    url: String,
    key: Option<Key>,
    greeting: Greeting,
    /// Some text in the words of callers.
    words: Vec<TokenId>,
    vocabulary: usize,
}

/// What it was found to be.
#[derive(Clone)]
struct Found {
    capabilities: Capabilities,
    is_shared: bool,
    prompts: Prompts,
    top_len_max: usize,
    streams: bool,
    tried: Arc<Tried>,
    probing: Probing,
}

impl Known {
    pub(super) fn of(server: &Server, options: &RemoteOptions, greeting: &Greeting) -> Known {
        Known {
            url: server.client.url.clone(),
            key: options.key.clone(),
            greeting: greeting.clone(),
            words: server.lexicon.tokenizer.encode(TEXT),
            vocabulary: server.vocabulary,
        }
    }

    /// Whether as much is known of it as is wanted. Then it need not be probed.
    pub(super) fn recall(&self, server: &mut Server, probing: Probing) -> bool {
        let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.iter().find(|(known, _)| known == self).map(|(_, found)| found.clone());
        drop(known);
        let Some(found) = found.filter(|found| found.probing >= probing) else { return false };
        server.capabilities = found.capabilities;
        server.lexicon.is_shared = found.is_shared;
        server.lexicon.prompts = found.prompts;
        server.top_len_max = found.top_len_max;
        server.streams = found.streams;
        server.tried = found.tried;
        true
    }

    pub(super) fn remember(self, server: &Server, probing: Probing) {
        let found = Found {
            capabilities: server.capabilities.clone(),
            is_shared: server.lexicon.is_shared,
            prompts: server.lexicon.prompts,
            top_len_max: server.top_len_max,
            streams: server.streams,
            tried: server.tried.clone(),
            probing,
        };
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(known, _)| *known != self);
        if known.len() >= KNOWN_MAX {
            known.remove(0);
        }
        known.push((self, found));
    }
}
