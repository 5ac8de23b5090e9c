//! A model by itself, without thread, line and scheduler: for comparisons with other implementations.

use std::path::Path;

use crate::{
    backend::{
        Backend, Feed, Rows,
        mlx::{self, Mlx},
    },
    cache::Cache,
    info::{LoadError, LoadOptions, LoadWatch, MountError},
    job::{EngineError, SoulId, TokenId},
};

/// One model and one sequence, on the thread that loaded it.
pub struct Bare {
    backend: Mlx,
    cache: Cache,
    /// What the sequence was fed.
    tokens: Vec<TokenId>,
    vocabulary: usize,
    soul: Option<SoulId>,
}

impl Bare {
    /// Loads the model directory `dir`.
    pub fn load(dir: &Path, options: LoadOptions) -> Result<Bare, LoadError> {
        Bare::load_watched(dir, options, LoadWatch::nobody())
    }

    /// The same, with somebody who is told how far it is and may stop it.
    pub fn load_watched(
        dir: &Path,
        options: LoadOptions,
        watch: LoadWatch,
    ) -> Result<Bare, LoadError> {
        let (mut backend, vocabulary) = mlx::bare(dir, options, watch)?;
        let cache = backend.fresh();
        Ok(Bare { backend, cache, tokens: Vec::new(), vocabulary, soul: None })
    }

    /// Number of logits of a position.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Computes with the LoRA adapter of a directory from now on. What was fed before stays as it is.
    pub fn wear(&mut self, dir: &Path) -> Result<(), MountError> {
        self.soul = Some(self.backend.mount(dir)?);
        Ok(())
    }

    /// Feeds `tokens` in one pass, or in as few as the model allows: the logits after each of them, `[tokens × vocabulary]`.
    pub fn feed(&mut self, tokens: &[TokenId]) -> Result<Vec<f32>, EngineError> {
        self.feed_for(tokens, Rows::All)
    }

    /// Feeds `tokens` likewise: the logits after the last of them alone, `[vocabulary]`.
    pub fn read(&mut self, tokens: &[TokenId]) -> Result<Vec<f32>, EngineError> {
        let mut rows = self.feed_for(tokens, Rows::Last)?;
        Ok(rows.split_off(rows.len().saturating_sub(self.vocabulary)))
    }

    fn feed_for(&mut self, tokens: &[TokenId], wanted: Rows) -> Result<Vec<f32>, EngineError> {
        if let Some(&token) = tokens.iter().find(|&&token| token as usize >= self.vocabulary) {
            let refusal = format!("there is no token {token}, only {}", self.vocabulary);
            return Err(EngineError::Refused(refusal));
        }
        let mut rows = Vec::new();
        let mut rest = tokens;
        while !rest.is_empty() {
            let len = rest.len().min(self.backend.chunk_len_max(self.soul, self.tokens.len()));
            rows.extend(self.pass(&rest[..len], wanted)?);
            self.tokens.extend(&rest[..len]);
            rest = &rest[len..];
        }
        Ok(rows)
    }

    /// Remembers this place, for layers that cannot be cut back anywhere.
    pub fn checkpoint(&mut self) {
        self.backend.checkpoint(&mut self.cache);
    }

    /// Goes back to the first `len` tokens; says how many of them had to be fed again.
    pub fn rewind(&mut self, len: usize) -> Result<usize, EngineError> {
        self.backend.truncate(&mut self.cache, len);
        self.tokens.truncate(len);
        let kept = self.backend.len(&self.cache);
        let again = self.tokens[kept..].to_vec();
        for chunk in again.chunks(self.backend.chunk_len_max(self.soul, kept)) {
            self.pass(chunk, Rows::None)?;
        }
        Ok(again.len())
    }

    fn pass(&mut self, tokens: &[TokenId], rows: Rows) -> Result<Vec<f32>, EngineError> {
        let mut feeds = [Feed { state: &mut self.cache, tokens, rows }];
        let logits = self.backend.forward(self.soul, &mut feeds, &mut || {})?;
        Ok(logits.into_iter().next().unwrap_or_default())
    }
}
