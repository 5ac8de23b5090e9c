//! The feed-forward part of a layer: dense, or a mixture of experts. All families share these words.

use super::{Wrong, check_sizes};

/// The feed-forward part of a layer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum FeedForward {
    Dense { inner: usize },
    Experts(Experts),
}

/// A mixture of experts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Experts {
    pub(crate) count: usize,
    /// How many of them see a token.
    pub(crate) per_token: usize,
    pub(crate) inner: usize,
    /// What sees every token.
    pub(crate) shared: Option<Shared>,
    pub(crate) router: Router,
}

/// The expert that sees every token, with so many inner dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shared {
    /// `shared_experts`, added as it is (DeepSeek-V3, GLM).
    Plain { inner: usize },
    /// `shared_expert`, weighed by the sigmoid of `shared_expert_gate` (Qwen).
    Gated { inner: usize },
}

/// How experts are chosen.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Router {
    /// Softmax over all, the best are taken (Qwen).
    Softmax { renormalise: bool },
    /// The best are taken, and a softmax over those makes their weights (gpt-oss).
    SoftmaxOfChosen,
    /// Sigmoid, a correction bias for the choice alone, the best of the best groups (DeepSeek-V3, GLM).
    Sigmoid { groups: usize, groups_kept: usize, scaling: f32, renormalise: bool },
    /// Sigmoid, a correction bias for the choice alone, computed in fp32 from the product on (MiniMax-M2).
    SigmoidOfSingle,
}

impl FeedForward {
    /// What the arithmetic takes for granted.
    pub(super) fn check(&self) -> Result<(), Wrong> {
        match self {
            FeedForward::Dense { inner } => check_sizes(&[*inner]),
            FeedForward::Experts(experts) => experts.check(),
        }
    }

    /// The same experts, or none.
    pub(super) fn choose(is_sparse: bool, experts: &Experts, inner: usize) -> FeedForward {
        if is_sparse { FeedForward::Experts(experts.clone()) } else { FeedForward::Dense { inner } }
    }
}

impl Experts {
    fn check(&self) -> Result<(), Wrong> {
        check_sizes(&[self.count, self.inner])?;
        if let Some(Shared::Plain { inner } | Shared::Gated { inner }) = self.shared {
            check_sizes(&[inner])?;
        }
        if self.per_token == 0 || self.per_token > self.count {
            return Err(Wrong::Key(format!(
                "{} of {} experts per token",
                self.per_token, self.count
            )));
        }
        if let Router::Sigmoid { groups, groups_kept, .. } = self.router
            && (groups == 0
                || groups_kept == 0
                || groups_kept > groups
                || !self.count.is_multiple_of(groups)
                // Groups are judged by their two best experts.
                || (groups_kept < groups && self.count / groups < 2))
        {
            return Err(Wrong::Key(format!(
                "{groups_kept} of {groups} groups of {} experts",
                self.count
            )));
        }
        Ok(())
    }
}
