//! The same jobs on somebody else's server: llama.cpp, vLLM, SGLang, LM Studio, mlx_lm.server, and what speaks like them.
//!
//! What a server cannot do is told ([`Capabilities`]), and what it claims is tried before it is believed (`probe`). A job is a
//! request (`ask`) whose answer streams back (`stream`, `hear`); rewinds, forks and refused tokens are further requests from the
//! same beginning, which the server's prefix cache makes cheap (`run`, `thread`).

mod ask;
mod capabilities;
mod downgrades;
mod events;
mod fault;
mod hear;
mod http;
mod kind;
mod known;
mod options;
mod probe;
mod run;
mod server;
mod stream;
mod thread;
mod tried;
mod words;

use std::{path::PathBuf, sync::Arc};

pub use capabilities::{Capabilities, Prompts, Structured, Words};
pub use options::{Key, Probing, RemoteOptions, RemoteWords};

use crate::{
    info::{Compute, LoadError, ModelInfo},
    line::Line,
    speculate::Speculation,
    thread::Facts,
    tokenizer::Tokenizer,
};

/// The longest prompt plus answer where a server does not tell it.
const CONTEXT_UNKNOWN: usize = 8192;

/// Finds out what the server can do, and starts the thread that speaks to it.
pub(crate) fn start(
    options: RemoteOptions,
    context_max: Option<usize>,
) -> Result<(Line, ModelInfo, Arc<Tokenizer>), LoadError> {
    let open = async move || {
        let (server, context) = probe::probe(&options).await?;
        let context = context_max.map_or(context, |wanted| wanted.min(context));
        let tokenizer = server.lexicon.tokenizer.clone();
        let facts = Facts::of(&tokenizer, context, server.vocabulary, Speculation::Off);
        let info = info(&server, context);
        Ok((server, facts, (info, tokenizer)))
    };
    let (line, (info, tokenizer)) = thread::start(open).map_err(LoadError::Remote)?;
    Ok((line, info, tokenizer))
}

fn info(server: &server::Server, context: usize) -> ModelInfo {
    ModelInfo {
        name: server.client.quoted(server.model.rsplit('/').next().unwrap_or_default()),
        path: PathBuf::new(),
        architecture: "remote".to_owned(),
        parameters: 0,
        parameters_active: 0,
        vocabulary: server.vocabulary,
        context_max: context,
        bytes_resident: 0,
        bytes_per_token: 0,
        context_fits: context,
        quantization: None,
        compute: Compute::Auto,
        config_unknown: Vec::new(),
        unpacked: Vec::new(),
        remote: Some(Box::new(server.capabilities.clone())),
    }
}
