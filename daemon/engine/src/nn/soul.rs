//! Souls: LoRA overlays that lie beside the weights, mounted while the model runs and worn by one pass or another.
//!
//! Every linear map of the model has a [`Site`]. Mounting a soul puts its two small matrices into the sites that it names;
//! wearing one is setting a number that all sites see. The weights below are never touched, so swapping costs nothing and any
//! number of souls share one model. The order of operations is that of mlx-lm's `LoRALinear` and `LoRASwitchLinear`.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    path::Path,
    rc::Rc,
};

use mlx_rs::{Array, Dtype, ops::matmul, transforms::eval};

use super::{Floats, Result, finite::is_without_nan};
use crate::{
    info::{LoadOptions, MountError},
    job::SoulId,
    memory::{Reservation, admit, plan::Room, words},
    ops::{gather_mm, like, on_gpu, slice},
    weights::{adapter::Adapter, normal_name},
};

/// How many souls may be mounted at once.
pub(crate) const SOULS_MAX: usize = 64;

/// The remedy where shapes or names differ.
const OTHER_MODEL: &str = "; the adapter was made for another model";

/// The soul that the pass under way wears.
type Worn = Rc<Cell<Option<SoulId>>>;

/// A linear map, or stacked ones, as overlays see it.
pub(crate) struct Site {
    path: String,
    /// How many maps are stacked.
    count: Option<usize>,
    out: usize,
    inner: usize,
    overlays: RefCell<BTreeMap<SoulId, Overlay>>,
    worn: Worn,
}

/// What a soul adds to one map.
#[derive(Clone)]
struct Overlay {
    /// `[in, rank]`; of stacked maps `[count, in, rank]`.
    fall: Array,
    /// `[rank, out]`; of stacked maps `[count, rank, out]`.
    rise: Array,
    scale: f32,
}

impl Site {
    /// Columns that the map makes.
    pub(super) fn width(&self) -> i32 {
        self.out as i32
    }

    /// Whether the pass wears a soul, which need not have an overlay here.
    pub(super) fn is_worn(&self) -> bool {
        self.worn.get().is_some()
    }

    fn overlay(&self) -> Option<Overlay> {
        self.overlays.borrow().get(&self.worn.get()?).cloned()
    }

    /// `y`, which the map made of `x`, with what the worn soul adds.
    pub(super) fn with(&self, x: &Array, y: Array) -> Result<Array> {
        match self.overlay() {
            None => Ok(y),
            Some(Overlay { fall, rise, scale }) => {
                added(x, y, &matmul(&matmul(x, &fall)?, &rise)?, scale)
            }
        }
    }

    /// The same of stacked maps, of which `indices` say one for each row.
    pub(super) fn with_gathered(
        &self,
        x: &Array,
        y: Array,
        indices: &Array,
        is_sorted: bool,
    ) -> Result<Array> {
        match self.overlay() {
            None => Ok(y),
            Some(Overlay { fall, rise, scale }) => {
                let z = gather_mm(x, &fall, indices, is_sorted)?;
                added(x, y, &gather_mm(&z, &rise, indices, is_sorted)?, scale)
            }
        }
    }

    /// The same of the rows, `[rows, in]`, that all meet one of the stacked maps.
    pub(super) fn with_one(&self, x: &Array, y: Array, index: i32) -> Result<Array> {
        match self.overlay() {
            None => Ok(y),
            Some(Overlay { fall, rise, scale }) => {
                added(x, y, &matmul(&matmul(x, one(&fall, index)?)?, one(&rise, index)?)?, scale)
            }
        }
    }

    /// Whether tensors of these shapes fit, and if not, what does not.
    fn check(&self, [a, b]: [&[usize]; 2], rank: usize) -> std::result::Result<(), String> {
        let differ = |half: &str, made: usize, what: &str, has: usize| {
            let path = &self.path;
            Err(format!(
                "{path}.lora_{half} is made for {made} {what}, the model has {has}{OTHER_MODEL}"
            ))
        };
        let odd = |half: &str, shape: &[usize], wanted: &str| {
            Err(format!("{}.lora_{half} has shape {shape:?}, not {wanted}{OTHER_MODEL}", self.path))
        };
        let (a_inner, a_rank, b_rank, b_out) = match (self.count, a, b) {
            (None, &[a_inner, a_rank], &[b_rank, b_out]) => (a_inner, a_rank, b_rank, b_out),
            (None, &[_, _], b) => return odd("b", b, "[rank, out]"),
            (None, a, _) => return odd("a", a, "[in, rank]"),
            (Some(count), a, b) => {
                let (a_count, a_rank, a_inner) = match *a {
                    [count, rank, inner] => (count, rank, inner),
                    [rows, inner] if rows.is_multiple_of(rank) => (rows / rank, rank, inner),
                    _ => return odd("a", a, "[experts, rank, in]"),
                };
                let &[b_count, b_out, b_rank] = b else {
                    return odd("b", b, "[experts, out, rank]");
                };
                if a_count != count {
                    return differ("a", a_count, "experts", count);
                }
                if b_count != count {
                    return differ("b", b_count, "experts", count);
                }
                (a_inner, a_rank, b_rank, b_out)
            }
        };
        if a_inner != self.inner {
            return differ("a", a_inner, "inputs", self.inner);
        }
        if b_out != self.out {
            return differ("b", b_out, "outputs", self.out);
        }
        match [("a", a_rank), ("b", b_rank)].into_iter().find(|&(_, found)| found != rank) {
            Some((half, found)) => {
                let path = &self.path;
                Err(format!("{path}.lora_{half} has rank {found}, the configuration says {rank}"))
            }
            None => Ok(()),
        }
    }

    /// The overlay that `a` and `b` are, in the type that the model computes in.
    fn made(&self, a: &Array, b: &Array, scale: f32, floats: Floats) -> Result<Overlay> {
        let cast = |array: &Array| match floats {
            Floats::Stored | Floats::Uniform => Ok(array.clone()),
            Floats::Single | Floats::Dense | Floats::Tiles => array.as_dtype(Dtype::Float32),
        };
        let (mut fall, mut rise) = (cast(a)?, cast(b)?);
        // Products with one of stacked matrices per row: MLX's CPU has them of fp32 alone.
        if self.count.is_some() && !on_gpu() {
            (fall, rise) = (fall.as_dtype(Dtype::Float32)?, rise.as_dtype(Dtype::Float32)?);
        }
        if let Some(count) = self.count {
            fall = fall.reshape(&[count as i32, -1, self.inner as i32])?.swap_axes(-1, -2)?;
            rise = rise.swap_axes(-1, -2)?;
        }
        eval([&fall, &rise])?;
        Ok(Overlay { fall, rise, scale })
    }
}

fn added(x: &Array, y: Array, z: &Array, scale: f32) -> Result<Array> {
    y.add(like(z, scale)?.multiply(z)?.as_dtype(x.dtype())?)
}

/// One of stacked matrices.
fn one(stack: &Array, index: i32) -> Result<Array> {
    let (rows, columns) = (stack.dim(1), stack.dim(2));
    slice(stack, &[index, 0, 0], &[index + 1, rows, columns])?.reshape(&[rows, columns])
}

/// All sites of a model, and the souls that are mounted there.
#[derive(Default)]
pub(crate) struct Souls {
    worn: Worn,
    sites: BTreeMap<String, Rc<Site>>,
    /// With its share of memory.
    mounted: BTreeMap<SoulId, Reservation>,
    /// The share of the passes that wear one, as long as there is any.
    passes: Option<Reservation>,
    next: u32,
}

impl Souls {
    /// The site of a map, or of `count` stacked ones.
    pub(super) fn site(
        &mut self,
        path: &str,
        count: Option<usize>,
        [out, inner]: [usize; 2],
    ) -> Rc<Site> {
        let (overlays, worn) = (RefCell::default(), self.worn.clone());
        let site = Rc::new(Site { path: path.to_owned(), count, out, inner, overlays, worn });
        self.sites.insert(path.to_owned(), site.clone());
        site
    }

    /// Passes wear this soul from now on. `false`: it is not mounted.
    pub(crate) fn wear(&self, soul: Option<SoulId>) -> bool {
        let is_there = soul.is_none_or(|soul| self.mounted.contains_key(&soul));
        self.worn.set(soul.filter(|_| is_there));
        is_there
    }

    /// Mounts the adapter of a directory: all of it, or nothing. A pass that wears one takes `worn` bytes more than others.
    pub(crate) fn mount(
        &mut self,
        dir: &Path,
        floats: Floats,
        options: LoadOptions,
        worn: u64,
    ) -> std::result::Result<SoulId, MountError> {
        let Adapter { path, rank, scale, pairs } = Adapter::open(dir)?;
        let wrong = |reason: String| MountError { path: path.clone(), reason };
        if self.mounted.len() >= SOULS_MAX {
            return Err(wrong(format!("{SOULS_MAX} souls are mounted already")));
        }
        for (module, [a, b]) in &pairs {
            let site = self.sites.get(module);
            let site = site.ok_or_else(|| {
                wrong(format!("the model has no linear map {module}{OTHER_MODEL}"))
            })?;
            site.check([a, b], rank).map_err(wrong)?;
        }
        let passes = match self.passes {
            None if worn > 0 => Some(share(worn, options).map_err(wrong)?),
            _ => None,
        };
        let share = share(bytes(pairs.values().flatten()), options).map_err(wrong)?;
        let mut made = Vec::with_capacity(pairs.len());
        let computed = |error: mlx_rs::error::Exception| wrong(error.what().to_owned());
        let arrays = Array::load_safetensors(&path).map_err(|error| wrong(error.to_string()))?;
        let arrays: BTreeMap<String, Array> =
            arrays.into_iter().map(|(name, array)| (normal_name(&name), array)).collect();
        for module in pairs.keys() {
            let half = |half: &str| {
                let name = format!("{module}.lora_{half}");
                let array = arrays.get(&name).ok_or_else(|| wrong(format!("{name} is gone")))?;
                if is_without_nan(array).map_err(computed)? {
                    Ok(array)
                } else {
                    Err(wrong(format!("{name} holds values that are not numbers (NaN)")))
                }
            };
            let site = &self.sites[module];
            let overlay = site.made(half("a")?, half("b")?, scale, floats).map_err(computed)?;
            made.push((site.clone(), overlay));
        }
        let soul = SoulId(self.next);
        self.next += 1;
        for (site, overlay) in made {
            site.overlays.borrow_mut().insert(soul, overlay);
        }
        self.mounted.insert(soul, share);
        self.passes = self.passes.take().or(passes);
        Ok(soul)
    }

    /// Takes a soul off the model. `false`: it was not there.
    pub(crate) fn unmount(&mut self, soul: SoulId) -> bool {
        for site in self.sites.values() {
            site.overlays.borrow_mut().remove(&soul);
        }
        let was_there = self.mounted.remove(&soul).is_some();
        if self.mounted.is_empty() {
            self.passes = None;
        }
        was_there
    }
}

/// Bytes of matrices of these shapes. Each number is counted as fp32, which is the most that becomes of it.
fn bytes<'s>(shapes: impl Iterator<Item = &'s Vec<usize>>) -> u64 {
    let numbers: usize = shapes.map(|shape| shape.iter().product::<usize>()).sum();
    (numbers * size_of::<f32>()) as u64
}

/// Promises memory, or says why there is none.
fn share(bytes: u64, options: LoadOptions) -> std::result::Result<Reservation, String> {
    let (share, ()) = admit(|promised| {
        let room = Room::now(options, promised);
        match room.bytes {
            Some(left) if left < bytes => Err(format!(
                "it takes {}, and {} are {}; unmount another adapter or load the model with a shorter context",
                words(bytes),
                words(left),
                room.limit
            )),
            _ => Ok((bytes, ())),
        }
    })?;
    Ok(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlays_of_stacked_maps_are_added_in_every_type() {
        for dtype in [Dtype::Float32, Dtype::Bfloat16, Dtype::Float16] {
            let ones = |shape: &[i32]| mlx_rs::ops::ones_dtype(shape, dtype);
            let mut souls = Souls::default();
            let site = souls.site("experts", Some(2), [3, 4]);
            let (a, b) = (ones(&[2, 1, 4]).unwrap(), ones(&[2, 3, 1]).unwrap());
            let overlay = site.made(&a, &b, 0.5, Floats::Stored).unwrap();
            site.overlays.borrow_mut().insert(SoulId(0), overlay);
            site.worn.set(Some(SoulId(0)));
            let (x, y) = (ones(&[1, 1, 1, 1, 4]).unwrap(), ones(&[1, 1, 2, 1, 3]).unwrap());
            let indices = Array::from_slice(&[0u32, 1], &[1, 1, 2]);
            let sum = site.with_gathered(&x, y, &indices, false).unwrap();
            assert_eq!(sum.dtype(), dtype);
            let sum = sum.as_dtype(Dtype::Float32).unwrap();
            eval([&sum]).unwrap();
            assert_eq!(sum.try_as_slice::<f32>().unwrap(), [3.0; 6]);
        }
    }
}
