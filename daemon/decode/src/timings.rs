//! Where the time of one answer went.

use std::time::Duration;

/// Where the time of one answer went. Parts overlap (the engine runs ahead while the server looks), so they may sum to more than `total`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// From the call to the answer.
    pub total: Duration,
    /// Building the prompt: context, windows, tokens.
    pub prompt: Duration,
    /// From handing the prompt to the engine to its first token.
    pub prefill: Duration,
    /// Waiting for tokens after the first.
    pub decode: Duration,
    /// The checks of what stood before (the baseline), from asking to answer.
    pub baseline: Duration,
    /// The checks of candidates, each from asking to answer, summed.
    pub checks: Duration,
    /// Scoring candidates by the model's likelihood.
    pub score: Duration,
    /// How many candidates were checked (the baseline not counted).
    pub check_count: u32,
    /// How often decoding was taken back.
    pub rewinds: u32,
    /// Tokens taken from the engine, those taken back included.
    pub tokens: u32,
}
