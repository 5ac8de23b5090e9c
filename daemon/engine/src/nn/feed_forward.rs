//! The feed-forward part of a layer.

use std::sync::Arc;

use mlx_rs::{Array, fast::rms_norm, ops::sigmoid};

use super::{Linear, Network, Projections, Result, Router, SwitchGlu, swiglu};

/// The second half of a layer: a norm, the feed-forward part, and the sum of both ends.
pub(crate) struct Second {
    norm: Array,
    eps: f32,
    part: FeedForward,
    /// All of it as one operation, where its matrices lie in tiles.
    network: Option<Arc<Network>>,
}

impl Second {
    pub(crate) fn new(norm: Array, eps: f32, part: FeedForward) -> Result<Second> {
        let network = Network::of(&norm, eps, &part)?.map(Arc::new);
        Ok(Second { norm, eps, part, network })
    }

    /// `None`: something of it does not lie in tiles.
    pub(crate) fn network(&self) -> Option<&Arc<Network>> {
        self.network.as_ref()
    }

    /// `x + f(norm(x))`.
    pub(crate) fn forward(&self, x: &Array) -> Result<Array> {
        match self.network.as_ref().filter(|_| !self.part.is_worn()) {
            Some(network) => network.forward(x),
            None => x.add(self.part.forward(&rms_norm(x, Some(&self.norm), self.eps)?)?),
        }
    }
}

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
    /// Whether the pass wears a soul.
    fn is_worn(&self) -> bool {
        match self {
            FeedForward::Dense(mlp) => mlp.down.is_worn(),
            FeedForward::Experts(mixture) => mixture.router.gate.is_worn(),
        }
    }

    fn forward(&self, x: &Array) -> Result<Array> {
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
