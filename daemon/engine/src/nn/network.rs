//! The feed-forward part of a layer, with the norm before it and the sum behind it, computed in one go: what it needs lies in tiles
//! and plain slices, so that an operation of the graph can hold it.

use std::sync::Arc;

use kernels::{Experts, Map, norm::rms_norm};
use mlx_rs::Array;

use super::{
    Activation, FeedForward, Linear, Mixture, Mlp, Projections, Result, SwitchGlu,
    choice::{Choice, sigmoid},
    experts::SwitchWeights,
    tiles::{Tiled, first, floats, numbers, rows_of},
};
use crate::ops::native;

/// `x + f(norm(x))`.
pub(crate) struct Network {
    norm: Norm,
    kind: Kind,
}

/// An RMS norm.
pub(crate) struct Norm {
    pub(crate) weight: Arc<[f32]>,
    pub(crate) eps: f32,
}

/// A norm and a linear map behind it.
pub(crate) struct NormedMap {
    norm: Norm,
    map: Tiled,
}

impl NormedMap {
    pub(crate) fn of(norm: &Array, eps: f32, map: Tiled) -> Result<NormedMap> {
        Ok(NormedMap { norm: Norm::of(norm, eps)?, map })
    }

    /// As an operation of the graph.
    pub(crate) fn forward(self: &Arc<Self>, x: &Array) -> Result<Array> {
        let own = self.clone();
        let mut shape = x.shape().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = own.map.out() as i32;
        }
        let y = native(&[x], &[floats(shape)], move |inputs, outputs| {
            let x = rows_of(&inputs[0]);
            let rows = x.len() / own.map.matrix.inner();
            let into = &mut [outputs[0].f32()];
            kernels::matmul(&own.norm.rows(&x), rows, &[own.map.map()], into);
        })?;
        first(y)
    }
}

enum Kind {
    Dense(Glu),
    Experts { router: Choice, experts: Glu, shared: Option<(Glu, Option<Tiled>)> },
}

/// Gated networks: one, or as many as there are experts.
struct Glu {
    gate: Tiled,
    up: Tiled,
    down: Tiled,
    activation: kernels::Activation,
}

impl Norm {
    pub(crate) fn of(weight: &Array, eps: f32) -> Result<Norm> {
        Ok(Norm { weight: numbers(weight)?, eps })
    }

    /// The rows of `x` with a length of 1.
    pub(crate) fn rows(&self, x: &[f32]) -> Vec<f32> {
        let mut y = vec![0.0; x.len()];
        rms_norm(x, self.weight.len(), Some(&self.weight), self.eps, &mut y);
        y
    }
}

impl Network {
    /// `None`: some of it does not lie in tiles.
    pub(crate) fn of(norm: &Array, eps: f32, part: &FeedForward) -> Result<Option<Network>> {
        let kind = match part {
            FeedForward::Dense(mlp) => Glu::of_mlp(mlp).map(Kind::Dense),
            FeedForward::Experts(mixture) => Kind::of_mixture(mixture)?,
        };
        let Some(kind) = kind else { return Ok(None) };
        Ok(Some(Network { norm: Norm::of(norm, eps)?, kind }))
    }

    /// `into = x + f(norm(x))` for `rows` rows, which are multiplied with `then` next, if that is known.
    pub(crate) fn add(&self, x: &[f32], rows: usize, into: &mut [f32], then: &[Map<'_>]) {
        let normed = self.norm.rows(x);
        match &self.kind {
            Kind::Dense(glu) => glu.alone(&normed, rows, into, then),
            Kind::Experts { router, experts, shared } => {
                experts_of(router, experts, shared.as_ref(), (&normed, rows), into, then);
            }
        }
        sum(into, x);
    }

    /// Says that `rows` rows come to it next: what it reads first is brought near.
    pub(crate) fn expect(&self, rows: usize) {
        match &self.kind {
            Kind::Dense(glu) => glu.experts(&[]).expect(rows),
            Kind::Experts { router, .. } => kernels::expect(&[router.gate.map()], rows),
        }
    }

    /// The same as an operation of the graph.
    pub(crate) fn forward(self: &Arc<Self>, x: &Array) -> Result<Array> {
        let own = self.clone();
        let y = native(&[x], &[floats(x.shape().to_vec())], move |inputs, outputs| {
            let x = rows_of(&inputs[0]);
            own.add(&x, x.len() / own.norm.weight.len(), outputs[0].f32(), &[]);
        })?;
        first(y)
    }
}

/// `into += x`.
pub(crate) fn sum(into: &mut [f32], x: &[f32]) {
    for (into, x) in into.iter_mut().zip(x) {
        *into += x;
    }
}

fn experts_of(
    router: &Choice,
    experts: &Glu,
    shared: Option<&(Glu, Option<Tiled>)>,
    (x, rows): (&[f32], usize),
    into: &mut [f32],
    then: &[Map<'_>],
) {
    let count = router.gate.out();
    let mut gates = vec![0.0; rows * count];
    let mut weights = vec![0.0; rows];
    let gate = shared.and_then(|(_, gate)| gate.as_ref());
    let maps: Vec<Map<'_>> = std::iter::once(&router.gate).chain(gate).map(Tiled::map).collect();
    let mut outputs = [&mut gates[..], &mut weights[..]];
    kernels::matmul(x, rows, &maps, &mut outputs[..maps.len()]);
    let (chosen, scores) = router.choose(gates);
    let Some((glu, gate)) = shared else {
        kernels::mixture(x, rows, &chosen, &scores, &experts.experts(then), into);
        return;
    };
    let first = [glu.gate.map(), glu.up.map()];
    kernels::mixture(x, rows, &chosen, &scores, &experts.experts(&first), into);
    let mut y = vec![0.0; into.len()];
    glu.alone(x, rows, &mut y, then);
    if gate.is_some() {
        for (y, weight) in y.chunks_exact_mut(into.len() / rows).zip(&weights) {
            let weight = sigmoid(*weight);
            y.iter_mut().for_each(|y| *y *= weight);
        }
    }
    sum(into, &y);
}

impl Glu {
    fn of_mlp(mlp: &Mlp) -> Option<Glu> {
        let Projections::Apart(inner) = &mlp.inner else { return None };
        let [gate, up] = inner.as_slice() else { return None };
        Glu::of([gate, up, &mlp.down], Activation::Swiglu)
    }

    fn of_switch(switch: &SwitchGlu) -> Option<Glu> {
        let SwitchWeights::Apart { gate, up, down } = &switch.weights else { return None };
        Glu::of([gate, up, down], switch.activation)
    }

    fn of([gate, up, down]: [&Linear; 3], activation: Activation) -> Option<Glu> {
        let activation = match activation {
            Activation::Swiglu => kernels::Activation::Swiglu,
            Activation::ClampedGlu { limit, slope } => {
                kernels::Activation::ClampedGlu { limit, slope }
            }
            Activation::ClampedSwiglu { .. } => return None,
        };
        let [gate, up, down] = [gate.tiled()?, up.tiled()?, down.tiled()?].map(Tiled::clone);
        let biases = [&gate, &up, &down].map(|map| map.bias.is_some());
        (biases == [biases[0]; 3]).then_some(Glu { gate, up, down, activation })
    }

    /// As the kernels take it.
    fn experts<'a>(&'a self, then: &'a [Map<'a>]) -> Experts<'a> {
        let Glu { gate, up, down, activation } = self;
        let biases = match [gate, up, down].map(|map| map.bias.as_deref()) {
            [Some(gate), Some(up), Some(down)] => Some([gate, up, down]),
            _ => None,
        };
        let activation = *activation;
        let [gate, up, down] = [gate, up, down].map(|map| &*map.matrix);
        Experts { gate, up, down, biases, activation, then }
    }

    /// The one network that there is.
    fn alone(&self, x: &[f32], rows: usize, into: &mut [f32], then: &[Map<'_>]) {
        let (chosen, scores) = (vec![0; rows], vec![1.0; rows]);
        kernels::mixture(x, rows, &chosen, &scores, &self.experts(then), into);
    }
}

impl Kind {
    fn of_mixture(mixture: &Mixture) -> Result<Option<Kind>> {
        let Mixture { router, switch, shared } = mixture;
        let Some(gate) = router.gate.tiled().cloned() else { return Ok(None) };
        let Some(experts) = Glu::of_switch(switch) else { return Ok(None) };
        let shared = match shared {
            None => None,
            Some(shared) => {
                let gate = shared.gate.as_ref().map(Linear::tiled);
                let (Some(glu), false) = (Glu::of_mlp(&shared.mlp), matches!(gate, Some(None)))
                else {
                    return Ok(None);
                };
                Some((glu, gate.flatten().cloned()))
            }
        };
        let router = Choice {
            gate,
            correction: router.correction.as_ref().map(numbers).transpose()?,
            kind: router.kind.clone(),
            per_token: router.per_token as usize,
        };
        Ok(Some(Kind::Experts { router, experts, shared }))
    }
}
