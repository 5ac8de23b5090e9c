//! How weights lie in memory.
//!
//! A tile is sixteen outputs and all columns. Quantized weights lie in lines of 64 bytes: byte `4·output + j` of a line
//! holds one column of each *quad*, four consecutive columns. A plane of `p` bits has `8/p` quads in a line, the first in the
//! lowest bits: with 4 bits the low half of a byte is column `8·line + j`, the high half column `8·line + 4 + j`. Three bits
//! are a plane of two and a plane of one, five 4 + 1, six 4 + 2; all planes of one group stand together, wider ones first.
//! Scales (and biases behind them) stand apart, sixteen of each per tile and group, in the type of the file.
//!
//! Floats: f32 and f16 as `[column][16 outputs]`; bf16 as `[pair of columns][16 outputs][2]`, so that widening is one shift
//! or one mask.

/// Outputs of one tile: the 32-bit lanes of a 512-bit register.
pub(crate) const LANES: usize = 16;
/// Columns of the largest group.
pub(crate) const GROUP_MAX: usize = 128;

/// A type of floating-point numbers in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FloatType {
    /// 32 bits.
    F32,
    /// The upper half of 32 bits.
    Bf16,
    /// IEEE's 16 bits.
    F16,
}

impl FloatType {
    pub(crate) fn bytes(self) -> usize {
        match self {
            FloatType::F32 => 4,
            FloatType::Bf16 | FloatType::F16 => 2,
        }
    }
}

/// How the weights of a matrix are stored in a file, in MLX's modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// `scale · u + bias` with one scale and bias per group of columns.
    Affine {
        /// Of one weight: 2, 3, 4, 5, 6 or 8.
        bits: u8,
        /// Columns that share a scale: 32, 64 or 128.
        group: usize,
    },
    /// E2M1 values, a power of two per 32 columns.
    Mxfp4,
    /// E2M1 values, an E4M3 scale per 16 columns.
    Nvfp4,
    /// E4M3 values, a power of two per 32 columns. Kept as bf16, which holds every product.
    Mxfp8,
    /// Not quantized.
    Float(FloatType),
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Format::Affine { bits, group } => write!(f, "{bits} bits in groups of {group}"),
            Format::Mxfp4 => f.write_str("mxfp4"),
            Format::Nvfp4 => f.write_str("nvfp4"),
            Format::Mxfp8 => f.write_str("mxfp8"),
            Format::Float(FloatType::F32) => f.write_str("f32"),
            Format::Float(FloatType::Bf16) => f.write_str("bf16"),
            Format::Float(FloatType::F16) => f.write_str("f16"),
        }
    }
}

/// What the bits of a quantized weight mean: an unsigned integer `u`, or an E2M1 value that a table turns into one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    Bits2,
    Bits3,
    Bits4,
    Bits5,
    Bits6,
    Bits8,
    Fp4,
}

/// `2 · value + 12` of the sixteen E2M1 values.
pub(crate) const FP4: [u8; 16] = [12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0];

/// Bits of all weights of a group that lie together: `bits` of them from `shift` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plane {
    pub(crate) bits: usize,
    pub(crate) shift: usize,
}

impl Plane {
    /// Quads in one line.
    pub(crate) fn quads(self) -> usize {
        8 / self.bits
    }

    /// Bytes of one group of a tile.
    pub(crate) fn bytes(self, group: usize) -> usize {
        2 * self.bits * group
    }
}

impl Code {
    pub(crate) fn bits(self) -> usize {
        match self {
            Code::Bits2 => 2,
            Code::Bits3 => 3,
            Code::Bits4 | Code::Fp4 => 4,
            Code::Bits5 => 5,
            Code::Bits6 => 6,
            Code::Bits8 => 8,
        }
    }

    pub(crate) fn planes(self) -> &'static [Plane] {
        const fn plane(bits: usize, shift: usize) -> Plane {
            Plane { bits, shift }
        }
        match self {
            Code::Bits2 => const { &[plane(2, 0)] },
            Code::Bits3 => const { &[plane(2, 0), plane(1, 2)] },
            Code::Bits4 | Code::Fp4 => const { &[plane(4, 0)] },
            Code::Bits5 => const { &[plane(4, 0), plane(1, 4)] },
            Code::Bits6 => const { &[plane(4, 0), plane(2, 4)] },
            Code::Bits8 => const { &[plane(8, 0)] },
        }
    }
}

/// How the scales of a group are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scales {
    /// Sixteen scales, then sixteen biases.
    Affine(FloatType),
    /// A byte each: exponents of powers of two.
    E8m0,
    /// A byte each.
    E4m3,
}

impl Scales {
    /// Bytes of one group of a tile.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Scales::Affine(kind) => 2 * LANES * kind.bytes(),
            Scales::E8m0 | Scales::E4m3 => LANES,
        }
    }
}

/// How the tiles of one matrix lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Integers in groups.
    Groups {
        code: Code,
        scales: Scales,
        /// Columns that share a scale.
        group: usize,
    },
    Floats(FloatType),
}

impl Layout {
    /// Columns that share a scale, if any do.
    pub(crate) fn group(self) -> Option<usize> {
        match self {
            Layout::Groups { group, .. } => Some(group),
            Layout::Floats(_) => None,
        }
    }

    /// Bytes of the weights of one tile: whole lines.
    pub(crate) fn tile_bytes(self, inner: usize) -> usize {
        match self {
            Layout::Groups { code, .. } => 2 * code.bits() * inner,
            Layout::Floats(FloatType::F32) => inner * LANES * 4,
            Layout::Floats(_) => inner.next_multiple_of(2) * LANES * 2,
        }
    }

    /// Bytes of the scales and biases of one tile.
    pub(crate) fn scale_bytes(self, inner: usize) -> usize {
        match self {
            Layout::Groups { scales, group, .. } => inner / group * scales.bytes(),
            Layout::Floats(_) => 0,
        }
    }
}

/// The float with these upper sixteen bits.
#[inline]
pub(crate) fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// IEEE's half precision, exactly.
#[inline]
pub(crate) fn from_f16(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let rest = u32::from(bits & 0x7fff);
    if rest >= 0x7c00 {
        return f32::from_bits(sign | 0x7f80_0000 | (rest & 0x3ff) << 13);
    }
    // The exponent is moved by 112 with a product, which makes subnormal halves normal on the way.
    let magnitude = f32::from_bits(rest << 13) * f32::from_bits((127 + 112) << 23);
    f32::from_bits(sign | magnitude.to_bits())
}

/// The power of two that an E8M0 byte stands for; 255 is infinite, as in MLX.
#[inline]
pub(crate) fn from_e8m0(bits: u8) -> f32 {
    f32::from_bits((u32::from(bits) << 23).max(0x0040_0000))
}

/// The value of an E4M3 byte; there is no infinity and, as in MLX, no NaN either.
#[inline]
pub(crate) fn from_e4m3(bits: u8) -> f32 {
    let sign = u32::from(bits & 0x80) << 24;
    // As half precision the value would be 256 times smaller.
    let magnitude = from_f16(u16::from(bits & 0x7f) << 7) * 256.0;
    f32::from_bits(sign | magnitude.to_bits())
}
