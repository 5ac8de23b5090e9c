//! What a sequence's memory takes, as far as the configuration says.

use super::{Family, FeedForward, KvPacking, Mixer, Mla, ModelConfig, Shared};
use crate::{
    cache::{compressed_bytes_max, recurrent_bytes_max, ring},
    models::{gdn::BLOCK_LEN, mtp},
};

/// Counted in numbers, whose width depends on the arithmetic; only what is packed has bytes of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Footprint {
    /// For every token, in layers that keep all.
    pub(crate) per_token: u64,
    /// The same, in bytes, of what is packed.
    pub(crate) packed: u64,
    /// How many layers those are: each is copied when it grows.
    pub(crate) keepers: u64,
    /// Layers that keep only the latest tokens: numbers for each, and how many.
    pub(crate) windows: Vec<(u64, u64)>,
    /// Bytes that a sequence takes at most however long it is, with all places that it can come back to, whatever the arithmetic.
    pub(crate) state: u64,
    /// What one layer computes anew at once for every token seen, in mlx-lm's order of operations.
    pub(crate) unfolded: u64,
    /// What one layer computes at once for each token of the pass.
    pub(crate) wide: u64,
    /// Multiplications of attention for each pair of a token of the pass and a token seen, in all layers that look at all, where our own
    /// kernels attend.
    pub(crate) attended: u64,
    /// Heads of such a layer, and numbers of a value.
    pub(crate) attends: (usize, usize),
}

impl Footprint {
    /// Bytes that a sequence of `tokens` keeps, if a number takes `width`.
    pub(crate) fn bytes(&self, tokens: u64, width: u64) -> u64 {
        let kept = |&(each, window): &(u64, u64)| each * window.min(tokens);
        let windows: u64 = self.windows.iter().map(kept).sum();
        (self.per_token * tokens + windows) * width + self.packed * tokens + self.state
    }
}

/// Numbers of a token that the feed-forward part of a layer holds at once: gate, up and their product, of every expert that it
/// meets, and what they make of it.
fn of_feed_forward(hidden: usize, layer: &FeedForward) -> u64 {
    let numbers = match layer {
        FeedForward::Dense { inner } => 3 * inner + hidden,
        FeedForward::Experts(experts) => {
            let shared = match experts.shared {
                Some(Shared::Plain { inner } | Shared::Gated { inner }) => 3 * inner + hidden,
                None => 0,
            };
            experts.per_token * (3 * experts.inner + hidden) + shared
        }
    };
    numbers as u64
}

/// What layers of keys and values take: `full` that keep all, and windows.
fn of_keys(kv: Option<KvPacking>, full: usize, heads: usize, dim: usize) -> Footprint {
    let (numbers, keepers) = ((2 * full * heads * dim) as u64, full as u64);
    match kv {
        None => Footprint { per_token: numbers, keepers, ..Footprint::default() },
        // The packed bits, and a scale and a bias for every group.
        Some(KvPacking { bits, group }) => Footprint {
            per_token: numbers * 2 / group as u64,
            packed: numbers * bits as u64 / 8,
            keepers,
            ..Footprint::default()
        },
    }
}

impl ModelConfig {
    /// What a sequence's memory and a pass take.
    pub(crate) fn footprint(&self) -> Footprint {
        let hidden = self.hidden;
        let stream = 4 * hidden as u64;
        match &self.family {
            Family::Gqa(gqa) => {
                let (heads, dim) = (gqa.kv_heads, gqa.head_dim);
                let windows = gqa.windows.iter().flatten();
                let ring = |&window: &usize| ((2 * heads * dim) as u64, ring::rows_max(window));
                let full = gqa.windows.iter().filter(|window| window.is_none()).count();
                let full = full + usize::from(self.mtp);
                let inner = gqa.layers.iter().map(|layer| of_feed_forward(hidden, layer)).max();
                let attention = 2 * (gqa.heads + 2 * gqa.kv_heads) * dim;
                Footprint {
                    windows: windows.map(ring).collect(),
                    state: if self.mtp { mtp::bytes_max(hidden) } else { 0 },
                    wide: stream + inner.unwrap_or(0).max(attention as u64),
                    attended: self.attended(full, gqa.heads, 2 * dim),
                    attends: self.attends(gqa.heads, dim),
                    ..of_keys(self.kv, full, heads, dim)
                }
            }
            Family::Mla(mla) => self.of_latents(mla),
            Family::Gdn(gdn) => {
                let (attention, delta) = (&gdn.attention, &gdn.delta);
                let (heads, dim) = (attention.kv_heads, attention.head_dim);
                let inner =
                    gdn.layers.iter().map(|layer| of_feed_forward(hidden, &layer.feed_forward));
                // Queries, keys and values before and behind the convolution; in blocks, the latter two in several forms.
                let each = 3 * (delta.key_dim + delta.value_dim) + 4 * BLOCK_LEN as usize;
                let scanned = 4 * delta.conv_width() + delta.value_heads * each;
                let attended = 3 * (attention.heads + heads) * dim;
                let full = gdn.count(Mixer::Attention);
                Footprint {
                    state: recurrent_bytes_max(gdn.bytes_per_checkpoint()),
                    wide: stream + inner.max().unwrap_or(0).max(scanned.max(attended) as u64),
                    attended: self.attended(full, attention.heads, 2 * dim),
                    attends: self.attends(attention.heads, dim),
                    ..of_keys(self.kv, full, heads, dim)
                }
            }
            family @ Family::DeepseekV41(model) => {
                let number = size_of::<f32>() as u64;
                Footprint {
                    per_token: family.bytes_per_token(self.kv) / number,
                    state: compressed_bytes_max(model.bytes_per_place(self.context_max)),
                    wide: 8 * stream,
                    ..Footprint::default()
                }
            }
        }
    }

    /// The same of latent attention.
    fn of_latents(&self, mla: &Mla) -> Footprint {
        let (hidden, stream) = (self.hidden, 4 * self.hidden as u64);
        let inner = mla.layers.iter().map(|layer| of_feed_forward(hidden, &layer.feed_forward));
        let head = mla.plain + mla.rope.dims + mla.value;
        // Queries, as they are and in the space of latents, joined with their rotated part; what they find, there and as values.
        let attended = 2 * (mla.plain + mla.rope.dims) + 4 * mla.latent + 3 * mla.value;
        // What each token gathers of those that an indexer chose for it, and its scores of them.
        let entry = (mla.latent + mla.rope.dims).max(3 * mla.heads) + 3 * mla.heads;
        let chosen = mla.indexer.as_ref().map_or(0, |indexer| indexer.kept * entry);
        // Where tokens are chosen, MLX attends.
        let full = mla.layers.len() + usize::from(self.mtp);
        let whole = if mla.indexer.is_none() { full } else { 0 };
        Footprint {
            per_token: mla.bytes_per_token() / size_of::<f32>() as u64
                + if self.mtp { mla.numbers_per_layer() } else { 0 },
            keepers: full as u64,
            state: if self.mtp { mtp::bytes_max(hidden) } else { 0 },
            // mlx-lm unfolds latents to keys and values where it reads more than one token.
            unfolded: (mla.heads * head) as u64,
            wide: stream + inner.max().unwrap_or(0).max((mla.heads * attended + chosen) as u64),
            attended: self.attended(whole, mla.heads, 2 * mla.latent + mla.rope.dims),
            attends: if whole > 0 { self.attends(mla.heads, mla.latent) } else { (0, 0) },
            ..Footprint::default()
        }
    }

    /// As [`Footprint::attended`], of so many layers with a key and a value of `dims` together. MLX attends to what is packed.
    fn attended(&self, layers: usize, heads: usize, dims: usize) -> u64 {
        if self.kv.is_some() { 0 } else { (layers * heads * dims) as u64 }
    }

    /// As [`Footprint::attends`].
    fn attends(&self, heads: usize, value_dim: usize) -> (usize, usize) {
        if self.kv.is_some() { (0, 0) } else { (heads, value_dim) }
    }

    /// The same with keys and values in 8 bits, where they can be packed and are not.
    pub(crate) fn footprint_packed(&self) -> Option<Footprint> {
        let packing = self.family.kv_packing(8).ok().filter(|_| self.kv.is_none())?;
        Some(ModelConfig { kv: Some(packing), ..self.clone() }.footprint())
    }
}
