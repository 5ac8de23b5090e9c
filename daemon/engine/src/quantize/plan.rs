//! What becomes of each tensor: from the layouts in which checkpoints are published to the one that mlx-lm writes.

use std::collections::HashSet;

use serde_json::Value;

use super::{Quantized, Unpacked, rules::Rules, source::Source};
use crate::{
    config::Packing,
    info::LoadError,
    weights::{
        Shards,
        check::{Asked, Matrix},
    },
};

/// The most bytes of one file of weights.
const SHARD_BYTES_MAX: u64 = 5 << 30;

/// Everything that is to be written, in this order.
pub(super) struct Plan {
    pub(super) modules: Vec<Module>,
    /// Bytes that are read.
    pub(super) bytes_read: u64,
    pub(super) result: Quantized,
}

/// Tensors that are made together, of the same rows.
pub(super) struct Module {
    /// The path in mlx-lm.
    pub(super) path: String,
    /// Weight, scales and biases, or one tensor of floats.
    pub(super) outputs: Vec<Output>,
    pub(super) pieces: Vec<Piece>,
    /// Numbers of a row as it is stored.
    pub(super) columns: usize,
    /// How numbers are stored, and how they are to be.
    pub(super) dtypes: [String; 2],
    /// A one is added to each number.
    pub(super) adds_one: bool,
    pub(super) packing: Option<Packing>,
    /// What config.json has to say about it, if anything: a packing, or that there is none.
    pub(super) named: Option<Option<Packing>>,
    /// Which file it is in.
    pub(super) shard: usize,
}

/// Rows of a stored tensor.
pub(super) struct Piece {
    pub(super) tensor: String,
    pub(super) first: usize,
    pub(super) rows: usize,
    /// Rows become columns.
    pub(super) is_turned: bool,
}

/// A tensor to be written.
pub(super) struct Output {
    pub(super) name: String,
    pub(super) dtype: String,
    pub(super) shape: Vec<usize>,
    pub(super) bytes: u64,
}

/// Whether what was asked for is packed.
pub(super) fn is_packed(asked: &Asked) -> bool {
    matches!(asked, Asked::Matrix(matrix) if matrix.packing.is_some())
}

pub(super) fn float_bytes(dtype: &str) -> u64 {
    if dtype == "F32" { 4 } else { 2 }
}

impl Plan {
    pub(super) fn new(
        shards: &Shards,
        source: &Source,
        config: &Value,
        architecture: &str,
        rules: &Rules<'_>,
        asked: Vec<Asked>,
        parameters: u64,
    ) -> Result<Plan, LoadError> {
        let text = config.get("text_config").unwrap_or(config);
        let mut planner = Planner {
            shards,
            source,
            rules,
            text,
            architecture,
            prefix: prefix(config["model_type"].as_str().unwrap_or_default()),
            dtype: dtype(config),
            adds_one: has_norms_less_one(architecture, &asked, shards),
            used: HashSet::new(),
            modules: Vec::new(),
            unpacked: Vec::new(),
        };
        for asked in asked {
            match asked {
                Asked::Matrix(matrix) => planner.matrix(&matrix)?,
                Asked::Floats(name) => planner.floats(&name)?,
            }
        }
        let Planner { mut modules, unpacked, used, .. } = planner;
        let files = shard(&mut modules);
        let bytes: u64 =
            modules.iter().flat_map(|module| &module.outputs).map(|one| one.bytes).sum();
        let bytes_read = modules.iter().map(Module::bytes_read).sum();
        #[allow(clippy::cast_precision_loss, reason = "a ratio of two counts")]
        let bits_per_weight = bytes as f64 * 8.0 / parameters.max(1) as f64;
        let result = Quantized {
            parameters,
            bytes_before: bytes_read,
            bytes,
            bits_per_weight,
            packed: modules.iter().filter(|module| module.packing.is_some()).count(),
            unpacked,
            left_out: source.len() - used.len(),
            files,
        };
        Ok(Plan { modules, bytes_read, result })
    }
}

impl Module {
    fn bytes_read(&self) -> u64 {
        let rows: usize = self.pieces.iter().map(|piece| piece.rows).sum();
        (rows * self.columns) as u64 * float_bytes(&self.dtypes[0])
    }
}

struct Planner<'p> {
    shards: &'p Shards,
    source: &'p Source,
    rules: &'p Rules<'p>,
    /// The part of config.json that describes the text model.
    text: &'p Value,
    architecture: &'p str,
    prefix: &'static str,
    /// What floats become; `None`: what they are.
    dtype: Option<&'static str>,
    adds_one: bool,
    used: HashSet<String>,
    modules: Vec<Module>,
    unpacked: Vec<Unpacked>,
}

impl Planner<'_> {
    fn matrix(&mut self, matrix: &Matrix) -> Result<(), LoadError> {
        if let Some(path) = matrix.path.strip_suffix(".kv_b_proj") {
            return self.latent(path, matrix);
        }
        let names = matrix.names("weight");
        let rows = matrix.out * matrix.experts.unwrap_or(1) / names.len();
        let pieces = names.into_iter().map(|tensor| whole(tensor, rows)).collect();
        let shape = matrix.experts.into_iter().chain([matrix.out]).collect();
        self.pack(&matrix.path, shape, matrix.inner, matrix.inner, pieces)?;
        if matrix.bias {
            let names = matrix.names("bias");
            let pieces: Vec<Piece> = names.into_iter().map(|tensor| whole(tensor, 1)).collect();
            let shape = matrix.experts.into_iter().chain([matrix.out]).collect::<Vec<usize>>();
            let stored = shape.iter().product::<usize>() / pieces.len();
            self.plain(format!("{}.bias", matrix.path), shape, stored, pieces, false)?;
        }
        Ok(())
    }

    /// One matrix of keys and values for all heads becomes one of each for every head, that of keys turned.
    fn latent(&mut self, path: &str, matrix: &Matrix) -> Result<(), LoadError> {
        let number = |key: &str| self.text[key].as_u64().map(|number| number as usize);
        let (Some(heads), Some(plain)) =
            (number("num_attention_heads"), number("qk_nope_head_dim"))
        else {
            return Err(LoadError::Backend("config.json has no sizes of heads".to_owned()));
        };
        let (both, latent) = (matrix.out / heads, matrix.inner);
        let tensor = &matrix.names("weight")[0];
        let part = |offset: usize, rows: usize, is_turned: bool| -> Vec<Piece> {
            let piece = |head| Piece {
                tensor: tensor.clone(),
                first: head * both + offset,
                rows,
                is_turned,
            };
            (0..heads).map(piece).collect()
        };
        let (keys, values) = (part(0, plain, true), part(plain, both - plain, false));
        self.pack(&format!("{path}.embed_q"), vec![heads, latent], plain, latent, keys)?;
        let shape = vec![heads, both - plain];
        self.pack(&format!("{path}.unembed_out"), shape, latent, latent, values)
    }

    fn floats(&mut self, name: &str) -> Result<(), LoadError> {
        let shape = self.shards.need(name)?.shape.clone();
        if let ([experts, both, inner], Some(path)) =
            (&shape[..], name.strip_suffix(".experts.gate_up_proj"))
        {
            let half = both / 2;
            for (index, kind) in ["gate", "up"].into_iter().enumerate() {
                let piece = |expert| Piece {
                    tensor: name.to_owned(),
                    first: expert * both + index * half,
                    rows: half,
                    is_turned: false,
                };
                let path = format!("{path}.switch_mlp.{kind}_proj");
                let pieces = (0..*experts).map(piece).collect();
                self.pack(&path, vec![*experts, half], *inner, *inner, pieces)?;
            }
            return Ok(());
        }
        if let ([experts, out, inner], Some(path)) =
            (&shape[..], name.strip_suffix(".experts.down_proj"))
        {
            let pieces = vec![whole(name.to_owned(), experts * out)];
            let path = format!("{path}.switch_mlp.down_proj");
            return self.pack(&path, vec![*experts, *out], *inner, *inner, pieces);
        }
        let columns = shape.last().copied().unwrap_or(1);
        let rows = shape.iter().product::<usize>() / columns.max(1);
        let adds_one = self.adds_one && is_norm(name) && shape.len() == 1;
        let mut shape = shape;
        if name.ends_with("conv1d.weight") && shape.len() == 3 && shape[1] == 1 {
            // One of the two axes has a single place, so the numbers lie as they are to.
            shape.swap(1, 2);
        }
        let pieces = vec![whole(name.to_owned(), rows)];
        self.plain(name.to_owned(), shape, columns, pieces, adds_one)
    }

    /// A matrix of rows with `columns` numbers, each stored in rows of `stored`; packed if the rules want it so. `shape` is without the
    /// columns.
    fn pack(
        &mut self,
        path: &str,
        shape: Vec<usize>,
        columns: usize,
        stored: usize,
        pieces: Vec<Piece>,
    ) -> Result<(), LoadError> {
        let path = format!("{}{path}", self.prefix);
        let verdict = self.rules.of(&path, columns);
        let packing = match verdict.packing {
            Ok(packing) => packing,
            Err(reason) => {
                self.unpacked.push(Unpacked { module: path.clone(), reason });
                let name = path[self.prefix.len()..].to_owned() + ".weight";
                let shape = shape.into_iter().chain([columns]).collect();
                self.plain(name, shape, stored, pieces, false)?;
                if verdict.is_named
                    && let Some(module) = self.modules.last_mut()
                {
                    module.named = Some(None);
                    module.path = path;
                }
                return Ok(());
            }
        };
        let dtypes = self.dtypes(&path, &pieces)?;
        let rows: usize = shape.iter().product();
        let scale = if packing.is_affine() { dtypes[1].clone() } else { "U8".to_owned() };
        let scale_bytes = if packing.is_affine() { float_bytes(&scale) } else { 1 };
        let output = |kind: &str, dtype: &str, columns: usize, size: u64| Output {
            name: format!("{path}.{kind}"),
            dtype: dtype.to_owned(),
            shape: shape.iter().copied().chain([columns]).collect(),
            bytes: (rows * columns) as u64 * size,
        };
        let groups = columns / packing.group;
        let mut outputs = vec![
            output("weight", "U32", columns * packing.bits / 32, 4),
            output("scales", &scale, groups, scale_bytes),
        ];
        if packing.is_affine() {
            outputs.push(output("biases", &scale, groups, scale_bytes));
        }
        let named = verdict.is_named.then_some(Some(packing));
        self.add(Module {
            path,
            outputs,
            pieces,
            columns: stored,
            dtypes,
            adds_one: false,
            packing: Some(packing),
            named,
            shard: 0,
        });
        Ok(())
    }

    fn plain(
        &mut self,
        name: String,
        shape: Vec<usize>,
        stored: usize,
        pieces: Vec<Piece>,
        adds_one: bool,
    ) -> Result<(), LoadError> {
        let name = format!("{}{name}", self.prefix);
        let dtypes = self.dtypes(&name, &pieces)?;
        let bytes = shape.iter().product::<usize>() as u64 * float_bytes(&dtypes[1]);
        let output = Output { name: name.clone(), dtype: dtypes[1].clone(), shape, bytes };
        self.add(Module {
            path: name,
            outputs: vec![output],
            pieces,
            columns: stored,
            dtypes,
            adds_one,
            packing: None,
            named: None,
            shard: 0,
        });
        Ok(())
    }

    fn add(&mut self, module: Module) {
        self.used.extend(module.pieces.iter().map(|piece| piece.tensor.clone()));
        self.modules.push(module);
    }

    /// How numbers are stored, and how they are to be. All pieces are stored alike.
    fn dtypes(&self, name: &str, pieces: &[Piece]) -> Result<[String; 2], LoadError> {
        let mut stored: Option<&str> = None;
        for Piece { tensor, .. } in pieces {
            let entry = self.shards.need(tensor)?;
            if !self.source.holds(tensor) || !entry.is_float() {
                return Err(self.shards.wrong(
                    tensor,
                    "is not stored as plain floats; pack a checkpoint in bf16, f16 or f32",
                ));
            }
            if stored.is_some_and(|stored| stored != entry.dtype) {
                let reason = format!("has type {}, others of {name} have not", entry.dtype);
                return Err(self.shards.wrong(tensor, &reason));
            }
            stored = Some(&entry.dtype);
        }
        let stored = stored.unwrap_or("F32").to_owned();
        let wanted = self.dtype.filter(|_| is_cast(self.architecture, name));
        Ok([stored.clone(), wanted.map_or(stored, str::to_owned)])
    }
}

fn whole(tensor: String, rows: usize) -> Piece {
    Piece { tensor, first: 0, rows, is_turned: false }
}

/// What stands before every name in mlx-lm.
fn prefix(model_type: &str) -> &'static str {
    match model_type {
        "qwen3_5" | "qwen3_5_moe" | "kimi_k25" => "language_model.",
        _ => "",
    }
}

/// The type that mlx-lm converts to: what the configuration says.
fn dtype(config: &Value) -> Option<&'static str> {
    let named = config["torch_dtype"].as_str().or(config["text_config"]["dtype"].as_str())?;
    let known = [("float32", "F32"), ("bfloat16", "BF16"), ("float16", "F16")];
    known.iter().find(|(name, _)| *name == named).map(|known| known.1)
}

/// What mlx-lm keeps in the type that it has.
fn is_cast(architecture: &str, name: &str) -> bool {
    let kept: &[&str] = match architecture {
        "deepseek_v41" => {
            &["attn_hc.", "ffn_hc.", "sinks", "e_score_correction_bias", "compressor."]
        }
        "qwen3_5" | "qwen3_5_moe" => return !name.ends_with("A_log"),
        "deepseek_v3" | "deepseek_v32" | "glm4_moe" | "glm4_moe_lite" | "glm_moe_dsa"
        | "kimi_k2" | "kimi_k25" | "minimax" | "minimax_m2" => &["e_score_correction_bias"],
        _ => &[],
    };
    !kept.iter().any(|part| name.contains(part))
}

/// Whether norms are stored without the one that is added to them: `models::gdn` tells it in the same way.
fn has_norms_less_one(architecture: &str, asked: &[Asked], shards: &Shards) -> bool {
    let is_one = |asked: &Asked| match asked {
        Asked::Matrix(matrix) => matrix.scattered.is_some(),
        Asked::Floats(name) if name.ends_with("linear_attn.conv1d.weight") => {
            shards.get(name).is_some_and(|entry| entry.shape.get(1) == Some(&1))
        }
        Asked::Floats(_) => false,
    };
    ["qwen3_next", "qwen3_5", "qwen3_5_moe"].contains(&architecture) && asked.iter().any(is_one)
}

fn is_norm(name: &str) -> bool {
    const NORMS: [&str; 5] = [
        ".input_layernorm.weight",
        ".post_attention_layernorm.weight",
        "model.norm.weight",
        ".q_norm.weight",
        ".k_norm.weight",
    ];
    NORMS.iter().any(|norm| name.ends_with(norm))
}

/// Divides the modules among files; says how many there are.
fn shard(modules: &mut [Module]) -> usize {
    let (mut shard, mut room) = (0, SHARD_BYTES_MAX);
    for module in modules {
        let bytes = module.outputs.iter().map(|output| output.bytes).sum();
        if bytes > room && room < SHARD_BYTES_MAX {
            shard += 1;
            room = SHARD_BYTES_MAX;
        }
        room = room.saturating_sub(bytes);
        module.shard = shard;
    }
    shard + 1
}
