//! Decoders that mix gated delta nets with full attention: qwen3_next, qwen3_5, qwen3_5_moe.

use super::{
    KvPacking, Wrong,
    feed_forward::{Experts, FeedForward, Router, Shared},
    layer_count,
    read::Reader,
    rope::Rope,
};

/// What such a decoder is made of, beside what all families have.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Gdn {
    pub(crate) attention: Attention,
    pub(crate) delta: Delta,
    /// One per layer.
    pub(crate) layers: Vec<Layer>,
}

/// Full attention, whose result is gated.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Attention {
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) rope: Rope,
    /// Biases on all four projections.
    pub(crate) bias: bool,
}

/// A gated delta net.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Delta {
    pub(crate) key_heads: usize,
    /// A multiple of the key heads.
    pub(crate) value_heads: usize,
    pub(crate) key_dim: usize,
    pub(crate) value_dim: usize,
    /// How many tokens the convolution looks at.
    pub(crate) kernel: usize,
    /// Its inputs come from two projections, in which they alternate by key head (Qwen3-Next), and not from four.
    pub(crate) interleaved: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Layer {
    pub(crate) mixer: Mixer,
    pub(crate) feed_forward: FeedForward,
}

/// What looks at earlier tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mixer {
    Attention,
    Delta,
}

impl Gdn {
    pub(super) fn parse(
        reader: &mut Reader<'_>,
        architecture: &str,
        hidden: usize,
    ) -> Result<Gdn, Wrong> {
        let gdn = Gdn {
            attention: Attention::parse(reader, architecture, hidden)?,
            delta: Delta::parse(reader, architecture)?,
            layers: layers(reader, architecture)?,
        };
        gdn.attention.check()?;
        gdn.delta.check()?;
        super::check_sizes(&[gdn.layers.len()])?;
        gdn.layers.iter().try_for_each(|layer| layer.feed_forward.check())?;
        Ok(gdn)
    }

    pub(super) fn count(&self, mixer: Mixer) -> usize {
        self.layers.iter().filter(|layer| layer.mixer == mixer).count()
    }

    /// Keys and values of a token; in fp32 if they are not packed. The delta nets' memory does not grow.
    pub(super) fn bytes_per_token(&self, kv: Option<KvPacking>) -> u64 {
        let Attention { kv_heads, head_dim, .. } = self.attention;
        2 * (self.count(Mixer::Attention) * kv_heads) as u64 * KvPacking::row_bytes(kv, head_dim)
    }

    /// What the delta nets remember of a sequence, in fp32; every checkpoint takes as much.
    pub(crate) fn bytes_per_checkpoint(&self) -> u64 {
        let Delta { value_heads, key_dim, value_dim, kernel, .. } = self.delta;
        let conv = (kernel - 1) * self.delta.conv_width();
        (4 * self.count(Mixer::Delta) * (value_heads * key_dim * value_dim + conv)) as u64
    }
}

impl Attention {
    fn parse(
        reader: &mut Reader<'_>,
        architecture: &str,
        hidden: usize,
    ) -> Result<Attention, Wrong> {
        if !reader.optional(&["attn_output_gate"])?.unwrap_or(true) {
            let reason = "attention without a gate (attn_output_gate) is not supported";
            return Err(Wrong::Key(reason.to_owned()));
        }
        reader.refuse_biases(&["mlp_bias"])?;
        let heads: usize = reader.need(&["num_attention_heads"])?;
        let head_dim = reader.optional(&["head_dim"])?.unwrap_or(hidden / heads.max(1));
        let base = if architecture == "qwen3_next" { 1e4 } else { 1e5 };
        let partial = reader.rope_key::<f64>("partial_rotary_factor")?.unwrap_or(0.25);
        let dims = (head_dim as f64 * partial) as usize;
        Ok(Attention {
            heads,
            kv_heads: reader.optional(&["num_key_value_heads"])?.unwrap_or(heads),
            head_dim,
            rope: Rope::plain(reader, (dims, head_dim), false, base)?.scaled(reader)?,
            bias: reader.optional(&["attention_bias"])?.unwrap_or(false),
        })
    }

    fn check(&self) -> Result<(), Wrong> {
        super::check_sizes(&[self.heads, self.kv_heads, self.head_dim, self.rope.dims])?;
        super::product(self.heads, self.head_dim)?;
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(Wrong::Key(format!(
                "{} heads cannot share {} key-value heads",
                self.heads, self.kv_heads
            )));
        }
        Ok(())
    }
}

impl Delta {
    fn parse(reader: &mut Reader<'_>, architecture: &str) -> Result<Delta, Wrong> {
        Ok(Delta {
            key_heads: reader.need(&["linear_num_key_heads"])?,
            value_heads: reader.need(&["linear_num_value_heads"])?,
            key_dim: reader.need(&["linear_key_head_dim"])?,
            value_dim: reader.need(&["linear_value_head_dim"])?,
            kernel: reader.optional(&["linear_conv_kernel_dim"])?.unwrap_or(4),
            interleaved: architecture == "qwen3_next",
        })
    }

    /// Channels of the convolution: queries, keys and values of all heads.
    pub(crate) fn conv_width(&self) -> usize {
        2 * self.key_heads * self.key_dim + self.value_heads * self.value_dim
    }

    fn check(&self) -> Result<(), Wrong> {
        let Delta { key_heads, value_heads, key_dim, value_dim, kernel, .. } = *self;
        super::check_sizes(&[key_heads, value_heads, key_dim, value_dim, kernel])?;
        let (keys, values) =
            (super::product(key_heads, key_dim)?, super::product(value_heads, value_dim)?);
        super::check_sizes(&[2 * keys + values])?;
        if !value_heads.is_multiple_of(key_heads) {
            return Err(Wrong::Key(format!(
                "{value_heads} value heads cannot share {key_heads} key heads (linear_num_*_heads)"
            )));
        }
        if kernel < 2 {
            return Err(Wrong::Key(format!("linear_conv_kernel_dim is {kernel}, less than 2")));
        }
        Ok(())
    }
}

fn layers(reader: &mut Reader<'_>, architecture: &str) -> Result<Vec<Layer>, Wrong> {
    let count = layer_count(reader, None)?;
    let mixers = mixers(reader, count)?;
    let dense: Vec<usize> = reader.optional(&["mlp_only_layers"])?.unwrap_or_default();
    let step: usize = reader.optional(&["decoder_sparse_step"])?.unwrap_or(1);
    let experts = experts(reader, architecture)?;
    // Every layer of the newer models has experts, or none has.
    let is_sparse = |layer: usize| {
        architecture != "qwen3_next"
            || (!dense.contains(&layer) && step > 0 && (layer + 1).is_multiple_of(step))
    };
    let is_any_dense = experts.is_none() || !(0..count).all(is_sparse);
    let inner = reader.optional(&["intermediate_size"])?;
    if is_any_dense && inner.is_none() {
        return Err(Wrong::Key("intermediate_size is missing".to_owned()));
    }
    let inner = inner.unwrap_or(0);
    let layer = |(index, mixer)| Layer {
        mixer,
        feed_forward: match &experts {
            Some(experts) => FeedForward::choose(is_sparse(index), experts, inner),
            None => FeedForward::Dense { inner },
        },
    };
    Ok(mixers.into_iter().enumerate().map(layer).collect())
}

/// `layer_types` where it is written, otherwise every so many-th layer has full attention.
fn mixers(reader: &Reader<'_>, count: usize) -> Result<Vec<Mixer>, Wrong> {
    let interval: usize = reader.optional(&["full_attention_interval"])?.unwrap_or(4);
    let named: Option<Vec<String>> = reader.optional(&["layer_types"])?;
    let Some(named) = named else {
        let is_attention = |layer: usize| interval > 0 && (layer + 1).is_multiple_of(interval);
        let choose = |layer| if is_attention(layer) { Mixer::Attention } else { Mixer::Delta };
        return Ok((0..count).map(choose).collect());
    };
    if named.len() != count {
        return Err(Wrong::Key(format!(
            "layer_types names {} layers, num_hidden_layers is {count}",
            named.len()
        )));
    }
    let mixer = |name: &String| match name.as_str() {
        "full_attention" => Ok(Mixer::Attention),
        "linear_attention" => Ok(Mixer::Delta),
        other => Err(Wrong::Key(format!(
            "layer type {other:?} is not supported (full_attention, linear_attention are)"
        ))),
    };
    named.iter().map(mixer).collect()
}

fn experts(reader: &Reader<'_>, architecture: &str) -> Result<Option<Experts>, Wrong> {
    let names = ["num_experts", "num_local_experts"];
    let count = reader.optional(&names)?.filter(|&count: &usize| count > 0);
    if architecture == "qwen3_5" && count.is_none() {
        return Ok(None);
    }
    let shared: usize = reader.optional(&["shared_expert_intermediate_size"])?.unwrap_or(0);
    Ok(Some(Experts {
        count: count.map_or_else(|| reader.need(&names), Ok)?,
        per_token: reader.need(&["num_experts_per_tok"])?,
        inner: reader.need(&["moe_intermediate_size"])?,
        shared: (shared > 0).then_some(Shared::Gated { inner: shared }),
        router: Router::Softmax {
            renormalise: reader
                .optional(&["norm_topk_prob"])?
                .unwrap_or(architecture != "qwen3_next"),
        },
    }))
}

#[cfg(test)]
mod tests;
