//! Every environment variable that Demolish reads, in one place.
//!
//! Nothing else in the crate calls `std::env::var`: a variable that is not here does not exist. The variables that
//! override a setting (`DEMOLISH_MODEL_PATH` for `model.path`, and so on) are derived from the table of settings and
//! read through [`setting`].
#![allow(clippy::disallowed_methods, reason = "this is the one file that may read the environment")]

use std::ffi::OsString;
use std::path::PathBuf;

/// One documented variable.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it does, for `docs/config.md` and `demolish config`.
    pub doc: &'static str,
}

macro_rules! variables {
    ($($(#[doc = $doc:literal])+ $name:ident;)+) => {
        $($(#[doc = $doc])+ pub const $name: &str = stringify!($name);)+

        /// All variables, for the documentation. Overrides of settings are not in it: they follow from the settings.
        pub const ALL: &[Variable] = &[$(Variable { name: stringify!($name), doc: concat!($($doc),+) }),+];
    };
}

variables! {
    /// Anything but empty or `0`: `demolish lsp -- SERVER` becomes SERVER at once, as if Demolish were not there.
    DEMOLISH_BYPASS;
    /// A PostgreSQL server for `demolish bench speculate`, as a connection string; its own catalogue is asked about, and nothing is run.
    DEMOLISH_BENCH_POSTGRES;
    /// The configuration file to read instead of `$XDG_CONFIG_HOME/demolish/demolish.toml`.
    DEMOLISH_CONFIG;
    /// What is logged, in the syntax of tracing's `EnvFilter` (`info`, `demolish=debug,wire=trace`); wins over `log.level`.
    DEMOLISH_LOG;
    /// The token that `demolish model pull` sends to the hub of `model.hub_url`, and to nobody else; it is never printed or logged.
    DEMOLISH_HUB_TOKEN;
    /// The model's directory; short for `DEMOLISH_MODEL_PATH`, and wins over it.
    DEMOLISH_MODEL;
    /// The daemon's socket, instead of the one in `$XDG_RUNTIME_DIR/demolish`.
    DEMOLISH_SOCKET;
    /// Anything but empty or `0`: tests that need real servers, Neovim or the real model run too.
    DEMOLISH_SLOW;
    /// Where the user's configuration lives; `$HOME/.config` when it is not set.
    XDG_CONFIG_HOME;
    /// Where the daemon's log lives (`demolish/daemon.log`); `$HOME/.local/state` when it is not set.
    XDG_STATE_HOME;
    /// Where pulled models live (`demolish/models`); `$HOME/.local/share` when it is not set.
    XDG_DATA_HOME;
    /// Where other programs keep the models that they took from a hub (`hub`); `$HOME/.cache/huggingface` when it is not set.
    HF_HOME;
    /// The same without the `hub`; wins over `HF_HOME`.
    HF_HUB_CACHE;
    /// Where the daemon's socket lives; a private folder below the temporary folder when it is not set.
    XDG_RUNTIME_DIR;
    /// The home folder.
    HOME;
    /// Where cargo keeps the sources of crates, which `demolish bench engine` reads; `$HOME/.cargo` when it is not set.
    CARGO_HOME;
    /// The user's name, which is taken out of what is shown to others.
    USER;
    /// Where programs are looked for.
    PATH;
}

/// The variable's value, if it is set and not empty.
fn read(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn path(name: &str) -> Option<PathBuf> {
    read(name).map(PathBuf::from)
}

fn flag(name: &str) -> bool {
    read(name).is_some_and(|value| value != "0")
}

/// Is `DEMOLISH_BYPASS` set?
#[must_use]
pub fn bypass() -> bool {
    flag(DEMOLISH_BYPASS)
}

/// Where cargo keeps the sources of crates.
#[must_use]
pub fn cargo_home() -> Option<PathBuf> {
    path(CARGO_HOME).or_else(|| Some(path(HOME)?.join(".cargo")))
}

/// Is `DEMOLISH_SLOW` set?
#[must_use]
pub fn slow_tests() -> bool {
    flag(DEMOLISH_SLOW)
}

/// `DEMOLISH_LOG`.
#[must_use]
pub fn log_filter() -> Option<String> {
    read(DEMOLISH_LOG).and_then(|value| value.into_string().ok())
}

/// `DEMOLISH_SOCKET`.
#[must_use]
pub fn socket() -> Option<PathBuf> {
    path(DEMOLISH_SOCKET)
}

/// Where the daemon listens: `DEMOLISH_SOCKET`, else below `XDG_RUNTIME_DIR` or the temporary folder.
#[must_use]
pub fn socket_path() -> PathBuf {
    socket().unwrap_or_else(|| wire::socket::default_path(runtime_dir().as_deref()))
}

/// `XDG_RUNTIME_DIR`.
#[must_use]
pub fn runtime_dir() -> Option<PathBuf> {
    path(XDG_RUNTIME_DIR).filter(|dir| dir.is_absolute())
}

/// Why `XDG_RUNTIME_DIR` is set and cannot be used, if that is so: the socket is then elsewhere than where others look.
#[must_use]
pub fn runtime_dir_trouble() -> Option<String> {
    let dir = path(XDG_RUNTIME_DIR).filter(|_| socket().is_none())?;
    let why = if !dir.is_absolute() {
        "is not an absolute path"
    } else if !dir.exists() {
        "does not exist"
    } else if !dir.is_dir() {
        "is not a folder"
    } else {
        return None;
    };
    let used = socket_path();
    Some(format!(
        "XDG_RUNTIME_DIR is {}, which {why}; {} is used instead",
        dir.display(),
        used.display()
    ))
}

/// Variables of ours that do not exist, so that setting them has no effect.
#[must_use]
pub fn unknown() -> Vec<String> {
    let settings = crate::config::settings();
    let known = |name: &str| {
        ALL.iter().any(|variable| variable.name == name)
            || settings.iter().any(|setting| setting_name(&setting.key) == name)
    };
    let ours = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    ours.filter(|name| name.starts_with("DEMOLISH_") && !known(name)).collect()
}

/// The file with the user's settings, whether it exists or not: `DEMOLISH_CONFIG`, else below `XDG_CONFIG_HOME`.
#[must_use]
pub fn config_file() -> Option<PathBuf> {
    path(DEMOLISH_CONFIG).or_else(|| {
        let base = path(XDG_CONFIG_HOME)
            .filter(|dir| dir.is_absolute())
            .or_else(|| path(HOME).map(|home| home.join(".config")))?;
        Some(base.join("demolish").join("demolish.toml"))
    })
}

/// Whether the user named that file himself, so that its absence is an error.
#[must_use]
pub fn config_file_is_named() -> bool {
    path(DEMOLISH_CONFIG).is_some()
}

/// The folder of the daemon's logs: `demolish` below `XDG_STATE_HOME`; below the temporary folder without a home.
#[must_use]
pub fn state_dir() -> PathBuf {
    path(XDG_STATE_HOME)
        .filter(|dir| dir.is_absolute())
        .or_else(|| path(HOME).map(|home| home.join(".local").join("state")))
        .unwrap_or_else(std::env::temp_dir)
        .join("demolish")
}

/// Where pulled models live: `demolish/models` below `XDG_DATA_HOME`.
#[must_use]
pub fn models_dir() -> Option<PathBuf> {
    let data = path(XDG_DATA_HOME).filter(|dir| dir.is_absolute());
    let data = data.or_else(|| Some(path(HOME)?.join(".local").join("share")))?;
    Some(data.join("demolish").join("models"))
}

/// Where other programs keep the models that they took from a hub.
#[must_use]
pub fn hub_cache() -> Option<PathBuf> {
    let home = || path(HF_HOME).or_else(|| Some(path(HOME)?.join(".cache").join("huggingface")));
    path(HF_HUB_CACHE).or_else(|| Some(home()?.join("hub")))
}

/// The token for the hub.
#[must_use]
pub fn hub_token() -> Option<String> {
    read(DEMOLISH_HUB_TOKEN).and_then(|value| value.into_string().ok())
}

/// The PostgreSQL server to measure with.
#[must_use]
pub fn bench_postgres() -> Option<String> {
    read(DEMOLISH_BENCH_POSTGRES).and_then(|value| value.into_string().ok())
}

/// The home folder.
#[must_use]
pub fn home() -> Option<PathBuf> {
    path(HOME)
}

/// The user's name.
#[must_use]
pub fn user() -> Option<String> {
    read(USER).and_then(|value| value.into_string().ok())
}

/// The folders of `PATH`.
#[must_use]
pub fn search_path() -> Vec<PathBuf> {
    read(PATH).map_or_else(Vec::new, |value| std::env::split_paths(&value).collect())
}

/// The whole environment, to hand on to a child.
#[must_use]
pub fn everything() -> std::collections::BTreeMap<OsString, OsString> {
    std::env::vars_os().collect()
}

/// The name of the variable that overrides the setting `key`: `model.path` → `DEMOLISH_MODEL_PATH`.
#[must_use]
pub fn setting_name(key: &str) -> String {
    format!("DEMOLISH_{}", key.replace('.', "_").to_uppercase())
}

/// The value of a variable that a setting names.
#[must_use]
pub fn named(name: &str) -> Option<String> {
    read(name)?.into_string().ok()
}

/// The override of the setting `key`, with the name of the variable that holds it.
#[must_use]
pub fn setting(key: &str) -> Option<(String, String)> {
    let short = (key == "model.path").then(|| DEMOLISH_MODEL.to_owned());
    short
        .into_iter()
        .chain([setting_name(key)])
        .find_map(|name| Some((read(&name)?.into_string().ok()?, name)))
        .map(|(value, name)| (name, value))
}

/// The whole environment, for a language server that is started elsewhere; variables that are not UTF-8 are left out.
#[must_use]
pub fn whole() -> std::collections::BTreeMap<String, String> {
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}
