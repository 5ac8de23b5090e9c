//! Keys and values of every token, packed into 8 or 4 bits.
//!
//! Each row of a head is packed when it comes, on its own, so that cutting back and feeding again gives the same numbers.

use mlx_rs::{Array, error::Exception, ops::quantize};

use super::full::{first, grown, has_room, like, written};
use crate::config::KvPacking;

/// Packed weights, scales and biases, `[1, heads, capacity, …]`.
pub(crate) type KvParts = [Array; 3];

/// Packed keys and values.
#[derive(Clone)]
pub(crate) struct Quantized {
    pub(crate) packing: KvPacking,
    arrays: Option<[KvParts; 2]>,
}

/// The names of the arrays in a file.
const NAMES: [[&str; 3]; 2] =
    [["keys", "keys.scales", "keys.biases"], ["values", "values.scales", "values.biases"]];

impl Quantized {
    pub(crate) fn new(packing: KvPacking) -> Quantized {
        Quantized { packing, arrays: None }
    }

    pub(crate) fn arrays(&self) -> Vec<&Array> {
        self.arrays.iter().flatten().flatten().collect()
    }

    /// Packs the keys and values of new tokens, appends them after the first `len`, and hands back all of them.
    pub(crate) fn append(
        &mut self,
        len: i32,
        keys: &Array,
        values: &Array,
    ) -> Result<[KvParts; 2], Exception> {
        let end = len + keys.dim(2);
        let mut olds = self.arrays.take().into_iter().flatten();
        let mut stored = Vec::with_capacity(2);
        let mut seen = Vec::with_capacity(2);
        for new in [keys, values] {
            let (weight, scales, biases) = quantize(new, self.packing.group, self.packing.bits)?;
            let mut old = olds.next().into_iter().flatten();
            let mut parts = Vec::with_capacity(3);
            for new in [weight, scales, biases] {
                let old = match old.next() {
                    Some(old) if has_room(&old, end) => old,
                    old => grown(old, like(&new), len, end)?,
                };
                parts.push(written(old, &new, len, end)?);
            }
            let parts = three(parts)?;
            seen.push(three(parts.iter().map(|part| first(part, end)).collect::<Result<_, _>>()?)?);
            stored.push(parts);
        }
        self.arrays = <[KvParts; 2]>::try_from(stored).ok();
        <[KvParts; 2]>::try_from(seen).map_err(|_| Exception::custom("keys and values"))
    }

    /// The arrays of the first `len` tokens, for a file.
    pub(crate) fn save(&self, len: i32) -> Result<Vec<(String, Array)>, Exception> {
        let arrays = self.arrays.iter().flatten().flatten();
        NAMES
            .iter()
            .flatten()
            .zip(arrays)
            .map(|(name, array)| Ok(((*name).to_owned(), first(array, len)?)))
            .collect()
    }

    /// Takes back what [`Quantized::save`] gave.
    pub(crate) fn load(&mut self, take: &mut dyn FnMut(&str) -> Option<Array>) {
        let mut parts =
            |names: [&str; 3]| three(names.into_iter().filter_map(&mut *take).collect());
        let [keys, values] = NAMES;
        self.arrays = parts(keys).and_then(|keys| Ok([keys, parts(values)?])).ok();
    }
}

fn three(parts: Vec<Array>) -> Result<KvParts, Exception> {
    KvParts::try_from(parts).map_err(|_| Exception::custom("weights, scales and biases"))
}

#[cfg(test)]
mod tests {
    use mlx_rs::{ops::dequantize, transforms::eval};

    use super::*;

    fn rows(tokens: i32, first: f32) -> Array {
        let numbers: Vec<f32> =
            (0..tokens * 2 * 64).map(|index| first + (index as f32 * 0.37).sin()).collect();
        Array::from_slice(&numbers, &[1, 2, tokens, 64])
    }

    fn numbers(parts: &KvParts, packing: KvPacking) -> Vec<f32> {
        let [weight, scales, biases] = parts;
        let array = dequantize(weight, scales, biases, packing.group, packing.bits).unwrap();
        eval([&array]).unwrap();
        array.try_as_slice::<f32>().unwrap().to_vec()
    }

    #[test]
    fn what_is_saved_goes_on_as_it_was() {
        let packing = KvPacking { bits: 8, group: 64 };
        let mut cache = Quantized::new(packing);
        cache.append(0, &rows(300, 0.0), &rows(300, 1.0)).unwrap();
        let mut loaded = Quantized::new(packing);
        let saved = cache.save(290).unwrap();
        assert_eq!(saved.len(), 6);
        loaded.load(&mut |name| {
            let found = saved.iter().find(|(saved, _)| saved == name);
            found.map(|(_, array)| array.clone())
        });
        let new = (rows(3, 0.5), rows(3, -0.5));
        let [keys, values] = cache.append(290, &new.0, &new.1).unwrap();
        let [loaded_keys, loaded_values] = loaded.append(290, &new.0, &new.1).unwrap();
        assert_eq!(keys[0].shape(), [1, 2, 293, 16]);
        assert_eq!(numbers(&keys, packing), numbers(&loaded_keys, packing));
        assert_eq!(numbers(&values, packing), numbers(&loaded_values, packing));
    }
}
