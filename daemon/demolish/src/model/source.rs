//! Where a model comes from: a directory of this machine, or a server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::{Engine, Key, LoadOptions, LoadWatch, RemoteOptions, RemoteWords};

use super::place::expanded;
use super::{Role, find_for, load_watched};
use crate::{config, env_vars};

/// How long a server may go on saying that it is loading, when it is wanted.
const LOADING_PATIENCE: Duration = Duration::from_secs(60);
/// A file larger than this holds no key.
const KEY_BYTES_MAX: u64 = 16 << 10;

/// Where a model comes from.
#[derive(Clone)]
pub enum Source {
    /// A directory in MLX format.
    Directory(PathBuf),
    /// A server that runs it.
    Server(Box<RemoteOptions>),
}

impl Source {
    /// What the settings name for a role.
    ///
    /// # Errors
    /// There is none: one sentence with the remedy.
    pub fn find(settings: &config::Model, role: Role) -> Result<Source, String> {
        let is_remote = role == Role::Agent || settings.remote_typing;
        match settings.remote_url.as_deref().filter(|_| is_remote && settings.enabled) {
            Some(url) => server(settings, url).map(|options| Source::Server(Box::new(options))),
            None => find_for(settings, role).map(Source::Directory),
        }
    }

    /// The directory, or the address.
    #[must_use]
    pub fn place(&self) -> PathBuf {
        match self {
            Source::Directory(dir) => dir.clone(),
            Source::Server(options) => PathBuf::from(options.address()),
        }
    }

    /// Loads the model, or finds out what the server can do. Blocks.
    ///
    /// # Errors
    /// One sentence with the place, the reason and the remedy.
    pub fn load(&self, options: LoadOptions, watch: LoadWatch) -> Result<Engine, String> {
        match self {
            Source::Directory(dir) => load_watched(dir, options, watch),
            Source::Server(remote) => Engine::remote((**remote).clone(), options.context_max)
                .map_err(|error| error.to_string()),
        }
    }
}

/// How the settings want a server to be asked.
///
/// # Errors
/// The key is not where it should be: one sentence with the remedy.
pub(crate) fn server(settings: &config::Model, url: &str) -> Result<RemoteOptions, String> {
    let words = settings.remote_tokenizer.as_deref();
    let words = words.map_or(RemoteWords::Auto, |path| RemoteWords::File(expanded(path)));
    Ok(RemoteOptions {
        model: settings.remote_model.clone(),
        words,
        key: key(settings)?,
        loading: LOADING_PATIENCE,
        ..RemoteOptions::at(url)
    })
}

fn key(settings: &config::Model) -> Result<Option<Key>, String> {
    let text = match (&settings.remote_key_env, &settings.remote_key_file) {
        (Some(name), _) => env_vars::named(name).ok_or_else(|| {
            format!("there is no variable {name}, which `model.remote_key_env` names; set it where the daemon is started")
        })?,
        (None, Some(path)) => key_file(&expanded(path))?,
        (None, None) => return Ok(None),
    };
    let wrong =
        "the key of the remote engine is empty, or has blanks or other signs in it that no key has";
    Key::new(&text).map(Some).ok_or_else(|| wrong.to_owned())
}

fn key_file(path: &Path) -> Result<String, String> {
    let wrong =
        |reason: String| format!("{}: {reason}; `model.remote_key_file` names it", path.display());
    let facts = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
    if !facts.is_file() || facts.len() > KEY_BYTES_MAX {
        return Err(wrong("no file with a key".to_owned()));
    }
    std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))
}
