//! Names of commands.

use proptest::prelude::*;

use super::*;
use crate::raw::arbitrary;

#[test]
fn rule_4_36_commands_are_renamed_wherever_one_can_stand() {
    let cases = [
        // A command among the actions, and one that an action has.
        (
            r#"[{"title":"t","command":"fix","arguments":[{"command":"x"}]}]"#,
            r#"[{"title":"t","command":"demolish:ty:fix","arguments":[{"command":"x"}]}]"#,
        ),
        (
            r#"[{"title":"t","command":{"title":"t","command":"fix"}}]"#,
            r#"[{"title":"t","command":{"title":"t","command":"demolish:ty:fix"}}]"#,
        ),
        // A list of completions.
        (
            r#"{"items":[{"label":"l","command":{"command":"fix"}}]}"#,
            r#"{"items":[{"label":"l","command":{"command":"demolish:ty:fix"}}]}"#,
        ),
        // Parts of an inlay hint's label.
        (
            r#"[{"label":[{"value":"v","command":{"command":"fix"}}]}]"#,
            r#"[{"label":[{"value":"v","command":{"command":"demolish:ty:fix"}}]}]"#,
        ),
        // A single item that was resolved.
        (
            r#"{"range":1e400,"command":{"command":"f\u0069x"}}"#,
            r#"{"range":1e400,"command":{"command":"demolish:ty:fix"}}"#,
        ),
        // Not a command.
        (r#"[{"data":{"command":"fix"}}]"#, r#"[{"data":{"command":"fix"}}]"#),
        ("null", "null"),
    ];
    for (raw, renamed) in cases {
        let got = String::from_utf8(prefix(raw.as_bytes(), "ty", &["fix".to_owned()])).unwrap();
        assert_eq!(got, renamed);
        let back = String::from_utf8(restore(got.as_bytes(), "ty")).unwrap();
        assert_eq!(back, raw.replace("\\u0069", "i"));
    }
}

#[test]
fn rule_4_36_what_clients_run_themselves_keeps_its_name_unless_the_server_has_it() {
    let renamed = |command: &str, known: &[&str]| {
        let known: Vec<String> = known.iter().map(|name| (*name).to_owned()).collect();
        let raw = format!(r#"[{{"command":{{"command":"{command}"}}}}]"#);
        prefix(raw.as_bytes(), "ty", &known) != raw.as_bytes()
    };
    assert!(!renamed("editor.action.showReferences", &[]));
    assert!(!renamed("rust-analyzer.runSingle", &["other"]));
    assert!(renamed("rust-analyzer.runSingle", &["rust-analyzer.runSingle"]));
    assert!(renamed("gopls.run_tests", &[]));
    assert!(!renamed("demolish:ty:fix", &["fix"]), "once is enough");
}

#[test]
fn rule_4_36_a_name_leads_back_to_server_and_command() {
    assert_eq!(unprefix(&name("ty", "a:b")), Some(("ty", "a:b")));
    assert_eq!(unprefix("fix"), None);
    assert_eq!(unprefix("demolish:ty"), None);
}

proptest! {
    #[test]
    fn rule_4_36_renaming_is_undone_and_nothing_is_too_odd(raw in arbitrary::bytes(), json in arbitrary::json()) {
        prefix(&raw, "ty", &[]);
        let renamed = prefix(json.as_bytes(), "ty", &[]);
        prop_assert!(arbitrary::is_json(&renamed));
        let back = restore(&renamed, "ty");
        // Strings may be written differently; that aside it is the same.
        prop_assert_eq!(restore(&prefix(&back, "ty", &[]), "ty"), back);
    }
}
