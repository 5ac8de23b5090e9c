//! The full compiler, run from nothing on the file as it would be saved: what it says of a suggestion that was offered as clean.
//!
//! The file is written into a copy beside the original, compiled, and taken away again, so that nothing of the language server's memory
//! is believed.

use std::path::Path;
use std::time::Duration;

use tokio::process::Command;

use super::arms::{Arm, Tried};
use super::cases::Case;
use crate::twin::Environment;

/// How long one compilation may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Whether what steering offered as clean brings in no error; `empty` is what is wrong without it. `None`: nothing was offered as clean, or
/// there is no compiler for it here.
pub(super) async fn is_sound(
    case: &Case,
    tried: &[Tried],
    empty: &[String],
    server: &str,
    env: &Environment,
) -> Option<bool> {
    let steered = tried.iter().find(|tried| tried.arm == Arm::Steered)?;
    if steered.verdict != "clean" {
        return None;
    }
    let now = errors(case, &steered.written, server, env).await?;
    Some(now.iter().all(|error| empty.contains(error)))
}

/// The errors of the file with this in the hole: places and codes; `None` where no compiler says anything of it.
#[allow(clippy::disallowed_methods, reason = "the project is the measurement's own")]
pub(super) async fn errors(
    case: &Case,
    written: &str,
    server: &str,
    env: &Environment,
) -> Option<Vec<String>> {
    let path = &case.program.path;
    let original = case.program.text.clone();
    std::fs::write(path, &*case.with(written)).ok()?;
    let compiled = compile(path, server, env).await;
    std::fs::write(path, &*original).ok()?;
    compiled
}

#[allow(
    clippy::disallowed_methods,
    reason = "a compiler that ends by itself, and is killed when it does not"
)]
async fn compile(path: &Path, server: &str, env: &Environment) -> Option<Vec<String>> {
    let root = root_of(path)?;
    let relative = path.strip_prefix(&root).ok()?.to_string_lossy().into_owned();
    let (program, arguments, sign): (&str, Vec<&str>, &str) = match server {
        "ty" => ("ty", vec!["check", "--output-format", "concise", &relative], ": error["),
        "tsc" => ("tsc", vec!["--noEmit", "--pretty", "false", "-p", "."], "): error TS"),
        "rust-analyzer" => {
            let check = vec!["check", "--offline", "--quiet", "--message-format", "short"];
            ("cargo", check, ": error")
        }
        "gopls" => ("go", vec!["vet", "./..."], ": "),
        _ => return None,
    };
    let mut command = Command::new(program);
    command.args(arguments).current_dir(&root).env_clear().envs(env).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.ok()?.ok()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let own = said.lines().map(|line| line.trim_start_matches("./").trim_start_matches("vet: "));
    let own = own.filter(|line| line.starts_with(&relative));
    let error = |line: &str| {
        let (place, said) = line.split_once(sign)?;
        let code = said.split([']', ':']).next().unwrap_or(said);
        Some([place, code].join(" "))
    };
    Some(own.filter_map(error).collect())
}

/// The project's folder: the nearest one with a file that marks it.
fn root_of(path: &Path) -> Option<std::path::PathBuf> {
    let marks = ["pyproject.toml", "tsconfig.json", "Cargo.toml", "go.mod"];
    let holds = |folder: &&Path| marks.iter().any(|mark| folder.join(mark).is_file());
    path.ancestors().skip(1).find(holds).map(Path::to_owned)
}
