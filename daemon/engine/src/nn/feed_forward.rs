//! The feed-forward part of a layer.

use mlx_rs::{Array, ops::sigmoid};

use super::{Linear, Projections, Result, Router, SwitchGlu, swiglu};

/// A gated feed-forward network: `down(silu(gate x) ⊙ up x)`.
pub(crate) struct Mlp {
    /// Gate and up.
    pub(crate) inner: Projections,
    pub(crate) down: Linear,
}

/// Dense, or a mixture of experts.
pub(crate) enum FeedForward {
    Dense(Mlp),
    Experts(Box<Mixture>),
}

/// A mixture of experts.
pub(crate) struct Mixture {
    pub(crate) router: Router,
    pub(crate) switch: SwitchGlu,
    pub(crate) shared: Option<Shared>,
}

/// Sees every token.
pub(crate) struct Shared {
    pub(crate) mlp: Mlp,
    /// `[1, hidden]`: the sigmoid of its product weighs the result.
    pub(crate) gate: Option<Linear>,
}

impl Shared {
    fn forward(&self, x: &Array) -> Result<Array> {
        let y = self.mlp.forward(x)?;
        match &self.gate {
            Some(gate) => sigmoid(gate.forward(x)?)?.multiply(y),
            None => Ok(y),
        }
    }
}

impl Mlp {
    pub(crate) fn forward(&self, x: &Array) -> Result<Array> {
        let parts = self.inner.forward(x)?;
        self.down.forward(&swiglu(&parts[0], &parts[1])?)
    }
}

impl FeedForward {
    pub(crate) fn forward(&self, x: &Array) -> Result<Array> {
        match self {
            FeedForward::Dense(mlp) => mlp.forward(x),
            FeedForward::Experts(mixture) => mixture.forward(x),
        }
    }
}

impl Mixture {
    pub(crate) fn forward(&self, x: &Array) -> Result<Array> {
        let (experts, scores) = self.router.choose(x)?;
        let y = self.switch.forward(x, &experts)?;
        let dtype = y.dtype();
        let y = y.multiply(scores.expand_dims(-1)?)?.sum_axis(-2, false)?.as_dtype(dtype)?;
        self.shared.as_ref().map_or(Ok(y.clone()), |shared| y.add(shared.forward(x)?))
    }
}
