//! gpt-oss: grouped-query attention with sinks, every other layer with a window, clamped experts with biases.

use super::{
    Wrong,
    feed_forward::{Experts, FeedForward, Router},
    gqa::{Gqa, KeyNorm, Mixtures, windows},
    layer_count,
    read::Reader,
    rope::Rope,
};

/// The published models'.
const WINDOW: usize = 128;

pub(super) fn parse(reader: &Reader<'_>) -> Result<Gqa, Wrong> {
    let heads: usize = reader.need(&["num_attention_heads"])?;
    let head_dim = reader.optional(&["head_dim"])?.unwrap_or(64);
    let experts = Experts {
        count: reader.need(&["num_local_experts", "num_experts"])?,
        per_token: reader.need(&["num_experts_per_tok", "experts_per_token"])?,
        inner: reader.need(&["intermediate_size"])?,
        shared: None,
        router: Router::SoftmaxOfChosen,
    };
    let has_biases = reader.optional(&["attention_bias"])?.unwrap_or(true);
    reader.refuse_biases(&["mlp_bias"])?;
    let count = layer_count(reader, None)?;
    let has_kinds = reader.optional::<Vec<String>>(&["layer_types"])?.is_some();
    let gqa = Gqa {
        heads,
        kv_heads: reader.optional(&["num_key_value_heads"])?.unwrap_or(heads),
        head_dim,
        rope: Rope::plain(reader, (head_dim, head_dim), false, 150_000.0)?.scaled(reader)?,
        qkv_bias: has_biases,
        output_bias: has_biases,
        mlp_bias: false,
        key_norm: KeyNorm::None,
        sinks: true,
        windows: if has_kinds {
            windows(reader, "gpt_oss", count)?
        } else {
            let window = reader.optional(&["sliding_window"])?.unwrap_or(WINDOW);
            (0..count).map(|layer| layer.is_multiple_of(2).then_some(window)).collect()
        },
        layers: vec![FeedForward::Experts(experts); count],
        mixtures: Mixtures::GptOss {
            limit: reader.optional::<f64>(&["swiglu_limit"])?.unwrap_or(7.0) as f32,
            slope: reader.optional::<f64>(&["swiglu_alpha"])?.unwrap_or(1.702) as f32,
        },
    };
    gqa.check()?;
    Ok(gqa)
}
