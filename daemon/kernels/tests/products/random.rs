//! Random matrices in the formats of files, and random rows.

use kernels::{FloatType, Format, Matrix, Source};

/// A generator of random numbers (splitmix64), so that a seed repeats a case.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From `low` to `high`, both included.
    pub(crate) fn within(&mut self, low: usize, high: usize) -> usize {
        low + (self.next() % (high - low + 1) as u64) as usize
    }

    /// From -1 to 1.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    }

    pub(crate) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.within(0, choices.len() - 1)]
    }

    /// Rows of about normal numbers, some of them larger or smaller as a whole.
    pub(crate) fn rows(&mut self, rows: usize, width: usize) -> Vec<f32> {
        let mut all = Vec::with_capacity(rows * width);
        for _ in 0..rows {
            let size = self.of(&[1.0, 1.0, 1.0, 1e-4, 300.0]);
            all.extend((0..width).map(|_| (self.unit() + self.unit() + self.unit()) * size));
        }
        all
    }

    pub(crate) fn format(&mut self) -> Format {
        let group = self.of(&[32, 64, 128]);
        let floats = [FloatType::F32, FloatType::Bf16, FloatType::F16];
        match self.within(0, 10) {
            kind @ 0..=5 => Format::Affine { bits: [2, 3, 4, 5, 6, 8][kind], group },
            6 => Format::Mxfp4,
            7 => Format::Nvfp4,
            8 => Format::Mxfp8,
            _ => Format::Float(self.of(&floats)),
        }
    }

    /// Columns that a format can have, about `size`.
    pub(crate) fn inner(&mut self, format: Format, size: usize) -> usize {
        match format {
            Format::Affine { group, .. } => group * self.within(1, (size / group).max(1)),
            Format::Mxfp4 | Format::Mxfp8 => 32 * self.within(1, size / 32),
            Format::Nvfp4 => 16 * self.within(1, size / 16),
            Format::Float(_) => self.within(1, size),
        }
    }

    pub(crate) fn weights(
        &mut self,
        format: Format,
        experts: usize,
        out: usize,
        inner: usize,
    ) -> Weights {
        let scale_type = self.of(&[FloatType::F32, FloatType::Bf16, FloatType::F16]);
        let mut weights = Weights { format, experts, out, inner, scale_type, ..Weights::default() };
        let rows = experts * out;
        match format {
            Format::Affine { bits, group } => {
                let bytes = rows * inner * usize::from(bits) / 8;
                weights.weight = (0..bytes).map(|_| self.next() as u8).collect();
                for _ in 0..rows * inner / group {
                    let scale = (self.unit().abs() + 0.01) * 0.1;
                    let middle = (1_u32 << (bits - 1)) as f32;
                    let bias = -scale * middle * (1.0 + 0.3 * self.unit());
                    push(&mut weights.scales, scale_type, scale);
                    push(&mut weights.biases, scale_type, bias);
                }
            }
            Format::Mxfp4 | Format::Nvfp4 => {
                let group = if format == Format::Mxfp4 { 32 } else { 16 };
                weights.weight = (0..rows * inner / 2).map(|_| self.next() as u8).collect();
                weights.scales = (0..rows * inner / group)
                    .map(|_| if group == 32 { self.within(118, 130) } else { self.within(0, 126) } as u8)
                    .collect();
            }
            Format::Mxfp8 => {
                let code = |random: &mut Random| {
                    random.within(0, 126) as u8 | (random.next() as u8 & 0x80)
                };
                weights.weight = (0..rows * inner).map(|_| code(self)).collect();
                weights.scales =
                    (0..rows * inner / 32).map(|_| self.within(110, 130) as u8).collect();
            }
            Format::Float(kind) => {
                for _ in 0..rows * inner {
                    push(&mut weights.weight, kind, self.unit());
                }
            }
        }
        weights
    }
}

/// A matrix as it would lie in a file.
#[derive(Clone)]
pub(crate) struct Weights {
    pub(crate) format: Format,
    pub(crate) experts: usize,
    pub(crate) out: usize,
    pub(crate) inner: usize,
    pub(crate) weight: Vec<u8>,
    pub(crate) scales: Vec<u8>,
    pub(crate) biases: Vec<u8>,
    pub(crate) scale_type: FloatType,
}

impl Default for Weights {
    fn default() -> Weights {
        Weights {
            format: Format::Mxfp4,
            experts: 0,
            out: 0,
            inner: 0,
            weight: Vec::new(),
            scales: Vec::new(),
            biases: Vec::new(),
            scale_type: FloatType::F32,
        }
    }
}

impl Weights {
    pub(crate) fn source(&self) -> Source<'_> {
        Source {
            format: self.format,
            experts: self.experts,
            out: self.out,
            inner: self.inner,
            weight: &self.weight,
            scales: &self.scales,
            biases: &self.biases,
            scale_type: self.scale_type,
        }
    }

    pub(crate) fn pack(&self) -> Matrix {
        Matrix::pack(&self.source()).unwrap()
    }
}

/// Appends a number, cut to its type.
pub(crate) fn push(bytes: &mut Vec<u8>, kind: FloatType, value: f32) {
    match kind {
        FloatType::F32 => bytes.extend(value.to_le_bytes()),
        FloatType::Bf16 => bytes.extend(((value.to_bits() >> 16) as u16).to_le_bytes()),
        FloatType::F16 => {
            // Normal halves are enough here: smaller numbers become zero.
            let bits = value.to_bits();
            let exponent = (bits >> 23 & 0xff) as i32 - 112;
            let magnitude = ((exponent << 10) as u32 | (bits >> 13 & 0x3ff)) as u16;
            let half = (bits >> 16 & 0x8000) as u16 | if exponent > 0 { magnitude } else { 0 };
            bytes.extend(half.to_le_bytes());
        }
    }
}
