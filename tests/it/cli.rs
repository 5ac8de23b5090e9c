//! The command line as people and scripts see it: what is printed, where, and the exit code.

use std::process::{Command, Stdio};

use expect_test::{Expect, expect};

use crate::house::{DEMOLISH, House};

/// Runs the program in a house of its own, in which no program and no model can be found.
pub(crate) fn run(house: &House, args: &[&str]) -> String {
    let mut command = Command::new(DEMOLISH);
    command
        .args(args)
        .env_clear()
        .envs(&house.env)
        .current_dir(house.dir.path())
        .stdin(Stdio::null());
    command.env("PATH", house.dir.path().join("empty"));
    if !house.env.contains_key(std::ffi::OsStr::new("DEMOLISH_MODEL")) {
        command.env("DEMOLISH_MODEL", house.dir.path().join("no-model"));
    }
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| {
        String::from_utf8(bytes).unwrap().replace(&*house.dir.path().to_string_lossy(), "$HOUSE")
    };
    let (out, err) = (text(output.stdout), text(output.stderr));
    let code = output.status.code().map_or("killed".to_owned(), |code| code.to_string());
    let mut all = format!("exit {code}\n");
    for (name, stream) in [("stdout", out), ("stderr", err)] {
        if !stream.is_empty() {
            all.push_str(&format!("{name}:\n{stream}"));
        }
    }
    all
}

fn check(args: &[&str], expected: &Expect) {
    expected.assert_eq(&run(&House::new(), args));
}

#[test]
fn every_verb_has_help_with_an_example() {
    let house = House::new();
    let help = run(&house, &["--help"]);
    let verbs: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(
        verbs,
        [
            "lsp",
            "daemon",
            "complete",
            "fix",
            "verdicts",
            "status",
            "trace",
            "restart",
            "stop",
            "doctor",
            "config",
            "logs",
            "journal",
            "report",
            "model",
            "bench",
            "completions"
        ]
    );
    for verb in verbs {
        let help = run(&house, &[verb, "--help"]);
        assert!(help.starts_with("exit 0\nstdout:\n"), "{help}");
        assert!(help.contains("Example"), "{help}");
    }
}

#[test]
fn bad_use() {
    check(
        &["complet"],
        &expect![[r#"
            exit 2
            stderr:
            error: unrecognized subcommand 'complet'

              tip: some similar subcommands exist: 'completions', 'complete'

            Usage: demolish <COMMAND>

            For more information, try '--help'.
        "#]],
    );
    check(
        &["lsp", "--"],
        &expect![[r#"
            exit 2
            stderr:
            demolish: `demolish lsp --` needs the command of a language server after the two dashes
        "#]],
    );
    check(
        &["complete", "a.py:0:1"],
        &expect![[r#"
            exit 2
            stderr:
            error: invalid value 'a.py:0:1' for '<FILE:LINE:COL>': lines and columns count from 1

            For more information, try '--help'.
        "#]],
    );
}

#[test]
fn files_and_places_that_are_not_there() {
    let house = House::new();
    std::fs::write(house.dir.path().join("a.py"), "x = 1\n").unwrap();
    std::fs::write(house.dir.path().join("latin.py"), b"x = '\xe9'\n").unwrap();
    let check = |args: &[&str], expected: Expect| expected.assert_eq(&run(&house, args));
    check(
        &["complete", "b.py:1:1"],
        expect![[r#"
            exit 2
            stderr:
            demolish: b.py cannot be read (No such file or directory (os error 2))
        "#]],
    );
    check(
        &["complete", "a.py:9:1"],
        expect![[r#"
            exit 2
            stderr:
            demolish: a.py has 2 lines, there is no line 9
        "#]],
    );
    check(
        &["fix", "a.py:1:9"],
        expect![[r#"
            exit 2
            stderr:
            demolish: a.py:1 has 5 characters, so its last column is 6, not 9
        "#]],
    );
    check(
        &["fix", "latin.py"],
        expect![[r#"
            exit 2
            stderr:
            demolish: latin.py is not UTF-8
        "#]],
    );
    check(
        &["fix", "."],
        expect![[r#"
            exit 2
            stderr:
            demolish: . is no source file
        "#]],
    );
    check(
        &["complete", "/dev/zero:1:1"],
        expect![[r#"
            exit 2
            stderr:
            demolish: /dev/zero is no source file
        "#]],
    );
}

#[test]
fn what_the_machine_lacks() {
    let house = House::new();
    std::fs::write(house.dir.path().join("a.py"), "x = 1\n").unwrap();
    let check = |args: &[&str], expected: Expect| expected.assert_eq(&run(&house, args));
    check(
        &["complete", "a.py:1:6"],
        expect![[r#"
            exit 3
            stderr:
            demolish: there is no model at $HOUSE/no-model: no such folder; `model.path` or DEMOLISH_MODEL names it
        "#]],
    );
    check(
        &["fix", "a.py"],
        expect![[r#"
            exit 3
            stderr:
            demolish: cannot tell what is wrong here: no language server is at hand for this file (`ty` was not found in PATH; install ty, or set `servers.command`)
        "#]],
    );
    check(
        &["logs"],
        expect![[r#"
            exit 3
            stderr:
            demolish: no log at $HOUSE/state/demolish/daemon.log (No such file or directory (os error 2)); has a daemon run yet?
        "#]],
    );
    let listed = run(&house, &["model", "list"]);
    let missing = "no-model  config.json: No such file or directory (os error 2)\n";
    assert!(listed.starts_with("exit 3\n") && listed.contains(missing), "{listed}");
}

#[test]
fn without_a_daemon() {
    check(
        &["status", "--json"],
        &expect![[r#"
            exit 1
            stdout:
            {"running":false}
        "#]],
    );
    check(
        &["stop"],
        &expect![[r#"
            exit 1
            stdout:
            no daemon is running
        "#]],
    );
}

#[tokio::test]
async fn with_a_daemon() {
    let house = House::new();
    house.daemon().await;
    let status = run(&house, &["status"]);
    assert!(status.starts_with("exit 0\nstdout:\ndaemon "), "{status}");
    assert!(status.contains("model    unloaded"), "{status}");
    let status: serde_json::Value = serde_json::from_str(
        run(&house, &["status", "--json"]).strip_prefix("exit 0\nstdout:\n").unwrap(),
    )
    .unwrap();
    assert_eq!((&status["running"], &status["links"]), (&true.into(), &serde_json::json!([])));
    assert_eq!(run(&house, &["stop"]), "exit 0\nstdout:\nthe daemon ends\n");
    crate::house::until("the daemon has ended", || !house.socket().exists()).await;
    assert!(run(&house, &["logs", "-n", "1"]).contains("ending"));
}

#[test]
fn settings_that_are_wrong() {
    let house = House::new();
    let file = house.dir.path().join("mine.toml");
    std::fs::write(&file, "[complete]\ndeadline = 3\n").unwrap();
    let house = house.with("DEMOLISH_CONFIG", &file.to_string_lossy());
    let told = run(&house, &["config"]);
    assert!(told.starts_with("exit 2\nstdout:\n[model]\n"), "{told}");
    let expected = expect![[r#"
        stderr:
        demolish: $HOUSE/mine.toml:2: unknown setting `complete.deadline`; did you mean `complete.deadline_ms`?
    "#]];
    expected.assert_eq(&told[told.find("stderr:").unwrap()..]);
    // Verbs say it too, and go on with the default.
    std::fs::write(house.dir.path().join("a.xyz"), "").unwrap();
    let told = run(&house, &["fix", "a.xyz"]);
    let expected = expect![[r#"
        exit 3
        stderr:
        demolish: $HOUSE/mine.toml:2: unknown setting `complete.deadline`; did you mean `complete.deadline_ms`?
        demolish: cannot tell what is wrong here: the language of this file is not known
    "#]];
    expected.assert_eq(&told);
}

#[test]
fn models_that_cannot_be_loaded() {
    let house = House::new();
    let dir = house.dir.path().join("model");
    std::fs::create_dir(&dir).unwrap();
    let logits = |what: &str| {
        let told = run(
            &house,
            &["model", "logits", "--model", &dir.to_string_lossy(), "--tokens", "1,2", "--json"],
        );
        let lines: Vec<&str> = told.lines().collect();
        let [exit, _, object, _, sentence] = lines[..] else { panic!("{what}: {told}") };
        assert_eq!(exit, "exit 2", "{what}");
        let sentence = sentence.strip_prefix("demolish: ").unwrap_or_default();
        assert!(sentence.starts_with("cannot load the model"), "{what}: {told}");
        // Programs hear the same.
        let object: serde_json::Value = serde_json::from_str(object).unwrap();
        assert_eq!(object["error"], sentence, "{what}: {told}");
        told
    };
    assert!(logits("empty").contains("$HOUSE/model"));
    std::fs::write(dir.join("config.json"), "{").unwrap();
    assert!(logits("truncated").contains("config.json"));
    std::fs::write(dir.join("config.json"), r#"{"model_type": "qwen3_mo"}"#).unwrap();
    assert!(logits("unknown").contains("qwen3_moe"), "did you mean");
}

/// A checkpoint of the engine's own tests, and the house in which verbs are run on it.
pub(crate) fn fixture(name: &str) -> String {
    let root = testkit::places::root();
    root.join("tests/engine/fixtures").join(name).display().to_string()
}

#[test]
fn a_model_is_described_without_being_loaded() {
    let house = House::new();
    let dir = fixture("glm_moe_dsa_52-q4a4h6");
    let told = run(&house, &["model", "info", &dir]);
    for part in ["glm_moe_dsa", "it fits", "CACHE OF 1K", "parity", "quantized", "fast"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let json = run(&house, &["model", "info", &dir, "--context", "100", "--json"]);
    let info: serde_json::Value =
        serde_json::from_str(json.strip_prefix("exit 0\nstdout:\n").unwrap()).unwrap();
    assert_eq!((&info["context_max"], &info["memory"]["fits"]), (&100.into(), &true.into()));
    let modes = info["memory"]["modes"].as_array().unwrap();
    assert!(modes.iter().all(|mode| mode["cache_per_1k"].as_u64() > Some(0)), "{info}");
    assert!(run(&house, &["model", "info", "/nowhere"]).starts_with("exit 2\n"));
    let told = run(&house, &["model", "info", &dir, "--context", "0"]);
    assert!(told.starts_with("exit 0") && !told.contains("asked for"), "{told}");
    let told = run(&house, &["model", "info", &dir, "--context", "999999999"]);
    assert!(told.contains("; 999999999 were asked for, the model has no more"), "{told}");
    let told = run(&house, &["model", "info", &dir, "--kv-bits", "8"]);
    let expected =
        "model.kv_bits = 8: the cache of this architecture cannot be packed; set it to 0";
    assert!(told.starts_with("exit 2") && told.ends_with(&format!("{expected}\n")), "{told}");
    let told = run(&house, &["model", "logits", &dir]);
    assert!(told.starts_with("exit 2") && told.contains("--from"), "{told}");
}

#[test]
fn logits_of_tokens_from_a_file_and_with_an_adapter() {
    let house = House::new();
    let (dir, adapter) = (fixture("glm4_moe-f32"), fixture("souls/glm4_moe-f32"));
    let tokens = house.dir.path().join("tokens");
    std::fs::write(&tokens, "[1, 2, 3]\n").unwrap();
    let tokens = tokens.display().to_string();
    let logits = |more: &[&str]| {
        let given = [&["model", "logits", dir.as_str(), "--json"], more].concat();
        let told = run(&house, &given);
        let json = told.strip_prefix("exit 0\nstdout:\n").unwrap_or_else(|| panic!("{told}"));
        serde_json::from_str::<serde_json::Value>(json).unwrap()["logits"].clone()
    };
    let plain = logits(&["--tokens", "1,2,3"]);
    assert_eq!(logits(&["--from", &tokens]), plain);
    let all = logits(&["--from", &tokens, "--all"]);
    assert_eq!((all.as_array().unwrap().len(), &all[2]), (3, &plain));
    let worn = logits(&["--from", &tokens, "--adapter", &adapter]);
    assert_ne!(worn, plain);
    assert_eq!(logits(&["--from", &tokens, "--adapter", &adapter, "--all"])[2], worn);
    let told = run(&house, &["model", "logits", &dir, "--tokens", "1", "--adapter", "/nowhere"]);
    assert!(
        told.starts_with("exit 2\nstderr:\ndemolish: /nowhere/adapter_config.json: "),
        "{told}"
    );
}

/// The engine's thread frees memory of libraries that the end of the process takes down.
#[test]
fn a_program_that_used_a_model_ends_well_every_time() {
    let mut house = House::new();
    let file = house.dir.path().join("cart.py");
    std::fs::write(&file, "def total(items):\n    return sum(\n").unwrap();
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../nano/model");
    house.env.insert("DEMOLISH_MODEL".into(), model.into());
    let place = format!("{}:2:16", file.display());
    for round in 0..8 {
        let said = run(&house, &["complete", &place, "--json", "--no-daemon"]);
        assert!(said.starts_with("exit 0\n"), "round {round}: {said}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let house = House::new();
    let mut child = Command::new(DEMOLISH)
        .args(["config", "--schema"])
        .envs(&house.env)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn the_doctor_says_what_would_help() {
    let house = House::new();
    let told = run(&house, &["doctor"]);
    assert!(told.starts_with("exit 3\n"), "the model is missing: {told}");
    assert!(told.contains("bad   model"), "{told}");
    assert!(told.contains("-> install ty"), "{told}");
    let json = run(&house, &["doctor", "--json"]);
    let report: serde_json::Value =
        serde_json::from_str(json.strip_prefix("exit 3\nstdout:\n").unwrap()).unwrap();
    assert_eq!(report["ok"], false);
}

#[test]
fn a_broken_config_json_is_told_before_it_takes_memory() {
    let house = House::new();
    let dir = house.dir.path().join("model");
    std::fs::create_dir(&dir).unwrap();
    let check = |config: &str, expected: &str| {
        std::fs::write(dir.join("config.json"), config).unwrap();
        let said = run(&house, &["model", "logits", "--model", "model", "--tokens", "1"]);
        let remedy = "; copy or convert the model again";
        let place = "demolish: cannot load the model: model/config.json";
        assert_eq!(said, format!("exit 2\nstderr:\n{place}: {expected}{remedy}\n"));
    };
    check("{", "not JSON (EOF while parsing an object at line 1 column 1)");
    check(
        r#"{"model_type": "qwen3_moe", "hidden_size": 64, "num_attention_heads": 4, "vocab_size": 100,
            "intermediate_size": 64, "num_hidden_layers": 4000000000}"#,
        "num_hidden_layers is 4000000000, more than 4096",
    );
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_told() {
    let house = House::new();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Command::new(DEMOLISH)
        .arg("config")
        .env_clear()
        .envs(&house.env)
        .current_dir(house.dir.path())
        .stdout(full)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("demolish: the output cannot be written ("), "{said}");
    assert_eq!((output.status.code(), said.lines().count()), (Some(3), 1));
}
