//! The instruction sets, and the choice between them.
//!
//! All variants compute the same bits ([`crate::digits`]). The best that the machine has is chosen once; [`force`] is for
//! tests and measurements.

mod portable;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::activation::Activation;
use crate::layout::{LANES, Layout};
use crate::matrix::Unsupported;
use crate::simd::{self, Level};

/// Tiles that one call of a kernel takes.
pub(crate) const PANEL_TILES: usize = 8;
/// Rows that one call of a kernel takes.
pub(crate) const PANEL_ROWS: usize = 8;
/// Room for the sums of a panel of one row.
pub(crate) const ROW_SUMS: usize = PANEL_TILES * LANES;
/// Room for the sums of any panel.
pub(crate) const PANEL_SUMS: usize = PANEL_TILES * PANEL_ROWS * LANES;

/// A row as kernels take it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Row<'a> {
    pub(crate) floats: &'a [f32],
    /// In chunks of sixteen columns; empty for matrices of floats.
    pub(crate) digits: &'a [i8],
    /// `2^-e` and `Σ n · 2^-e` of each group.
    pub(crate) factors: &'a [[f32; 2]],
}

/// What is multiplied in one call: tiles of one expert, and rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Panel<'a> {
    pub(crate) layout: Layout,
    pub(crate) inner: usize,
    pub(crate) tiles: usize,
    pub(crate) weights: &'a [u8],
    pub(crate) scales: &'a [u8],
    pub(crate) rows: &'a [Row<'a>],
}

/// Numbers, their group, where the digits go, where the factors go.
type Split = unsafe fn(&[f32], usize, &mut [i8], &mut [[f32; 2]]);

impl Panel<'_> {
    /// Brings the beginning of its tiles near, without waiting for it.
    pub(crate) fn ask_for(&self) {
        let tile_bytes = self.layout.tile_bytes(self.inner).max(1);
        for tile in self.weights.chunks(tile_bytes) {
            tile[..tile.len().min(ASKED_BYTES)].chunks(64).for_each(ask_for);
        }
        self.scales.chunks(64).take(ASKED_BYTES / 64 * self.tiles / 4).for_each(ask_for);
    }
}

/// Bytes of a tile that are asked for before its turn: the kernels ask for the rest on their way.
const ASKED_BYTES: usize = 1024;

/// Brings a line near, without waiting for it.
pub(crate) fn ask_for(line: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: any address may be asked for, and every x86-64 processor has the instruction.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}

/// The functions of one instruction set.
struct Kernels {
    variant: Variant,
    /// Products of a panel whose weights are integers in groups; sums are `[tiles][rows][16]`.
    groups: unsafe fn(&Panel<'_>, &mut [f32]),
    /// The same for weights that are floats.
    floats: unsafe fn(&Panel<'_>, &mut [f32]),
    digits: Split,
    gate: unsafe fn(Activation, &mut [f32], &[f32]),
}

/// An instruction set that there are kernels for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// Whatever the compiler makes of plain Rust for any processor of the architecture.
    Portable,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// AVX-512 with VNNI.
    Avx512,
}

/// From the plainest to the best.
const ALL: &[&Kernels] = &[
    &portable::KERNELS,
    #[cfg(target_arch = "x86_64")]
    &avx2::KERNELS,
    #[cfg(target_arch = "x86_64")]
    &avx512::KERNELS,
];

/// 0: not forced; else one more than the place in `ALL`.
static FORCED: AtomicUsize = AtomicUsize::new(0);

fn available(variant: Variant) -> bool {
    match variant {
        Variant::Portable => true,
        #[cfg(target_arch = "x86_64")]
        Variant::Avx2 => avx2::is_available(),
        #[cfg(target_arch = "x86_64")]
        Variant::Avx512 => avx512::is_available(),
        #[cfg(not(target_arch = "x86_64"))]
        Variant::Avx2 | Variant::Avx512 => false,
    }
}

/// What this machine can run, the best last.
pub fn variants() -> Vec<Variant> {
    ALL.iter().map(|kernels| kernels.variant).filter(|&variant| available(variant)).collect()
}

/// What is in use.
pub fn variant() -> Variant {
    current().variant
}

/// From now on uses this variant, or again the best one, in products and in everything else: attention, norms, positions, delta nets.
pub fn force(variant: Option<Variant>) -> Result<(), Unsupported> {
    let place = ALL.iter().position(|kernels| Some(kernels.variant) == variant);
    if let Some(variant) = variant
        && (place.is_none() || !available(variant))
    {
        return Err(Unsupported(format!("this processor has no {variant:?}")));
    }
    FORCED.store(place.map_or(0, |place| place + 1), Ordering::Relaxed);
    simd::force(variant.map(|variant| match variant {
        Variant::Portable => Level::Portable,
        Variant::Avx2 => Level::Avx2,
        Variant::Avx512 => Level::Avx512,
    }));
    Ok(())
}

fn current() -> &'static Kernels {
    static BEST: OnceLock<&'static Kernels> = OnceLock::new();
    match FORCED.load(Ordering::Relaxed) {
        0 => BEST.get_or_init(|| {
            let usable = ALL.iter().rev().find(|kernels| available(kernels.variant));
            usable.copied().unwrap_or(&portable::KERNELS)
        }),
        place => ALL[place - 1],
    }
}

/// Multiplies a panel; `sums` becomes `[tiles][rows][16]`.
pub(crate) fn multiply(panel: &Panel<'_>, sums: &mut [f32]) {
    let Panel { layout, inner, tiles, weights, scales, rows } = *panel;
    assert!(rows.len() <= PANEL_ROWS && tiles <= PANEL_TILES, "a panel larger than kernels take");
    assert_eq!(sums.len(), tiles * rows.len() * LANES, "sums of another panel");
    assert_eq!(weights.len(), tiles * layout.tile_bytes(inner), "weights of another panel");
    assert_eq!(scales.len(), tiles * layout.scale_bytes(inner), "scales of another panel");
    let fit = rows.iter().all(|row| match layout {
        Layout::Groups { group, .. } => {
            row.digits.len() == 3 * inner && row.factors.len() == inner / group
        }
        Layout::Floats(_) => row.floats.len() == inner,
    });
    assert!(fit, "rows prepared for another matrix");
    let kernels = current();
    // SAFETY: the processor has what the variant needs (`force` and `current` see to it), and the sizes fit, as checked.
    unsafe {
        match layout {
            Layout::Groups { .. } => (kernels.groups)(panel, sums),
            Layout::Floats(_) => (kernels.floats)(panel, sums),
        }
    }
}

/// Digits and factors of whole groups (see [`crate::digits`]).
pub(crate) fn digits(x: &[f32], group: usize, digits: &mut [i8], factors: &mut [[f32; 2]]) {
    assert!(
        digits.len() == 3 * x.len() && factors.len() * group == x.len(),
        "digits of another row"
    );
    // SAFETY: as in `multiply`.
    unsafe { (current().digits)(x, group, digits, factors) }
}

/// `gate` becomes the inner activations.
pub(crate) fn gate(activation: Activation, gate: &mut [f32], up: &[f32]) {
    // SAFETY: as in `multiply`; the function itself is safe code.
    unsafe { (current().gate)(activation, gate, up) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_that_is_forced_is_everybodys() {
        for of in variants() {
            force(Some(of)).unwrap();
            assert_eq!((variant(), format!("{:?}", simd::level())), (of, format!("{of:?}")));
        }
        force(None).unwrap();
        assert_eq!(Some(variant()), variants().last().copied());
    }
}
