//! The tokens of a workspace: somebody feeds it with the text of files, completions look into it.
//!
//! Tokens are those of one model; another model begins anew. Text is turned into tokens, and waste swept out, while readers go on; they
//! wait only while the tokens of one file are put in their place, which takes a millisecond or less.

use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, Weak};

use engine::Tokenizer;
use recall::cache::{Cache, FILE_TOKENS_MAX, Limits, Size};

use crate::prompt::floor_boundary;

/// Bytes of one file that are read; what comes behind them is left out.
const FILE_BYTES_MAX: usize = FILE_TOKENS_MAX * 6;

/// The tokens of one workspace. Cloning the `Arc` shares it.
pub struct Workspace {
    limits: Limits,
    kept: RwLock<Kept>,
    /// One feeds at a time.
    feeding: Mutex<()>,
}

pub(crate) struct Kept {
    /// Whose tokens they are.
    tokenizer: Weak<Tokenizer>,
    pub(crate) cache: Cache,
}

impl std::fmt::Debug for Workspace {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Workspace").field("size", &self.size()).finish_non_exhaustive()
    }
}

impl Default for Workspace {
    fn default() -> Workspace {
        Workspace::new(Limits::default())
    }
}

impl Workspace {
    /// An empty one.
    pub fn new(limits: Limits) -> Workspace {
        let kept = Kept { tokenizer: Weak::new(), cache: Cache::new(limits) };
        Workspace { limits, kept: RwLock::new(kept), feeding: Mutex::new(()) }
    }

    /// Whether what it holds are tokens of this model. Where they are not, what is fed next begins anew, and all files are to be fed
    /// again.
    pub fn is_of(&self, tokenizer: &Arc<Tokenizer>) -> bool {
        std::ptr::eq(self.read().tokenizer.as_ptr(), Arc::as_ptr(tokenizer))
    }

    /// Has `text` stand for the file at `path` from now on. The files that came first make room.
    pub fn insert(&self, tokenizer: &Arc<Tokenizer>, path: &str, text: &str) {
        self.feed(tokenizer, text, |cache, tokens| {
            cache.insert(path, tokens);
            true
        });
    }

    /// The same where no other file has to go for it; `false`: one would have.
    pub fn offer(&self, tokenizer: &Arc<Tokenizer>, path: &str, text: &str) -> bool {
        self.feed(tokenizer, text, |cache, tokens| cache.offer(path, tokens))
    }

    /// Forgets the file at `path`.
    pub fn remove(&self, path: &str) {
        let _feeding = self.feeding.lock().unwrap_or_else(PoisonError::into_inner);
        self.change(|kept| kept.cache.remove(path));
    }

    /// Whether it has tokens of the file at `path`.
    pub fn contains(&self, path: &str) -> bool {
        self.read().cache.contains(path)
    }

    /// How large it is.
    pub fn size(&self) -> Size {
        self.read().cache.size()
    }

    fn feed(
        &self,
        tokenizer: &Arc<Tokenizer>,
        text: &str,
        put: impl FnOnce(&mut Cache, &[u32]) -> bool,
    ) -> bool {
        let _feeding = self.feeding.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_of(tokenizer) {
            let (tokenizer, cache) = (Arc::downgrade(tokenizer), Cache::new(self.limits));
            self.change(|kept| *kept = Kept { tokenizer, cache });
        }
        let text = &text[..floor_boundary(text, FILE_BYTES_MAX)];
        // As prompts have it.
        let tokens = tokenizer.encode(&text.replace("\r\n", "\n"));
        let is_in = self.change(|kept| put(&mut kept.cache, &tokens));
        let swept = {
            let kept = self.read();
            kept.cache.wants_sweeping().then(|| kept.cache.swept())
        };
        if let Some(swept) = swept {
            // Nobody else has changed it meanwhile.
            self.change(|kept| kept.cache = swept);
        }
        is_in
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Kept> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it holds, if that are tokens of this model.
    pub(crate) fn of(&self, tokenizer: &Arc<Tokenizer>) -> Option<RwLockReadGuard<'_, Kept>> {
        let kept = self.read();
        std::ptr::eq(kept.tokenizer.as_ptr(), Arc::as_ptr(tokenizer)).then_some(kept)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Kept) -> T) -> T {
        change(&mut self.kept.write().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use engine::{Engine, Script};

    use super::*;

    fn next(workspace: &Workspace, engine: &Engine, before: &str) -> Option<u32> {
        let context = engine.tokenizer().encode(before);
        workspace.of(&engine.words())?.cache.next("none", &context).top().map(|(token, _)| token)
    }

    #[test]
    fn files_are_tokens_of_the_model_with_plain_line_ends() {
        let engine = Engine::scripted(Script::new());
        let workspace = Workspace::default();
        workspace.insert(&engine.words(), "a.py", "alpha = 1\r\nbeta = 2\r\n");
        assert_eq!(next(&workspace, &engine, "x = 1\nb"), Some(u32::from(b'e')));
        assert_eq!(workspace.size().tokens, "alpha = 1\nbeta = 2\n".len());
        workspace.remove("a.py");
        assert_eq!(next(&workspace, &engine, "x = 1\nb"), None);
    }

    #[test]
    fn another_model_begins_anew() {
        let (one, other) = (Engine::scripted(Script::new()), Engine::scripted(Script::new()));
        let workspace = Workspace::default();
        workspace.insert(&one.words(), "a.py", "alpha");
        assert!(workspace.is_of(&one.words()) && !workspace.is_of(&other.words()));
        assert_eq!(next(&workspace, &other, "al"), None, "other tokens mean nothing to it");
        workspace.insert(&other.words(), "b.py", "beta");
        assert_eq!(workspace.size().files, 1);
        assert_eq!(next(&workspace, &other, "al"), None);
        assert_eq!(next(&workspace, &other, "be"), Some(u32::from(b't')));
        assert_eq!(next(&workspace, &one, "be"), None);
    }

    #[test]
    fn waste_is_swept_and_limits_are_kept() {
        let engine = Engine::scripted(Script::new());
        let workspace = Workspace::new(Limits { tokens_max: 1 << 16, files_max: 100 });
        let text = "value = compute(other)\n".repeat(500);
        for _ in 0..20 {
            workspace.insert(&engine.words(), "a.py", &text);
            let size = workspace.size();
            assert!(size.files == 1 && size.waste <= text.len(), "{size:?}");
        }
        assert!(workspace.offer(&engine.words(), "b.py", &text));
        let is_in = |index: usize| workspace.offer(&engine.words(), &index.to_string(), &text);
        assert_eq!((0..9).filter(|index| is_in(*index)).count(), 1, "what is there stays");
        workspace.insert(&engine.words(), "c.py", &text);
        let size = workspace.size();
        assert!(size.files == 3 && size.tokens + size.waste <= 1 << 16, "{size:?}");
        let long = "x".repeat(FILE_BYTES_MAX + 100_000);
        Workspace::default().insert(&engine.words(), "long", &long);
    }
}
