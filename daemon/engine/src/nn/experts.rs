//! Mixtures of experts: which experts see a token, and what they make of it.

use std::rc::Rc;

use mlx_rs::{
    Array, Dtype,
    error::Exception,
    ops::{self, argpartition_axis, argsort, sigmoid, softmax_axis},
};

use super::{Activation, Linear, Result, Weight, soul::Site};
use crate::{
    config,
    ops::{gather_mm, slice},
};

/// From so many chosen experts on, rows are sorted by expert (mlx-lm's number).
const SORT_LEN_MIN: i32 = 64;

/// Chooses experts.
pub(crate) struct Router {
    pub(crate) gate: Linear,
    /// Added to the scores for the choice alone.
    pub(crate) correction: Option<Array>,
    pub(crate) kind: config::Router,
    pub(crate) count: i32,
    pub(crate) per_token: i32,
}

impl Router {
    pub(crate) fn new(
        gate: Linear,
        correction: Option<Array>,
        experts: &config::Experts,
    ) -> Router {
        let (count, per_token) = (experts.count as i32, experts.per_token as i32);
        Router { gate, correction, kind: experts.router.clone(), count, per_token }
    }

    /// Experts and their weights for every token, both `[1, tokens, per_token]`.
    pub(crate) fn choose(&self, x: &Array) -> Result<(Array, Array)> {
        match &self.kind {
            config::Router::SoftmaxOfChosen => {
                let gates = self.gate.forward(x)?;
                let experts = self.greatest(&gates)?;
                let scores = softmax_axis(gates.take_along_axis(&experts, -1)?, -1, true)?;
                Ok((experts, scores))
            }
            config::Router::SigmoidOfSingle => self.by_sigmoid_of_single(x),
            config::Router::Softmax { renormalise } => {
                self.by_softmax(&self.gate.forward(x)?, *renormalise)
            }
            config::Router::Sigmoid { groups, groups_kept, scaling, renormalise } => {
                let gates = self.gate.forward(x)?;
                let dropped = (groups - groups_kept) as i32;
                self.by_sigmoid(&gates, *groups as i32, dropped, *scaling, *renormalise)
            }
        }
    }

    fn by_softmax(&self, gates: &Array, renormalise: bool) -> Result<(Array, Array)> {
        let gates = softmax_axis(gates, -1, true)?;
        let experts = self.greatest(&gates)?;
        let mut scores = gates.take_along_axis(&experts, -1)?;
        if renormalise {
            scores = scores.divide(scores.sum_axis(-1, true)?)?;
        }
        Ok((experts, scores))
    }

    /// The experts with the greatest scores.
    fn greatest(&self, scores: &Array) -> Result<Array> {
        let (k, tokens) = (self.per_token, scores.dim(1));
        let order = argpartition_axis(scores, -k, -1)?;
        slice(&order, &[0, 0, self.count - k], &[1, tokens, self.count])
    }

    /// Everything in fp32, whatever the type of `x`; the weights have its type again.
    fn by_sigmoid_of_single(&self, x: &Array) -> Result<(Array, Array)> {
        let (k, tokens) = (self.per_token, x.dim(1));
        let original = sigmoid(self.gate.forward(&x.as_dtype(Dtype::Float32)?)?)?;
        let scores = match &self.correction {
            Some(correction) => original.add(correction)?,
            None => original.clone(),
        };
        let order = argpartition_axis(scores.negative()?, k - 1, -1)?;
        let experts = slice(&order, &[0, 0, 0], &[1, tokens, k])?;
        let scores = original.take_along_axis(&experts, -1)?;
        let sum = scores.sum_axis(-1, true)?.add(Array::from_f32(1e-20))?;
        Ok((experts, scores.divide(sum)?.as_dtype(x.dtype())?))
    }

    fn by_sigmoid(
        &self,
        gates: &Array,
        groups: i32,
        dropped: i32,
        scaling: f32,
        renormalise: bool,
    ) -> Result<(Array, Array)> {
        let (k, tokens) = (self.per_token, gates.dim(1));
        let original = sigmoid(gates.as_dtype(Dtype::Float32)?)?;
        let mut scores = original.clone();
        if let Some(correction) = &self.correction {
            scores = scores.add(correction)?;
        }
        if groups > 1 {
            scores = without_worst_groups(&scores, groups, dropped)?;
        }
        let order = argpartition_axis(scores.negative()?, k - 1, -1)?;
        let experts = slice(&order, &[0, 0, 0], &[1, tokens, k])?;
        let mut scores = original.take_along_axis(&experts, -1)?;
        if k > 1 && renormalise {
            scores = scores.divide(scores.sum_axis(-1, true)?)?;
        }
        Ok((experts, scores.multiply(Array::from_f32(scaling))?))
    }
}

/// Puts the experts of the groups whose two best experts are worst out of the question.
///
/// DeepSeek's reference sets their scores to minus infinity, and so do we. mlx-lm sets them to 0, which lets an expert of a
/// dropped group in when a kept one has a negative corrected score.
fn without_worst_groups(scores: &Array, groups: i32, dropped: i32) -> Result<Array> {
    if dropped == 0 {
        return Ok(scores.clone());
    }
    let (tokens, count) = (scores.dim(1), scores.dim(2));
    let scores = scores.reshape(&[1, tokens, groups, count / groups])?;
    let best = ops::indexing::topk_axis(&scores, 2, -1)?.sum_axis(-1, true)?;
    let order = argpartition_axis(&best, dropped - 1, -2)?;
    let worst = slice(&order, &[0, 0, 0, 0], &[1, tokens, dropped, 1])?;
    let kept = scores.put_along_axis(&worst, Array::from_f32(f32::NEG_INFINITY), -2)?;
    kept.reshape(&[1, tokens, count])
}

/// The experts: a gated feed-forward network each.
pub(crate) struct SwitchGlu {
    pub(crate) activation: Activation,
    pub(crate) weights: SwitchWeights,
}

pub(crate) enum SwitchWeights {
    /// As stored; the operations of mlx-lm.
    Apart { gate: Linear, up: Linear, down: Linear },
    /// Plain fp32, gate and up in one matrix.
    Fused(FastExperts),
}

/// Experts that BLAS multiplies.
pub(crate) struct FastExperts {
    /// `[experts, in, 2·inner]`, a transposed view.
    pub(crate) gate_up: Array,
    /// `[experts, inner, out]`, a transposed view.
    pub(crate) down: Array,
    /// `[experts, 2·inner]` and `[experts, out]`.
    pub(crate) biases: Option<(Array, Array)>,
    /// The same matrices, one array per expert.
    pub(crate) each: Vec<(Array, Array)>,
    /// Where souls add to gate, up and down.
    pub(crate) sites: [Rc<Site>; 3],
}

impl SwitchGlu {
    /// `x` is `[1, tokens, hidden]`; the result `[1, tokens, per_token, hidden]`.
    pub(crate) fn forward(&self, x: &Array, experts: &Array) -> Result<Array> {
        let activation = self.activation;
        match &self.weights {
            SwitchWeights::Apart { gate, up, down } => {
                apart(x, experts, [gate, up, down], activation)
            }
            SwitchWeights::Fused(fast) if experts.size() < SORT_LEN_MIN as usize => {
                fast.gathered(x, experts, activation)
            }
            SwitchWeights::Fused(fast) => fast.routed(x, experts, activation),
        }
    }
}

fn apart(
    x: &Array,
    experts: &Array,
    [gate, up, down]: [&Linear; 3],
    activation: Activation,
) -> Result<Array> {
    let (tokens, hidden, k) = (x.dim(1), x.dim(2), experts.dim(2));
    let is_sorted = experts.size() >= SORT_LEN_MIN as usize;
    let (x, indices, back) = if is_sorted {
        let flat = experts.reshape(&[-1])?;
        let order = argsort(&flat)?;
        let back = argsort(&order)?;
        let rows = order.floor_divide(Array::from_slice(&[k as u32], &[]))?;
        let x = x.reshape(&[tokens, 1, hidden])?.take_axis(&rows, 0)?;
        (x, flat.take_axis(&order, 0)?, Some(back))
    } else {
        (x.reshape(&[1, tokens, 1, 1, hidden])?, experts.clone(), None)
    };
    let risen = switch(&x, up, &indices, is_sorted)?;
    let gated = switch(&x, gate, &indices, is_sorted)?;
    let y = switch(&activation.of(&gated, &risen)?, down, &indices, is_sorted)?;
    let y = back.map_or(Ok(y.clone()), |back| y.take_axis(&back, 0))?;
    y.reshape(&[1, tokens, k, hidden])
}

/// `x` times the matrix of each index.
pub(super) fn switch(
    x: &Array,
    linear: &Linear,
    indices: &Array,
    is_sorted: bool,
) -> Result<Array> {
    let y = match &linear.weight {
        Weight::Plain(weight) => gather_mm(x, weight, indices, is_sorted),
        Weight::Packed(packed) => packed.gathered(x, indices, is_sorted),
        Weight::Tiles(tiled) => tiled.gathered(x, indices),
    }?;
    let y = with_biases(y, linear.bias.as_ref(), indices)?;
    match &linear.site {
        Some(site) => site.with_gathered(x, y, indices, is_sorted),
        None => Ok(y),
    }
}

/// `y`, made by the matrices of `indices`, with their biases, one row per matrix.
fn with_biases(y: Array, biases: Option<&Array>, indices: &Array) -> Result<Array> {
    match biases {
        Some(biases) => y.add(biases.take_axis(indices, 0)?.expand_dims(-2)?),
        None => Ok(y),
    }
}

/// `y`, made by the matrix of `expert`, with its bias.
fn with_bias(y: Array, biases: Option<&Array>, expert: i32) -> Result<Array> {
    match biases {
        Some(biases) => y.add(slice(biases, &[expert, 0], &[expert + 1, biases.dim(1)])?),
        None => Ok(y),
    }
}

impl FastExperts {
    fn biases(&self) -> (Option<&Array>, Option<&Array>) {
        self.biases.as_ref().map(|(rising, falling)| (rising, falling)).unzip()
    }

    /// For few rows: one product per row and expert.
    fn gathered(&self, x: &Array, experts: &Array, activation: Activation) -> Result<Array> {
        let (tokens, hidden, k) = (x.dim(1), x.dim(2), experts.dim(2));
        let x = x.reshape(&[1, tokens, 1, 1, hidden])?;
        let (rising, falling) = self.biases();
        let both = gather_mm(&x, &self.gate_up, experts, false)?;
        let both = with_biases(both, rising, experts)?;
        let inner = both.dim(4) / 2;
        let gate = slice(&both, &[0; 5], &[1, tokens, k, 1, inner])?;
        let up = slice(&both, &[0, 0, 0, 0, inner], &[1, tokens, k, 1, 2 * inner])?;
        let [gate_site, up_site, down_site] = &self.sites;
        let gate = gate_site.with_gathered(&x, gate, experts, false)?;
        let up = up_site.with_gathered(&x, up, experts, false)?;
        let h = activation.of(&gate, &up)?;
        let y = gather_mm(&h, &self.down, experts, false)?;
        let y = with_biases(y, falling, experts)?;
        let y = down_site.with_gathered(&h, y, experts, false)?;
        y.reshape(&[1, tokens, k, hidden])
    }

    /// For many rows: the rows of each expert together in one product. Needs the choice on the host.
    fn routed(&self, x: &Array, experts: &Array, activation: Activation) -> Result<Array> {
        let (tokens, hidden, k) = (x.dim(1), x.dim(2), experts.dim(2));
        let chosen = experts.as_dtype(Dtype::Uint32)?.reshape(&[-1])?.contiguous()?;
        mlx_rs::transforms::eval([&chosen, x])?;
        let chosen: &[u32] =
            chosen.try_as_slice().map_err(|error| Exception::custom(error.to_string()))?;
        let mut rows: Vec<Vec<u32>> = vec![Vec::new(); self.each.len()];
        for (slot, &expert) in (0u32..).zip(chosen) {
            rows[expert as usize].push(slot);
        }
        let x = x.reshape(&[tokens, hidden])?;
        let mut parts = Vec::with_capacity(rows.len());
        let mut back = vec![0u32; chosen.len()];
        let mut place = 0;
        let [gate_site, up_site, down_site] = &self.sites;
        let (rising, falling) = self.biases();
        let met =
            (0..).zip(rows.iter().zip(&self.each)).filter(|(_, (slots, _))| !slots.is_empty());
        for (expert, (slots, (gate_up, down))) in met {
            for &slot in slots {
                back[slot as usize] = place;
                place += 1;
            }
            let sources: Vec<u32> = slots.iter().map(|slot| slot / k as u32).collect();
            let len = sources.len() as i32;
            let x = x.take_axis(Array::from_slice(&sources, &[len]), 0)?;
            let both = with_bias(x.matmul(gate_up)?, rising, expert)?;
            let inner = both.dim(1) / 2;
            let gate = slice(&both, &[0, 0], &[len, inner])?;
            let up = slice(&both, &[0, inner], &[len, 2 * inner])?;
            let gate = gate_site.with_one(&x, gate, expert)?;
            let up = up_site.with_one(&x, up, expert)?;
            let h = activation.of(&gate, &up)?;
            let y = with_bias(h.matmul(down)?, falling, expert)?;
            parts.push(down_site.with_one(&h, y, expert)?);
        }
        let sorted = ops::concatenate(&parts, 0)?;
        let back = Array::from_slice(&back, &[back.len() as i32]);
        sorted.take_axis(back, 0)?.reshape(&[1, tokens, k, hidden])
    }
}
