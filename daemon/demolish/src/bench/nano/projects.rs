//! The packages as workspaces: what a user who has one open would have beside the file that is written.

use std::collections::HashMap;
use std::sync::Arc;

use decode::{Around, Mixing, Workspace};
use engine::{Engine, TokenId};

use super::corpus::{File, Held};

/// The workspaces of all packages, with the tokens of one model.
pub(super) struct Projects {
    by_package: HashMap<String, Arc<Workspace>>,
    around: Arc<Around>,
}

impl Projects {
    /// Of these packages; the file that is asked about is left out by the mixture itself, so a workspace holds all of them.
    pub(super) fn of<'h>(
        engine: &Engine,
        all: &[Held],
        files: impl Iterator<Item = &'h File>,
    ) -> Projects {
        let tokenizer = engine.words();
        let mut by_package: HashMap<String, Arc<Workspace>> = HashMap::new();
        for package in files.map(|file| &file.package) {
            if by_package.contains_key(package) {
                continue;
            }
            let workspace = Workspace::default();
            let files = all.iter().flat_map(|held| &held.files);
            for file in files.filter(|file| file.package == *package) {
                workspace.insert(&tokenizer, &file.path, &file.text);
            }
            by_package.insert(package.clone(), Arc::new(workspace));
        }
        Projects { by_package, around: Arc::default() }
    }

    /// What a completion in this file is told of its workspace.
    pub(super) fn mixing(&self, file: &File) -> Mixing {
        let workspace = self.by_package.get(&file.package).cloned();
        Mixing { workspace, key: file.path.as_str().into() }
    }

    /// The tokens of what lies around a place, all of them read: as they are when somebody has typed there for a while.
    pub(super) fn around(&self, engine: &Engine, text: &str, offset: usize) -> Vec<Arc<[TokenId]>> {
        let tokenizer = engine.words();
        if let (_, Some(unread)) = self.around.of(&tokenizer, text, offset) {
            unread.read(&tokenizer);
        }
        self.around.of(&tokenizer, text, offset).0
    }
}
