use serde_json::json;

use super::*;

fn parse(json: Value) -> Result<ModelConfig, Wrong> {
    ModelConfig::parse(&json, &Value::Null)
}

fn qwen3_moe() -> Value {
    json!({
        "model_type": "qwen3_moe", "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
        "vocab_size": 100, "num_hidden_layers": 4, "intermediate_size": 128, "num_experts": 8, "num_experts_per_tok": 2,
        "moe_intermediate_size": 32, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "mlp_only_layers": [1],
        "decoder_sparse_step": 1, "norm_topk_prob": true, "tie_word_embeddings": true, "max_position_embeddings": 512,
    })
}

#[test]
fn chooses_expert_layers() {
    let config = parse(qwen3_moe()).unwrap();
    let Family::Gqa(gqa) = &config.family else { panic!("another family") };
    let dense: Vec<bool> =
        gqa.layers.iter().map(|layer| matches!(layer, FeedForward::Dense { .. })).collect();
    assert_eq!(dense, [false, true, false, false]);
    assert!(config.tied == Some(true) && gqa.key_norm == KeyNorm::Head && !gqa.qkv_bias);
    assert_eq!(config.unknown, Vec::<String>::new());
}

#[test]
fn understands_nested_spellings() {
    let mut inner = qwen3_moe();
    let fields = inner.as_object_mut().unwrap();
    fields.remove("rope_theta");
    fields.insert("rope_parameters".to_owned(), json!({"rope_theta": 5e5, "rope_type": "default"}));
    let experts = fields.remove("num_experts").unwrap();
    fields.insert("num_local_experts".to_owned(), experts);
    let nested = json!({"text_config": inner, "eos_token_id": [1, 2]});
    let config = parse(nested).unwrap();
    let Family::Gqa(gqa) = &config.family else { panic!("another family") };
    assert_eq!(gqa.rope.base, 5e5);
    assert_eq!(config.eos, [1, 2]);
    assert!(matches!(&gqa.layers[0], FeedForward::Experts(Experts { count: 8, .. })));
}

#[test]
fn reports_unknown_keys() {
    let mut json = qwen3_moe();
    json["hidden_sise"] = json!(3);
    json["rope_scaling"] = json!({"type": "linear", "factor": 4.0, "fast_beta": 32});
    assert_eq!(parse(json).unwrap().unknown, ["hidden_sise", "rope_scaling.fast_beta"]);
}

fn rename(json: &mut Value, from: &str, to: &str) {
    let fields = json.as_object_mut().unwrap();
    let value = fields.remove(from).unwrap();
    fields.insert(to.to_owned(), value);
}

#[test]
fn reads_every_spelling_of_a_fact() {
    let with = |change: fn(&mut Value)| {
        let mut json = qwen3_moe();
        change(&mut json);
        let config = parse(json).unwrap();
        assert_eq!(config.unknown, Vec::<String>::new());
        let Family::Gqa(gqa) = config.family else { panic!("another family") };
        gqa
    };
    let plain = with(|_| ());
    let aliased = with(|json| {
        rename(json, "num_experts", "n_routed_experts");
        rename(json, "num_experts_per_tok", "num_experts_per_token");
    });
    assert_eq!(aliased, plain);
    // Two spellings at once, and null where there is nothing.
    let twice = with(|json| {
        json["num_local_experts"] = json!(8);
        json["rope_scaling"] = json!(null);
        json["text_config"] = json!({"hidden_size": null});
    });
    assert_eq!(twice, plain);
    let by_kind = with(|json| {
        json.as_object_mut().unwrap().remove("rope_theta");
        json["layer_types"] = json!(vec!["full_attention"; 4]);
        json["rope_parameters"] = json!({
            "full_attention": {"rope_type": "default", "rope_theta": 10000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 7.0},
        });
    });
    assert_eq!(by_kind, plain);
    // What transformers 5 writes is right where an older key is left beside it.
    let newer = with(|json| {
        json["rope_theta"] = json!(77.0);
        json["rope_parameters"] =
            json!({"rope_type": "default", "rope_theta": {"__float__": "10000"}});
    });
    assert_eq!(newer, plain);
}

#[test]
fn names_what_is_wrong() {
    let check = |change: fn(&mut Value), expected: &str| {
        let mut json = qwen3_moe();
        change(&mut json);
        assert_eq!(parse(json).unwrap_err(), Wrong::Key(expected.to_owned()));
    };
    check(|json| json["hidden_size"] = Value::Null, "hidden_size is missing");
    check(|json| json["num_experts_per_tok"] = json!(9), "9 of 8 experts per token");
    check(|json| json["num_key_value_heads"] = json!(3), "4 heads cannot share 3 key-value heads");
    check(|json| json["vocab_size"] = json!(0), "a size is 0");
    check(
        |json| json["num_hidden_layers"] = json!(4_000_000_000_u64),
        "num_hidden_layers is 4000000000, more than 4096",
    );
    check(|json| json["rope_theta"] = json!(-1.0), "rope_theta is -1, it must be positive");
    check(
        |json| json["quantization"] = json!({"bits": 4, "group_size": 64, "mode": "nvfp4"}),
        "quantization: 4 bits in groups of 64 are not supported in mode nvfp4",
    );
    check(
        |json| {
            json["layer_types"] = json!(["full_attention", "sliding_attention"]);
            json["rope_parameters"] = json!({"full_attention": {"rope_theta": 1}, "sliding_attention": {"rope_theta": 2}});
        },
        "rope_parameters differ between kinds of layers, which is not supported",
    );
    check(
        |json| json["rope_parameters"] = json!({"rope_theta": {"__float__": "-Infinity"}}),
        "rope_theta is -inf, it must be positive",
    );
    check(
        |json| json["hidden_act"] = json!("gelu"),
        "hidden_act \"gelu\" is not supported (silu is)",
    );
    check(
        |json| json["model_file"] = json!("model.py"),
        "model_file is \"model.py\", and a model's code is never run",
    );
    check(
        |json| json["quantize_activations"] = json!(true),
        "quantize_activations is not supported",
    );
    check(
        |json| json["quantization"] = json!({"bits": 4, "mode": "fp4"}),
        "quantization: quantization mode \"fp4\" is not supported (affine, mxfp4, mxfp8, nvfp4 are)",
    );
    check(
        |json| {
            json["quantization_config"] =
                json!({"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"})
        },
        "quantization by \"compressed-tensors\" in format \"nvfp4-pack-quantized\" is not supported (symmetric int4 in groups, pack-quantized, is); convert with mlx-lm",
    );
    check(
        |json| json["quantization_config"] = json!({"quant_method": "awq"}),
        "quantization by \"awq\" is not supported; convert with mlx-lm",
    );
}

#[test]
fn resolves_quantization_by_path() {
    let mut json = qwen3_moe();
    json["quantization"] = json!({
        "bits": 4, "group_size": 64, "model.layers.0.mlp.gate": {"bits": 8, "group_size": 32}, "lm_head": false,
    });
    let quantization = parse(json).unwrap().quantization;
    assert_eq!(quantization.default, Some(Packing::affine(4, 64)));
    let gate = quantization.overrides["model.layers.0.mlp.gate"];
    assert_eq!(gate, Some(Packing::affine(8, 32)));
    assert_eq!(quantization.overrides["lm_head"], None);
}

#[test]
fn suggests_an_architecture() {
    let error = unknown_architecture("qwen3_mo".to_owned());
    let expected =
        "unknown architecture \"qwen3_mo\" (did you mean \"qwen3_moe\"?); supported are ";
    assert_eq!(error.to_string(), expected.to_owned() + &ARCHITECTURES.join(", "));
    let error = unknown_architecture("mamba".to_owned());
    assert!(!error.to_string().contains("did you mean"));
}

#[test]
fn understands_every_scaling_of_positions() {
    let scaling = |rope: Value| {
        let mut json = qwen3_moe();
        json["model_type"] = json!("qwen3");
        json["rope_scaling"] = rope;
        let config = parse(json)?;
        let Family::Gqa(gqa) = config.family else { panic!("another family") };
        Ok((gqa.rope.scaling, config.context_max))
    };
    let ok = |rope: Value| scaling(rope).unwrap().0;
    assert_eq!(ok(json!({"type": "default"})), Scaling::None);
    assert_eq!(ok(json!({"type": "linear", "factor": 2.0})), Scaling::Linear { factor: 2.0 });
    // The configuration names the length from which on the base grows.
    assert_eq!(
        scaling(json!({"rope_type": "dynamic", "factor": 4.0})).unwrap(),
        (Scaling::Dynamic { factor: 4.0, context: 512 }, 2048)
    );
    let yarn = |truncate: bool| {
        let factor = json!({
            "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 8.0, "truncate": truncate,
        });
        match ok(factor) {
            Scaling::Yarn(yarn) => yarn,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(yarn(true).ramp, (0.0, 3.0));
    let (low, high) = yarn(false).ramp;
    assert!((low - 0.2098).abs() < 1e-3 && (high - 2.0160).abs() < 1e-3, "{low} {high}");
    assert!((yarn(true).input - 1.1386).abs() < 1e-4 && yarn(true).attention == 1.0);
    let long = |factors: Value| {
        scaling(
            json!({"type": "longrope", "original_max_position_embeddings": 64, "long_factor": factors}),
        )
    };
    let factors = vec![1.5; 8];
    assert!(
        matches!(long(json!(factors)), Ok((Scaling::Long { factors: found, .. }, _)) if found == factors)
    );
    let wrong = |reason: &str| Err(Wrong::Key(reason.to_owned()));
    assert_eq!(long(json!([1.0, 2.0])), wrong("long_factor must be 8 numbers"));
    assert_eq!(scaling(json!({"type": "yarn"})), wrong("the rope scaling has no factor"));
    assert_eq!(
        scaling(json!({"type": "linear", "factor": 0})),
        wrong("the rope scaling has a factor of 0")
    );
    let unknown = wrong(
        "rope scaling \"ntk\" is not supported (default, linear, dynamic, llama3, yarn, longrope, mrope are)",
    );
    assert_eq!(scaling(json!({"type": "ntk"})), unknown);
}

fn mla() -> Value {
    json!({
        "model_type": "deepseek_v3", "hidden_size": 64, "num_attention_heads": 4, "vocab_size": 100, "num_hidden_layers": 2,
        "intermediate_size": 128, "moe_intermediate_size": 32, "n_routed_experts": 8, "n_shared_experts": 1,
        "num_experts_per_tok": 2, "kv_lora_rank": 32, "qk_nope_head_dim": 24, "qk_rope_head_dim": 8, "v_head_dim": 32,
    })
}

fn gpt_oss() -> Value {
    json!({
        "model_type": "gpt_oss", "hidden_size": 64, "num_attention_heads": 4, "vocab_size": 100, "num_hidden_layers": 2,
        "intermediate_size": 128, "num_local_experts": 8, "num_experts_per_tok": 2, "sliding_window": 8,
    })
}

#[test]
fn sizes_that_no_arithmetic_can_take_are_refused() {
    let huge = u64::MAX / 2;
    let v41 = || json!({"model_type": "deepseek_v41", "hidden_size": 64, "vocab_size": 100});
    for json in [qwen3_moe(), mla(), gpt_oss(), v41()] {
        parse(json).unwrap();
    }
    let (zero, beyond) = ("a size is 0", "a size is beyond 2³¹");
    let nan = || json!({"__float__": "NaN"});
    let cases: Vec<(Value, &str, Value, &str)> = vec![
        (qwen3_moe(), "intermediate_size", json!(0), zero),
        (qwen3_moe(), "moe_intermediate_size", json!(0), zero),
        (qwen3_moe(), "num_experts", json!(huge), beyond),
        (qwen3_moe(), "num_attention_heads", json!(1 << 30), beyond),
        (qwen3_moe(), "rope_theta", nan(), "rope_theta is NaN, it must be positive"),
        (qwen3_moe(), "rms_norm_eps", nan(), "rms_norm_eps is NaN"),
        (qwen3_moe(), "partial_rotary_factor", json!(2), "rope rotates 32 dimensions of 16"),
        (qwen3_moe(), "partial_rotary_factor", nan(), "rope rotates 0 dimensions, not pairs"),
        (qwen3_moe(), "head_dim", json!(1_u64 << 40), beyond),
        (qwen3_moe(), "mlp_bias", json!(true), "mlp_bias is not supported here"),
        (mla(), "n_shared_experts", json!(huge), beyond),
        (mla(), "qk_nope_head_dim", json!(u64::MAX), beyond),
        (mla(), "qk_rope_head_dim", json!(1_u64 << 40), beyond),
        (mla(), "n_group", json!(8), "1 of 8 groups of 8 experts"),
        (mla(), "mlp_layer_types", json!(["dense"]), "mlp_layer_types has 1 entries for 2 layers"),
        (mla(), "mlp_layer_types", json!(["dense", "odd"]), "mlp_layer_types has \"odd\""),
        (gpt_oss(), "sliding_window", json!(0), "sliding_window is 0, and may be 1 to 1073741823"),
        (
            gpt_oss(),
            "sliding_window",
            json!(1_u64 << 31),
            "sliding_window is 2147483648, and may be 1 to 1073741823",
        ),
        (v41(), "rope_theta", nan(), "rope_theta is NaN, it must be positive"),
        (v41(), "qk_rope_head_dim", json!(7), "rope rotates 7 dimensions, not pairs"),
        (
            v41(),
            "compress_ratios",
            json!([1_u64 << 31]),
            "compress_ratios has 2147483648, more than 1073741823",
        ),
        (v41(), "candidate_topk_blocks", json!(huge), beyond),
        (v41(), "hc_sinkhorn_iters", json!(4000), "hc_sinkhorn_iters is 4000, more than 1000"),
        (v41(), "rope_scaling", json!({"factor": 0}), "the rope scaling has a factor of 0"),
    ];
    for (mut json, key, value, expected) in cases {
        json[key] = value;
        assert_eq!(parse(json).unwrap_err(), Wrong::Key(expected.to_owned()), "{key}");
    }
}

#[test]
fn biases_of_attention_are_those_that_the_configuration_names() {
    let biases = |mut json: Value, named: Option<bool>| {
        json["attention_bias"] = json!(named);
        let Family::Gqa(gqa) = parse(json).unwrap().family else { panic!("another family") };
        (gqa.qkv_bias, gqa.output_bias)
    };
    let of = |architecture: &str| {
        let mut json = qwen3_moe();
        json["model_type"] = json!(architecture);
        json
    };
    for architecture in ["qwen3", "qwen3_moe", "llama"] {
        assert_eq!(biases(of(architecture), Some(true)), (true, true), "{architecture}");
        assert_eq!(biases(of(architecture), None), (false, false), "{architecture}");
    }
    assert_eq!(biases(of("glm4_moe"), Some(true)), (true, false));
    assert_eq!(biases(of("qwen2"), None), (true, false));
    assert_eq!(biases(gpt_oss(), None), (true, true));
    assert_eq!(biases(gpt_oss(), Some(false)), (false, false));
    let mut minimax = of("minimax_m2");
    minimax["attention_bias"] = json!(true);
    let refused = Wrong::Key("attention_bias is not supported here".to_owned());
    assert_eq!(parse(minimax).unwrap_err(), refused);
}

#[test]
fn the_windows_of_deepseek_v41_and_their_places_are_counted() {
    let state = |context: usize| {
        let json = json!({
            "model_type": "deepseek_v41", "hidden_size": 64, "vocab_size": 100, "num_hidden_layers": 2, "head_dim": 128,
            "sliding_window": 100, "compress_ratios": [0, 4], "kv_source_layer_ids": [1],
            "max_position_embeddings": context,
        });
        parse(json).unwrap().footprint().state
    };
    // The sequence and 24 places; two windows, three latents and three gates.
    assert_eq!(state(5000), 25 * (100 + 100 + 3 + 3) * 128 * 4);
    assert_eq!(state(2), 25 * (2 + 2 + 2 + 2) * 128 * 4);
}
