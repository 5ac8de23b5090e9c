//! The conformance suite against this program, rule by rule: what `demolish bench conformance` checks from outside, for the
//! direct connection (which shows that the checks are right) and through shim and daemon.

use std::process::Command;

use serde_json::Value;

use crate::house::{DEMOLISH, slow};

/// Every check of a rule holds, directly and through the proxy, and says something about the proxy.
fn check(rule: &str) {
    let rows = run(&["--rule", rule]);
    let of = |name: &str| {
        let wanted = |row: &&Value| row["against"] == name && row["metric"] == rule;
        rows.iter().find(wanted).unwrap_or_else(|| panic!("no row of {name}: {rows:?}")).clone()
    };
    let (direct, ours) = (of("direct"), of("demolish"));
    assert_eq!((&ours["value"], &ours["unit"]), (&1.0.into(), &"share".into()), "{ours}");
    assert_ne!(direct["holds"], false, "{direct}");
}

/// The rows of a run.
fn run(args: &[&str]) -> Vec<Value> {
    let output = Command::new(DEMOLISH)
        .args(["bench", "conformance", "--json"])
        .args(args)
        .output()
        .expect("the program starts");
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    report["rows"].as_array().expect("rows").clone()
}

#[test]
fn rule_4_1_frames_of_every_form_pass_and_rubbish_does_not() {
    check("4.1");
}

#[test]
fn rule_4_6_answers_keep_every_member() {
    check("4.6");
}

#[test]
fn rule_4_9_an_editor_that_does_not_read_holds_up_only_its_own_link() {
    check("4.9");
}

#[test]
fn rule_4_11_what_one_server_can_do_reaches_the_editor_as_it_is() {
    check("4.11");
}

#[test]
fn rule_4_12_registrations_pass_and_so_does_their_refusal() {
    check("4.12");
}

#[test]
fn rule_4_16_what_is_said_outside_of_messages_stays_outside() {
    check("4.16");
}

#[test]
fn rule_4_19_what_one_server_publishes_reaches_the_editor_as_it_is() {
    check("4.19");
}

#[test]
fn rule_4_20_versions_are_passed_on_and_none_is_made_up() {
    check("4.20");
}

#[test]
fn rule_4_21_pulled_reports_pass_and_are_not_pushed_too() {
    check("4.21");
}

#[test]
fn rule_4_22_progress_passes_from_create_to_end() {
    check("4.22");
}

#[test]
fn rule_4_23_partial_results_come_before_the_empty_answer() {
    check("4.23");
}

#[test]
fn rule_4_24_tokens_and_their_delta_pass() {
    check("4.24");
}

#[test]
fn rule_4_25_changes_arrive_in_order_as_they_were_sent() {
    check("4.25");
}

#[test]
fn rule_4_27_positions_in_opaque_values_are_not_touched() {
    check("4.27");
}

#[test]
fn rule_4_29_edits_before_a_save_pass_and_the_save_comes_after_them() {
    check("4.29");
}

#[test]
fn rule_4_30_documents_are_opened_and_closed_as_often_as_the_editor_says() {
    check("4.30");
}

#[test]
fn rule_4_31_watched_files_pass() {
    check("4.31");
}

#[test]
fn rule_4_32_folders_that_come_and_go_reach_the_server() {
    check("4.32");
}

#[test]
fn rule_4_34_a_wrapped_server_gets_no_text_that_nobody_typed() {
    check("4.34");
}

#[test]
fn rule_4_35_an_edit_of_the_server_is_answered_once() {
    check("4.35");
}

#[test]
fn rule_4_36_commands_of_one_server_keep_their_names() {
    check("4.36");
}

#[test]
fn rule_4_37_items_of_one_server_keep_their_bytes() {
    check("4.37");
}

#[test]
fn rule_4_38_completion_of_one_server_is_left_alone() {
    check("4.38");
}

#[test]
fn rule_4_39_formatting_of_one_server_is_left_alone() {
    check("4.39");
}

#[test]
fn rule_4_40_renames_of_one_server_are_left_alone() {
    check("4.40");
}

#[test]
fn rule_4_41_hover_and_signatures_of_one_server_are_left_alone() {
    check("4.41");
}

#[test]
fn rule_4_42_prepared_items_of_one_server_are_left_alone() {
    check("4.42");
}

#[test]
fn rule_4_44_answers_of_the_user_return_to_the_server_that_asked() {
    check("4.44");
}

#[test]
fn rule_4_45_refreshes_are_answered_and_reach_the_editor() {
    check("4.45");
}

#[test]
fn rule_4_46_bridges_between_servers_pass() {
    check("4.46");
}

#[test]
fn rule_4_47_uris_keep_their_spelling() {
    check("4.47");
}

#[test]
fn rule_4_49_what_passes_is_not_held_back() {
    check("4.49");
}

#[test]
fn rule_4_50_one_message_in_is_one_message_out() {
    check("4.50");
}

#[test]
fn two_servers_on_one_connection() {
    let list = "{server-string},{server2-string}";
    let rows = run(&["--", DEMOLISH, "lsp", "--merge", list]);
    let broken: Vec<&Value> = rows.iter().filter(|row| row["holds"] == false).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(rows.len() >= 19, "{rows:?}");
}

#[test]
fn the_whole_suite_holds() {
    if !slow() {
        println!("skipped: needs DEMOLISH_SLOW=1, and about a minute");
        return;
    }
    let rows = run(&[]);
    let broken: Vec<&Value> = rows.iter().filter(|row| row["holds"] == false).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    assert_eq!(rows.len(), 150, "three rows for each of the fifty rules");
}

#[test]
fn a_proxy_that_loses_messages_is_found_out() {
    // `cat` gives the editor its own words back; `true` is gone at once; `sleep` never answers.
    for (command, why) in [
        (&["cat"][..], "did not reach"),
        (&["true"], "closed its stdout"),
        (&["no-such-proxy"], "was not found"),
    ] {
        let args = [&["--rule", "4.46", "--"][..], command].concat();
        let rows = run(&args);
        assert_eq!(
            (&rows[0]["value"], &rows[0]["holds"]),
            (&0.0.into(), &false.into()),
            "{rows:?}"
        );
        let note = rows[0]["note"].as_str().unwrap_or_default();
        assert!(note.contains(why), "{note}");
    }
}
