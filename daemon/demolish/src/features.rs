//! What Demolish itself offers to editors and to the command line: completion in place, and the fix of a diagnostic.
//!
//! The rooms are [`inline_completion::complete`] and [`fix::fix`]; every door opens on one of them: requests of an editor
//! come through [`Own`] (tower-lsp's service, called in process and never given a transport), verbs of the command line
//! call them directly or through the daemon. Without a model or a language server each of them says what it lacks; nothing
//! here can stop a message of the proxy.

pub mod answer;
mod backend;
mod code_action;
mod command;
mod definitions;
mod diff;
mod door;
pub mod facts;
pub mod fix;
pub mod inline_completion;
mod own;
mod progress;
mod selected;
#[cfg(test)]
mod tests;
pub mod verb;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use decode::Around;
use lang::Language;

use crate::config::Config;
use crate::model::Models;
use crate::twin::{Critic, Environment, Open, Subject, Twins, UserServer};
use crate::workspace::{Root, Workspaces};

pub use definitions::Definitions;
pub(crate) use inline_completion::TOKEN_BYTES;
pub use own::{Own, Send};

/// What all clients of one process share. Cloning is cheap.
#[derive(Clone)]
pub struct Shared {
    /// The models.
    pub models: Models,
    /// The twins.
    pub twins: Twins,
    /// What completions look their drafts up in.
    pub around: Arc<Around>,
    /// What their workspaces say.
    pub workspaces: Workspaces,
    /// Where names near their cursors are defined.
    pub definitions: Arc<Definitions>,
}

impl Shared {
    /// What the settings ask for; nothing is loaded or started yet.
    #[must_use]
    pub fn new(config: &Config) -> Shared {
        Shared {
            models: Models::new(&config.model),
            twins: Twins::default(),
            around: Arc::default(),
            workspaces: Workspaces::new(config),
            definitions: Arc::default(),
        }
    }
}

/// What one client sees at one moment: the loop's snapshot in the words of this module. Cloning is cheap.
#[derive(Clone, Default)]
pub struct Scene {
    /// What the client has open.
    pub documents: Arc<[Open]>,
    /// The servers that its editor runs through us.
    pub users: Arc<[UserServer]>,
    /// Its environment; `None` is ours.
    pub env: Option<Arc<Environment>>,
    /// The folder that its editor has open.
    pub root: Option<Arc<Path>>,
    /// The daemon's status as JSON, for those who ask.
    pub status: serde_json::Value,
}

impl Scene {
    /// The open document with this address.
    #[must_use]
    pub fn document(&self, uri: &str) -> Option<&Open> {
        self.documents.iter().find(|open| open.uri == uri)
    }
}

/// A document that something is asked about.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its address as the client spells it.
    pub uri: String,
    /// Its file.
    pub path: PathBuf,
    /// Its path as the prompt shows it.
    pub shown: PathBuf,
    /// Its language.
    pub language: Option<&'static Language>,
    /// Its text.
    pub text: Arc<str>,
}

impl Target {
    /// The target that an open document is.
    #[must_use]
    pub fn open(open: &Open) -> Target {
        let path =
            crate::twin::plan::path_of(&open.uri).unwrap_or_else(|| PathBuf::from(&open.uri));
        let text: Arc<str> = open.document.text().into();
        let language = lang::by_id(&open.language_id);
        Target::new(open.uri.clone(), path, language, text)
    }

    /// A target; its language is looked for in its name and its first line if it is not known.
    #[must_use]
    pub fn new(
        uri: String,
        path: PathBuf,
        language: Option<&'static Language>,
        text: Arc<str>,
    ) -> Target {
        let language =
            language.or_else(|| lang::detect(&path)).or_else(|| lang::detect_shebang(&text));
        let root = language.map(|language| crate::twin::plan::root_of(&path, language));
        let shown = root.and_then(|root| path.strip_prefix(root).ok().map(Path::to_owned));
        let shown =
            shown.unwrap_or_else(|| path.file_name().map_or_else(|| path.clone(), PathBuf::from));
        Target { uri, path, shown, language, text }
    }

    /// Its workspace, if that is to be read: it is told what is open, and is read in the background.
    #[must_use]
    pub fn workspace(&self, shared: &Shared, scene: &Scene, config: &Config) -> Option<Arc<Root>> {
        if !config.workspace.index {
            return None;
        }
        let root = shared.workspaces.of(&self.path, self.language, scene.root.as_deref())?;
        shared.workspaces.follow(&scene.documents, scene.root.as_deref());
        Some(root)
    }

    /// Who judges changes of it.
    #[must_use]
    pub fn critic(&self, shared: &Shared, scene: &Scene, config: &Config) -> Critic {
        let subject = Subject {
            path: &self.path,
            uri: &self.uri,
            language: self.language,
            others: &scene.documents,
            users: &scene.users,
            env: scene.env.as_deref(),
        };
        shared.twins.critic(subject, config)
    }
}
