//! From checked tensors to arrays, in the arithmetic that was chosen.

use std::{collections::HashMap, rc::Rc};

use mlx_rs::{
    Array, Dtype,
    error::Exception,
    ops::{broadcast_to, concatenate, stack},
    transforms::eval,
};

use super::{
    Embedding, Linear, Packed, Projections, Result, Weight,
    experts::{FastExperts, SwitchWeights},
    finite::{are_scales, is_without_nan},
    published::published_as,
    soul::Site,
    tiles::{Tiled, of_floats},
};
use crate::{
    info::LoadError,
    ops::{self, slice},
    weights::{
        Origin, Source, Tensor,
        check::{BLOCK_LEN, Matrix, block_scales},
    },
};

/// What becomes of the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Floats {
    /// As stored.
    Stored,
    /// As stored, too; but computed with in an order that does not depend on the number of tokens.
    Uniform,
    /// Packed weights stay packed; everything else becomes fp32.
    Single,
    /// Everything becomes plain fp32, and neighbours are fused.
    Dense,
    /// Matrices lie in tiles of their own layout as they are packed; everything else is fp32. On the CPU alone.
    Tiles,
}

impl Floats {
    /// Nothing becomes of them.
    pub(crate) fn are_stored(self) -> bool {
        matches!(self, Floats::Stored | Floats::Uniform)
    }
}

/// A tensor that was read.
pub(super) enum Read {
    /// As the file has it.
    Whole(Tensor),
    /// Made of a published one.
    Made(Array),
}

/// Hands out the tensors of a model, each once.
pub(super) struct Arrays {
    source: Source,
    /// Published tensors of which others will be made, too, and how many.
    shared: HashMap<String, (Array, usize)>,
    pub(super) floats: Floats,
    /// The tensor that holds NaN, when that is why something could not be loaded.
    pub(super) broken: Option<String>,
    /// What went wrong with the files, when that is why.
    pub(super) failed: Option<LoadError>,
}

impl Arrays {
    /// Tensors are read when they are asked for.
    pub(crate) fn open(source: Source, floats: Floats) -> Arrays {
        Arrays { source, shared: HashMap::new(), floats, broken: None, failed: None }
    }

    pub(super) fn floats(&self) -> Floats {
        self.floats
    }

    /// A tensor as it is, read now. Floats are looked at for NaN: of packed weights that is what scales them.
    pub(super) fn raw(&mut self, name: &str) -> Result<Array> {
        match self.file(name)? {
            Read::Whole(tensor) => ops::from_file(tensor),
            Read::Made(array) => Ok(array),
        }
    }

    /// As [`Arrays::raw`], in the memory that it was read into where that is possible: an array is a copy.
    pub(super) fn file(&mut self, name: &str) -> Result<Read> {
        let entry =
            self.source.get(name).cloned().ok_or_else(|| {
                Exception::custom(format!("tensor {name} was there a moment ago"))
            })?;
        if let Some(origin) = &entry.origin {
            let array = self.made(origin)?;
            return self.with_numbers(name, array).map(Read::Made);
        }
        let tensor = self.source.read(&entry).map_err(|error| self.unread(error))?;
        if tensor.has_nan { Err(self.without_numbers(name)) } else { Ok(Read::Whole(tensor)) }
    }

    /// Floats of 8 bits that are to be multiplied by the scales of their blocks.
    pub(super) fn is_in_blocks(&self, name: &str) -> bool {
        self.source.get(&block_scales(name)).is_some()
    }

    /// A tensor that is made of a published one.
    fn made(&mut self, origin: &Origin) -> Result<Array> {
        let key = format!("{}:{}", origin.entry.file, origin.entry.start);
        let (published, uses) = match self.shared.remove(&key) {
            Some(shared) => shared,
            None => {
                let tensor = self.source.read(&origin.entry).map_err(|error| self.unread(error))?;
                (ops::from_file(tensor)?, origin.uses)
            }
        };
        let array = published_as(&published, origin.make)?;
        eval([&array])?;
        if uses > 1 {
            self.shared.insert(key, (published, uses - 1));
        }
        Ok(array)
    }

    fn unread(&mut self, error: LoadError) -> Exception {
        let exception = Exception::custom(error.to_string());
        self.failed = Some(error);
        exception
    }

    fn with_numbers(&mut self, name: &str, array: Array) -> Result<Array> {
        if is_without_nan(&array)? { Ok(array) } else { Err(self.without_numbers(name)) }
    }

    fn without_numbers(&mut self, name: &str) -> Exception {
        self.broken = Some(name.to_owned());
        Exception::custom(format!("tensor {name} holds NaN"))
    }

    /// A tensor of floats in the type that it is stored in.
    pub(super) fn stored(&mut self, name: &str) -> Result<Array> {
        if !self.is_in_blocks(name) {
            return self.raw(name);
        }
        let scales = block_scales(name);
        let (weight, scales) = (self.raw(name)?, self.raw(&scales)?);
        self.with_numbers(name, unblocked(&weight, &scales)?)
    }

    /// A tensor of floats in the type that is computed in.
    pub(crate) fn float(&mut self, name: &str) -> Result<Array> {
        let array = self.stored(name)?;
        match self.floats {
            floats if floats.are_stored() => Ok(array),
            _ => array.as_dtype(Dtype::Float32),
        }
    }

    /// The tensor `kind` of a matrix as `read` gives it, stacked if there is one per expert.
    pub(super) fn part(
        &mut self,
        matrix: &Matrix,
        kind: &str,
        read: impl Fn(&mut Arrays, &str) -> Result<Array>,
    ) -> Result<Array> {
        let of_bytes = matrix.packing.filter(|_| kind == "scales").map(|packing| packing.mode);
        let mut get = |name: &String| {
            let array = read(self, name)?;
            match of_bytes {
                Some(mode) if !are_scales(&array, mode)? => Err(self.without_numbers(name)),
                _ => Ok(array),
            }
        };
        let names = matrix.names(kind);
        match &matrix.scattered {
            None => get(&names[0]),
            Some(_) => {
                let parts: Result<Vec<Array>> = names.iter().map(get).collect();
                stack(&parts?, 0)
            }
        }
    }

    pub(super) fn packed(&mut self, matrix: &Matrix) -> Result<Option<Packed>> {
        let Some(packing) = matrix.packing else { return Ok(None) };
        Ok(Some(Packed {
            weight: self.part(matrix, "weight", Arrays::raw)?,
            scales: match packing.is_affine() {
                true => self.part(matrix, "scales", Arrays::float)?,
                false => self.part(matrix, "scales", Arrays::raw)?,
            },
            biases: match packing.is_affine() {
                true => Some(self.part(matrix, "biases", Arrays::float)?),
                false => None,
            },
            packing,
            dtype: (!self.floats.are_stored()).then_some(Dtype::Float32),
        }))
    }

    /// The matrix in fp32, `[.., out, in]`.
    fn dense(&mut self, matrix: &Matrix) -> Result<Array> {
        let array = match self.packed(matrix)? {
            Some(packed) => packed.unpacked()?,
            None => self.part(matrix, "weight", Arrays::float)?,
        };
        // One at a time, so that the packed form can go before the next one comes.
        eval([&array])?;
        Ok(array)
    }

    pub(super) fn weight(&mut self, matrix: &Matrix) -> Result<Weight> {
        match self.floats {
            Floats::Dense => return Ok(Weight::Plain(transposed(&self.dense(matrix)?)?)),
            Floats::Tiles => {
                return Ok(Weight::Tiles(Tiled { matrix: self.tiles(matrix)?, bias: None }));
            }
            Floats::Stored | Floats::Uniform | Floats::Single => {}
        }
        Ok(match self.packed(matrix)? {
            Some(packed) => {
                eval(packed.arrays())?;
                Weight::Packed(packed)
            }
            None => Weight::Plain(transposed(&self.part(matrix, "weight", Arrays::float)?)?),
        })
    }

    pub(crate) fn linear(&mut self, matrix: &Matrix, site: Rc<Site>) -> Result<Linear> {
        if self.floats == Floats::Tiles {
            let weight = Weight::Tiles(self.tiled(matrix)?);
            return Ok(Linear { weight, bias: None, site: Some(site) });
        }
        let weight = self.weight(matrix)?;
        let bias = matrix.bias.then(|| self.part(matrix, "bias", Arrays::float)).transpose()?;
        Ok(Linear { weight, bias, site: Some(site) })
    }

    pub(crate) fn embedding(&mut self, matrix: &Matrix) -> Result<Embedding> {
        if self.floats == Floats::Tiles {
            return Ok(Embedding::Tiles(self.tiles(matrix)?));
        }
        if self.floats != Floats::Dense
            && let Some(packed) = self.packed(matrix)?
        {
            return Ok(Embedding::Packed(packed));
        }
        let table = self.dense(matrix)?;
        let head = transposed(&table)?;
        Ok(Embedding::Plain(table, head))
    }

    /// Maps of the same input; fused where everything is fp32.
    pub(crate) fn projections(
        &mut self,
        matrices: &[Matrix],
        sites: Vec<Rc<Site>>,
    ) -> Result<Projections> {
        if self.floats != Floats::Dense {
            let parts = matrices.iter().zip(sites).map(|(matrix, site)| self.linear(matrix, site));
            return Ok(Projections::Apart(parts.collect::<Result<_>>()?));
        }
        let parts: Result<Vec<Array>> = matrices.iter().map(|matrix| self.dense(matrix)).collect();
        let weight = concatenate(&parts?, 0)?;
        let biases: Result<Vec<Array>> = matrices
            .iter()
            .filter(|matrix| matrix.bias)
            .map(|matrix| self.float(&matrix.names("bias")[0]))
            .collect();
        let biases = biases?;
        let bias = if biases.is_empty() { None } else { Some(concatenate(&biases, 0)?) };
        eval(std::iter::once(&weight).chain(bias.as_ref()))?;
        let weight = Weight::Plain(transposed(&weight)?);
        Ok(Projections::Fused(Linear { weight, bias, site: None }, sites))
    }

    pub(crate) fn switch(
        &mut self,
        [gate, up, down]: [&Matrix; 3],
        sites: [Rc<Site>; 3],
    ) -> Result<SwitchWeights> {
        if self.floats != Floats::Dense {
            let [gate_site, up_site, down_site] = sites;
            let (gate, up) = (self.linear(gate, gate_site)?, self.linear(up, up_site)?);
            return Ok(SwitchWeights::Apart { gate, up, down: self.linear(down, down_site)? });
        }
        let gate_up = concatenate(&[self.dense(gate)?, self.dense(up)?], 1)?;
        let biases = if gate.bias && up.bias && down.bias {
            let mut bias = |matrix: &Matrix| self.part(matrix, "bias", Arrays::float);
            let both = [bias(gate)?, bias(up)?];
            let biases = (concatenate(&both, -1)?, bias(down)?);
            eval([&biases.0, &biases.1])?;
            Some(biases)
        } else {
            None
        };
        fast_switch(&gate_up, &self.dense(down)?, biases, sites)
    }

    /// Of experts whose gate and up are in one tensor, unpacked.
    pub(crate) fn fused_switch(
        &mut self,
        [gate_up, down]: [&str; 2],
        sites: [Rc<Site>; 3],
    ) -> Result<SwitchWeights> {
        let (gate_up, down) = match self.floats {
            Floats::Tiles => (self.stored(gate_up)?, self.stored(down)?),
            _ => (self.float(gate_up)?, self.float(down)?),
        };
        if self.floats == Floats::Dense {
            return fast_switch(&gate_up, &down, None, sites);
        }
        let [count, both, hidden] = [0, 1, 2].map(|axis| gate_up.dim(axis));
        let half = |start| slice(&gate_up, &[0, start, 0], &[count, start + both / 2, hidden]);
        let in_tiles = self.floats == Floats::Tiles;
        let linear = |weight: &Array, site: Rc<Site>| -> Result<Linear> {
            eval([weight])?;
            let weight = match in_tiles {
                true => Weight::Tiles(Tiled { matrix: of_floats(weight)?, bias: None }),
                false => Weight::Plain(transposed(weight)?),
            };
            Ok(Linear { weight, bias: None, site: Some(site) })
        };
        let [gate_site, up_site, down_site] = sites;
        let gate = linear(&half(0)?, gate_site)?;
        let up = linear(&half(both / 2)?, up_site)?;
        Ok(SwitchWeights::Apart { gate, up, down: linear(&down, down_site)? })
    }
}

/// `gate_up` is `[experts, 2·inner, hidden]`, `down` `[experts, hidden, inner]`.
fn fast_switch(
    gate_up: &Array,
    down: &Array,
    biases: Option<(Array, Array)>,
    sites: [Rc<Site>; 3],
) -> Result<SwitchWeights> {
    eval([gate_up, down])?;
    let (gate_up, down) = (transposed(gate_up)?, transposed(down)?);
    let each = (0..gate_up.dim(0)).map(|expert| Ok((one(&gate_up, expert)?, one(&down, expert)?)));
    let each: Vec<(Array, Array)> = each.collect::<Result<_>>()?;
    Ok(SwitchWeights::Fused(FastExperts { gate_up, down, biases, each, sites }))
}

/// 8-bit floats times the scales of their blocks, as bf16.
fn unblocked(weight: &Array, scales: &Array) -> Result<Array> {
    let len = BLOCK_LEN as i32;
    let (rows, columns) = (scales.dim(0), scales.dim(1));
    let spread = broadcast_to(scales.reshape(&[rows, 1, columns, 1])?, &[rows, len, columns, len])?;
    let spread = spread.reshape(&[rows * len, columns * len])?;
    let spread = slice(&spread, &[0, 0], weight.shape())?;
    let whole = weight.from_fp8(Dtype::Bfloat16)?.multiply(spread)?.as_dtype(Dtype::Bfloat16)?;
    eval([&whole])?;
    Ok(whole)
}

/// The matrices with their last two axes exchanged: a view.
fn transposed(array: &Array) -> Result<Array> {
    let view = array.swap_axes(-1, -2)?;
    eval([&view])?;
    Ok(view)
}

/// The matrix of one expert: a view.
fn one(stack: &Array, expert: i32) -> Result<Array> {
    let (rows, columns) = (stack.dim(1), stack.dim(2));
    let view =
        slice(stack, &[expert, 0, 0], &[expert + 1, rows, columns])?.reshape(&[rows, columns])?;
    eval([&view])?;
    Ok(view)
}
