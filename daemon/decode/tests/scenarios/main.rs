//! Every file of `tests/scenarios/` is a test: prose, a document, a script of the model, a script of the server, and what comes of it.
//! `UPDATE_EXPECT=1` writes what came into the file.

mod critic;
mod parse;
mod run;

use std::path::{Path, PathBuf};

#[test]
fn scenarios() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/scenarios");
    let entries =
        std::fs::read_dir(&folder).expect("the folder of scenarios is part of the repository");
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    files.sort();
    assert!(files.len() > 10, "only {} scenarios in {}", files.len(), folder.display());
    let failed: Vec<String> = files.iter().filter_map(|path| check(path)).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// What went otherwise than the file says.
#[allow(
    clippy::disallowed_methods,
    reason = "a test that is asked to brings its own files up to date"
)]
fn check(path: &Path) -> Option<String> {
    let source = std::fs::read_to_string(path).expect("the file was just listed");
    let scenario = parse::scenario(&source);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs nothing");
    let came = runtime.block_on(run::run(&scenario));
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
