//! Checks the tensors that a model asks for against the files' headers, and adds up what they cost. Nothing is read.

use super::{
    Entry, Place, Shards,
    tiles::{Slow, tile_bytes},
};
use crate::{
    config::{Packing, Quantization},
    info::LoadError,
};

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
    /// Bytes with matrices in tiles, and all other floats as fp32.
    pub(crate) bytes_tiles: u64,
    /// There are unpacked experts in half precision, which MLX multiplies on GPUs only.
    pub(crate) has_half_experts: bool,
    /// Bytes of a number that is computed with, if nothing is widened: the embedding says which type that is.
    pub(crate) float_bytes: u64,
}

/// A matrix (or one per expert), `[out, in]`, that is there.
#[derive(Clone)]
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

/// Rows and columns of a block of 8-bit floats that share a scale (DeepSeek's files).
pub(crate) const BLOCK_LEN: usize = 128;

/// The scales of a tensor's blocks.
pub(crate) fn block_scales(name: &str) -> String {
    format!("{name}_scale_inv")
}

/// Checks tensor by tensor.
pub(crate) struct Checker<'s> {
    pub(crate) shards: &'s Shards,
    pub(crate) quantization: &'s Quantization,
    pub(crate) cost: Cost,
    /// Where everything that was asked for lies, in the order of asking.
    pub(crate) places: Vec<Place>,
    /// Everything that was asked for, in order.
    pub(crate) asked: Vec<Asked>,
    /// Matrices without a kernel that computes on them as they are packed.
    pub(crate) slow: Slow,
}

/// What a model asked for.
pub(crate) enum Asked {
    /// A matrix, or one per expert or head.
    Matrix(Matrix),
    /// Floats of this name.
    Floats(String),
}

impl<'s> Checker<'s> {
    pub(crate) fn new(shards: &'s Shards, quantization: &'s Quantization) -> Checker<'s> {
        let (places, asked, slow) = (Vec::new(), Vec::new(), Slow::default());
        Checker { shards, quantization, cost: Cost::default(), places, asked, slow }
    }

    /// Stacked matrices; experts may also be there one by one, as Hugging Face has them.
    pub(crate) fn stack(
        &mut self,
        stacked: String,
        scattered: Option<(String, String)>,
        count: usize,
        [out, inner]: [usize; 2],
        bias: bool,
    ) -> Result<Matrix, LoadError> {
        let scattered = scattered.filter(|(before, name)| {
            self.shards.get(&format!("{stacked}.weight")).is_none()
                && self.shards.get(&format!("{before}.0.{name}.weight")).is_some()
        });
        let matrix = self.check(stacked, Some(count), scattered, [out, inner], bias)?;
        self.cost.has_half_experts |= matrix.packing.is_none() && matrix.dtype != "F32";
        Ok(matrix)
    }

    /// Matrices of all experts in one unpacked tensor without a `.weight` to its name.
    pub(crate) fn bare_stack(&mut self, name: &str, shape: [usize; 3]) -> Result<(), LoadError> {
        self.tensor(name, &shape, Entry::is_float)?;
        self.asked.push(Asked::Floats(name.to_owned()));
        let (len, dtype) = (shape.iter().product::<usize>() as u64, &self.shards.need(name)?.dtype);
        self.cost.parameters += len;
        self.cost.parameters_active += len;
        self.cost.has_half_experts |= dtype != "F32";
        self.cost.bytes_tiles += tile_bytes(None, dtype, shape);
        Ok(())
    }

    /// One matrix per head.
    pub(crate) fn heads(
        &mut self,
        path: &str,
        count: usize,
        shape: [usize; 2],
    ) -> Result<Matrix, LoadError> {
        self.check(path.to_owned(), Some(count), None, shape, false)
    }

    pub(crate) fn matrix(
        &mut self,
        path: &str,
        [out, inner]: [usize; 2],
        bias: bool,
    ) -> Result<Matrix, LoadError> {
        self.check(path.to_owned(), None, None, [out, inner], bias)
    }

    fn check(
        &mut self,
        path: String,
        experts: Option<usize>,
        scattered: Option<(String, String)>,
        [out, inner]: [usize; 2],
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
                let (columns, groups) = (inner * packing.bits / 32, inner / packing.group);
                if !(inner * packing.bits).is_multiple_of(32)
                    || !inner.is_multiple_of(packing.group)
                {
                    let what = format!(
                        "cannot pack {inner} columns with {} bits by {}",
                        packing.bits, packing.group
                    );
                    return Err(self.shards.wrong(&scales, &what));
                }
                let is_word = |entry: &Entry| entry.dtype == "U32";
                let is_scale = if packing.is_affine() { Entry::is_float } else { Entry::is_byte };
                self.tensors(&matrix, "weight", &shape(&[out, columns]), is_word)?;
                self.tensors(&matrix, "scales", &shape(&[out, groups]), is_scale)?;
                if packing.is_affine() {
                    self.tensors(&matrix, "biases", &shape(&[out, groups]), Entry::is_float)?;
                }
                matrix.dtype = self.shards.need(&scales)?.dtype.clone();
            }
            None => {
                for name in matrix.names("weight") {
                    matrix.dtype = if stack.is_none() && self.has_blocks(&name) {
                        self.blocks(&name, [out, inner])?
                    } else {
                        self.tensor(&name, &shape(&[out, inner]), Entry::is_float)?;
                        self.shards.need(&name)?.dtype.clone()
                    };
                }
            }
        }
        if bias {
            self.tensors(&matrix, "bias", &shape(&[out]), Entry::is_float)?;
            self.cost.parameters += out as u64;
            self.cost.bytes_tiles += (experts.unwrap_or(1) * out * size_of::<f32>()) as u64;
        }
        self.slow.note(&matrix);
        let shape = [experts.unwrap_or(1), out, inner];
        self.cost.bytes_tiles += tile_bytes(matrix.packing, &matrix.dtype, shape);
        self.cost.parameters += matrix.len();
        self.cost.parameters_active += matrix.len();
        self.asked.push(Asked::Matrix(matrix.clone()));
        Ok(matrix)
    }

    /// A matrix is packed if and only if it has scales; the configuration has to agree where it names the module.
    fn packing(&self, matrix: &Matrix, scales: &str) -> Result<Option<Packing>, LoadError> {
        let named = self.quantization.overrides.get(&matrix.path);
        match (self.shards.get(scales), named) {
            (None, Some(Some(_))) => self.shards.need(scales).map(|_| None),
            (None, _) => {
                let weight = self.shards.get(&matrix.names("weight")[0]);
                if weight.is_some_and(|weight| weight.dtype == "U32") {
                    return Err(self.shards.missing(scales, " (the weight is packed)"));
                }
                Ok(None)
            }
            (Some(_), Some(None)) => {
                Err(self.shards.wrong(scales, "contradicts config.json, which says unquantized"))
            }
            (Some(_), Some(Some(packing))) => Ok(Some(*packing)),
            (Some(entry), None) => self.infer(matrix, entry).map(Some),
        }
    }

    /// The packing that the shapes of weight and scales imply. The configuration's default may be another one, as in mlx-lm.
    fn infer(&self, matrix: &Matrix, scales: &Entry) -> Result<Packing, LoadError> {
        let weight = self.shards.need(&matrix.names("weight")[0])?;
        let columns = |entry: &Entry| entry.shape.last().copied().unwrap_or(0);
        let group = matrix.inner.checked_div(columns(scales)).unwrap_or(0);
        let bits = columns(weight) * 32 / matrix.inner;
        let packing = match scales.is_byte() {
            true => Packing::of_bytes(bits, group),
            false => Some(Packing::affine(bits, group)).filter(|packing| packing.is_known()),
        };
        packing.ok_or_else(|| {
            self.shards.wrong(&matrix.names("scales")[0], "has a shape that fits no known packing")
        })
    }

    /// The embedding, whose numbers have the type that everything is computed in.
    pub(crate) fn embedding(
        &mut self,
        path: &str,
        [rows, width]: [usize; 2],
    ) -> Result<Matrix, LoadError> {
        let matrix = self.matrix(path, [rows, width], false)?;
        // What is packed without affine scales is unpacked to bf16.
        self.cost.float_bytes = if matrix.dtype == "F32" { 4 } else { 2 };
        Ok(matrix)
    }

    /// A tensor of floats that is no matrix.
    pub(crate) fn floats(&mut self, name: &str, shape: &[usize]) -> Result<(), LoadError> {
        self.tensor(name, shape, Entry::is_float)?;
        self.asked.push(Asked::Floats(name.to_owned()));
        let len = shape.iter().product::<usize>() as u64;
        self.cost.parameters += len;
        self.cost.bytes_tiles += len * size_of::<f32>() as u64;
        Ok(())
    }

    fn has_blocks(&self, name: &str) -> bool {
        self.shards.get(&block_scales(name)).is_some()
    }

    /// A matrix of 8-bit floats with a scale for each block, which becomes bf16. Says what type it has then.
    fn blocks(&mut self, name: &str, [out, inner]: [usize; 2]) -> Result<String, LoadError> {
        let is_float = |entry: &Entry| ["F8_E4M3", "U8"].contains(&&*entry.dtype);
        let before = self.cost;
        self.tensor(name, &[out, inner], is_float)?;
        let blocks = [out.div_ceil(BLOCK_LEN), inner.div_ceil(BLOCK_LEN)];
        self.tensor(&block_scales(name), &blocks, Entry::is_float)?;
        let len = (out * inner) as u64;
        self.cost.bytes_stored = before.bytes_stored + 2 * len;
        self.cost.bytes_single = before.bytes_single + 4 * len;
        Ok("BF16".to_owned())
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
        self.places.push(entry.place());
        self.cost.bytes_stored += entry.bytes;
        self.cost.bytes_single +=
            if entry.is_float() { shape.iter().product::<usize>() as u64 * 4 } else { entry.bytes };
        Ok(())
    }
}
