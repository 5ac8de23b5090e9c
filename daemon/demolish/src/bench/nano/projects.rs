//! The packages as workspaces: what a user who has one open would have beside the file that is written.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use decode::prompt::Layout;
use decode::{Around, CompleteRequest, Mixing, Snippet, Workspace};
use engine::{Engine, TokenId};
use recall::index::{Chunk, Index, Limits, Query};

use super::corpus::{File, Held};
use crate::features::TOKEN_BYTES;
use crate::workspace::symbols;

/// The workspaces of all packages, with the tokens of one model.
pub(in crate::bench) struct Projects {
    by_package: HashMap<String, Project>,
    around: Arc<Around>,
}

/// A package, all of whose files were read.
struct Project {
    tokens: Arc<Workspace>,
    index: Mutex<Index>,
}

impl Projects {
    /// Of these packages. What is asked about is left out where it is asked: by the mixture, which passes over the file's own tokens, and by
    /// the index, which has the text with the hole in the file's place.
    pub(in crate::bench) fn of<'h>(
        engine: &Engine,
        all: &[Held],
        files: impl Iterator<Item = &'h File>,
    ) -> Projects {
        let mut by_package: HashMap<String, Project> = HashMap::new();
        for package in files.map(|file| &file.package) {
            if by_package.contains_key(package) {
                continue;
            }
            let files = all.iter().flat_map(|held| &held.files);
            let own = files.filter(|file| file.package == *package);
            by_package.insert(package.clone(), Project::of(engine, own));
        }
        Projects { by_package, around: Arc::default() }
    }

    /// The wish of somebody who types at the byte `offset` of `text`, which is what stands in the place of `file`: with all that an editor's
    /// wish brings, but for what a language server knows.
    pub(in crate::bench) fn request(
        &self,
        engine: &Engine,
        file: &File,
        text: Arc<str>,
        offset: usize,
    ) -> CompleteRequest {
        let mut request = CompleteRequest::typing(file.path.as_str().into(), text, offset);
        request.context = self.context(engine, file, &request.text, offset);
        request.lookup = self.around(engine, &request.text, offset);
        request.mixing = Some(self.mixing(file));
        request
    }

    fn mixing(&self, file: &File) -> Mixing {
        let workspace = self.by_package.get(&file.package).map(|project| project.tokens.clone());
        Mixing { workspace, key: file.path.as_str().into() }
    }

    /// The tokens of what lies around a place, all of them read: as they are when somebody has typed there for a while.
    fn around(&self, engine: &Engine, text: &str, offset: usize) -> Vec<Arc<[TokenId]>> {
        let tokenizer = engine.words();
        if let (_, Some(unread)) = self.around.of(&tokenizer, text, offset) {
            unread.read(&tokenizer);
        }
        self.around.of(&tokenizer, text, offset).0
    }

    /// The chunks of the package that stand before the prompt, where the model has room for them.
    fn context(&self, engine: &Engine, file: &File, text: &str, offset: usize) -> Vec<Snippet> {
        let layout = Layout::of(engine).filter(|layout| layout.context_max > 0);
        let (Some(layout), Some(project)) = (layout, self.by_package.get(&file.package)) else {
            return Vec::new();
        };
        let path = Path::new(&file.path);
        let (prefix, suffix) = text.split_at(offset);
        let query = Query {
            path,
            prefix,
            suffix,
            shown: (layout.prefix_max * TOKEN_BYTES, layout.suffix_max * TOKEN_BYTES),
            opened: &[path.to_owned()],
            definitions: &[],
            kept: &[],
            budget: layout.context_max * TOKEN_BYTES,
        };
        let mut index = project.index.lock().unwrap_or_else(PoisonError::into_inner);
        index.insert(path, text, &symbols(path, text));
        let chunks = index.query(&query);
        index.insert(path, &file.text, &symbols(path, &file.text));
        let snippet = |chunk: Chunk| Snippet { path: chunk.path, text: chunk.text.into() };
        chunks.into_iter().map(snippet).collect()
    }
}

impl Project {
    fn of<'h>(engine: &Engine, files: impl Iterator<Item = &'h File>) -> Project {
        let tokenizer = engine.words();
        let (tokens, mut index) = (Workspace::default(), Index::new(Limits::default()));
        for file in files {
            tokens.insert(&tokenizer, &file.path, &file.text);
            let path = Path::new(&file.path);
            index.insert(path, &file.text, &symbols(path, &file.text));
        }
        Project { tokens: Arc::new(tokens), index: Mutex::new(index) }
    }
}
