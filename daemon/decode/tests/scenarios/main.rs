//! Every file of `tests/scenarios/` is a test: prose, a document, a script of the model, a script of the server, and what comes of it.
//! `UPDATE_EXPECT=1` writes what came into the file.

mod critic;
mod parse;
mod run;
#[path = "../../../engine/tests/support/server/fake.rs"]
mod server;

use std::path::{Path, PathBuf};

use engine::Engine;
use server::{Fake, Kind};

/// The files, in their order.
fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/scenarios");
    let entries =
        std::fs::read_dir(&folder).expect("the folder of scenarios is part of the repository");
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    files.sort();
    assert!(files.len() > 10, "only {} scenarios in {}", files.len(), folder.display());
    files
}

#[test]
fn scenarios() {
    let failed: Vec<String> = files().iter().filter_map(|path| check(path)).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// The same model on a server, which is steered by sending the text again: everything comes out as it does here.
fn over(kind: Kind) {
    let mut failed = Vec::new();
    for path in files() {
        let source = std::fs::read_to_string(&path).expect("the file was just listed");
        let scenario = parse::scenario(&source);
        let fake = Fake::start(kind, run::script(&scenario));
        let came = block_on(run::run(&scenario, &fake.engine()));
        if came.trim() != scenario.expect.trim() {
            failed.push(format!(
                "{}:\nexpected\n{}\ncame\n{came}",
                path.display(),
                scenario.expect
            ));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn scenarios_over_llama_cpp() {
    over(Kind::LlamaCpp);
}

#[test]
fn scenarios_over_vllm() {
    over(Kind::Vllm);
}

#[test]
fn scenarios_over_sglang() {
    over(Kind::Sglang);
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs nothing");
    runtime.block_on(work)
}

/// What went otherwise than the file says.
#[allow(
    clippy::disallowed_methods,
    reason = "a test that is asked to brings its own files up to date"
)]
fn check(path: &Path) -> Option<String> {
    let source = std::fs::read_to_string(path).expect("the file was just listed");
    let scenario = parse::scenario(&source);
    let engine = Engine::scripted(run::script(&scenario));
    let came = block_on(run::run(&scenario, &engine));
    if came.trim() == scenario.expect.trim() {
        return None;
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        let old = format!("```expect\n{}```", scenario.expect);
        std::fs::write(path, source.replace(&old, &format!("```expect\n{came}```")))
            .expect("the test may write its own files");
        return None;
    }
    Some(format!("{}:\nexpected\n{}\ncame\n{came}", path.display(), scenario.expect))
}
