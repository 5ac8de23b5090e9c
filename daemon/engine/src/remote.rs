//! The same jobs on somebody else's server: llama.cpp, vLLM, SGLang, LM Studio, mlx_lm.server, and what speaks like them.
//!
//! What a server cannot do is told ([`Capabilities`]), and what it claims is tried before it is believed.

mod capabilities;

pub use capabilities::{Capabilities, Prompts, Structured, Words};
