//! `cargo xtask record-peer`: sets up the real servers, and has the program record them.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use super::{cargo, set_up, tool};
use crate::paths;
use crate::setup::Purpose;

/// Records the peers named, or all.
pub(crate) fn run(names: &[String]) -> Result<bool> {
    let known = known()?;
    for name in names {
        ensure!(
            known.contains(name),
            "no recorded server is called `{name}`; there are {}",
            known.join(", ")
        );
    }
    set_up(Purpose::Slow)?;
    if !cargo(&["build", "--quiet", "--package", "demolish", "--bins"]).show()? {
        return Ok(false);
    }
    let program = paths::target().join("debug/demolish").display().to_string();
    let mut well = true;
    for name in if names.is_empty() { &known } else { names } {
        well &= tool(&program).args(["bench", "record-peer", name]).show()?;
    }
    Ok(well)
}

/// The servers that have a project in tests/peers.
fn known() -> Result<Vec<String>> {
    let folder = paths::root().join("tests/peers");
    let entries = fs::read_dir(&folder).with_context(|| format!("no {}", folder.display()))?;
    let name = |path: std::path::PathBuf| {
        let project = path.extension().is_some_and(|extension| extension == "toml");
        project.then(|| path.file_stem().unwrap_or_default().to_string_lossy().into_owned())
    };
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| name(entry.path())).collect();
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_recorded_server_has_a_project_and_a_recording() {
        let names = super::known().unwrap();
        assert_eq!(names.len(), 7);
        for name in names {
            assert!(
                crate::paths::root().join(format!("tests/peers/{name}.jsonl")).is_file(),
                "{name}"
            );
        }
    }
}
