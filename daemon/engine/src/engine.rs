//! The handle that callers hold.

use std::{path::Path, sync::Arc};

use crate::{
    backend::scripted::{self, Script},
    info::{LoadError, LoadOptions, LoadProgress, LoadWatch, ModelInfo, MountError},
    job::{Class, EngineError, Job, SoulId, SubmitError, TokenId},
    line::{Ask, Line, Request},
    memory::Survey,
    question::Scored,
    remote::{self, RemoteOptions},
    sequence::Sequence,
    spill::{self, Files, Spill},
    stats::Stats,
    tokenizer::Tokenizer,
};

/// A loaded model. Cloning is cheap; the model is unloaded when the last clone and the last [`Sequence`] are gone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) line: Line,
    info: ModelInfo,
    tokenizer: Arc<Tokenizer>,
}

impl Engine {
    /// Loads the model directory `dir` (MLX format: config.json, *.safetensors, tokenizer.json) and starts its thread.
    /// Blocks while the weights are read.
    #[cfg(feature = "mlx")]
    pub fn load(dir: &Path, options: LoadOptions) -> Result<Engine, LoadError> {
        Engine::load_watched(dir, options, LoadWatch::nobody())
    }

    /// The same, with somebody who is told how far it is and may stop it.
    #[cfg(feature = "mlx")]
    pub fn load_watched(
        dir: &Path,
        options: LoadOptions,
        watch: LoadWatch,
    ) -> Result<Engine, LoadError> {
        Engine::load_with_drafter(dir, None, options, watch)
    }

    /// The same, with the directory of a small model of the same tokenizer that drafts for it.
    #[cfg(feature = "mlx")]
    pub fn load_with_drafter(
        dir: &Path,
        drafter: Option<&Path>,
        options: LoadOptions,
        watch: LoadWatch,
    ) -> Result<Engine, LoadError> {
        if watch.tell(LoadProgress::BEGUN).is_break() {
            return Err(LoadError::Cancelled);
        }
        let loaded = crate::backend::mlx::load(dir, drafter, options, watch)?;
        let half = loaded.info.bytes_per_token * loaded.info.context_fits as u64 / 2;
        let bytes_max = options.kept_bytes_max.unwrap_or(half.max(crate::prefix::PREFIX_BYTES_MAX));
        let engine = Engine::new(loaded.line, loaded.info, loaded.tokenizer);
        let _ = engine.keep_within(bytes_max); // Its line is new, so there is room.
        Ok(engine)
    }

    /// Without the `mlx` feature there is nothing to load a model with.
    #[cfg(not(feature = "mlx"))]
    pub fn load(dir: &Path, options: LoadOptions) -> Result<Engine, LoadError> {
        let _ = (dir, options);
        Err(LoadError::Backend("this build has no MLX backend".to_owned()))
    }

    /// Without the `mlx` feature there is nothing to load a model with.
    #[cfg(not(feature = "mlx"))]
    pub fn load_watched(
        dir: &Path,
        options: LoadOptions,
        watch: LoadWatch,
    ) -> Result<Engine, LoadError> {
        let _ = watch.tell(LoadProgress::BEGUN); // It ends here anyway.
        Engine::load(dir, options)
    }

    /// Without the `mlx` feature there is nothing to load a model with.
    #[cfg(not(feature = "mlx"))]
    pub fn load_with_drafter(
        dir: &Path,
        _drafter: Option<&Path>,
        options: LoadOptions,
        watch: LoadWatch,
    ) -> Result<Engine, LoadError> {
        Engine::load_watched(dir, options, watch)
    }

    /// What the model directory `dir` is, and what loading it would take. Reads the configuration and the headers alone, so the
    /// model may be larger than memory.
    #[cfg(feature = "mlx")]
    pub fn survey(dir: &Path, options: LoadOptions) -> Result<Survey, LoadError> {
        crate::backend::mlx::survey(dir, options)
    }

    /// Without the `mlx` feature there is nothing to load a model with.
    #[cfg(not(feature = "mlx"))]
    pub fn survey(dir: &Path, options: LoadOptions) -> Result<Survey, LoadError> {
        let _ = (dir, options);
        Err(LoadError::Backend("this build has no MLX backend".to_owned()))
    }

    /// The model of somebody else's server. Blocks while it is found out what that can do, which takes some twenty short requests.
    /// `context_max`: a shorter context than the server's own.
    pub fn remote(options: RemoteOptions, context_max: Option<usize>) -> Result<Engine, LoadError> {
        let (line, info, tokenizer) = remote::start(options, context_max)?;
        Ok(Engine::new(line, info, tokenizer))
    }

    /// An engine whose model says what a test wrote down.
    pub fn scripted(script: Script) -> Engine {
        let (line, info, tokenizer) = scripted::start(script);
        Engine::new(line, info, tokenizer)
    }

    fn new(line: Line, info: ModelInfo, tokenizer: impl Into<Arc<Tokenizer>>) -> Engine {
        Engine { inner: Arc::new(Inner { line, info, tokenizer: tokenizer.into() }) }
    }

    /// Whether anybody else holds it, or a sequence of it.
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.inner) > 1
    }

    /// What is loaded.
    pub fn info(&self) -> &ModelInfo {
        &self.inner.info
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.inner.tokenizer
    }

    /// The same, for whoever keeps it longer than the model.
    pub fn words(&self) -> Arc<Tokenizer> {
        self.inner.tokenizer.clone()
    }

    /// Enqueues a job. The steps come from the sequence; dropping it cancels the job.
    pub fn submit(&self, job: Job) -> Result<Sequence, SubmitError> {
        self.check(&job.prompt)?;
        job.sampling.check(self.inner.info.vocabulary)?;
        let end = job.prompt.len() + job.limits.tokens_max as usize;
        self.check_room(end.min(self.inner.info.context_max))?;
        let id = self.inner.line.submit(job)?;
        Ok(Sequence::new(self.inner.clone(), id))
    }

    /// The logits of the position after `tokens`, one per entry of the vocabulary.
    pub async fn logits(&self, tokens: Vec<TokenId>) -> Result<Vec<f32>, EngineError> {
        self.logits_with(None, tokens).await
    }

    /// The same of the model with an adapter.
    pub async fn logits_with(
        &self,
        soul: Option<SoulId>,
        tokens: Vec<TokenId>,
    ) -> Result<Vec<f32>, EngineError> {
        self.check(&tokens).map_err(refused)?;
        self.check_room(tokens.len()).map_err(refused)?;
        let (reply, answer) = tokio::sync::oneshot::channel();
        let ask = Ask::Logits { tokens, soul, reply };
        self.inner.line.ask(Class::Fix, ask).map_err(refused)?;
        answer.await.unwrap_or_else(|_| Err(self.inner.line.down()))
    }

    /// The log-probability of every token of each continuation of `prompt`. The prompt is computed once.
    pub async fn score(
        &self,
        prompt: Vec<TokenId>,
        continuations: Vec<Vec<TokenId>>,
        class: Class,
    ) -> Result<Vec<Vec<f32>>, EngineError> {
        let rows = self.opinions(prompt, continuations, class).await?;
        Ok(rows.iter().map(|row| row.iter().map(|scored| scored.logprob).collect()).collect())
    }

    /// The same with what the model thinks likeliest in the place of each token: what a [`Mixture`](crate::Mixture) is told.
    pub async fn opinions(
        &self,
        prompt: Vec<TokenId>,
        continuations: Vec<Vec<TokenId>>,
        class: Class,
    ) -> Result<Vec<Vec<Scored>>, EngineError> {
        self.check(&prompt).map_err(refused)?;
        self.check_room(prompt.len()).map_err(refused)?;
        for continuation in &continuations {
            self.check_vocabulary(continuation).map_err(refused)?;
            let end = prompt.len() + continuation.len();
            self.check_len(end).map_err(refused)?;
            self.check_room(end).map_err(refused)?;
        }
        let (reply, answer) = tokio::sync::oneshot::channel();
        let ask = Ask::Score { prompt, continuations, reply };
        self.inner.line.ask(class, ask).map_err(refused)?;
        answer.await.unwrap_or_else(|_| Err(self.inner.line.down()))
    }

    /// What was done so far, counted.
    pub fn stats(&self) -> Stats {
        self.inner.line.shared.lock().stats
    }

    /// How many bytes the caches of all sequences and the kept ones hold together. What several share is counted once.
    pub async fn cache_bytes(&self) -> Result<u64, EngineError> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.inner.line.request(Request::Bytes { reply }).map_err(refused)?;
        answer.await.map_err(|_| self.inner.line.down())
    }

    /// Mounts the LoRA adapter of a directory beside the weights, for jobs that ask for it ([`Job::soul`]). The model is not copied,
    /// and jobs that are running go on.
    pub async fn mount(&self, dir: &Path) -> Result<SoulId, MountError> {
        let refused = |reason: String| MountError { path: dir.to_owned(), reason };
        let (reply, answer) = tokio::sync::oneshot::channel();
        let request = Request::Mount { dir: dir.to_owned(), reply };
        self.inner.line.request(request).map_err(|error| refused(error.to_string()))?;
        answer.await.unwrap_or_else(|_| Err(refused(self.inner.line.down().to_string())))
    }

    /// Takes an adapter off again. Jobs that ask for it fail from now on.
    pub fn unmount(&self, soul: SoulId) -> Result<(), SubmitError> {
        self.inner.line.request(Request::Unmount { soul })
    }

    /// Bounds the bytes of kept caches from now on. The oldest make room.
    pub fn keep_within(&self, bytes_max: u64) -> Result<(), SubmitError> {
        self.inner.line.request(Request::Keep { bytes_max })
    }

    /// Gives kept caches up, the oldest first, until they hold no more than `bytes`. Running sequences keep theirs.
    pub fn shrink_to(&self, bytes: u64) -> Result<(), SubmitError> {
        self.inner.line.request(Request::Shrink { bytes })
    }

    /// Has caches outlive the process, from now on. Looks at the files that are there.
    pub fn spill_to(&self, spill: Spill) -> Result<(), EngineError> {
        let info = &self.inner.info;
        let fingerprint = spill::fingerprint(info)
            .map_err(|error| EngineError::Refused(format!("{}: {error}", info.path.display())))?;
        let files = Files::open(spill, &spill::folder(info), fingerprint);
        self.inner.line.request(Request::Spill { files }).map_err(refused)
    }

    fn check(&self, prompt: &[TokenId]) -> Result<(), SubmitError> {
        if prompt.is_empty() {
            return Err(SubmitError::Empty);
        }
        self.check_len(prompt.len())?;
        self.check_vocabulary(prompt)
    }

    fn check_len(&self, tokens: usize) -> Result<(), SubmitError> {
        let context_max = self.inner.info.context_max;
        if tokens > context_max {
            Err(SubmitError::TooLong { tokens, context_max })
        } else {
            Ok(())
        }
    }

    /// Whether memory holds a sequence of so many tokens.
    fn check_room(&self, tokens: usize) -> Result<(), SubmitError> {
        let info = &self.inner.info;
        if tokens <= info.context_fits {
            return Ok(());
        }
        let cache = tokens as u64 * info.bytes_per_token;
        Err(SubmitError::TooBig { tokens, cache, tokens_fit: info.context_fits })
    }

    fn check_vocabulary(&self, tokens: &[TokenId]) -> Result<(), SubmitError> {
        let vocabulary = self.inner.info.vocabulary;
        match tokens.iter().find(|&&token| token as usize >= vocabulary) {
            Some(&token) => Err(SubmitError::Vocabulary { token, vocabulary }),
            None => Ok(()),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.line.close();
    }
}

fn refused(error: SubmitError) -> EngineError {
    match error {
        SubmitError::Down(down) => down,
        other => EngineError::Refused(other.to_string()),
    }
}
