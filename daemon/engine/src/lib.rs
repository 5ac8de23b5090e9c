//! Tokens in, tokens out: models, caches, scheduling and sampling.
//!
//! The engine is one plain thread that owns the model and every cache. Callers hold an [`Engine`] (a cheap handle), hand it a
//! [`Job`], and take [`Step`]s from the [`Sequence`] they get back. Dropping the sequence cancels the work at the next token.
//!
//! What this crate must not do: know of text beyond the tokenizer, of languages, editors or files other than the model's own.
//!
//! Where to read next: `job` has the vocabulary of types, `thread` the scheduler, `backend` the two backends (`mlx` computes,
//! `scripted` replays what a test wrote down), `sample` the draw, `remote` the same jobs on somebody else's server.

mod backend;
#[cfg(feature = "mlx")]
mod bare;
#[cfg(feature = "mlx")]
mod cache;
#[cfg(feature = "mlx")]
mod config;
mod ending;
mod engine;
mod fair;
mod files;
mod grammar;
mod guard;
mod info;
mod job;
mod line;
mod memory;
mod mixture;
#[cfg(feature = "mlx")]
mod models;
#[cfg(feature = "mlx")]
mod nn;
#[cfg(feature = "mlx")]
mod ops;
mod prefix;
mod profile;
#[cfg(feature = "mlx")]
mod quantize;
mod question;
mod remote;
mod run;
mod sample;
mod sampling;
#[cfg(feature = "mlx")]
mod scan;
mod sequence;
mod speculate;
mod spill;
mod stats;
mod thread;
mod token_set;
mod tokenizer;
#[cfg(feature = "mlx")]
mod weights;

#[cfg(feature = "mlx")]
pub use crate::bare::Bare;
#[cfg(feature = "mlx")]
pub use crate::quantize::{
    Keep, Method, Mixed, Quantized, Quantizer, Recipe, Step as QuantizeStep,
};
#[cfg(feature = "mlx")]
pub use crate::scan::{Scanned, scan};
pub use crate::{
    backend::scripted::Script,
    ending::end_all,
    engine::Engine,
    grammar::Grammar,
    guard::{Collapse, Detector, Guard, TokenKinds},
    info::{
        Compute, LoadError, LoadOptions, LoadPhase, LoadProgress, LoadWatch, ModelInfo, MountError,
    },
    job::{
        Class, Constraint, EngineError, Finish, Job, Limits, SoulId, Step, SubmitError, TokenId,
    },
    memory::{MemoryPlan, ModePlan, Survey},
    mixture::{MIXED_MAX, Mixture, Opinion, Supposed},
    profile::{Profile, Thinking},
    question::Scored,
    remote::{Capabilities, Key, Probing, Prompts, RemoteOptions, RemoteWords, Structured, Words},
    sampling::{Dry, Order, Penalty, Sampling, Stage, TOP_LEN_MAX, Xtc},
    sequence::{Fork, Mark, Sequence},
    speculate::{DRAFT_SOURCES, Speculation},
    spill::Spill,
    stats::Stats,
    token_set::TokenSet,
    tokenizer::{
        ChatError, ChatMessage, FimTokens, Piece, STOP_LEN_MAX, STOP_TEXTS_MAX, Shown, StopError,
        StopMatcher, TextStream, Tokenizer,
    },
};
