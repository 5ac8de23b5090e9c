//! One description of a model's weights, read twice.
//!
//! A model's `build` asks for its parts by path and size. In the first pass every tensor is checked against the files' headers and
//! the cost is added up; the arrays are placeholders. In the second pass the arrays are real. So what is checked, what is
//! counted and what is loaded cannot differ.

mod heads;

use std::rc::Rc;

use mlx_rs::{Array, error::Exception};

use super::{
    Activation, Embedding, FeedForward, Floats, Linear, Mixture, Mlp, Projections, Result, Router,
    Second, Shared, SwitchGlu, Weight,
    experts::SwitchWeights,
    load::Arrays,
    soul::{Site, Souls},
};
use crate::{
    config::{self, Experts, Quantization},
    info::LoadError,
    ops::on_gpu,
    weights::{
        Place, Shards, Source,
        check::{Asked, Checker, Cost, Matrix},
        tiles::Slow,
    },
};

pub(crate) use heads::LatentSizes;

pub(crate) type Built<T> = std::result::Result<T, LoadError>;

/// Hands out the parts of a model.
pub(crate) struct Builder<'s> {
    checker: Checker<'s>,
    /// `None` in the first pass.
    arrays: Option<Arrays>,
    souls: Souls,
}

/// A linear map to be built: `path`, rows out, columns in.
pub(crate) struct Map<'p> {
    pub(crate) path: &'p str,
    pub(crate) out: usize,
    pub(crate) inner: usize,
    pub(crate) bias: bool,
}

/// Where the matrices of experts are: gate, up and down.
pub(crate) struct SwitchNames {
    /// The path of each when the experts are stacked.
    pub(crate) stacked: [String; 3],
    /// When they are apart: what stands before and behind an expert's number.
    pub(crate) scattered: Option<[(String, String); 3]>,
    pub(crate) bias: bool,
}

impl<'s> Builder<'s> {
    /// The pass that checks and counts.
    pub(crate) fn check(shards: &'s Shards, quantization: &'s Quantization) -> Builder<'s> {
        let souls = Souls::default();
        Builder { checker: Checker::new(shards, quantization), arrays: None, souls }
    }

    /// The pass that loads.
    pub(crate) fn load(
        shards: &'s Shards,
        quantization: &'s Quantization,
        floats: Floats,
        source: Source,
    ) -> Builder<'s> {
        let arrays = Some(Arrays::open(source, floats));
        Builder { checker: Checker::new(shards, quantization), arrays, souls: Souls::default() }
    }

    /// Where everything that was asked for so far lies, in the order of asking.
    pub(crate) fn places(&mut self) -> Vec<Place> {
        std::mem::take(&mut self.checker.places)
    }

    /// The places of everything that was built where overlays can lie.
    pub(crate) fn souls(self) -> Souls {
        self.souls
    }

    /// Everything that was asked for, in order.
    pub(crate) fn asked(self) -> Vec<Asked> {
        self.checker.asked
    }

    /// Where overlays of the matrix lie.
    fn site(&mut self, matrix: &Matrix) -> Rc<Site> {
        self.souls.site(&matrix.path, matrix.experts, [matrix.out, matrix.inner])
    }

    /// What everything that was asked for so far costs.
    pub(crate) fn cost(&mut self) -> &mut Cost {
        &mut self.checker.cost
    }

    /// Which matrices have no kernel of ours, of those that were asked for so far.
    pub(crate) fn slow(&self) -> &Slow {
        &self.checker.slow
    }

    /// Whether the operations are to be mlx-lm's, one by one: weights are as stored, and the CPU computes.
    pub(crate) fn is_exact(&self) -> bool {
        !on_gpu() && self.arrays.as_ref().is_some_and(|arrays| arrays.floats() == Floats::Stored)
    }

    /// The shape of a tensor in the files.
    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.checker.shards.get(name).map(|entry| entry.shape.as_slice())
    }

    /// Whether the files hold the tensor.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.checker.shards.get(name).is_some()
    }

    /// Whether parts may take an order of operations of their own, the same for any number of tokens; otherwise it is mlx-lm's.
    pub(crate) fn is_uniform(&self) -> bool {
        self.arrays.as_ref().is_some_and(|arrays| arrays.floats != Floats::Stored)
    }

    /// Whether linear maps lie in the tiles of our own kernels.
    pub(crate) fn is_in_tiles(&self) -> bool {
        self.arrays.as_ref().is_some_and(|arrays| arrays.floats == Floats::Tiles)
    }

    /// What `make` makes of what was loaded.
    pub(crate) fn convert<T>(&self, make: impl FnOnce() -> Result<T>) -> Built<T> {
        make().map_err(failed)
    }

    /// Whether matrices lie in tiles, and our own kernels compute.
    pub(crate) fn in_tiles(&self) -> bool {
        self.arrays.as_ref().is_some_and(|arrays| arrays.floats == Floats::Tiles)
    }

    /// What `make` computes from arrays of this builder; a placeholder in the pass that checks.
    pub(crate) fn compute(&self, make: impl FnOnce() -> Result<Array>) -> Built<Array> {
        if self.arrays.is_none() { Ok(placeholder()) } else { make().map_err(failed) }
    }

    /// What `make` loads, or `otherwise` in the pass that checks.
    fn loaded<T>(
        &mut self,
        otherwise: impl FnOnce() -> T,
        make: impl FnOnce(&mut Arrays) -> Result<T>,
    ) -> Built<T> {
        match &mut self.arrays {
            None => Ok(otherwise()),
            Some(arrays) => {
                make(arrays).map_err(|error| match (arrays.broken.take(), arrays.failed.take()) {
                    (Some(name), _) => {
                        self.checker.shards.wrong(&name, "holds values that are not numbers (NaN)")
                    }
                    (None, Some(files)) => files,
                    (None, None) => failed(error),
                })
            }
        }
    }

    /// Floats `[len]`.
    pub(crate) fn vector(&mut self, name: &str, len: usize) -> Built<Array> {
        self.tensor(name, &[len])
    }

    /// Floats of any shape.
    pub(crate) fn tensor(&mut self, name: &str, shape: &[usize]) -> Built<Array> {
        self.checker.floats(name, shape)?;
        self.loaded(placeholder, |arrays| arrays.float(name))
    }

    /// A linear map; packed if and only if `{path}.scales` is there.
    pub(crate) fn linear(
        &mut self,
        path: &str,
        out: usize,
        inner: usize,
        bias: bool,
    ) -> Built<Linear> {
        let matrix = self.checker.matrix(path, [out, inner], bias)?;
        let site = self.site(&matrix);
        self.loaded(Linear::placeholder, |arrays| arrays.linear(&matrix, site))
    }

    /// Several linear maps of one input; fused where everything is fp32.
    pub(crate) fn projections(&mut self, maps: &[Map<'_>]) -> Built<Projections> {
        let matrices: Built<Vec<Matrix>> = maps
            .iter()
            .map(|map| self.checker.matrix(map.path, [map.out, map.inner], map.bias))
            .collect();
        let matrices = matrices?;
        let sites = matrices.iter().map(|matrix| self.site(matrix)).collect();
        self.loaded(
            || Projections::Apart(Vec::new()),
            |arrays| arrays.projections(&matrices, sites),
        )
    }

    /// A table of `rows` vectors, which may also be the head.
    pub(crate) fn embedding(&mut self, path: &str, rows: usize, width: usize) -> Built<Embedding> {
        let matrix = self.checker.embedding(path, [rows, width])?;
        self.loaded(
            || Embedding::Plain(placeholder(), placeholder()),
            |arrays| arrays.embedding(&matrix),
        )
    }

    /// `count` linear maps, stacked: `[count, out, inner]`. Each row of their input says which of them it meets ([`Linear::gathered`]).
    pub(crate) fn stacked(
        &mut self,
        path: &str,
        count: usize,
        [out, inner]: [usize; 2],
    ) -> Built<Linear> {
        let matrix = self.checker.stack(path.to_owned(), None, count, [out, inner], false)?;
        let site = self.site(&matrix);
        self.loaded(Linear::placeholder, |arrays| arrays.linear(&matrix, site))
    }

    /// The gated network `{path}.{gate,up,down}_proj`.
    pub(crate) fn mlp(
        &mut self,
        path: &str,
        hidden: usize,
        inner: usize,
        bias: bool,
    ) -> Built<Mlp> {
        let (gate, up) = (format!("{path}.gate_proj"), format!("{path}.up_proj"));
        let rise = |path| Map { path, out: inner, inner: hidden, bias };
        Ok(Mlp {
            inner: self.projections(&[rise(&gate), rise(&up)])?,
            down: self.linear(&format!("{path}.down_proj"), hidden, inner, bias)?,
        })
    }

    /// The experts `{path}.switch_mlp.*`, or `{path}.experts.*` as Hugging Face has them: one by one, or gate and up in one tensor.
    pub(crate) fn switch(
        &mut self,
        path: &str,
        hidden: usize,
        experts: &Experts,
        activation: Activation,
    ) -> Built<SwitchGlu> {
        let before = self.checker.cost.parameters_active;
        let both = format!("{path}.experts.gate_up_proj");
        if self.has(&both) {
            let down = format!("{path}.experts.down_proj");
            self.checker.bare_stack(&both, [experts.count, 2 * experts.inner, hidden])?;
            self.checker.bare_stack(&down, [experts.count, hidden, experts.inner])?;
            self.count_chosen(before, experts);
            let rise = [experts.inner, hidden];
            let shapes = [("gate", rise), ("up", rise), ("down", [hidden, experts.inner])];
            let sites = shapes.map(|(name, shape)| {
                let path = format!("{path}.switch_mlp.{name}_proj");
                self.souls.site(&path, Some(experts.count), shape)
            });
            let weights = self.loaded(SwitchWeights::placeholder, |arrays| {
                arrays.fused_switch([&both, &down], sites)
            })?;
            return Ok(SwitchGlu { activation, weights });
        }
        let names = ["gate_proj", "up_proj", "down_proj"];
        let names = SwitchNames {
            stacked: names.map(|name| format!("{path}.switch_mlp.{name}")),
            scattered: Some(names.map(|name| (format!("{path}.experts"), name.to_owned()))),
            bias: false,
        };
        self.switch_named(names, hidden, experts, activation)
    }

    /// The same under other names.
    pub(crate) fn switch_named(
        &mut self,
        names: SwitchNames,
        hidden: usize,
        experts: &Experts,
        activation: Activation,
    ) -> Built<SwitchGlu> {
        let before = self.checker.cost.parameters_active;
        let SwitchNames { stacked: [gate, up, down], scattered, bias } = names;
        let mut scattered = scattered.into_iter().flatten();
        let mut stack = |stacked: String, shape: [usize; 2]| {
            self.checker.stack(stacked, scattered.next(), experts.count, shape, bias)
        };
        let gate = stack(gate, [experts.inner, hidden])?;
        let up = stack(up, [experts.inner, hidden])?;
        let down = stack(down, [hidden, experts.inner])?;
        self.count_chosen(before, experts);
        let matrices = [&gate, &up, &down];
        let sites = matrices.map(|matrix| self.site(matrix));
        let weights =
            self.loaded(SwitchWeights::placeholder, |arrays| arrays.switch(matrices, sites))?;
        Ok(SwitchGlu { activation, weights })
    }

    /// Of the experts that were asked for since `before`, a token sees some.
    fn count_chosen(&mut self, before: u64, experts: &Experts) {
        let all = self.checker.cost.parameters_active - before;
        self.checker.cost.parameters_active =
            before + all / experts.count as u64 * experts.per_token as u64;
    }

    /// A mixture of experts: the router `{path}.gate`, the experts, and the experts that see every token.
    pub(crate) fn mixture(
        &mut self,
        path: &str,
        hidden: usize,
        experts: &Experts,
    ) -> Built<Mixture> {
        let gate = self.linear(&format!("{path}.gate"), experts.count, hidden, false)?;
        let has_correction = matches!(experts.router, config::Router::Sigmoid { .. });
        let correction = has_correction
            .then(|| self.vector(&format!("{path}.gate.e_score_correction_bias"), experts.count))
            .transpose()?;
        let router = Router::new(gate, correction, experts);
        let switch = self.switch(path, hidden, experts, Activation::Swiglu)?;
        let shared = experts.shared.map(|shared| self.shared(path, hidden, shared)).transpose()?;
        Ok(Mixture { router, switch, shared })
    }

    fn shared(&mut self, path: &str, hidden: usize, shared: config::Shared) -> Built<Shared> {
        Ok(match shared {
            config::Shared::Plain { inner } => Shared {
                mlp: self.mlp(&format!("{path}.shared_experts"), hidden, inner, false)?,
                gate: None,
            },
            config::Shared::Gated { inner } => Shared {
                mlp: self.mlp(&format!("{path}.shared_expert"), hidden, inner, false)?,
                gate: Some(self.linear(&format!("{path}.shared_expert_gate"), 1, hidden, false)?),
            },
        })
    }

    /// The second half of a layer, of its parts.
    pub(crate) fn second(&self, norm: Array, eps: f32, part: FeedForward) -> Built<Second> {
        Second::new(norm, eps, part).map_err(failed)
    }

    /// The feed-forward part of a layer.
    pub(crate) fn feed_forward(
        &mut self,
        path: &str,
        hidden: usize,
        kind: &config::FeedForward,
        bias: bool,
    ) -> Built<FeedForward> {
        Ok(match kind {
            config::FeedForward::Dense { inner } => {
                FeedForward::Dense(self.mlp(path, hidden, *inner, bias)?)
            }
            config::FeedForward::Experts(experts) => {
                FeedForward::Experts(Box::new(self.mixture(path, hidden, experts)?))
            }
        })
    }
}

impl Linear {
    fn placeholder() -> Linear {
        Linear { weight: Weight::Plain(placeholder()), bias: None, site: None }
    }
}

impl SwitchWeights {
    fn placeholder() -> SwitchWeights {
        let linear = Linear::placeholder;
        SwitchWeights::Apart { gate: linear(), up: linear(), down: linear() }
    }
}

/// Stands for an array that is only checked.
fn placeholder() -> Array {
    Array::from_f32(0.0)
}

fn failed(error: Exception) -> LoadError {
    LoadError::Backend(error.what().to_owned())
}
