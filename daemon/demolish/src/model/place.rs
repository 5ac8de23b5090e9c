//! Where models are, and how the settings want one loaded.

use std::path::{Path, PathBuf};

use engine::{Engine, LoadOptions, LoadWatch};

use super::Role;
use crate::config;

/// Where the default model lies below the folder that holds the program's folder.
const INSTALLED: &str = "share/demolish/nano";
/// The file that makes a folder a model.
const CONFIG_FILE: &str = "config.json";

/// How the settings want it loaded.
pub(crate) fn options(settings: &config::Model) -> LoadOptions {
    const GIB: f64 = (1u64 << 30) as f64;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the settings keep it within 0 to 4096 GiB"
    )]
    let bytes = (settings.memory_max_gib * GIB) as u64;
    let context = settings.context_max as usize;
    LoadOptions {
        memory_max: (bytes > 0).then_some(bytes),
        context_max: (context > 0).then_some(context),
        kv_bits: settings.kv_bits.bits(),
        speculation: settings.speculation.speculation(),
        ..LoadOptions::AUTO
    }
}

/// Loads the model of a directory now. Blocks.
///
/// # Errors
/// One sentence with the place, the reason and the remedy.
pub fn load(dir: &Path, options: LoadOptions) -> Result<Engine, String> {
    load_watched(dir, options, LoadWatch::nobody())
}

/// The same, with somebody who is told how far it is and may stop it. Blocks.
///
/// # Errors
/// One sentence with the place, the reason and the remedy.
pub fn load_watched(dir: &Path, options: LoadOptions, watch: LoadWatch) -> Result<Engine, String> {
    Engine::load_watched(dir, options, watch).map_err(|error| refused(Some(dir), &error))
}

/// The same for a role: the bigger of two models has the draft model of the settings, where they name one.
///
/// # Errors
/// One sentence with the place, the reason and the remedy.
pub(crate) fn load_for(
    dir: &Path,
    settings: &config::Model,
    role: Role,
    watch: LoadWatch,
) -> Result<Engine, String> {
    let is_bigger = role == Role::Agent || settings.agent_path.is_none();
    let drafter = settings.draft_path.as_deref().filter(|_| is_bigger).map(expanded);
    Engine::load_with_drafter(dir, drafter.as_deref(), options(settings), watch)
        .map_err(|error| refused(Some(dir), &error))
}

/// One sentence with the place, the reason and the remedy.
pub(crate) fn refused(dir: Option<&Path>, error: &engine::LoadError) -> String {
    let remedy = remedy(error);
    let place = dir.map(|dir| dir.display().to_string()).unwrap_or_default();
    let message = error.to_string();
    let message = message.trim_end_matches('.');
    if message.contains(&place) {
        format!("cannot load the model: {message}{remedy}")
    } else {
        format!("cannot load the model {place}: {message}{remedy}")
    }
}

/// What would help, unless the error says it itself.
fn remedy(error: &engine::LoadError) -> &'static str {
    use engine::LoadError::{Config, File, Tokenizer, Weights};
    let (File { reason, .. }
    | Config { reason, .. }
    | Weights { reason, .. }
    | Tokenizer { reason, .. }) = error
    else {
        return "";
    };
    if reason.contains("Permission denied") {
        "; make it readable"
    } else if matches!(error, File { .. }) || reason == "not a regular file" {
        "; a model is a folder with config.json, *.safetensors and tokenizer.json"
    } else if reason.contains("; ") {
        ""
    } else if reason.contains("not supported") {
        "; use another model, or convert this one with mlx-lm"
    } else {
        "; copy or convert the model again"
    }
}

/// The directory of the model that types, as the settings ask for it.
///
/// # Errors
/// There is none: one sentence with the remedy.
pub fn find(settings: &config::Model) -> Result<PathBuf, String> {
    find_for(settings, Role::Typing)
}

/// The directory of the model that the settings ask for in a role.
///
/// # Errors
/// There is none: one sentence with the remedy.
pub fn find_for(settings: &config::Model, role: Role) -> Result<PathBuf, String> {
    if !settings.enabled {
        return Err("the model is switched off (`model.enabled`)".to_owned());
    }
    let (asked, remedy) = match (role, &settings.agent_path) {
        (Role::Agent, Some(asked)) => (Some(asked), "`model.agent_path` names it"),
        _ => (settings.path.as_ref(), "`model.path` or DEMOLISH_MODEL names it"),
    };
    if let Some(asked) = asked {
        let dir = expanded(asked);
        return if dir.is_dir() {
            Ok(dir)
        } else {
            Err(format!("there is no model at {}: no such folder; {remedy}", dir.display()))
        };
    }
    let places = default_places();
    places.iter().find(|dir| dir.join(CONFIG_FILE).is_file()).cloned().ok_or_else(|| {
        let looked: Vec<String> = places.iter().map(|dir| dir.display().to_string()).collect();
        format!("there is no default model in {}; set `model.path` or DEMOLISH_MODEL to a folder in MLX format", looked.join(" or "))
    })
}

/// Every place where a model is looked for: those that the settings name, then those of the default model.
#[must_use]
pub fn places(settings: &config::Model) -> Vec<PathBuf> {
    let named = settings.path.iter().chain(&settings.agent_path);
    let mut places: Vec<PathBuf> = Vec::new();
    for place in named.map(|path| expanded(path)).chain(default_places()) {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

/// Beside the installed program, else in the source tree that it was built from.
fn default_places() -> Vec<PathBuf> {
    let program = std::env::current_exe().and_then(|path| path.canonicalize()).ok();
    let installed = program.and_then(|path| Some(path.parent()?.parent()?.join(INSTALLED)));
    let source =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(|daemon| daemon.join("nano/model"));
    installed.into_iter().chain(source).collect()
}

/// `~/…` is below the home folder.
pub(crate) fn expanded(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), crate::env_vars::home()) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use engine::LoadError;

    use super::*;

    #[test]
    fn a_refusal_ends_with_what_helps() {
        let path = || PathBuf::from("/m/config.json");
        let config = |reason: &str| LoadError::Config { path: path(), reason: reason.to_owned() };
        let weights = |reason: &str| LoadError::Weights { path: path(), reason: reason.to_owned() };
        let file = |reason: &str| LoadError::File { path: path(), reason: reason.to_owned() };
        for (error, remedy) in [
            (config("not JSON (EOF)"), "(EOF); copy or convert the model again"),
            (weights("tensor x holds NaN"), "NaN; copy or convert the model again"),
            (
                config("hidden_act \"gelu\" is not supported (silu is)"),
                "(silu is); use another model, or convert this one with mlx-lm",
            ),
            (
                config("\"awq\" is not supported; convert with mlx-lm"),
                "supported; convert with mlx-lm",
            ),
            (file("Permission denied (os error 13)"), "(os error 13); make it readable"),
            (file("not a regular file"), "*.safetensors and tokenizer.json"),
            (
                LoadError::Options("model.kv_bits = 8: no; set it to 0".to_owned()),
                "no; set it to 0",
            ),
        ] {
            let said = refused(Some(Path::new("/m")), &error);
            assert!(said.ends_with(remedy), "{said}");
        }
    }
}
