//! MiniMax-M2: grouped-query attention with norms over all heads together, a sigmoid router in fp32.

use super::{
    Wrong,
    feed_forward::{Experts, FeedForward, Router},
    gqa::{Gqa, KeyNorm, Mixtures, windows},
    layer_count,
    read::Reader,
    rope::Rope,
};

pub(super) fn parse(reader: &Reader<'_>, hidden: usize) -> Result<Gqa, Wrong> {
    let kinds: Vec<usize> = reader.optional(&["attn_type_list"])?.unwrap_or_default();
    if kinds.contains(&0) {
        return Err(Wrong::Key("layers of lightning attention are not supported".to_owned()));
    }
    reader.refuse_biases(&["attention_bias", "mlp_bias"])?;
    let heads: usize = reader.need(&["num_attention_heads"])?;
    let head_dim = reader.optional(&["head_dim"])?.unwrap_or(hidden / heads.max(1));
    let rotated = match reader.optional(&["rotary_dim"])? {
        Some(rotated) => rotated,
        None => {
            let part = reader.rope_key::<f64>("partial_rotary_factor")?.unwrap_or(1.0);
            (head_dim as f64 * part) as usize
        }
    };
    let experts = Experts {
        count: reader.need(&["num_local_experts", "num_experts"])?,
        per_token: reader.need(&["num_experts_per_tok"])?,
        inner: reader.need(&["intermediate_size"])?,
        shared: None,
        router: Router::SigmoidOfSingle,
    };
    let count = layer_count(reader, None)?;
    let has_norms = reader.optional(&["use_qk_norm"])?.unwrap_or(true);
    let gqa = Gqa {
        heads,
        kv_heads: reader.optional(&["num_key_value_heads"])?.unwrap_or(heads),
        head_dim,
        rope: Rope::plain(reader, (rotated, head_dim), false, 5e6)?.scaled(reader)?,
        qkv_bias: false,
        output_bias: false,
        mlp_bias: false,
        key_norm: if has_norms { KeyNorm::Whole } else { KeyNorm::None },
        sinks: false,
        windows: windows(reader, "minimax", count)?,
        layers: vec![FeedForward::Experts(experts); count],
        mixtures: Mixtures::MiniMax,
    };
    gqa.check()?;
    Ok(gqa)
}
