//! The verbs of models, from a hub to a server's command line: as a user runs them.

use std::fs;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use testkit::hub::{Faults, File, Hub};

use crate::cli::{fixture, run};
use crate::house::House;

const REPO: &str = "org/tiny";

/// A hub with a checkpoint of the engine's own tests.
fn hub() -> Hub {
    let files = fs::read_dir(fixture("glm4_moe-f32")).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let bytes = fs::read(path).unwrap();
        let sum = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let sha256 = name.ends_with(".safetensors").then_some(sum);
        (name, File { bytes, sha256 })
    });
    Hub::start(REPO, files.collect::<Vec<_>>())
}

fn objects(told: &str) -> Vec<Value> {
    let lines = told.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_model_comes_is_checked_served_and_goes() {
    let (hub, house) = (hub(), House::new());
    let house = house.with("DEMOLISH_MODEL_HUB_URL", &hub.url);
    let dir = house.dir.path().join("data/demolish/models/org/tiny");

    hub.fail(Faults { wrong: Some(("model.safetensors".to_owned(), 9)), ..Faults::default() });
    let told = run(&house, &["model", "pull", REPO]);
    assert!(told.starts_with("exit 1") && told.contains("came with the checksum"), "{told}");
    let listed = run(&house, &["model", "list"]);
    assert!(listed.contains("org/tiny") && listed.contains("its pull is not finished"), "{listed}");
    let told = run(&house, &["model", "serve-path", REPO]);
    assert!(
        told.starts_with("exit 1\nstderr:\n") && told.contains("`demolish model pull"),
        "{told}"
    );

    hub.fail(Faults { cut: Some((100_000, 2)), ..Faults::default() });
    let told = run(&house, &["model", "pull", REPO, "--json"]);
    let events = objects(&told);
    let done = events.last().unwrap();
    assert_eq!((&done["event"], &done["was_there"]), (&"done".into(), &false.into()), "{told}");
    assert!(events.iter().any(|event| event["event"] == "listed" && event["files"] == 5), "{told}");
    assert!(dir.join("demolish.manifest.json").exists());
    let told = run(&house, &["model", "pull", REPO]);
    assert!(
        told.starts_with("exit 0\nstdout:\norg/tiny was there already, whole and checked"),
        "{told}"
    );

    let told = run(&house, &["model", "list", "--json"]);
    let rows: Value =
        serde_json::from_str(told.lines().find(|line| line.starts_with('[')).unwrap()).unwrap();
    let row = rows.as_array().unwrap().iter().find(|row| row["name"] == REPO).unwrap();
    assert_eq!((&row["complete"], &row["fits"]), (&true.into(), &true.into()), "{row}");
    assert_eq!((&row["architecture"], &row["origin"]), (&"glm4_moe".into(), &"pulled".into()));

    let told = run(&house, &["model", "verify", "tiny"]);
    assert!(told.starts_with("exit 0") && told.contains("the model is whole"), "{told}");
    for check in ["files", "tensors", "numbers", "tokenizer", "template", "forward"] {
        assert!(told.contains(&format!("ok  {check}")), "{check}: {told}");
    }
    let told = run(&house, &["model", "serve-path", "tiny"]);
    assert_eq!(told, "exit 0\nstdout:\n$HOUSE/data/demolish/models/org/tiny\n");

    let told = run(&house, &["model", "remove", REPO]);
    assert!(told.starts_with("exit 2") && told.contains("say --yes") && dir.exists(), "{told}");
    let told = run(&house, &["model", "remove", REPO, "--yes"]);
    assert!(told.starts_with("exit 0") && !dir.exists(), "{told}");
    let told = run(&house, &["model", "remove", &fixture("glm4_moe-f32"), "--yes"]);
    assert!(told.starts_with("exit 2") && told.contains("left alone"), "{told}");
}

#[test]
fn a_pull_without_a_hub_and_a_name_that_is_none_say_what_to_do() {
    let house = House::new();
    let told = run(&house, &["model", "pull", REPO]);
    assert!(told.starts_with("exit 2") && told.contains("set `model.hub_url`"), "{told}");
    let told = run(&house, &["model", "pull", "../../etc", "--from", "http://127.0.0.1:1"]);
    assert!(told.starts_with("exit 2") && told.contains("ORG/NAME"), "{told}");
    let told = run(&house, &["model", "pull", REPO, "--from", "ftp://hub.test"]);
    assert!(told.starts_with("exit 2") && told.contains("begins with https://"), "{told}");
    let token = house.with("DEMOLISH_HUB_TOKEN", "hf_secret");
    let told = run(&token, &["model", "pull", REPO, "--from", "http://hub.test"]);
    assert!(told.starts_with("exit 2") && told.contains("use https"), "{told}");
    assert!(!told.contains("secret"), "{told}");
    let told = run(&token, &["model", "serve-path", "nothing"]);
    assert!(told.starts_with("exit 2") && told.contains("demolish model list"), "{told}");
}

#[test]
fn what_is_not_whole_is_found_by_the_check_that_looks_for_it() {
    let house = House::new();
    let dir = house.dir.path().join("broken");
    fs::create_dir(&dir).unwrap();
    let restore = || {
        for entry in fs::read_dir(fixture("qwen3_moe-f32")).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, dir.join(path.file_name().unwrap())).unwrap();
        }
    };
    let verify = |expected: &str| {
        let told = run(&house, &["model", "verify", "broken"]);
        assert!(told.starts_with("exit 1\n") && told.contains(expected), "{expected}: {told}");
    };
    restore();
    let weights = dir.join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let len = bytes.len();
    bytes[len - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&weights, &bytes).unwrap();
    verify("NO  numbers");
    fs::write(&weights, &bytes[..len / 2]).unwrap();
    verify("NO  tensors");
    restore();
    fs::write(dir.join("tokenizer.json"), "{").unwrap();
    verify("NO  tokenizer");
    restore();
    fs::write(dir.join("chat_template.jinja"), "{% if %}").unwrap();
    verify("NO  template");
    let told = run(&house, &["model", "verify", "nowhere"]);
    assert!(told.starts_with("exit 2"), "{told}");
}

#[test]
fn a_checkpoint_is_packed_and_the_result_is_whole() {
    let house = House::new();
    let source = fixture("qwen3_moe-f32");
    let plan = run(&house, &["model", "quantize", &source, "packed", "--dry-run", "--json"]);
    let packed = house.dir.path().join("packed");
    assert!(plan.starts_with("exit 0") && !packed.exists(), "{plan}");
    let arguments =
        ["model", "quantize", &source, "packed", "--group", "32", "--keep", "*.o_proj=float"];
    let told = run(&house, &arguments);
    assert!(told.starts_with("exit 0") && told.contains("o_proj and 1 other (as asked)"), "{told}");
    let told = run(&house, &["model", "verify", "packed", "--json"]);
    assert_eq!(objects(&told).last().unwrap()["whole"], true, "{told}");
    let told = run(&house, &arguments);
    assert!(told.starts_with("exit 2") && told.contains("is there already"), "{told}");
    let told = run(&house, &["model", "quantize", "packed", "again"]);
    assert!(told.starts_with("exit 2") && told.contains("packed already"), "{told}");
    assert!(!Path::new(&house.dir.path().join("again.part")).exists());
}

#[test]
fn every_verb_of_models_explains_itself() {
    let house = House::new();
    let help = run(&house, &["model", "--help"]);
    for verb in
        ["list", "info", "pull", "verify", "bench", "quantize", "logits", "serve-path", "remove"]
    {
        assert!(help.contains(&format!("\n  {verb} ")), "{verb}: {help}");
        let help = run(&house, &["model", verb, "--help"]);
        assert!(help.starts_with("exit 0") && help.contains("Example"), "{help}");
    }
}
