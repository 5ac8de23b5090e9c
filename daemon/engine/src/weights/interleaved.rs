//! The layout in which gpt-oss is published: the rows of gate and up take turns in one tensor, packed numbers lie in blocks of
//! bytes, and what is not packed is turned. Here the headers become those of mlx-lm's layout, name by name, and say what the
//! tensors under these names are made of.

use std::{collections::BTreeMap, sync::Arc};

use super::{Entry, Make, Origin};

/// One published tensor.
struct Piece {
    source: String,
    form: Form,
    /// What becomes of it, and of which rows: the even ones (0), the odd ones (1), or all.
    targets: Vec<(String, Option<usize>)>,
}

/// How numbers lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `[experts, rows, ..]`, as mlx-lm has it.
    Same,
    /// `[experts, rows, groups, 16]` bytes, which are `[experts, rows, 4 · groups]` words.
    Blocks,
    /// `[experts, in, rows]`.
    Turned,
}

/// The pieces of a model that has these tensors: none, unless it is published so.
fn pieces<'n>(names: impl IntoIterator<Item = &'n String>) -> Vec<Piece> {
    let paths = names.into_iter().filter_map(|name| name.strip_suffix(".gate_up_proj_bias"));
    paths.flat_map(of_experts).collect()
}

/// The pieces of the experts at `path`; of each kind, weights are there in one of two forms.
fn of_experts(path: &str) -> Vec<Piece> {
    let kinds = [
        ("", "weight", Form::Turned),
        ("_blocks", "weight", Form::Blocks),
        ("_scales", "scales", Form::Same),
        ("_bias", "bias", Form::Same),
    ];
    let piece = |(suffix, kind, form): (&str, &str, Form)| {
        let rows = [("gate", Some(0)), ("up", Some(1))];
        let rising = rows.map(|(name, row)| (format!("{path}.{name}_proj.{kind}"), row));
        let falling = vec![(format!("{path}.down_proj.{kind}"), None)];
        [("gate_up", rising.to_vec()), ("down", falling)].map(|(name, targets)| Piece {
            source: format!("{path}.{name}_proj{suffix}"),
            form,
            targets,
        })
    };
    kinds.into_iter().flat_map(piece).collect()
}

/// Gives the headers of a model published so the names and shapes of mlx-lm; or the tensor that does not lie so, and how it should.
pub(super) fn rename(tensors: &mut BTreeMap<String, Entry>) -> Result<(), (Entry, String)> {
    for Piece { source, form, targets } in pieces(tensors.keys()) {
        let Some(published) = tensors.remove(&source) else { continue };
        let mut entry = published.clone();
        let is_paired = targets.iter().any(|(_, row)| row.is_some());
        let wanted = match (form, entry.shape.as_mut_slice()) {
            (Form::Blocks, &mut [experts, rows, groups, 16]) if entry.dtype == "U8" => {
                entry.shape = vec![experts, rows, groups.saturating_mul(4)];
                entry.dtype = "U32".to_owned();
                None
            }
            (Form::Blocks, _) => Some("U8 [experts, rows, groups, 16]"),
            (Form::Turned, [_, inner, rows]) => {
                std::mem::swap(inner, rows);
                None
            }
            (Form::Turned, _) => Some("[experts, in, rows]"),
            (Form::Same, [_, _, ..]) => None,
            (Form::Same, _) => Some("[experts, rows, ..]"),
        };
        let is_odd = is_paired && entry.shape.get(1).is_some_and(|rows| !rows.is_multiple_of(2));
        if let Some(wanted) = wanted.or(is_odd.then_some("rows of gate and up in turn")) {
            let Entry { dtype, shape, .. } = &published;
            let reason = format!("tensor {source} is {dtype} {shape:?}, not {wanted}");
            return Err((published, reason));
        }
        let uses = targets.len();
        for (target, row) in targets {
            let mut entry = entry.clone();
            if row.is_some() || form != Form::Same {
                let make = Make::Rows { form, row };
                entry.origin = Some(Arc::new(Origin { entry: published.clone(), uses, make }));
            }
            if row.is_some() {
                entry.shape[1] /= 2;
                entry.bytes /= 2;
            }
            tensors.insert(target, entry);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(dtype: &str, shape: &[usize], bytes: u64) -> Entry {
        let (dtype, shape) = (dtype.to_owned(), shape.to_vec());
        Entry { file: 0, start: 0, dtype, shape, bytes, origin: None }
    }

    #[test]
    fn gives_published_tensors_the_names_of_mlx_lm() {
        let published = [
            ("a.experts.gate_up_proj_blocks", entry("U8", &[4, 64, 2, 16], 8192)),
            ("a.experts.gate_up_proj_scales", entry("U8", &[4, 64, 2], 512)),
            ("a.experts.gate_up_proj_bias", entry("BF16", &[4, 64], 512)),
            ("a.experts.down_proj", entry("F32", &[4, 32, 64], 32768)),
            ("b.experts.gate_up_proj", entry("F32", &[4, 64, 64], 65536)),
        ];
        let mut tensors: BTreeMap<String, Entry> =
            published.into_iter().map(|(name, entry)| (name.to_owned(), entry)).collect();
        rename(&mut tensors).unwrap();
        let expected = [
            ("a.experts.down_proj.weight", entry("F32", &[4, 64, 32], 32768)),
            ("a.experts.gate_proj.bias", entry("BF16", &[4, 32], 256)),
            ("a.experts.gate_proj.scales", entry("U8", &[4, 32, 2], 256)),
            ("a.experts.gate_proj.weight", entry("U32", &[4, 32, 8], 4096)),
            ("a.experts.up_proj.bias", entry("BF16", &[4, 32], 256)),
            ("a.experts.up_proj.scales", entry("U8", &[4, 32, 2], 256)),
            ("a.experts.up_proj.weight", entry("U32", &[4, 32, 8], 4096)),
            // Another architecture's, whose maps have no biases.
            ("b.experts.gate_up_proj", entry("F32", &[4, 64, 64], 65536)),
        ];
        let plain = |entry: &Entry| Entry { origin: None, ..entry.clone() };
        let found: Vec<(&str, Entry)> =
            tensors.iter().map(|(name, entry)| (name.as_str(), plain(entry))).collect();
        assert_eq!(found, expected);
        let made = |name: &str| {
            let origin = tensors[name].origin.as_ref().unwrap();
            (origin.entry.dtype.as_str(), origin.entry.bytes, origin.uses, origin.make)
        };
        let rows = |form, row| Make::Rows { form, row };
        let up = "a.experts.up_proj.weight";
        assert_eq!(made(up), ("U8", 8192, 2, rows(Form::Blocks, Some(1))));
        let down = "a.experts.down_proj.weight";
        assert_eq!(made(down), ("F32", 32768, 1, rows(Form::Turned, None)));
        assert!(tensors["b.experts.gate_up_proj"].origin.is_none());
    }

    #[test]
    fn names_the_tensor_that_lies_otherwise() {
        for (name, dtype, shape, wanted) in [
            ("gate_up_proj_bias", "BF16", &[64][..], "[experts, rows, ..]"),
            ("gate_up_proj_bias", "BF16", &[4, 63], "rows of gate and up in turn"),
            ("gate_up_proj", "BF16", &[4, 32], "[experts, in, rows]"),
            ("gate_up_proj", "BF16", &[4, 32, 63], "rows of gate and up in turn"),
            ("down_proj_blocks", "U8", &[4, 64, 2], "U8 [experts, rows, groups, 16]"),
            ("down_proj_blocks", "F32", &[4, 64, 2, 16], "U8 [experts, rows, groups, 16]"),
        ] {
            let mut tensors = BTreeMap::new();
            tensors.insert("a.gate_up_proj_bias".to_owned(), entry("BF16", &[4, 64], 512));
            tensors.insert(format!("a.{name}"), entry(dtype, shape, 512));
            let (_, reason) = rename(&mut tensors).unwrap_err();
            assert_eq!(reason, format!("tensor a.{name} is {dtype} {shape:?}, not {wanted}"));
        }
    }
}
