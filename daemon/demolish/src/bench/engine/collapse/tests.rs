use std::path::{Path, PathBuf};

use super::*;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn tokenizer() -> Tokenizer {
    Tokenizer::load(&repository().join("daemon/nano/model"), &[]).unwrap()
}

/// Files of this repository that are as repetitive as anything: tests, grammars, lock file, recorded conversations, documents.
fn own() -> Vec<corpus::Text> {
    let files = [
        "Cargo.lock",
        "docs/limits.md",
        "docs/code-map.md",
        "docs/proxy-rules.md",
        "docs/benchmarks.md",
        "tests/engine/sampling.json",
        "daemon/engine/src/sample/tests.rs",
        "daemon/engine/src/guard/detect.rs",
        "daemon/demolish/src/bench/report.rs",
        "daemon/nano/model/tokenizer_config.json",
    ];
    let text = |name: &str| corpus::Text {
        kind: "own",
        name: name.to_owned(),
        text: std::fs::read_to_string(repository().join(name)).unwrap(),
    };
    files.iter().map(|name| text(name)).collect()
}

#[test]
fn the_repository_itself_is_honest_and_planted_loops_are_found() {
    let tokenizer = tokenizer();
    let (kinds, texts) = (kinds(&tokenizer), tokenise(&tokenizer, own()));
    let looked = look(&kinds, &texts);
    assert_eq!(looked.alarms, Vec::<String>::new());
    assert!(looked.bytes > 150_000, "{}", looked.bytes);
    let rows = plant(&kinds, &tokenizer, &texts, 20);
    assert_eq!(rows[0].holds, Some(true), "{:?}", rows[0]);
}

/// A grammar as generators write it: a token of ten digits is ten equal records on lines of their own, far within others.
fn grammar() -> String {
    let digit = serde_json::json!({ "type": "PATTERN", "value": "[0-9a-fA-F]" });
    let mut rule = serde_json::json!({ "type": "SEQ", "members": vec![digit; 10] });
    for around in ["CHOICE", "SEQ", "CHOICE", "TOKEN"] {
        let prefix = serde_json::json!({ "type": "STRING", "value": format!("\\{around}") });
        rule = serde_json::json!({ "type": around, "members": [prefix, rule] });
    }
    let grammar = serde_json::json!({ "name": "digits", "rules": { "escape": rule } });
    serde_json::to_string_pretty(&grammar).unwrap()
}

#[test]
fn equal_records_of_a_list_are_honest_and_the_same_line_without_end_is_not() {
    let tokenizer = tokenizer();
    let kinds = kinds(&tokenizer);
    let text = grammar();
    assert_eq!(first(&kinds, &tokenizer.encode(&text)), None, "{text}");
    let line = "            return Some(\"PATTERN\", value);\n";
    assert!(first(&kinds, &tokenizer.encode(&line.repeat(40))).is_some());
    let record = "  {\n    \"type\": \"PATTERN\"\n  },\n";
    assert!(first(&kinds, &tokenizer.encode(&record.repeat(200))).is_some());
}

/// The numbers of the benchmark, without the model's own loops.
#[test]
#[allow(clippy::print_stderr, reason = "the runner shows it")]
fn ten_megabytes_of_real_text_are_honest() {
    if !crate::env_vars::slow_tests() {
        eprintln!("skipped: needs DEMOLISH_SLOW=1");
        return;
    }
    let tokenizer = tokenizer();
    let (kinds, texts) = (kinds(&tokenizer), tokenise(&tokenizer, corpus::gather(CORPUS_BYTES)));
    let looked = look(&kinds, &texts).alarms();
    assert_ne!(looked.holds, Some(false), "{looked:?}");
    for row in plant(&kinds, &tokenizer, &texts, PLANTS) {
        assert_ne!(row.holds, Some(false), "{row:?}");
    }
}
