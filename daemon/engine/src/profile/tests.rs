#![allow(clippy::disallowed_methods, reason = "model directories of the tests")]

use std::fs;

use serde_json::json;

use super::*;

#[test]
fn every_profile_reads_and_has_what_it_names() {
    let ids: Vec<&str> = Profile::all().map(|profile| profile.id()).collect();
    assert!(ids.len() > 15, "{ids:?}");
    for profile in Profile::all() {
        let file = format!("{}.toml", profile.id());
        assert!(PROFILES.get_file(&file).is_some(), "{file} is named for its profile");
        assert_eq!(
            profile.0.chat.template.is_some(),
            profile.fallback_template().is_some(),
            "{file}: its template"
        );
    }
    for template in TEMPLATES
        .files()
        .filter(|file| file.path().extension().is_some_and(|extension| extension == "jinja"))
    {
        let name = template.path().file_stem().and_then(|stem| stem.to_str());
        assert!(
            Profile::all().any(|profile| profile.0.chat.template.as_deref() == name),
            "{name:?} is used"
        );
    }
}

#[test]
fn the_profile_with_the_most_to_go_by_wins() {
    let check = |name: &str, config: Value, id: &str| {
        assert_eq!(Profile::find(name, &config).id(), id, "{name} {config}");
    };
    check("GLM-5.2-4bit", json!({"model_type": "glm_moe_dsa", "n_routed_experts": 256}), "glm5");
    check("x", json!({"model_type": "glm_moe_dsa", "n_routed_experts": 59}), "glm52_demolition");
    check(
        "GLM-5.2-Demolition-q4a4-soul-MLX",
        json!({"model_type": "glm_moe_dsa", "n_routed_experts": 40}),
        "glm52_demolition",
    );
    check("Qwen3-30B-A3B", json!({"model_type": "qwen3_moe"}), "qwen3");
    check("Qwen3-Coder-30B-A3B", json!({"model_type": "qwen3_moe"}), "qwen3_coder");
    check("Qwen3-Coder-Next", json!({"model_type": "qwen3_next"}), "qwen3_next");
    check(
        "Kimi-K2.5",
        json!({"model_type": "kimi_k25", "text_config": {"model_type": "kimi_k2"}}),
        "kimi_k2",
    );
    check(
        "x",
        json!({"model_type": "wrapper", "text_config": {"model_type": "qwen3_5_moe"}}),
        "qwen3_5",
    );
    check("x", json!({"model_type": "unheard_of"}), "default");
    check("x", json!({}), "default");
}

#[test]
fn a_model_in_the_cache_has_the_name_of_its_repository() {
    let cache = tempfile::tempdir().unwrap();
    let dir = cache.path().join("models--someone--Qwen3-Coder-30B/snapshots/0123abc");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("config.json"), "{\"model_type\": \"qwen3_moe\"}").unwrap();
    assert_eq!(Profile::of(&dir).unwrap().id(), "qwen3_coder");
}

#[test]
fn the_intended_model_is_drawn_with_a_penalty_that_spares_calls() {
    let profile = Profile::find("GLM-5.2-Demolition", &json!({}));
    assert_eq!(profile.thinking(), Thinking::Off);
    assert_eq!(profile.variables()["enable_thinking"], false);
    assert_eq!(profile.context_useful(), Some(32768));
    let engine = crate::Engine::scripted(crate::Script::default());
    let sampling = profile.sampling(engine.tokenizer());
    assert_eq!((sampling.temperature, sampling.repetition.amount), (0.6, 1.15));
    let exempt = sampling.exempt.unwrap();
    let token = |text: &str| engine.tokenizer().encode(text)[0];
    assert!(
        exempt.contains(token(" ")) && exempt.contains(token("{")) && !exempt.contains(token("a"))
    );
}

#[test]
fn every_profile_is_on_its_page_and_names_a_format() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let index = fs::read_to_string(root.join("docs/models/README.md")).unwrap();
    for profile in Profile::all() {
        let page = fs::read_to_string(root.join("docs/models").join(profile.page())).unwrap();
        let id = format!("`{}`", profile.id());
        assert!(page.contains(&id), "docs/models/{} lacks {id}", profile.page());
        assert!(index.contains(&id), "docs/models/README.md lacks {id}");
        if let Some(format) = profile.toolcall() {
            assert!(
                root.join(format!("grammars/toolcall/{format}.toml")).exists(),
                "{id}: {format}"
            );
        }
    }
}
