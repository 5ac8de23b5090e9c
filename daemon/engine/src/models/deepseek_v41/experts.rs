//! The mixture of experts: clamped, summed in fp32.

use mlx_rs::{
    Array, Dtype,
    ops::{argpartition_axis, logaddexp, matmul, sigmoid, softmax_axis, sqrt},
};

use crate::{
    config::{
        self,
        deepseek_v41::{Experts, Scoring},
    },
    nn::{Activation, Builder, Built, Mlp, Result, SwitchGlu},
    ops::slice,
};

pub(super) struct Mixture {
    /// `[hidden, experts]`, a transposed view.
    router: Array,
    /// Added to the scores for the choice alone.
    correction: Array,
    switch: SwitchGlu,
    /// Sees every token.
    shared: Mlp,
    activation: Activation,
    experts: Experts,
}

impl Mixture {
    pub(super) fn build(
        path: &str,
        hidden: usize,
        experts: &Experts,
        builder: &mut Builder<'_>,
    ) -> Built<Mixture> {
        let activation = Activation::ClampedSwiglu { limit: experts.limit };
        let router = builder.tensor(&format!("{path}.gate.weight"), &[experts.count, hidden])?;
        let correction = format!("{path}.gate.e_score_correction_bias");
        let stacked = config::Experts {
            count: experts.count,
            per_token: experts.per_token,
            inner: experts.inner,
            shared: None,
            router: config::Router::Softmax { renormalise: experts.renormalise },
        };
        let switch = builder.switch(&format!("{path}.experts"), hidden, &stacked, activation)?;
        let shared = format!("{path}.shared_experts");
        Ok(Mixture {
            router: builder.compute(|| router.as_dtype(Dtype::Float32)?.swap_axes(-1, -2))?,
            correction: builder.vector(&correction, experts.count)?,
            switch,
            shared: builder.mlp(&shared, hidden, experts.inner, false)?,
            activation,
            experts: *experts,
        })
    }

    /// `x` is `[1, sum, hidden]`.
    pub(super) fn forward(&self, x: &Array) -> Result<Array> {
        let (chosen, weights) = self.choose(x)?;
        let routed = self.switch.forward(x, &chosen)?.as_dtype(Dtype::Float32)?;
        let routed = routed.multiply(weights.expand_dims(-1)?)?.sum_axis(-2, false)?;
        let parts = self.shared.inner.forward(x)?;
        let inner = self.activation.of(&parts[0], &parts[1])?.as_dtype(x.dtype())?;
        let shared = self.shared.down.forward(&inner)?.as_dtype(Dtype::Float32)?;
        routed.add(shared)?.as_dtype(x.dtype())
    }

    /// Experts and their weights for every token, both `[1, sum, per_token]`.
    fn choose(&self, x: &Array) -> Result<(Array, Array)> {
        let (tokens, k) = (x.dim(1), self.experts.per_token as i32);
        let logits = matmul(x.as_dtype(Dtype::Float32)?, &self.router)?;
        let logits = logits.divide(Array::from_f32(self.experts.temperature))?;
        let scores = match self.experts.scoring {
            Scoring::Sigmoid => sigmoid(&logits)?,
            Scoring::Softmax => softmax_axis(&logits, -1, None)?,
            Scoring::SqrtSoftplus => sqrt(&logaddexp(&logits, Array::from_f32(0.0))?)?,
        };
        let order = argpartition_axis(scores.add(&self.correction)?.negative()?, k - 1, -1)?;
        let chosen = slice(&order, &[0, 0, 0], &[1, tokens, k])?;
        let mut weights = scores.take_along_axis(&chosen, -1)?;
        if self.experts.renormalise && k > 1 {
            let sum = weights.sum_axis(-1, true)?.add(Array::from_f32(1e-20))?;
            weights = weights.divide(sum)?;
        }
        Ok((chosen, weights.multiply(Array::from_f32(self.experts.scaling))?))
    }
}
