//! What a loaded model is, how it is asked for, and why it may be refused.

use std::{ops::ControlFlow, path::PathBuf, sync::Arc};

use serde::Serialize;

use crate::{memory::words, remote::Capabilities, speculate::Speculation};

/// How to load a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadOptions {
    /// Which arithmetic to use.
    pub compute: Compute,
    /// The most bytes that weights and caches may take; `None`: what the machine has free at the moment.
    pub memory_max: Option<u64>,
    /// A shorter context than the model's own, to bound the caches; `None`: the model's.
    pub context_max: Option<usize>,
    /// Bits of each cached key and value: 8 or 4; `None`: as they are computed.
    pub kv_bits: Option<u8>,
    /// The most bytes of caches that are kept for later jobs; `None`: half of what the weights leave, and at least 512 MiB.
    pub kept_bytes_max: Option<u64>,
    /// Whether jobs may be speculated for; one that says [`Speculation::Off`] is not, whatever this says.
    pub speculation: Speculation,
}

impl LoadOptions {
    /// The daemon's choice: the fastest arithmetic that fits into the free memory.
    pub const AUTO: LoadOptions = LoadOptions {
        compute: Compute::Auto,
        memory_max: None,
        context_max: None,
        kv_bits: None,
        kept_bytes_max: None,
        speculation: Speculation::Auto,
    };
    /// For comparisons with mlx-lm: the same operations in the same order.
    pub const PARITY: LoadOptions = LoadOptions { compute: Compute::Parity, ..Self::AUTO };
}

/// Which arithmetic the forward pass uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compute {
    /// `Fast` on the CPU, `Uniform` on a GPU.
    Auto,
    /// The operations of mlx-lm in their order, on the weights as stored.
    Parity,
    /// The weights as stored, like `Parity`, in one order for any number of tokens: whether a text is computed at once, in pieces or
    /// token by token makes no difference. It is another order than mlx-lm's in latent attention alone.
    Uniform,
    /// Packed weights stay packed; everything else is computed in fp32.
    Quantized,
    /// On the CPU our own kernels: weights stay packed, activations are fp32, and a text comes to the same to the bit however it is
    /// cut into passes. On a GPU weights are dequantized at load time. Equal to `Parity` up to rounding.
    Fast,
}

/// How far a load is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadProgress {
    /// What is being done.
    pub phase: LoadPhase,
    /// Bytes of weights that were read.
    pub bytes: u64,
    /// Bytes of weights that will be read; 0 while that is not known.
    pub total: u64,
}

impl LoadProgress {
    /// Before anything is read.
    pub const BEGUN: LoadProgress = LoadProgress { phase: LoadPhase::Checking, bytes: 0, total: 0 };
}

/// The parts of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadPhase {
    /// The configuration, the tokenizer and the headers are looked at, and room is found.
    Checking,
    /// The weights are read and brought into the form that is computed with.
    Reading,
}

/// Somebody who is told how far a load is, and may stop it.
#[derive(Clone)]
pub struct LoadWatch(Arc<Listener>);

type Listener = dyn Fn(LoadProgress) -> ControlFlow<()> + Send + Sync;

impl LoadWatch {
    /// `listen` is called on the thread that loads, some hundred times a second at most where the disk is fast, and must return at
    /// once. `Break` ends the load: it fails with [`LoadError::Cancelled`] soon.
    pub fn new(listen: impl Fn(LoadProgress) -> ControlFlow<()> + Send + Sync + 'static) -> Self {
        LoadWatch(Arc::new(listen))
    }

    /// Nobody.
    pub fn nobody() -> LoadWatch {
        LoadWatch::new(|_| ControlFlow::Continue(()))
    }

    pub(crate) fn tell(&self, progress: LoadProgress) -> ControlFlow<()> {
        (self.0)(progress)
    }
}

/// The facts of a loaded model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelInfo {
    /// The last part of the directory's name.
    pub name: String,
    /// Where it was loaded from; empty for a scripted model.
    pub path: PathBuf,
    /// `model_type` of config.json, or `scripted`.
    pub architecture: String,
    /// Number of weights.
    pub parameters: u64,
    /// Number of weights that one token is multiplied with.
    pub parameters_active: u64,
    /// Number of token ids that have a logit.
    pub vocabulary: usize,
    /// The longest prompt plus answer, in tokens.
    pub context_max: usize,
    /// Bytes of the weights in memory.
    pub bytes_resident: u64,
    /// Bytes of cache per token of context.
    pub bytes_per_token: u64,
    /// The longest prompt plus answer that memory holds, as far as that was known when the model was loaded.
    pub context_fits: usize,
    /// For example `4 bit, groups of 64, affine`; `None`: unquantized.
    pub quantization: Option<String>,
    /// The arithmetic in use; never `Auto`.
    pub compute: Compute,
    /// Which weights `Fast` does not compute with as they are packed, and why, a line for each reason.
    pub unpacked: Vec<String>,
    /// Keys of config.json that the engine does not know and therefore ignored.
    pub config_unknown: Vec<String>,
    /// What the server can do that runs it; `None`: it runs in this process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<Box<Capabilities>>,
}

/// A model directory that cannot be loaded. Nothing stays in memory.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file that every model has is not there.
    #[error("{path}: {reason}")]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the system said of it.
        reason: String,
    },
    /// config.json cannot be understood.
    #[error("{path}: {reason}")]
    Config {
        /// The config.json.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A `model_type` that the engine cannot run.
    #[error("unknown architecture {found:?}{}; supported are {supported}", suggestion.as_ref().map(|s| format!(" (did you mean {s:?}?)")).unwrap_or_default())]
    Architecture {
        /// What config.json says.
        found: String,
        /// The nearest supported name.
        suggestion: Option<String>,
        /// All supported names.
        supported: String,
    },
    /// A weights file that is damaged or does not fit the configuration.
    #[error("{path}: {reason}")]
    Weights {
        /// The safetensors file (or the directory, when a tensor is in no file).
        path: PathBuf,
        /// The tensor, and what is wrong with it.
        reason: String,
    },
    /// More than the memory that is free or allowed.
    #[error(
        "the model needs {} ({} of weights, {} of cache for {tokens} tokens, {} for intermediate results), but only {} are {source_of_limit}{}{}",
        words(weights + cache + scratch), words(*weights), words(*cache), words(*scratch), words(*available),
        if *promised > 0 { format!(" beside the {} that other models are promised", words(*promised)) } else { String::new() },
        if advice.is_empty() { String::new() } else { format!("; {advice}") },
    )]
    TooBig {
        /// Bytes of the weights in memory.
        weights: u64,
        /// Bytes of the cache of the shortest context that is worth loading for, or of the one that was asked for.
        cache: u64,
        /// The length of that context.
        tokens: u64,
        /// Bytes of what a pass computes on its way, and of everything else.
        scratch: u64,
        /// Bytes that may be used.
        available: u64,
        /// Bytes promised to models that are loaded already.
        promised: u64,
        /// `free`, `allowed` and the like.
        source_of_limit: &'static str,
        /// What would help.
        advice: String,
    },
    /// tokenizer.json cannot be used.
    #[error("{path}: {reason}")]
    Tokenizer {
        /// The tokenizer.json.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// What was asked for does not go with the model: the setting, its value, the reason and the remedy.
    #[error("{0}")]
    Options(String),
    /// Whoever watched it wants the model no more ([`LoadWatch`]).
    #[error("loading was stopped")]
    Cancelled,
    /// The backend could not be started.
    #[error("the engine cannot start: {0}")]
    Backend(String),
    /// The server that is to run it: its address, what it did, and what helps.
    #[error("{0}")]
    Remote(String),
}

/// An adapter that cannot be mounted. The model and what is mounted already stay as they are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct MountError {
    /// The file that is at fault.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}
