//! A model directory with the headers of a huge model, and no data: the files are as long as they say, and full of holes.

#![allow(clippy::disallowed_methods, reason = "tests write scratch files")]

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
};

use serde_json::{Map, Value, json};

/// The tensors of one file.
#[derive(Default)]
struct Shard {
    header: Map<String, Value>,
    end: u64,
}

impl Shard {
    fn tensor(&mut self, name: &str, dtype: &str, shape: &[u64]) {
        let size = if dtype == "BF16" { 2 } else { 4 };
        let start = self.end;
        self.end += size * shape.iter().product::<u64>();
        let place = [start, self.end];
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": place});
        self.header.insert(name.to_owned(), entry);
    }

    /// A matrix in groups of 64, or several.
    fn packed(&mut self, path: &str, bits: u64, stack: &[u64], out: u64, inner: u64) {
        let shape = |columns: u64| [stack, &[out, columns]].concat();
        self.tensor(&format!("{path}.weight"), "U32", &shape(inner * bits / 32));
        for kind in ["scales", "biases"] {
            self.tensor(&format!("{path}.{kind}"), "BF16", &shape(inner / 64));
        }
    }

    fn write(self, path: &Path) {
        let header = Value::Object(self.header).to_string();
        let mut file = File::create(path).unwrap();
        file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
        file.write_all(header.as_bytes()).unwrap();
        file.set_len(8 + header.len() as u64 + self.end).unwrap();
    }
}

const HIDDEN: u64 = 6144;
const LAYERS: u64 = 78;
const VOCABULARY: u64 = 154_880;
const EXPERTS: u64 = 59;

/// GLM-5.2-Demolition as it is published (docs/models/glm.md): 59 of 256 experts, 4 bits, head and embedding in 6.
pub(crate) fn glm_demolition(dir: &Path) {
    // An indexer of their own have the first three layers, and every fourth one from the seventh on.
    let is_full = |layer: u64| layer < 3 || (layer - 2).is_multiple_of(4);
    let indexers: Vec<&str> =
        (0..LAYERS).map(|layer| if is_full(layer) { "full" } else { "shared" }).collect();
    assert_eq!(indexers.iter().filter(|kind| **kind == "full").count(), 21);
    for layer in 0..LAYERS {
        let mut shard = Shard::default();
        layer_of(&mut shard, layer, is_full(layer));
        shard.write(&dir.join(format!("model-layer-{layer:05}.safetensors")));
    }
    let mut shard = Shard::default();
    shard.packed("model.embed_tokens", 6, &[], VOCABULARY, HIDDEN);
    shard.packed("lm_head", 6, &[], VOCABULARY, HIDDEN);
    shard.tensor("model.norm.weight", "BF16", &[HIDDEN]);
    shard.write(&dir.join("model-extra.safetensors"));
    let six = json!({"group_size": 64, "bits": 6});
    let config = json!({
        "model_type": "glm_moe_dsa", "hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "vocab_size": VOCABULARY,
        "intermediate_size": 12288, "moe_intermediate_size": 2048, "first_k_dense_replace": 3, "moe_layer_freq": 1,
        "num_attention_heads": 64, "num_key_value_heads": 64, "q_lora_rank": 2048, "kv_lora_rank": 512, "qk_nope_head_dim": 192,
        "qk_rope_head_dim": 64, "v_head_dim": 256, "n_routed_experts": EXPERTS, "n_shared_experts": 1, "num_experts_per_tok": 8,
        "n_group": 1, "topk_group": 1, "norm_topk_prob": true, "routed_scaling_factor": 2.5, "scoring_func": "sigmoid",
        "topk_method": "noaux_tc", "rms_norm_eps": 1e-5, "max_position_embeddings": 1_048_576, "tie_word_embeddings": false,
        "attention_bias": false, "index_n_heads": 32, "index_head_dim": 128, "index_topk": 2048, "indexer_types": indexers,
        "indexer_rope_interleave": true, "rope_parameters": {"rope_theta": 8_000_000.0, "rope_type": "default"},
        "eos_token_id": [154_820, 154_827, 154_829],
        "quantization": {"group_size": 64, "bits": 4, "mode": "affine", "model.embed_tokens": six, "lm_head": six},
    });
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
}

fn layer_of(shard: &mut Shard, layer: u64, is_full: bool) {
    let at = |name: &str| format!("model.layers.{layer}.{name}");
    let own = |name: &str| at(&format!("self_attn.{name}"));
    for norm in ["input_layernorm", "post_attention_layernorm"] {
        shard.tensor(&at(&format!("{norm}.weight")), "BF16", &[HIDDEN]);
    }
    shard.tensor(&own("q_a_layernorm.weight"), "BF16", &[2048]);
    shard.tensor(&own("kv_a_layernorm.weight"), "BF16", &[512]);
    for (name, stack, out, inner) in [
        ("q_a_proj", &[][..], 2048, HIDDEN),
        ("q_b_proj", &[], 64 * 256, 2048),
        ("kv_a_proj_with_mqa", &[], 512 + 64, HIDDEN),
        ("embed_q", &[64], 512, 192),
        ("unembed_out", &[64], 256, 512),
        ("o_proj", &[], HIDDEN, 64 * 256),
    ] {
        shard.packed(&own(name), 4, stack, out, inner);
    }
    if is_full {
        shard.packed(&own("indexer.wq_b"), 4, &[], 32 * 128, 2048);
        shard.packed(&own("indexer.wk"), 4, &[], 128, HIDDEN);
        shard.packed(&own("indexer.weights_proj"), 4, &[], 32, HIDDEN);
        shard.tensor(&own("indexer.k_norm.weight"), "BF16", &[128]);
        shard.tensor(&own("indexer.k_norm.bias"), "BF16", &[128]);
    }
    let mut gated = |path: &str, stack: &[u64], inner: u64| {
        for (name, out, columns) in
            [("gate_proj", inner, HIDDEN), ("up_proj", inner, HIDDEN), ("down_proj", HIDDEN, inner)]
        {
            shard.packed(&at(&format!("mlp.{path}{name}")), 4, stack, out, columns);
        }
    };
    if layer < 3 {
        return gated("", &[], 12288);
    }
    gated("switch_mlp.", &[EXPERTS], 2048);
    gated("shared_experts.", &[], 2048);
    shard.tensor(&at("mlp.gate.weight"), "BF16", &[EXPERTS, HIDDEN]);
    shard.tensor(&at("mlp.gate.e_score_correction_bias"), "F32", &[EXPERTS]);
}
