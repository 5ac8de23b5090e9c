//! A matrix as the kernels read it: packed in tiles, with its scales beside it.

use crate::buffer::{Line, Lines};
use crate::isa::{Panel, Row};
use crate::layout::{
    Code, FP4, FloatType, Format, GROUP_MAX, LANES, Layout, Scales, from_bf16, from_e4m3,
    from_e8m0, from_f16,
};

/// Why a matrix has no kernel, in words for `model info`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unsupported(pub String);

/// A matrix as it lies in a file: little-endian bytes, row-major `[experts, out, ..]`.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// How the weights are stored.
    pub format: Format,
    /// Matrices that are stacked; 1 for a plain one.
    pub experts: usize,
    /// Outputs: rows of each matrix.
    pub out: usize,
    /// Inputs: columns.
    pub inner: usize,
    /// The weights.
    pub weight: &'a [u8],
    /// One per group of each output; empty for floats.
    pub scales: &'a [u8],
    /// As the scales; empty where the format has none.
    pub biases: &'a [u8],
    /// The type of scales and biases of affine weights.
    pub scale_type: FloatType,
}

/// Stacked matrices in tiles.
pub struct Matrix {
    pub(crate) layout: Layout,
    pub(crate) format: Format,
    pub(crate) experts: usize,
    pub(crate) out: usize,
    pub(crate) inner: usize,
    /// Tiles of all experts, one after the other.
    pub(crate) weights: Lines,
    pub(crate) scales: Lines,
}

impl std::fmt::Debug for Matrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Matrix({} × {} × {}, {})", self.experts, self.out, self.inner, self.format)
    }
}

impl Matrix {
    /// Whether weights of this format and shape can be packed.
    pub fn supports(format: Format, out: usize, inner: usize) -> Result<(), Unsupported> {
        Matrix::layout_of(format, FloatType::F32, out, inner).map(|_| ())
    }

    /// What `count` stacked matrices of `out · inner` would take in memory; 0 if they cannot be packed.
    pub fn bytes_of(format: Format, scale_type: FloatType, [count, out, inner]: [usize; 3]) -> u64 {
        let Ok(layout) = Matrix::layout_of(format, scale_type, out, inner) else { return 0 };
        let tiles = count * out.div_ceil(LANES);
        let lines = |bytes: usize| (tiles * bytes).div_ceil(Line::BYTES) * Line::BYTES;
        (lines(layout.tile_bytes(inner)) + lines(layout.scale_bytes(inner))) as u64
    }

    pub(crate) fn layout_of(
        format: Format,
        scale_type: FloatType,
        out: usize,
        inner: usize,
    ) -> Result<Layout, Unsupported> {
        let code = match format {
            Format::Affine { bits: 2, .. } => Code::Bits2,
            Format::Affine { bits: 3, .. } => Code::Bits3,
            Format::Affine { bits: 4, .. } => Code::Bits4,
            Format::Affine { bits: 5, .. } => Code::Bits5,
            Format::Affine { bits: 6, .. } => Code::Bits6,
            Format::Affine { bits: 8, .. } => Code::Bits8,
            Format::Affine { .. } => {
                return Err(Unsupported(format!("{format}: no kernel for this many bits")));
            }
            Format::Mxfp4 | Format::Nvfp4 | Format::Mxfp8 | Format::Float(_) => Code::Fp4,
        };
        if out == 0 || inner == 0 {
            return Err(Unsupported(format!("a matrix of {out} × {inner} is empty")));
        }
        let groups = |scales, group| Layout::Groups { code, scales, group };
        let (layout, group) = match format {
            Format::Affine { group, .. } => (groups(Scales::Affine(scale_type), group), group),
            Format::Mxfp4 => (groups(Scales::E8m0, 32), 32),
            Format::Nvfp4 => (groups(Scales::E4m3, 16), 16),
            Format::Mxfp8 => (Layout::Floats(FloatType::Bf16), 32),
            Format::Float(kind) => (Layout::Floats(kind), 1),
        };
        if matches!(format, Format::Affine { .. }) && !matches!(group, 32 | 64 | GROUP_MAX) {
            return Err(Unsupported(format!("{format}: no kernel for groups of this size")));
        }
        if !inner.is_multiple_of(group) {
            return Err(Unsupported(format!("{format}: {inner} columns are no whole groups")));
        }
        Ok(layout)
    }

    /// How many matrices are stacked.
    pub fn experts(&self) -> usize {
        self.experts
    }

    /// Outputs of each.
    pub fn out(&self) -> usize {
        self.out
    }

    /// Inputs of each.
    pub fn inner(&self) -> usize {
        self.inner
    }

    /// How the weights were stored in the file.
    pub fn format(&self) -> Format {
        self.format
    }

    /// What it takes in memory.
    pub fn bytes(&self) -> u64 {
        (self.weights.bytes().len() + self.scales.bytes().len()) as u64
    }

    /// Tiles of one expert.
    pub(crate) fn tiles(&self) -> usize {
        self.out.div_ceil(LANES)
    }

    /// Some tiles of one expert and the rows that they are multiplied with.
    pub(crate) fn panel<'a>(
        &'a self,
        expert: usize,
        tile: usize,
        tiles: usize,
        rows: &'a [Row<'a>],
    ) -> Panel<'a> {
        assert!(expert < self.experts && tile + tiles <= self.tiles(), "tiles beyond the matrix");
        let first = expert * self.tiles() + tile;
        let weights = self.layout.tile_bytes(self.inner);
        let scales = self.layout.scale_bytes(self.inner);
        Panel {
            layout: self.layout,
            inner: self.inner,
            tiles,
            weights: &self.weights.bytes()[first * weights..][..tiles * weights],
            scales: &self.scales.bytes()[first * scales..][..tiles * scales],
            rows,
        }
    }

    /// Writes one row of one matrix as floats, `scale · u + bias` rounded after each step, as MLX's dequantize in fp32.
    pub fn row(&self, expert: usize, row: usize, into: &mut [f32]) {
        assert!(row < self.out && into.len() == self.inner, "a row beyond the matrix");
        let panel = self.panel(expert, row / LANES, 1, &[]);
        let lane = row % LANES;
        match self.layout {
            Layout::Groups { code, scales, group } => {
                let bytes = 2 * code.bits() * group;
                let groups = panel
                    .weights
                    .chunks_exact(bytes)
                    .zip(panel.scales.chunks_exact(scales.bytes()));
                for ((weights, factors), into) in groups.zip(into.chunks_exact_mut(group)) {
                    let (scale, bias) = factor(scales, factors, lane);
                    for (quad, into) in into.chunks_exact_mut(4).enumerate() {
                        let codes = code_of(code, weights, group, quad, lane);
                        for (into, u) in into.iter_mut().zip(codes) {
                            *into = scale * f32::from(u) + bias;
                        }
                    }
                }
            }
            Layout::Floats(kind) => {
                for (column, into) in into.iter_mut().enumerate() {
                    *into = float(kind, panel.weights, column, lane);
                }
            }
        }
    }
}

/// The four integers of a quad of a group, of one output.
pub(crate) fn code_of(
    code: Code,
    weights: &[u8],
    group: usize,
    quad: usize,
    lane: usize,
) -> [u8; 4] {
    let mut word = 0_u32;
    let mut start = 0;
    for plane in code.planes() {
        let at = start + quad / plane.quads() * Line::BYTES + 4 * lane;
        let bytes = [weights[at], weights[at + 1], weights[at + 2], weights[at + 3]];
        let mask = ((1_u32 << plane.bits) - 1) * 0x0101_0101;
        let part = u32::from_le_bytes(bytes) >> (plane.bits * (quad % plane.quads())) & mask;
        word |= part << plane.shift;
        start += plane.bytes(group);
    }
    let codes = word.to_le_bytes();
    if code == Code::Fp4 { codes.map(|code| FP4[usize::from(code)]) } else { codes }
}

/// Scale and bias of one output in a group: a weight is `scale · u + bias`.
pub(crate) fn factor(scales: Scales, bytes: &[u8], lane: usize) -> (f32, f32) {
    let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let (scale, bias) = (lane, LANES + lane);
    match scales {
        Scales::Affine(FloatType::F32) => {
            let word = |at: usize| u32::from(half(4 * at)) | u32::from(half(4 * at + 2)) << 16;
            (f32::from_bits(word(scale)), f32::from_bits(word(bias)))
        }
        Scales::Affine(FloatType::Bf16) => (from_bf16(half(2 * scale)), from_bf16(half(2 * bias))),
        Scales::Affine(FloatType::F16) => (from_f16(half(2 * scale)), from_f16(half(2 * bias))),
        Scales::E8m0 | Scales::E4m3 => {
            let byte = bytes[lane];
            let whole = if scales == Scales::E8m0 { from_e8m0(byte) } else { from_e4m3(byte) };
            let scale = whole * 0.5;
            (scale, scale * -12.0)
        }
    }
}

/// One weight of a tile of floats.
pub(crate) fn float(kind: FloatType, weights: &[u8], column: usize, lane: usize) -> f32 {
    let half = |at: usize| u16::from_le_bytes([weights[at], weights[at + 1]]);
    match kind {
        FloatType::F32 => {
            let at = (column * LANES + lane) * 4;
            f32::from_bits(u32::from(half(at)) | u32::from(half(at + 2)) << 16)
        }
        FloatType::F16 => from_f16(half((column * LANES + lane) * 2)),
        FloatType::Bf16 => from_bf16(half(((column / 2 * LANES + lane) * 2 + column % 2) * 2)),
    }
}
