//! The handle that callers hold.

use std::{path::Path, sync::Arc};

use crate::{
    backend::scripted::{self, Script},
    info::{LoadError, LoadOptions, ModelInfo},
    job::{Class, EngineError, Job, SubmitError, TokenId},
    line::{Ask, Line, Request},
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
    tokenizer: Tokenizer,
}

impl Engine {
    /// Loads the model directory `dir` (MLX format: config.json, *.safetensors, tokenizer.json) and starts its thread.
    /// Blocks while the weights are read.
    #[cfg(feature = "mlx")]
    pub fn load(dir: &Path, options: LoadOptions) -> Result<Engine, LoadError> {
        let loaded = crate::backend::mlx::load(dir, options)?;
        Ok(Engine::new(loaded.line, loaded.info, loaded.tokenizer))
    }

    /// Without the `mlx` feature there is nothing to load a model with.
    #[cfg(not(feature = "mlx"))]
    pub fn load(dir: &Path, options: LoadOptions) -> Result<Engine, LoadError> {
        let _ = (dir, options);
        Err(LoadError::Backend("this build has no MLX backend".to_owned()))
    }

    /// An engine whose model says what a test wrote down.
    pub fn scripted(script: Script) -> Engine {
        let (line, info, tokenizer) = scripted::start(script);
        Engine::new(line, info, tokenizer)
    }

    fn new(line: Line, info: ModelInfo, tokenizer: Tokenizer) -> Engine {
        Engine { inner: Arc::new(Inner { line, info, tokenizer }) }
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

    /// Enqueues a job. The steps come from the sequence; dropping it cancels the job.
    pub fn submit(&self, job: Job) -> Result<Sequence, SubmitError> {
        self.check(&job.prompt)?;
        job.sampling.check(self.inner.info.vocabulary)?;
        let id = self.inner.line.submit(job)?;
        Ok(Sequence::new(self.inner.clone(), id))
    }

    /// The logits of the position after `tokens`, one per entry of the vocabulary.
    pub async fn logits(&self, tokens: Vec<TokenId>) -> Result<Vec<f32>, EngineError> {
        self.check(&tokens).map_err(refused)?;
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.inner.line.ask(Class::Fix, Ask::Logits { tokens, reply }).map_err(refused)?;
        answer.await.unwrap_or_else(|_| Err(self.inner.line.down()))
    }

    /// The log-probability of every token of each continuation of `prompt`. The prompt is computed once.
    pub async fn score(
        &self,
        prompt: Vec<TokenId>,
        continuations: Vec<Vec<TokenId>>,
        class: Class,
    ) -> Result<Vec<Vec<f32>>, EngineError> {
        self.check(&prompt).map_err(refused)?;
        for continuation in &continuations {
            self.check_vocabulary(continuation).map_err(refused)?;
            self.check_len(prompt.len() + continuation.len()).map_err(refused)?;
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
