use serde_json::{Value, json};

use super::*;
use crate::config::{Family, ModelConfig};

fn glm_52() -> Value {
    serde_json::from_str(
        r#"{
        "model_type": "glm_moe_dsa", "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 100,
        "num_hidden_layers": 11, "intermediate_size": 128, "moe_intermediate_size": 32, "n_routed_experts": 59,
        "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 3, "n_group": 1, "topk_group": 1,
        "routed_scaling_factor": 2.5, "norm_topk_prob": true, "scoring_func": "sigmoid", "topk_method": "noaux_tc",
        "q_lora_rank": 32, "kv_lora_rank": 32, "qk_nope_head_dim": 24, "qk_rope_head_dim": 8, "v_head_dim": 32,
        "qk_head_dim": 32, "index_n_heads": 4, "index_head_dim": 16, "index_topk": 16, "index_topk_freq": 4,
        "index_skip_topk_offset": 3, "index_share_for_mtp_iteration": true, "indexer_rope_interleave": true,
        "rope_parameters": {"rope_theta": 8000000.0, "rope_type": "default"}, "rms_norm_eps": 0.00001, "moe_router_dtype": "float32",
        "moe_layer_freq": 1, "num_nextn_predict_layers": 1, "max_position_embeddings": 512, "tie_word_embeddings": false,
        "attention_bias": false, "head_dim": 8, "ep_size": 1, "rope_interleave": true
    }"#,
    )
    .unwrap()
}

fn parse(json: &Value) -> Result<(Mla, Vec<String>), Wrong> {
    let config = ModelConfig::parse(json, &Value::Null)?;
    match config.family {
        Family::Mla(mla) => Ok((mla, config.unknown)),
        other => panic!("{other:?}"),
    }
}

fn indexed(mla: &Mla) -> Vec<usize> {
    let layers = mla.layers.iter().enumerate();
    layers.filter(|(_, layer)| layer.attention == Attention::Indexed).map(|(at, _)| at).collect()
}

#[test]
fn the_layers_with_an_indexer_are_listed_or_derived() {
    let (mla, unknown) = parse(&glm_52()).unwrap();
    assert_eq!(unknown, Vec::<String>::new());
    assert_eq!(indexed(&mla), [0, 1, 2, 6, 10]);
    let is_dense = |layer: &Layer| matches!(layer.feed_forward, FeedForward::Dense { .. });
    assert_eq!(mla.layers.iter().filter(|layer| is_dense(layer)).count(), 3);
    assert_eq!(mla.bytes_per_token(), 4 * (11 * (32 + 8) + 5 * 16));
    let (rope, index) = (&mla.rope, mla.indexer.as_ref().unwrap());
    assert!(rope.interleaved && index.rope.interleaved && rope.base == 8e6);

    let mut json = glm_52();
    json["index_topk_pattern"] = json!("FSFSSSSSSSF");
    assert_eq!(indexed(&parse(&json).unwrap().0), [0, 2, 10]);
    // The list goes first, and may have an entry for the layer that predicts several tokens.
    json["indexer_types"] = json!(vec!["full"; 12]);
    assert_eq!(indexed(&parse(&json).unwrap().0).len(), 11);
    json["indexer_types"] = json!(["shared", "full"]);
    assert_eq!(
        parse(&json).unwrap_err(),
        Wrong::Key("the list of indexers has 2 entries for 11 layers".to_owned())
    );
    json["indexer_types"] = json!(vec!["shared"; 11]);
    assert_eq!(
        parse(&json).unwrap_err(),
        Wrong::Key("the first layer has no indexer before it to share".to_owned())
    );
    json["indexer_types"] = json!(vec!["half"; 11]);
    let wrong = "indexer_types: \"half\" is neither full nor shared";
    assert_eq!(parse(&json).unwrap_err(), Wrong::Key(wrong.to_owned()));

    let mut json = glm_52();
    for key in ["index_topk_freq", "index_skip_topk_offset"] {
        json.as_object_mut().unwrap().remove(key);
    }
    assert_eq!(indexed(&parse(&json).unwrap().0).len(), 11, "GLM-5.1");
}

#[test]
fn deepseek_and_kimi_differ_in_keys_alone() {
    let mut json = glm_52();
    json["model_type"] = json!("deepseek_v3");
    let yarn = json!({"type": "yarn", "factor": 40.0, "mscale": 1.0, "mscale_all_dim": 1.0, "original_max_position_embeddings": 64});
    json["rope_scaling"] = yarn;
    json["rope_parameters"] = Value::Null;
    json["rope_theta"] = json!(1e4);
    let (mla, _) = parse(&json).unwrap();
    let stretch = 0.1 * 40f64.ln() + 1.0;
    assert!((mla.scale - 32f64.powf(-0.5) * stretch * stretch).abs() < 1e-12);
    assert_eq!((indexed(&mla).len(), mla.indexer.clone()), (0, None));
    json["q_lora_rank"] = Value::Null;
    assert_eq!(parse(&json).unwrap().0.query_rank, None);

    json["model_type"] = json!("kimi_k2");
    let nested = json!({"model_type": "kimi_k25", "text_config": json, "vision_config": {}});
    assert_eq!(parse(&nested).unwrap().0.layers, mla.layers);

    json["model_type"] = json!("deepseek_v32");
    json["q_lora_rank"] = json!(32);
    json["indexer_rope_interleave"] = Value::Null;
    let (mla, _) = parse(&json).unwrap();
    assert!(!mla.indexer.unwrap().rope.interleaved);
}

#[test]
fn names_what_is_wrong() {
    let check = |change: fn(&mut Value), expected: &str| {
        let mut json = glm_52();
        change(&mut json);
        assert_eq!(parse(&json).unwrap_err(), Wrong::Key(expected.to_owned()));
    };
    check(|json| json["kv_lora_rank"] = Value::Null, "kv_lora_rank is missing");
    check(|json| json["v_head_dim"] = json!(0), "a size is 0");
    check(
        |json| json["index_head_dim"] = json!(4),
        "index_head_dim is 4, less than the 8 dimensions that are rotated",
    );
    check(|json| json["q_lora_rank"] = Value::Null, "an indexer needs a q_lora_rank");
    check(
        |json| json["topk_method"] = json!("greedy"),
        "topk_method \"greedy\" is not supported (\"noaux_tc\" is)",
    );
    check(|json| json["topk_group"] = json!(2), "2 of 1 groups of 59 experts");
    check(|json| json["mlp_bias"] = json!(true), "mlp_bias is not supported here");
}
