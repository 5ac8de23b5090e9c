//! The samples of `tests/config`, and the files that are written from the table.

use std::path::{Path, PathBuf};

use super::{Config, Scope, generate, read, settings};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The samples of a folder: name, whether it is a project's file, and text.
fn samples(folder: &str) -> Vec<(String, bool, String)> {
    let dir = root().join("tests/config").join(folder);
    let mut samples: Vec<_> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name.clone(), name.ends_with(".project"), std::fs::read_to_string(path).unwrap())
        })
        .collect();
    samples.sort();
    assert!(!samples.is_empty(), "no samples in {}", dir.display());
    samples
}

#[test]
fn valid_samples_have_no_problems() {
    for (name, project, text) in samples("valid") {
        let loaded = read::load_text(&name, &text, project);
        assert!(loaded.problems.is_empty(), "{name}: {:?}", loaded.problems);
        let set = !loaded.decided.is_empty();
        assert_eq!(set, loaded.config != Config::default(), "{name}: a setting had no effect");
    }
}

#[test]
fn invalid_samples_say_what_is_expected() {
    for (name, project, text) in samples("invalid") {
        let loaded = read::load_text("demolish.toml", &text, project);
        let said: String = loaded.problems.iter().map(|problem| format!("{problem}\n")).collect();
        let beside = root().join("tests/config/invalid").join(format!("{name}.expect"));
        let expected: String = std::fs::read_to_string(beside)
            .unwrap()
            .lines()
            .map(|line| format!("demolish.toml:{line}\n"))
            .collect();
        assert_eq!(said, expected, "{name}");
    }
}

#[test]
fn what_is_right_in_a_file_holds_although_something_else_is_wrong() {
    let text =
        std::fs::read_to_string(root().join("tests/config/invalid/two-problems.toml")).unwrap();
    let loaded = read::load_text("demolish.toml", &text, false);
    assert_eq!(loaded.config.complete.tokens_max, 24);
    assert_eq!(loaded.config.complete.checks_max, Config::default().complete.checks_max);
    assert_eq!(
        loaded.warning().unwrap().matches("; ").count(),
        2,
        "one warning for all: a hint and a separator"
    );
}

#[test]
fn later_layers_win() {
    let dir = tempfile::tempdir().unwrap();
    let user = dir.path().join("demolish.toml");
    std::fs::write(&user, "complete = { deadline_ms = 100, lines_max = 3, candidates = 2 }")
        .unwrap();
    std::fs::write(
        dir.path().join(read::PROJECT_FILE),
        "complete = { deadline_ms = 200, lines_max = 4 }",
    )
    .unwrap();
    let loaded = read::load(&read::Layers {
        user_file: Some(user.clone()),
        user_file_named: true,
        project: Some(dir.path().to_owned()),
        environment: false,
        editor: Some(
            serde_json::json!({"complete": {"deadline_ms": 300}, "editor": {"auto": false}}),
        ),
    });
    assert_eq!(loaded.problems, []);
    let complete = &loaded.config.complete;
    assert_eq!((complete.deadline_ms, complete.lines_max, complete.candidates), (300, 4, 2));
    let from = |key: &str| loaded.decided.iter().find(|(name, _)| name == key).unwrap().1.clone();
    assert_eq!(from("complete.deadline_ms"), "the editor's options");
    assert_eq!(from("complete.candidates"), user.display().to_string());
}

#[test]
fn a_named_file_that_is_missing_is_a_problem() {
    let layers = |named| read::Layers {
        user_file: Some(PathBuf::from("/nowhere/demolish.toml")),
        user_file_named: named,
        ..read::Layers::default()
    };
    assert!(read::load(&layers(false)).problems.is_empty());
    let problems = read::load(&layers(true)).problems;
    assert!(
        problems[0].to_string().starts_with("/nowhere/demolish.toml: cannot be read"),
        "{problems:?}"
    );
}

#[test]
fn defaults_are_within_their_limits_and_every_setting_has_words() {
    for setting in settings() {
        if let (Some((min, max)), Some(default)) = (setting.limits, setting.default.as_f64()) {
            assert!((min..=max).contains(&default), "{}", setting.key);
        }
        assert!(setting.doc.trim().ends_with('.'), "{}: {}", setting.key, setting.doc);
        assert_eq!(
            setting.scope == Scope::Editor,
            setting.key.starts_with("editor."),
            "{}",
            setting.key
        );
    }
}

#[test]
fn generated_files_are_current() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut stale = Vec::new();
    for (path, content) in generate::files() {
        let file = root().join(path);
        if std::fs::read_to_string(&file).is_ok_and(|current| current == content) {
            continue;
        }
        if update {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, content).unwrap();
        } else {
            stale.push(path);
        }
    }
    assert!(
        stale.is_empty(),
        "run `UPDATE=1 cargo test -p demolish generated_files`: {stale:?} differ from config.rs"
    );
}
