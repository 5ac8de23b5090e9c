//! What will be loaded: every tensor of the model by name, with its shape checked and its cost counted.

use super::{Entry, Shards};
use crate::{
    config::{Experts, FeedForward, ModelConfig, Packing},
    info::LoadError,
};

/// A whole model.
pub(crate) struct Plan {
    pub(crate) embedding: Matrix,
    pub(crate) layers: Vec<Layer>,
    /// Name of the last norm.
    pub(crate) norm: String,
    /// `None`: the embedding is the head.
    pub(crate) head: Option<Matrix>,
    pub(crate) cost: Cost,
}

/// What loading takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    /// Number of weights.
    pub(crate) parameters: u64,
    /// Weights that one token is multiplied with.
    pub(crate) parameters_active: u64,
    /// Bytes as stored.
    pub(crate) bytes_stored: u64,
    /// Bytes with all floats as fp32, and packed weights as they are.
    pub(crate) bytes_single: u64,
}

pub(crate) struct Layer {
    pub(crate) input_norm: String,
    pub(crate) query: Matrix,
    pub(crate) key: Matrix,
    pub(crate) value: Matrix,
    pub(crate) output: Matrix,
    /// Names of the norms over heads.
    pub(crate) query_norm: Option<String>,
    pub(crate) key_norm: Option<String>,
    pub(crate) output_norm: String,
    pub(crate) feed_forward: FeedForwardPlan,
}

pub(crate) enum FeedForwardPlan {
    Dense(Box<Gated>),
    Experts(Box<ExpertsPlan>),
}

pub(crate) struct ExpertsPlan {
    pub(crate) experts: Experts,
    pub(crate) router: Matrix,
    /// Name of the router's correction bias.
    pub(crate) correction: Option<String>,
    pub(crate) switch: Gated,
    pub(crate) shared: Option<Gated>,
}

/// The three matrices of a gated feed-forward network.
pub(crate) struct Gated {
    pub(crate) gate: Matrix,
    pub(crate) up: Matrix,
    pub(crate) down: Matrix,
}

/// A matrix (or one per expert), `[out, in]`.
pub(crate) struct Matrix {
    pub(crate) path: String,
    /// How many of them.
    pub(crate) experts: Option<usize>,
    /// The experts' matrices are separate tensors `path.experts.N.name`, given by these two parts of the path.
    pub(crate) scattered: Option<(String, String)>,
    pub(crate) out: usize,
    pub(crate) inner: usize,
    pub(crate) packing: Option<Packing>,
    pub(crate) bias: bool,
    /// The type of its weights, or of its scales.
    pub(crate) dtype: String,
}

impl Matrix {
    /// Names of the tensor `kind` (`weight`, `scales`, …): one, or one per expert.
    pub(crate) fn names(&self, kind: &str) -> Vec<String> {
        match &self.scattered {
            Some((before, after)) => (0..self.experts.unwrap_or(0))
                .map(|expert| format!("{before}.{expert}.{after}.{kind}"))
                .collect(),
            None => vec![format!("{}.{kind}", self.path)],
        }
    }

    /// Number of weights.
    pub(crate) fn len(&self) -> u64 {
        (self.experts.unwrap_or(1) * self.out * self.inner) as u64
    }
}

impl Plan {
    /// Whether there are unpacked experts in half precision, which MLX multiplies on GPUs only.
    pub(crate) fn has_half_experts(&self) -> bool {
        self.layers.iter().any(|layer| match &layer.feed_forward {
            FeedForwardPlan::Experts(plan) => {
                let parts = [&plan.switch.gate, &plan.switch.up, &plan.switch.down];
                parts.iter().any(|matrix| matrix.packing.is_none() && matrix.dtype != "F32")
            }
            FeedForwardPlan::Dense(_) => false,
        })
    }
}

/// Checks all that `config` needs against the files.
pub(crate) fn plan(config: &ModelConfig, shards: &Shards) -> Result<Plan, LoadError> {
    let mut planner = Planner { config, shards, cost: Cost::default() };
    let (vocabulary, hidden) = (config.vocabulary, config.hidden);
    let embedding = planner.matrix("model.embed_tokens", vocabulary, hidden, false)?;
    let layers: Result<Vec<Layer>, LoadError> = config
        .layers
        .iter()
        .enumerate()
        .map(|(index, layer)| planner.layer(index, layer))
        .collect();
    let layers = layers?;
    let norm = planner.vector("model.norm.weight", hidden)?;
    let head = if config.tied {
        None
    } else {
        Some(planner.matrix("lm_head", vocabulary, hidden, false)?)
    };
    // A look-up reads one row of the embedding; as a head all of it is multiplied.
    if head.is_some() {
        planner.cost.parameters_active -= embedding.len();
    }
    Ok(Plan { embedding, layers, norm, head, cost: planner.cost })
}

struct Planner<'p> {
    config: &'p ModelConfig,
    shards: &'p Shards,
    cost: Cost,
}

impl Planner<'_> {
    fn layer(&mut self, index: usize, layer: &FeedForward) -> Result<Layer, LoadError> {
        let config = self.config;
        let at = |name: &str| format!("model.layers.{index}.{name}");
        let (hidden, width) = (config.hidden, config.heads * config.head_dim);
        let kv_width = config.kv_heads * config.head_dim;
        let input_norm = self.vector(&at("input_layernorm.weight"), hidden)?;
        let query = self.matrix(&at("self_attn.q_proj"), width, hidden, config.qkv_bias)?;
        let key = self.matrix(&at("self_attn.k_proj"), kv_width, hidden, config.qkv_bias)?;
        let value = self.matrix(&at("self_attn.v_proj"), kv_width, hidden, config.qkv_bias)?;
        let output = self.matrix(&at("self_attn.o_proj"), hidden, width, config.output_bias)?;
        let (mut query_norm, mut key_norm) = (None, None);
        if config.qk_norm {
            query_norm = Some(self.vector(&at("self_attn.q_norm.weight"), config.head_dim)?);
            key_norm = Some(self.vector(&at("self_attn.k_norm.weight"), config.head_dim)?);
        }
        let output_norm = self.vector(&at("post_attention_layernorm.weight"), hidden)?;
        let feed_forward = match layer {
            FeedForward::Dense { inner } => {
                FeedForwardPlan::Dense(Box::new(self.gated(&at("mlp"), *inner, config.mlp_bias)?))
            }
            FeedForward::Experts(experts) => {
                FeedForwardPlan::Experts(Box::new(self.experts(&at("mlp"), experts.clone())?))
            }
        };
        Ok(Layer {
            input_norm,
            query,
            key,
            value,
            output,
            query_norm,
            key_norm,
            output_norm,
            feed_forward,
        })
    }

    fn gated(&mut self, path: &str, inner: usize, bias: bool) -> Result<Gated, LoadError> {
        let hidden = self.config.hidden;
        Ok(Gated {
            gate: self.matrix(&format!("{path}.gate_proj"), inner, hidden, bias)?,
            up: self.matrix(&format!("{path}.up_proj"), inner, hidden, bias)?,
            down: self.matrix(&format!("{path}.down_proj"), hidden, inner, bias)?,
        })
    }

    fn experts(&mut self, path: &str, experts: Experts) -> Result<ExpertsPlan, LoadError> {
        let hidden = self.config.hidden;
        let router = self.matrix(&format!("{path}.gate"), experts.count, hidden, false)?;
        let has_correction = matches!(experts.router, crate::config::Router::Sigmoid { .. });
        let correction = has_correction
            .then(|| self.vector(&format!("{path}.gate.e_score_correction_bias"), experts.count))
            .transpose()?;
        let before = self.cost;
        let switch = Gated {
            gate: self.switch(path, "gate_proj", &experts, experts.inner, hidden)?,
            up: self.switch(path, "up_proj", &experts, experts.inner, hidden)?,
            down: self.switch(path, "down_proj", &experts, hidden, experts.inner)?,
        };
        let all = self.cost.parameters_active - before.parameters_active;
        self.cost.parameters_active =
            before.parameters_active + all / experts.count as u64 * experts.per_token as u64;
        let shared_inner = experts.shared_inner;
        let shared = shared_inner
            .map(|inner| self.gated(&format!("{path}.shared_experts"), inner, false))
            .transpose()?;
        Ok(ExpertsPlan { experts, router, correction, switch, shared })
    }

    /// The experts' matrices: stacked by the converter, or one by one as Hugging Face has them.
    fn switch(
        &mut self,
        path: &str,
        name: &str,
        experts: &Experts,
        out: usize,
        inner: usize,
    ) -> Result<Matrix, LoadError> {
        let stacked = format!("{path}.switch_mlp.{name}");
        let before = format!("{path}.experts");
        let is_scattered = self.shards.get(&format!("{stacked}.weight")).is_none()
            && self.shards.get(&format!("{before}.0.{name}.weight")).is_some();
        let scattered = is_scattered.then(|| (before, name.to_owned()));
        self.check_matrix(stacked, Some(experts.count), scattered, out, inner, false)
    }

    fn matrix(
        &mut self,
        path: &str,
        out: usize,
        inner: usize,
        bias: bool,
    ) -> Result<Matrix, LoadError> {
        self.check_matrix(path.to_owned(), None, None, out, inner, bias)
    }

    fn check_matrix(
        &mut self,
        path: String,
        experts: Option<usize>,
        scattered: Option<(String, String)>,
        out: usize,
        inner: usize,
        bias: bool,
    ) -> Result<Matrix, LoadError> {
        let dtype = String::new();
        let mut matrix =
            Matrix { path, experts, scattered, out, inner, packing: None, bias, dtype };
        let stack = matrix.experts.filter(|_| matrix.scattered.is_none());
        let shape =
            |dims: &[usize]| stack.into_iter().chain(dims.iter().copied()).collect::<Vec<usize>>();
        let scales = matrix.names("scales").remove(0);
        matrix.packing = self.packing(&matrix, &scales)?;
        match matrix.packing {
            Some(packing) => {
                let columns = inner * packing.bits / 32;
                if !(inner * packing.bits).is_multiple_of(32)
                    || !inner.is_multiple_of(packing.group)
                {
                    let what = format!(
                        "cannot pack {inner} columns with {} bits by {}",
                        packing.bits, packing.group
                    );
                    return Err(self.shards.wrong(&scales, &what));
                }
                self.tensors(&matrix, "weight", &shape(&[out, columns]), |entry| {
                    entry.dtype == "U32"
                })?;
                self.tensors(
                    &matrix,
                    "scales",
                    &shape(&[out, inner / packing.group]),
                    Entry::is_float,
                )?;
                self.tensors(
                    &matrix,
                    "biases",
                    &shape(&[out, inner / packing.group]),
                    Entry::is_float,
                )?;
                matrix.dtype = self.shards.need(&scales)?.dtype.clone();
            }
            None => {
                self.tensors(&matrix, "weight", &shape(&[out, inner]), Entry::is_float)?;
                matrix.dtype = self.shards.need(&matrix.names("weight")[0])?.dtype.clone();
            }
        }
        if bias {
            self.tensors(&matrix, "bias", &[out], Entry::is_float)?;
            self.cost.parameters += out as u64;
        }
        self.cost.parameters += matrix.len();
        self.cost.parameters_active += matrix.len();
        Ok(matrix)
    }

    /// A matrix is packed if and only if it has scales; the configuration has to agree where it names the module.
    fn packing(&self, matrix: &Matrix, scales: &str) -> Result<Option<Packing>, LoadError> {
        let named = self.config.quantization.overrides.get(&matrix.path);
        match (self.shards.get(scales), named) {
            (None, Some(Some(_))) => self.shards.need(scales).map(|_| None),
            (None, _) => Ok(None),
            (Some(_), Some(None)) => {
                Err(self.shards.wrong(scales, "contradicts config.json, which says unquantized"))
            }
            (Some(entry), _) => match self.config.packing(&matrix.path) {
                Some(packing) => Ok(Some(packing)),
                None => self.infer(matrix, entry).map(Some),
            },
        }
    }

    /// The packing that the shapes of weight and scales imply.
    fn infer(&self, matrix: &Matrix, scales: &Entry) -> Result<Packing, LoadError> {
        let weight = self.shards.need(&matrix.names("weight")[0])?;
        let columns = |entry: &Entry| entry.shape.last().copied().unwrap_or(0);
        let group = matrix.inner.checked_div(columns(scales)).unwrap_or(0);
        let packing = Packing { bits: columns(weight) * 32 / matrix.inner, group };
        if [2, 3, 4, 5, 6, 8].contains(&packing.bits) && [32, 64, 128].contains(&packing.group) {
            return Ok(packing);
        }
        Err(self.shards.wrong(&matrix.names("scales")[0], "has a shape that fits no known packing"))
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<String, LoadError> {
        self.tensor(name, &[len], Entry::is_float)?;
        self.cost.parameters += len as u64;
        Ok(name.to_owned())
    }

    fn tensors(
        &mut self,
        matrix: &Matrix,
        kind: &str,
        shape: &[usize],
        fits: impl Fn(&Entry) -> bool,
    ) -> Result<(), LoadError> {
        matrix.names(kind).iter().try_for_each(|name| self.tensor(name, shape, &fits))
    }

    fn tensor(
        &mut self,
        name: &str,
        shape: &[usize],
        fits: impl Fn(&Entry) -> bool,
    ) -> Result<(), LoadError> {
        let entry = self.shards.need(name)?;
        if entry.shape != shape {
            return Err(self
                .shards
                .wrong(name, &format!("has shape {:?}, not {shape:?}", entry.shape)));
        }
        if !fits(entry) {
            return Err(self.shards.wrong(name, &format!("has type {}", entry.dtype)));
        }
        self.cost.bytes_stored += entry.bytes;
        self.cost.bytes_single +=
            if entry.is_float() { shape.iter().product::<usize>() as u64 * 4 } else { entry.bytes };
        Ok(())
    }
}
