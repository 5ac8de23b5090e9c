//! The layout of compressed-tensors' `pack-quantized`, in which Kimi K2 Thinking and K2.5 are published: whole numbers of 4 bits around
//! zero, with a scale for each group. In affine packing that is the same numbers with a bias of −8 scales. Here the headers get the
//! names of affine packing, and say what the tensors under these names are made of.

use std::{collections::BTreeMap, sync::Arc};

use super::{Entry, Make, Origin};

/// What the bias of a group is, in its scales: numbers are stored with 8 added.
const BIAS: f32 = -8.0;

/// What becomes of a published tensor.
enum Part {
    /// Words of eight numbers, under the name of the weight.
    Words(String),
    /// Scales, under their name and, times −8, under that of the biases.
    Scales { scales: String, biases: String },
    /// The shape: it follows from the others.
    Nothing,
}

/// The part that a tensor of this name is, if it is one.
fn part(name: &str) -> Option<Part> {
    let (path, kind) = name.rsplit_once('.')?;
    Some(match kind {
        "weight_packed" => Part::Words(format!("{path}.weight")),
        "weight_scale" => {
            Part::Scales { scales: format!("{path}.scales"), biases: format!("{path}.biases") }
        }
        "weight_shape" => Part::Nothing,
        _ => return None,
    })
}

/// Gives the headers of a model published so the names of affine packing.
pub(super) fn rename(tensors: &mut BTreeMap<String, Entry>) {
    // Other formats have scales of this name too.
    if !tensors.keys().any(|name| name.ends_with(".weight_packed")) {
        return;
    }
    for (name, mut entry) in std::mem::take(tensors) {
        match part(&name) {
            None => {
                tensors.insert(name, entry);
            }
            Some(Part::Words(weight)) => {
                if entry.dtype == "I32" {
                    entry.dtype = "U32".to_owned();
                }
                tensors.insert(weight, entry);
            }
            Some(Part::Scales { scales, biases }) => {
                for (name, factor) in [(scales, 1.0), (biases, BIAS)] {
                    let make = Make::Times(factor);
                    let origin = Origin { entry: entry.clone(), uses: 2, make };
                    tensors.insert(name, Entry { origin: Some(Arc::new(origin)), ..entry.clone() });
                }
            }
            Some(Part::Nothing) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_published_tensors_the_names_of_affine_packing() {
        let entry = |dtype: &str, shape: &[usize]| Entry {
            file: 0,
            start: 0,
            dtype: dtype.to_owned(),
            shape: shape.to_vec(),
            bytes: 8,
            origin: None,
        };
        let times = |factor: f32, entry: Entry| {
            let origin = Origin { entry: entry.clone(), uses: 2, make: Make::Times(factor) };
            Entry { origin: Some(Arc::new(origin)), ..entry }
        };
        let published = [
            ("a.q.weight_packed", entry("I32", &[4, 8])),
            ("a.q.weight_scale", entry("BF16", &[4, 2])),
            ("a.q.weight_shape", entry("I32", &[2])),
            ("a.norm.weight", entry("BF16", &[64])),
        ];
        let mut tensors =
            published.into_iter().map(|(name, entry)| (name.to_owned(), entry)).collect();
        rename(&mut tensors);
        let expected = [
            ("a.norm.weight", entry("BF16", &[64])),
            ("a.q.biases", times(-8.0, entry("BF16", &[4, 2]))),
            ("a.q.scales", times(1.0, entry("BF16", &[4, 2]))),
            ("a.q.weight", entry("U32", &[4, 8])),
        ];
        let found: Vec<(&str, Entry)> =
            tensors.iter().map(|(name, entry)| (name.as_str(), entry.clone())).collect();
        assert_eq!(found, expected);
    }
}
