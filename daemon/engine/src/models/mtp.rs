//! The layer behind the last one that some checkpoints have (GLM-4.5, DeepSeek-V3): it says the token after next ("multi-token prediction",
//! DeepSeek-V3, section 2.2), and so drafts.
//!
//! At a position it joins the embedding of the token there with what the model made of the token before, behind its last norm; a layer like
//! the others, with a memory of its own, and the model's head make logits of that. Its memory is the last one of the [`Cache`], and as
//! long as the others: so wherever these are cut, forked, or written to a file, it is too. What the model made of a token is not kept for
//! all of them; where it is not there, as before the first token, zeros stand for it. Then a draft may be worse, and nothing else.
//!
//! Published checkpoints hold copies of the model's embedding and head beside it; they are not read.

use mlx_rs::{Array, Dtype, fast::rms_norm, ops::concatenate};

use super::{Block, Sequences, tokens};
use crate::{
    cache::{Cache, LayerCache},
    nn::{Builder, Built, Linear, Result},
    ops::slice,
    speculate::DRAFT_LEN_MAX,
};

/// What is kept of a pass, so that a sequence can be cut back behind any token of a draft: so many rows.
const ROWS_MAX: i32 = DRAFT_LEN_MAX as i32 + 1;

/// Bytes of what is kept of a sequence's last pass.
pub(crate) fn bytes_max(hidden: usize) -> u64 {
    (ROWS_MAX as usize * hidden * size_of::<f32>()) as u64
}

/// Rows of the model's last norm.
#[derive(Clone)]
pub(crate) struct Behind {
    /// `[1, rows, hidden]`.
    pub(crate) rows: Array,
    /// The position of the first.
    start: i32,
}

impl Behind {
    /// What the model made of the token at `position`: `[1, 1, hidden]`.
    fn at(&self, position: i32) -> Option<Result<Array>> {
        let row = position - self.start;
        (0..self.rows.dim(1)).contains(&row).then(|| tokens(&self.rows, row, row + 1))
    }
}

/// The layer with what stands around it.
pub(crate) struct Mtp<B> {
    embedding_norm: Array,
    hidden_norm: Array,
    /// Of both, one behind the other, makes one: `[hidden, 2 · hidden]`.
    joint: Linear,
    block: B,
    /// Its index among the memories.
    layer: usize,
    norm: Array,
    eps: f32,
}

impl<B: Block> Mtp<B> {
    /// The layer `layer` of the files, which `block` builds.
    pub(super) fn build(
        hidden: usize,
        eps: f32,
        layer: usize,
        builder: &mut Builder<'_>,
        block: impl FnOnce(&mut Builder<'_>) -> Built<B>,
    ) -> Built<Mtp<B>> {
        let at = |name: &str| format!("model.layers.{layer}.{name}");
        // It has no part in what a token of the model takes.
        let active = builder.cost().parameters_active;
        let mtp = Mtp {
            embedding_norm: builder.vector(&at("enorm.weight"), hidden)?,
            hidden_norm: builder.vector(&at("hnorm.weight"), hidden)?,
            joint: builder.linear(&at("eh_proj"), hidden, 2 * hidden, false)?,
            block: block(builder)?,
            layer,
            norm: builder.vector(&at("shared_head.norm.weight"), hidden)?,
            eps,
        };
        builder.cost().parameters_active = active;
        Ok(mtp)
    }

    pub(super) fn cache(&self) -> LayerCache {
        self.block.cache()
    }

    /// Runs the layer over the tokens of a pass: `embedded` and what the model made of the tokens `before` them, `[1, sum, hidden]`.
    fn forward(
        &self,
        embedded: &Array,
        before: &Array,
        sequences: &mut Sequences<'_>,
    ) -> Result<Array> {
        let embedded = rms_norm(embedded, Some(&self.embedding_norm), self.eps)?;
        let before = rms_norm(before, Some(&self.hidden_norm), self.eps)?;
        let joint = self.joint.forward(&concatenate(&[embedded, before], 2)?)?;
        self.block.forward(&joint, sequences, self.layer, &mut B::Carry::default())
    }

    /// Has the layer see the tokens of a pass, whose embeddings are given and of which the model made `hidden`, both
    /// `[1, sum, hidden]`; `norm` is the model's last. To be called before the caches have moved on.
    pub(super) fn follow(
        &self,
        embedded: &Array,
        hidden: &Array,
        norm: &Array,
        sequences: &mut Sequences<'_>,
    ) -> Result<()> {
        let made = rms_norm(hidden, Some(norm), self.eps)?;
        let mut parts = Vec::new();
        let mut start = 0;
        for (&len, cache) in sequences.lens.iter().zip(&sequences.caches) {
            parts.push(before(cache, &made)?);
            if len > 1 {
                parts.push(tokens(&made, start, start + len - 1)?);
            }
            start += len;
        }
        let before = concatenate(&parts, 1)?;
        self.forward(embedded, &before, sequences)?;
        let mut end = 0;
        for (&len, cache) in sequences.lens.iter().zip(&mut sequences.caches) {
            end += len;
            let kept = len.min(ROWS_MAX);
            // Of its own, so that the rows of a long pass are not held.
            let last = rms_norm(&tokens(hidden, end - kept, end)?, Some(norm), self.eps)?;
            cache.behind = Some(Behind { rows: last, start: cache.len + len - kept });
        }
        Ok(())
    }

    /// What comes behind `token`, which is behind the last one that `cache` has seen, and behind those that `next` says: it is given
    /// logits `[vocabulary]` and says the token drawn from them. The cache has seen no more afterwards. Where there is nothing to go by,
    /// nothing is asked.
    pub(super) fn guess(
        &self,
        cache: &mut Cache,
        mut token: u32,
        embed: impl Fn(&Array) -> Result<Array>,
        head: impl Fn(&Array) -> Result<Array>,
        next: &mut dyn FnMut(&[f32]) -> Option<u32>,
    ) -> Result<()> {
        let len = cache.len;
        let Some(made) = cache.behind.as_ref().and_then(|behind| behind.at(len - 1)) else {
            return Ok(());
        };
        let mut made = made?;
        let guessed = loop {
            let embedded = embed(&Array::from_slice(&[token], &[1, 1]))?;
            // What the layer notes behind `len` is written over by the next pass.
            let hidden = self.forward(&embedded, &made, &mut Sequences::new([(1, &mut *cache)]));
            let logits = hidden.and_then(|hidden| {
                let logits = head(&rms_norm(&hidden, Some(&self.norm), self.eps)?)?;
                made = hidden;
                logits.as_dtype(Dtype::Float32)
            });
            let drawn = logits.and_then(|logits| {
                logits.eval()?;
                let row = logits.try_as_slice::<f32>();
                Ok(next(row.map_err(|error| mlx_rs::error::Exception::custom(error.to_string()))?))
            });
            match drawn {
                Ok(Some(drawn)) => token = drawn,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
            cache.len += 1;
        };
        cache.len = len;
        guessed
    }
}

/// What the model made of the last token that `cache` has seen, or zeros, like the rows of `made`: `[1, 1, hidden]`.
fn before(cache: &Cache, made: &Array) -> Result<Array> {
    match cache.behind.as_ref().and_then(|behind| behind.at(cache.len - 1)) {
        Some(row) => row,
        None => {
            let row = slice(made, &[0, 0, 0], &[1, 1, made.dim(2)])?;
            mlx_rs::ops::zeros_like(&row)
        }
    }
}

#[cfg(test)]
mod tests;
