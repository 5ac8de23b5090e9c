use serde_json::{Value, json};

use super::{
    super::{Family, ModelConfig},
    *,
};

fn parse(json: Value) -> Result<ModelConfig, Wrong> {
    ModelConfig::parse(&json, &Value::Null)
}

fn qwen3_next() -> Value {
    json!({
        "model_type": "qwen3_next", "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
        "vocab_size": 100, "num_hidden_layers": 4, "intermediate_size": 128, "num_experts": 8, "num_experts_per_tok": 2,
        "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32, "linear_num_key_heads": 2,
        "linear_num_value_heads": 4, "linear_key_head_dim": 16, "linear_value_head_dim": 8, "linear_conv_kernel_dim": 4,
        "partial_rotary_factor": 0.25, "full_attention_interval": 4, "norm_topk_prob": true,
    })
}

fn gdn(json: Value) -> Gdn {
    match parse(json).unwrap().family {
        Family::Gdn(gdn) => gdn,
        other => panic!("{other:?}"),
    }
}

#[test]
fn delta_nets_and_attention_take_turns() {
    let mixers = |json| gdn(json).layers.iter().map(|layer| layer.mixer).collect::<Vec<Mixer>>();
    assert_eq!(mixers(qwen3_next()), [Mixer::Delta, Mixer::Delta, Mixer::Delta, Mixer::Attention]);
    let mut named = qwen3_next();
    named["layer_types"] =
        json!(["full_attention", "linear_attention", "full_attention", "linear_attention"]);
    assert_eq!(
        mixers(named),
        [Mixer::Attention, Mixer::Delta, Mixer::Attention, Mixer::Delta],
        "what is written goes first"
    );
    let gdn = gdn(qwen3_next());
    assert_eq!(gdn.attention.rope.dims, 4);
    assert_eq!(gdn.bytes_per_token(None), 2 * 4 * 2 * 16);
    // Three layers of four heads of 8 × 16, and three inputs of 32 + 32 + 32 channels.
    assert_eq!(gdn.bytes_per_checkpoint(), 4 * 3 * (4 * 8 * 16 + 3 * 96));
}

#[test]
fn the_text_part_of_qwen3_5_is_nested() {
    let mut text = qwen3_next();
    text["model_type"] = json!("qwen3_5_moe_text");
    text["rope_parameters"] = json!({
        "rope_type": "default", "rope_theta": 1e7, "partial_rotary_factor": 0.5, "mrope_section": [2, 1, 1],
    });
    text.as_object_mut().unwrap().remove("partial_rotary_factor");
    // What else is written there says nothing about the arithmetic.
    for (key, value) in [
        ("attn_output_gate", json!(true)),
        ("mamba_ssm_dtype", json!("float32")),
        ("mtp_num_hidden_layers", json!(1)),
        ("mtp_use_dedicated_embeddings", json!(false)),
    ] {
        text[key] = value;
    }
    let config = parse(json!({
        "model_type": "qwen3_5_moe", "text_config": text, "vision_config": {"depth": 27}, "image_token_id": 248056,
        "video_token_id": 248057, "vision_start_token_id": 248053, "vision_end_token_id": 248054, "tie_word_embeddings": false,
    }))
    .unwrap();
    assert_eq!(config.architecture, "qwen3_5_moe");
    assert_eq!(config.unknown, Vec::<String>::new());
    let Family::Gdn(gdn) = config.family else { panic!("{:?}", config.family) };
    assert_eq!((gdn.attention.rope.base, gdn.attention.rope.dims), (1e7, 8));
    assert!(!gdn.delta.interleaved);
}

#[test]
fn delta_nets_that_cannot_be_are_refused() {
    let check = |change: fn(&mut Value), expected: &str| {
        let mut json = qwen3_next();
        change(&mut json);
        assert_eq!(parse(json).unwrap_err(), Wrong::Key(expected.to_owned()));
    };
    check(
        |json| json["linear_num_value_heads"] = json!(3),
        "3 value heads cannot share 2 key heads (linear_num_*_heads)",
    );
    check(
        |json| json["linear_conv_kernel_dim"] = json!(1),
        "linear_conv_kernel_dim is 1, less than 2",
    );
    check(
        |json| json["layer_types"] = json!(vec!["mamba"; 4]),
        "layer type \"mamba\" is not supported (full_attention, linear_attention are)",
    );
    check(
        |json| json["layer_types"] = json!(vec!["full_attention"; 3]),
        "layer_types names 3 layers, num_hidden_layers is 4",
    );
    check(|json| json["linear_key_head_dim"] = json!(0), "a size is 0");
    check(|json| json["num_experts"] = Value::Null, "num_experts is missing");
    check(
        |json| json["attn_output_gate"] = json!(false),
        "attention without a gate (attn_output_gate) is not supported",
    );
}

/// Sizes of the published model.
#[test]
fn qwen3_coder_next_takes_this_much() {
    let config = parse(json!({
        "model_type": "qwen3_next", "hidden_size": 2048, "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 256,
        "vocab_size": 151936, "num_hidden_layers": 48, "intermediate_size": 5120, "num_experts": 512, "num_experts_per_tok": 10,
        "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512, "linear_num_key_heads": 16,
        "linear_num_value_heads": 32, "linear_key_head_dim": 128, "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4,
        "partial_rotary_factor": 0.25, "full_attention_interval": 4, "norm_topk_prob": true, "rope_theta": 5e6,
    }))
    .unwrap();
    let footprint = config.footprint();
    assert_eq!(footprint.per_token * 4, 48 << 10);
    // The state and 13 places of 79 MB each, whatever numbers are computed in.
    assert_eq!(footprint.bytes(0, 2), 14 * 79_036_416);
    assert_eq!(footprint.bytes(1000, 4) - footprint.bytes(0, 4), 1000 * (48 << 10));
    let packed = config.footprint_packed().unwrap();
    assert!(packed.bytes(1000, 4) - packed.bytes(0, 4) < 1000 * (20 << 10));
}
