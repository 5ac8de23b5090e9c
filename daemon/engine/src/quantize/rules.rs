//! With how many bits each matrix is packed: what mlx-lm does for each architecture.

use super::{Keep, Mixed};
use crate::{
    config::{ModelConfig, Packing},
    weights::check::Asked,
};

/// Bits of routers where they are packed apart from the rest, and weights of their groups.
const ROUTER: (usize, usize) = (8, 64);
/// The group of what the user gives other bits in a method that has no bits to choose.
const KEPT_GROUP: usize = 64;

/// What becomes of a matrix.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Verdict {
    pub(super) packing: Result<Packing, String>,
    /// Whether config.json has to name it.
    pub(super) is_named: bool,
}

/// The rules for one model.
pub(super) struct Rules<'k> {
    architecture: String,
    has_experts: bool,
    pub(super) base: Packing,
    mixed: Option<Mixed>,
    layers: usize,
    keep: &'k dyn Fn(&str) -> Option<Keep>,
}

impl<'k> Rules<'k> {
    pub(super) fn new(
        config: &ModelConfig,
        base: Packing,
        mixed: Option<Mixed>,
        asked: &[Asked],
        keep: &'k dyn Fn(&str) -> Option<Keep>,
    ) -> Rules<'k> {
        let paths = asked.iter().map(|asked| match asked {
            Asked::Matrix(matrix) => matrix.path.as_str(),
            Asked::Floats(name) => name.as_str(),
        });
        let layers = paths.clone().filter_map(layer_of).max().map_or(0, |layer| layer + 1);
        let has_experts = paths.clone().any(|path| path.ends_with("mlp.gate"));
        let architecture = config.architecture.clone();
        Rules { architecture, has_experts, base, mixed, layers, keep }
    }

    /// What becomes of the matrix at `path` with so many columns.
    pub(super) fn of(&self, path: &str, columns: usize) -> Verdict {
        if self.is_bare_gate(path) {
            return unpacked("mlx-lm never packs this router", false);
        }
        if let Some(keep) = (self.keep)(path) {
            return self.kept(keep, columns);
        }
        if !columns.is_multiple_of(self.base.group) {
            let reason = format!("{columns} columns are no multiple of {}", self.base.group);
            return unpacked(&reason, false);
        }
        let (bits, group) = match self.mixed {
            Some(mixed) if self.has_more_bits(path) => (mixed.high.into(), self.base.group),
            Some(mixed) => (mixed.low.into(), self.base.group),
            None if self.is_router(path) => ROUTER,
            None => return Verdict { packing: Ok(self.base), is_named: false },
        };
        if columns.is_multiple_of(group) {
            Verdict { packing: Ok(Packing::affine(bits, group)), is_named: true }
        } else {
            unpacked(&format!("{columns} columns are no multiple of {group}"), false)
        }
    }

    fn kept(&self, keep: Keep, columns: usize) -> Verdict {
        let Keep::Bits(bits) = keep else { return unpacked("as asked", true) };
        let group = if self.base.is_affine() { self.base.group } else { KEPT_GROUP };
        if columns.is_multiple_of(group) {
            Verdict { packing: Ok(Packing::affine(bits.into(), group)), is_named: true }
        } else {
            unpacked(&format!("{columns} columns are no multiple of {group}"), true)
        }
    }

    /// Routers that are no linear map in mlx-lm, but a bare parameter.
    fn is_bare_gate(&self, path: &str) -> bool {
        const BARE: [&str; 7] = [
            "deepseek_v3",
            "deepseek_v32",
            "glm4_moe",
            "glm4_moe_lite",
            "glm_moe_dsa",
            "kimi_k2",
            "kimi_k25",
        ];
        path.ends_with("mlp.gate") && BARE.contains(&self.architecture.as_str())
    }

    fn is_router(&self, path: &str) -> bool {
        match self.architecture.as_str() {
            "qwen3_moe" => path.ends_with("mlp.gate"),
            "qwen3_next" => path.ends_with("mlp.gate") || path.ends_with("shared_expert_gate"),
            "qwen3_5" | "qwen3_5_moe" => {
                self.has_experts
                    && (path.ends_with("mlp.gate") || path.ends_with("shared_expert_gate"))
            }
            "gpt_oss" => path.ends_with("router"),
            "minimax" | "minimax_m2" => path.ends_with("block_sparse_moe.gate"),
            _ => false,
        }
    }

    /// Whether a recipe of two widths gives it the greater one: values and outputs of the first and last eighth of the layers and of
    /// every third between them, and the head.
    fn has_more_bits(&self, path: &str) -> bool {
        let (layer, eighth) = (layer_of(path).unwrap_or(0), self.layers / 8);
        let middle = eighth..7 * self.layers / 8;
        let is_chosen = !middle.contains(&layer) || (layer - eighth) % 3 == 2;
        let holds = |names: &[&str]| names.iter().any(|name| path.contains(name));
        holds(&["lm_head"]) || is_chosen && holds(&["v_proj", "v_a_proj", "v_b_proj", "down_proj"])
    }
}

fn unpacked(reason: &str, is_named: bool) -> Verdict {
    Verdict { packing: Err(reason.to_owned()), is_named }
}

/// The number of the layer that a path is in.
fn layer_of(path: &str) -> Option<usize> {
    path.split('.').find_map(|part| part.parse().ok())
}
