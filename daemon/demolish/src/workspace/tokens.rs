//! The tokens of the workspaces, for the model that completes: each text goes to the cache of its workspace, as the model's tokens.
//!
//! A workspace is fed from the first completion in it on. Another model, or too many workspaces, and what was fed is gone; the next
//! completion begins anew.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use engine::Tokenizer;
use recall::cache::{FILES_MAX, Limits, Size, TOKENS_MAX};

use super::{Sink, lock};

/// Workspaces whose tokens are remembered at once; together they have [`TOKENS_MAX`].
pub(super) const FED_MAX: usize = 2;

/// The tokens of all workspaces. Cloning is cheap.
#[derive(Debug, Clone, Default)]
pub(super) struct Tokens(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    /// Whose tokens they are.
    tokenizer: Weak<Tokenizer>,
    /// The most recently asked for last.
    fed: Vec<Fed>,
}

#[derive(Debug)]
struct Fed {
    root: PathBuf,
    workspace: Arc<decode::Workspace>,
    /// Whoever feeds it holds this: the thread may have gone with all that was attached to it.
    feeder: Weak<()>,
}

impl Tokens {
    /// The tokens of the workspace at `root`. Where it is not fed yet, `attach` is to see to it that every text comes to a sink; if it
    /// cannot, it is asked the next time.
    pub(super) fn of(
        &self,
        root: &Path,
        tokenizer: &Arc<Tokenizer>,
        attach: impl FnOnce(Box<dyn Sink>) -> bool,
    ) -> Arc<decode::Workspace> {
        let mut kept = lock(&self.0);
        if !std::ptr::eq(kept.tokenizer.as_ptr(), Arc::as_ptr(tokenizer)) {
            *kept = Kept { tokenizer: Arc::downgrade(tokenizer), fed: Vec::new() };
        }
        kept.fed.retain(|fed| fed.feeder.strong_count() > 0);
        let known = kept.fed.iter().position(|fed| fed.root == root);
        if let Some(known) = known {
            let found = kept.fed.remove(known);
            let workspace = found.workspace.clone();
            kept.fed.push(found);
            return workspace;
        }
        let limits = Limits { tokens_max: TOKENS_MAX / FED_MAX, files_max: FILES_MAX };
        let workspace = Arc::new(decode::Workspace::new(limits));
        let alive = Arc::new(());
        let feeder = Arc::downgrade(&alive);
        let feed = Feed {
            tokens: self.clone(),
            tokenizer: Arc::downgrade(tokenizer),
            root: root.to_owned(),
            workspace: Arc::downgrade(&workspace),
            _alive: alive,
        };
        if attach(Box::new(feed)) {
            kept.fed.push(Fed { root: root.to_owned(), workspace: workspace.clone(), feeder });
            if kept.fed.len() > FED_MAX {
                kept.fed.remove(0);
            }
        }
        workspace
    }

    /// How much is known of the workspace at `root`, if it is fed.
    pub(super) fn size(&self, root: &Path) -> Option<Size> {
        let kept = lock(&self.0);
        kept.fed.iter().find(|fed| fed.root == root).map(|fed| fed.workspace.size())
    }
}

/// The name of a file in its workspace's cache.
pub(super) fn key(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Feeds one workspace, for as long as anybody wants its tokens.
struct Feed {
    tokens: Tokens,
    tokenizer: Weak<Tokenizer>,
    root: PathBuf,
    workspace: Weak<decode::Workspace>,
    /// Goes with it.
    _alive: Arc<()>,
}

impl Sink for Feed {
    fn insert(&mut self, root: &Path, path: &Path, text: &str) -> bool {
        let (Some(tokenizer), Some(workspace)) =
            (self.tokenizer.upgrade(), self.workspace.upgrade())
        else {
            return false;
        };
        if root == self.root {
            let key = key(path);
            // What is there is not to go for a walk's next file: the walk begins where somebody works.
            if workspace.contains(&key) {
                workspace.insert(&tokenizer, &key, text);
            } else {
                workspace.offer(&tokenizer, &key, text);
            }
        }
        true
    }

    fn remove(&mut self, root: &Path, path: &Path) {
        if let Some(workspace) = self.workspace.upgrade().filter(|_| root == self.root) {
            workspace.remove(&key(path));
        }
    }

    fn forget(&mut self, root: &Path) {
        if root == self.root {
            lock(&self.tokens.0).fed.retain(|fed| fed.root != root);
        }
    }
}

#[cfg(test)]
mod tests {
    use engine::{Engine, Script};

    use super::*;

    /// The workspace's tokens, and the sink that was attached for it.
    fn asked(
        tokens: &Tokens,
        root: &str,
        engine: &Engine,
    ) -> (Arc<decode::Workspace>, Option<Box<dyn Sink>>) {
        let mut attached = None;
        let workspace = tokens.of(Path::new(root), &engine.words(), |sink| {
            attached = Some(sink);
            true
        });
        (workspace, attached)
    }

    fn files(tokens: &Tokens, root: &str) -> Option<usize> {
        tokens.size(Path::new(root)).map(|size| size.files)
    }

    #[test]
    fn a_workspace_is_fed_once_and_with_its_own_files() {
        let engine = Engine::scripted(Script::new());
        let tokens = Tokens::default();
        let (workspace, sink) = asked(&tokens, "/one", &engine);
        let mut sink = sink.unwrap();
        let (root, other) = (Path::new("/one"), Path::new("/other"));
        assert!(sink.insert(root, Path::new("a.py"), "alpha") && workspace.size().tokens == 5);
        assert!(sink.insert(root, Path::new("a.py"), "al") && workspace.size().tokens == 2);
        assert!(sink.insert(other, Path::new("b.py"), "beta"));
        sink.remove(other, Path::new("a.py"));
        assert_eq!(files(&tokens, "/one"), Some(1));
        let (again, none) = asked(&tokens, "/one", &engine);
        assert!(Arc::ptr_eq(&workspace, &again) && none.is_none());
        sink.remove(root, Path::new("a.py"));
        assert_eq!(files(&tokens, "/one"), Some(0));
        sink.forget(other);
        assert_eq!(files(&tokens, "/one"), Some(0));
        sink.forget(root);
        assert_eq!(files(&tokens, "/one"), None);
        assert!(asked(&tokens, "/one", &engine).1.is_some(), "it is fed anew");
    }

    #[test]
    fn what_nobody_wants_any_more_is_not_fed() {
        let (one, other) = (Engine::scripted(Script::new()), Engine::scripted(Script::new()));
        let tokens = Tokens::default();
        let mut first = asked(&tokens, "/one", &one).1.unwrap();
        assert!(first.insert(Path::new("/one"), Path::new("a.py"), "alpha"));
        let mut second = asked(&tokens, "/one", &other).1.unwrap();
        assert!(!first.insert(Path::new("/one"), Path::new("a.py"), "alpha"), "another model");
        assert_eq!(files(&tokens, "/one"), Some(0));
        let more = (0..FED_MAX).map(|root| asked(&tokens, &format!("/more{root}"), &other).1);
        let more: Vec<Box<dyn Sink>> = more.map(Option::unwrap).collect();
        assert!(!second.insert(Path::new("/one"), Path::new("a.py"), "alpha"), "too many");
        assert_eq!(files(&tokens, "/one"), None);
        drop(more);
    }

    #[test]
    fn a_workspace_whose_feed_has_gone_is_fed_anew() {
        let engine = Engine::scripted(Script::new());
        let tokens = Tokens::default();
        let (before, sink) = asked(&tokens, "/one", &engine);
        drop(sink);
        let (after, sink) = asked(&tokens, "/one", &engine);
        assert!(sink.is_some() && !Arc::ptr_eq(&before, &after));
    }

    #[test]
    fn a_sink_that_could_not_be_attached_is_asked_for_again() {
        let engine = Engine::scripted(Script::new());
        let tokens = Tokens::default();
        tokens.of(Path::new("/one"), &engine.words(), |_| false);
        assert_eq!(files(&tokens, "/one"), None);
        assert!(asked(&tokens, "/one", &engine).1.is_some());
    }
}
