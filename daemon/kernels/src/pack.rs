//! From the bytes of a file to tiles.

use crate::buffer::{Line, Lines};
use crate::isa::ask_for;
use crate::layout::{Code, FloatType, Format, LANES, Layout, Scales, from_e4m3, from_e8m0};
use crate::matrix::{Matrix, Source, Unsupported};

impl Matrix {
    /// Packs a matrix, on all threads of the pool.
    pub fn pack(source: &Source<'_>) -> Result<Matrix, Unsupported> {
        let Source { format, experts, out, inner, scale_type, .. } = *source;
        let layout = Matrix::layout_of(format, scale_type, out, inner)?;
        check(source)?;
        let tiles = out.div_ceil(LANES) * experts;
        let weights = Lines::new(tiles, layout.tile_bytes(inner), &|tile, into| {
            if !pack_tile_of_words(source, layout, tile, into) {
                each_row(source, tile, |lane, row| pack_weights(source, layout, row, lane, into));
            }
        });
        let scales = Lines::new(tiles, layout.scale_bytes(inner), &|tile, into| {
            each_row(source, tile, |lane, row| pack_scales(source, layout, row, lane, into));
        });
        Ok(Matrix { layout, format, experts, out, inner, weights, scales })
    }
}

/// Bytes of one row of weights and of one row of scales, in the file.
fn row_bytes(source: &Source<'_>) -> (usize, usize) {
    let inner = source.inner;
    match source.format {
        Format::Affine { bits, group } => {
            (inner * usize::from(bits) / 8, inner / group * source.scale_type.bytes())
        }
        Format::Mxfp4 => (inner / 2, inner / 32),
        Format::Nvfp4 => (inner / 2, inner / 16),
        Format::Mxfp8 => (inner, inner / 32),
        Format::Float(kind) => (inner * kind.bytes(), 0),
    }
}

fn check(source: &Source<'_>) -> Result<(), Unsupported> {
    let (weight, scales) = row_bytes(source);
    let biases = if matches!(source.format, Format::Affine { .. }) { scales } else { 0 };
    let parts = [
        ("weights", source.weight, weight),
        ("scales", source.scales, scales),
        ("biases", source.biases, biases),
    ];
    for (name, bytes, per_row) in parts {
        let expected =
            source.experts.checked_mul(source.out).and_then(|rows| rows.checked_mul(per_row));
        if expected != Some(bytes.len()) {
            return Err(Unsupported(format!(
                "{} have {} bytes; {} × {} × {} in {} need {}",
                name,
                bytes.len(),
                source.experts,
                source.out,
                source.inner,
                source.format,
                expected.map_or_else(|| "too many".to_owned(), |bytes| bytes.to_string()),
            )));
        }
    }
    Ok(())
}

/// Calls `work(lane, row)` for the outputs of a tile that the file has; tiles and rows count through all experts.
fn each_row(source: &Source<'_>, tile: usize, mut work: impl FnMut(usize, usize)) {
    let tiles = source.out.div_ceil(LANES);
    let (expert, first) = (tile / tiles, tile % tiles * LANES);
    for lane in 0..LANES.min(source.out - first) {
        work(lane, expert * source.out + first + lane);
    }
}

/// Packs a tile of integers of four bits that has all its outputs, a line at a time; `false`: it is another one.
fn pack_tile_of_words(source: &Source<'_>, layout: Layout, tile: usize, into: &mut [u8]) -> bool {
    let tiles = source.out.div_ceil(LANES);
    let (expert, first) = (tile / tiles, tile % tiles * LANES);
    let is_four = matches!(layout, Layout::Groups { code, .. } if code.bits() == 4);
    if !is_four || source.out - first < LANES {
        return false;
    }
    let (bytes, _) = row_bytes(source);
    let (rows, behind) =
        source.weight[(expert * source.out + first) * bytes..].split_at(LANES * bytes);
    // Sixteen rows at a time are too many streams for a processor to see; the next tile is this thread's too.
    behind[..behind.len().min(LANES * bytes)].chunks(Line::BYTES).for_each(ask_for);
    // Some columns of all rows at a time: a line of each row makes as many lines of the tile.
    for (index, into) in into.chunks_mut(COLUMNS * Line::BYTES).enumerate() {
        let mut spread = [[0; COLUMNS]; LANES];
        for (spread, row) in spread.iter_mut().zip(rows.chunks_exact(bytes)) {
            let words = row[index * COLUMNS * 4..].as_chunks::<4>().0;
            for (spread, word) in spread.iter_mut().zip(words) {
                let word = u32::from_le_bytes(*word);
                *spread = quads(word & 0xffff) | quads(word >> 16) << 4;
            }
        }
        let lines = into.as_chunks_mut::<{ Line::BYTES }>().0;
        for (column, line) in lines.iter_mut().enumerate() {
            for (into, spread) in line.as_chunks_mut::<4>().0.iter_mut().zip(&spread) {
                *into = spread[column].to_le_bytes();
            }
        }
    }
    true
}

/// Words of a row that are packed together.
const COLUMNS: usize = 16;

/// [`spread`] of four bits without a loop, so that a line's words are spread at once.
fn quads(word: u32) -> u32 {
    let pairs = (word | word << 8) & 0x00ff_00ff;
    (pairs | pairs << 4) & 0x0f0f_0f0f
}

fn pack_weights(source: &Source<'_>, layout: Layout, row: usize, lane: usize, into: &mut [u8]) {
    let (weight_bytes, scale_bytes) = row_bytes(source);
    let from = &source.weight[row * weight_bytes..][..weight_bytes];
    match layout {
        Layout::Groups { code, group, .. } => match code.bits() {
            2 => pack_codes::<2>(code, from, group, lane, into),
            3 => pack_codes::<3>(code, from, group, lane, into),
            4 => pack_codes::<4>(code, from, group, lane, into),
            5 => pack_codes::<5>(code, from, group, lane, into),
            6 => pack_codes::<6>(code, from, group, lane, into),
            _ => pack_codes::<8>(code, from, group, lane, into),
        },
        Layout::Floats(kind) if source.format == Format::Mxfp8 => {
            let powers = &source.scales[row * scale_bytes..][..scale_bytes];
            let widened = from.iter().enumerate().map(|(column, &code)| {
                to_bf16(from_e4m3(code) * from_e8m0(powers[column / 32])).to_le_bytes()
            });
            pack_halves(kind, widened, lane, into);
        }
        Layout::Floats(FloatType::F32) => {
            for (column, word) in from.as_chunks::<4>().0.iter().enumerate() {
                into[(column * LANES + lane) * 4..][..4].copy_from_slice(word);
            }
        }
        Layout::Floats(kind) => {
            pack_halves(kind, from.as_chunks::<2>().0.iter().copied(), lane, into);
        }
    }
}

/// One output's scales and biases; nothing for floats.
fn pack_scales(source: &Source<'_>, layout: Layout, row: usize, lane: usize, into: &mut [u8]) {
    let Layout::Groups { scales, .. } = layout else { return };
    let (_, bytes) = row_bytes(source);
    let kinds = if source.biases.is_empty() { 1 } else { 2 };
    let size = scales.bytes() / LANES / kinds;
    pack_factors(scales, &source.scales[row * bytes..][..bytes], size, lane, into);
    if kinds == 2 {
        pack_factors(scales, &source.biases[row * bytes..][..bytes], size, LANES + lane, into);
    }
}

/// Rounded to the nearest, ties to even. Every E4M3 value times a power of two is exact, down to the subnormals.
fn to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

fn pack_halves(
    kind: FloatType,
    halves: impl Iterator<Item = [u8; 2]>,
    lane: usize,
    into: &mut [u8],
) {
    for (column, half) in halves.enumerate() {
        let at = match kind {
            FloatType::Bf16 => (column / 2 * LANES + lane) * 2 + column % 2,
            _ => column * LANES + lane,
        };
        into[at * 2..][..2].copy_from_slice(&half);
    }
}

/// One output's integers: a stream of bits in the file, planes of quads here.
fn pack_codes<const BITS: usize>(
    code: Code,
    from: &[u8],
    group: usize,
    lane: usize,
    into: &mut [u8],
) {
    let planes = code.planes();
    let group_bytes = 2 * BITS * group;
    for (from, into) in from.chunks_exact(group * BITS / 8).zip(into.chunks_exact_mut(group_bytes))
    {
        // Two quads are `BITS` whole bytes.
        for (pair, bytes) in from.chunks_exact(BITS).enumerate() {
            let mut word = [0; 8];
            word[..BITS].copy_from_slice(bytes);
            let stream = u64::from_le_bytes(word);
            if BITS == 4 {
                // The usual case: both quads are one word of the one plane.
                let word = spread::<4>(stream) | spread::<4>(stream >> 16) << 4;
                let at = pair * Line::BYTES + 4 * lane;
                into[at..at + 4].copy_from_slice(&word.to_le_bytes());
                continue;
            }
            for half in 0..2 {
                let quad = 2 * pair + half;
                let word = spread::<BITS>(stream >> (4 * BITS * half));
                let mut start = 0;
                for plane in planes {
                    let at = start + quad / plane.quads() * Line::BYTES + 4 * lane;
                    let mask = ((1_u32 << plane.bits) - 1) * 0x0101_0101;
                    let part =
                        (word >> plane.shift & mask) << (plane.bits * (quad % plane.quads()));
                    for (into, part) in into[at..at + 4].iter_mut().zip(part.to_le_bytes()) {
                        *into |= part;
                    }
                    start += plane.bytes(group);
                }
            }
        }
    }
}

/// Four integers of `BITS` bits, each in a byte of its own.
fn spread<const BITS: usize>(stream: u64) -> u32 {
    let mask = (1_u64 << BITS) - 1;
    (0..4).fold(0, |word, index| word | ((stream >> (BITS * index) & mask) as u32) << (8 * index))
}

/// One output's scales or biases; `place` is its place among the numbers of a group.
fn pack_factors(kind: Scales, from: &[u8], size: usize, place: usize, into: &mut [u8]) {
    match size {
        1 => pack_numbers::<1>(kind, from, place, into),
        2 => pack_numbers::<2>(kind, from, place, into),
        _ => pack_numbers::<4>(kind, from, place, into),
    }
}

/// Numbers of a size that is known need no call to be copied.
fn pack_numbers<const SIZE: usize>(kind: Scales, from: &[u8], place: usize, into: &mut [u8]) {
    let groups = into.chunks_exact_mut(kind.bytes());
    for (from, into) in from.as_chunks::<SIZE>().0.iter().zip(groups) {
        into.as_chunks_mut::<SIZE>().0[place] = *from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_of_words_is_packed_as_its_rows_are() {
        let (experts, out, inner) = (2, 2 * LANES + 3, 192);
        let weight: Vec<u8> =
            (0..experts * out * inner / 2).map(|at| (at * 37 + at / 251) as u8).collect();
        let factors = vec![0; experts * out * (inner / 32) * 2];
        let formats = [Format::Affine { bits: 4, group: 32 }, Format::Mxfp4, Format::Nvfp4];
        for format in formats {
            let scale_type = FloatType::Bf16;
            let source = Source {
                format,
                experts,
                out,
                inner,
                weight: &weight,
                scales: &factors,
                biases: &factors,
                scale_type,
            };
            let layout = Matrix::layout_of(format, scale_type, out, inner).unwrap();
            let tiles = out.div_ceil(LANES);
            for tile in 0..experts * tiles {
                let [mut whole, mut by_rows] = [(); 2].map(|()| vec![0; layout.tile_bytes(inner)]);
                let is_whole = pack_tile_of_words(&source, layout, tile, &mut whole);
                assert_eq!(is_whole, tile % tiles < tiles - 1, "{tile}");
                each_row(&source, tile, |lane, row| {
                    pack_weights(&source, layout, row, lane, &mut by_rows);
                });
                assert!(!is_whole || whole == by_rows, "{format}, tile {tile}");
            }
        }
    }
}
