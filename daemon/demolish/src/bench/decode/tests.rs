//! The whole measurement on tiny shapes, with a peer that says what `llama-bench` would.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// Says in the form of `llama-bench -o json` that it reads 1000 tokens per second and decodes 100, on four threads best.
const FAKE: &str = r#"#!/bin/sh
cat <<END
[ {"n_prompt": 512, "n_gen": 0, "n_threads": 4, "avg_ts": 1000.0, "stddev_ts": 1.0},
  {"n_prompt": 0, "n_gen": 8, "n_threads": 4, "avg_ts": 100.0, "stddev_ts": 1.0},
  {"n_prompt": 0, "n_gen": 8, "n_threads": 1, "avg_ts": 50.0, "stddev_ts": 1.0} ]
END
"#;

const OURS: &[&str] = &[
    "read_bandwidth",
    "decode_tokens_per_s",
    "decode_bandwidth_share",
    "batch8_gain",
    "read_2_tokens_per_s",
    "read_16_tokens_per_s",
    "decode_tokens_per_s_dense",
    "decode_bandwidth_share_dense",
    "batch8_gain_dense",
    "half_precision_loss",
    "default_model_tokens_per_s",
];

const LLAMA: &[&str] = &[
    "decode_vs_llama_cpp",
    "prefill_vs_llama_cpp",
    "decode_vs_llama_cpp_dense",
    "prefill_vs_llama_cpp_dense",
];

#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "a file of the test")]
async fn everything_is_measured_and_what_is_missing_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let fake = folder.path().join("llama-bench");
    std::fs::write(&fake, FAKE).unwrap();
    std::fs::set_permissions(&fake, std::fs::Permissions::from_mode(0o755)).unwrap();
    let svg = folder.path().join("roofline.svg");
    let options = Options {
        is_quick: true,
        models: Some(folder.path().join("models")),
        discards: true,
        llama_bench: None,
        svg: Some(svg.clone()),
    };
    let peers = Peers { llama: Some(fake), python: None };
    let report = run_beside(&options, &peers).await.unwrap();
    let find = |name: &str| {
        report.rows.iter().find(|row| row.metric == name).unwrap_or_else(|| panic!("no {name}"))
    };
    for name in OURS.iter().chain(LLAMA) {
        assert!(find(name).value.is_finite(), "{name}");
    }
    let decode = find("decode_tokens_per_s").value;
    let ratio = find("decode_vs_llama_cpp").value;
    assert!((decode / 100.0 / ratio - 1.0).abs() < 0.02, "{decode} {ratio}");
    assert!(report.rows.iter().all(|row| !row.metric.contains("mlx_lm")));
    assert_eq!(report.notes.len(), 1);
    assert!(report.notes[0].contains("setup --only oracle"), "{:?}", report.notes);
    let drawn = std::fs::read_to_string(&svg).unwrap();
    // Decoding, a long prompt and four short ones: of each shape.
    assert_eq!(drawn.matches("<circle").count(), 2 * 6 + 1);
    assert!(drawn.ends_with("</svg>\n") && !drawn.contains("NaN"));
    let left: Vec<_> = std::fs::read_dir(folder.path().join("models")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_peer_that_fails_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let peers = Peers { llama: Some("/bin/false".into()), python: None };
    let models = folder.path().to_path_buf();
    let options = Options { is_quick: true, models: Some(models), ..Options::default() };
    let error = run_beside(&options, &peers).await.unwrap_err();
    assert!(error.contains("/bin/false failed"), "{error}");
}
