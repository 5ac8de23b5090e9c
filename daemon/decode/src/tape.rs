//! What a sequence has generated so far, as tokens and as text.

use engine::{Step, TokenId};

/// One generated token.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cell {
    pub(crate) token: TokenId,
    /// Where its bytes end in the generated text.
    pub(crate) end: usize,
    pub(crate) logprob: f32,
    /// Among what was left to draw; `None` where nobody knows.
    pub(crate) final_logprob: Option<f32>,
    pub(crate) entropy: f32,
}

/// The tokens of one sequence, with the bytes that they stand for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tape {
    cells: Vec<Cell>,
    bytes: Vec<u8>,
    /// The first bytes repeat the end of the prompt (token healing); they are no part of the text.
    healed: usize,
}

impl Tape {
    /// A tape whose first `healed` bytes repeat the end of the prompt.
    pub(crate) fn new(healed: usize) -> Tape {
        Tape { healed, ..Tape::default() }
    }

    pub(crate) fn push(&mut self, step: &Step, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.cells.push(Cell {
            token: step.token,
            end: self.bytes.len(),
            logprob: step.logprob,
            final_logprob: step.final_logprob,
            entropy: step.entropy,
        });
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.cells.truncate(len);
        self.bytes.truncate(self.cells.last().map_or(0, |cell| cell.end));
    }

    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }

    pub(crate) fn cell(&self, index: usize) -> &Cell {
        &self.cells[index]
    }

    pub(crate) fn tokens(&self) -> Vec<TokenId> {
        self.cells.iter().map(|cell| cell.token).collect()
    }

    /// The generated text, without what repeats the prompt and without the bytes of a character that is not whole yet.
    pub(crate) fn text(&self) -> &str {
        let bytes = self.bytes.get(self.healed..).unwrap_or(&[]);
        match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or(""),
        }
    }

    /// Whether bytes were generated that can never become a character.
    pub(crate) fn is_broken(&self) -> bool {
        let bytes = self.bytes.get(self.healed..).unwrap_or(&[]);
        std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_some())
    }

    /// The token that holds the byte `at` of the text; the last one for places at the end.
    pub(crate) fn token_at(&self, at: usize) -> Option<usize> {
        let at = at + self.healed;
        let index = self.cells.partition_point(|cell| cell.end <= at);
        self.cells.len().checked_sub(1).map(|last| index.min(last))
    }

    /// The mean log-probability of the first `len` tokens; 0 where there are none.
    pub(crate) fn mean_logprob(&self, len: usize) -> f32 {
        let cells = &self.cells[..len.min(self.cells.len())];
        if cells.is_empty() {
            0.0
        } else {
            cells.iter().map(|cell| cell.logprob).sum::<f32>() / cells.len() as f32
        }
    }

    /// How sure the first `len` tokens were, each among what was left to draw. `None` where nobody knows.
    pub(crate) fn final_logprobs(&self, len: usize) -> Option<Vec<f32>> {
        self.cells[..len.min(self.cells.len())].iter().map(|cell| cell.final_logprob).collect()
    }

    /// The token of `range` where the model was least sure; the first one of equals.
    pub(crate) fn least_sure(&self, range: std::ops::Range<usize>) -> Option<usize> {
        let mut best: Option<usize> = None;
        for index in range.start..range.end.min(self.cells.len()) {
            if best.is_none_or(|best| self.cells[index].entropy > self.cells[best].entropy) {
                best = Some(index);
            }
        }
        best
    }
}
