//! What the workspace says beside the model: its own tokens behind the latest ones, as an [`engine::Mixture`].
//!
//! Two caches are looked at. One is made for the request, of what is known of the document itself: the blocks around the cursor and the
//! cursor's own block, without the piece that is being written, which would foretell itself or the text behind the cursor. The other
//! one is the workspace's, without its copy of that document. Where the cursor stands within a piece that a file has as one token, places
//! that begin as the piece does are looked at too, and the rest of the token is what is foretold.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use engine::{Engine, Mixture, Opinion, Supposed, TokenId, Tokenizer};
use recall::cache::weights::{self, Weights};
use recall::cache::{Cache, Level, Limits, Match, Matches, Own, Prediction};

use crate::around::own_block;
use crate::seam::Seam;
use crate::workspace::{Kept, Workspace};

/// The most tokens of a document that are looked at.
const DOCUMENT_TOKENS_MAX: usize = 1 << 15;
/// Pieces of a document.
const PIECES_MAX: usize = 256;
/// The most tokens of a draft.
const DRAFT_LEN_MAX: usize = 32;
/// Where matches are from: the document, the workspace, and the same for the last piece as it may go on.
const DOCUMENT: u8 = 0;
const WORKSPACE: u8 = 1;
const PIECE: u8 = 2;

/// What a completion is told of its workspace.
#[derive(Debug, Clone, Default)]
pub struct Mixing {
    /// The workspace's tokens; `None`: the document alone.
    pub workspace: Option<Arc<Workspace>>,
    /// The document's name there.
    pub key: Arc<str>,
}

/// What both said at the positions of a tape, for whoever learns from it.
pub(crate) type Record = Arc<Mutex<Vec<(Prediction, Opinion)>>>;

/// Foretells tokens of one request.
#[derive(Clone)]
pub(crate) struct Beside {
    tokenizer: Arc<Tokenizer>,
    mixing: Mixing,
    document: Arc<Cache>,
    seam: Arc<Seam>,
    weights: &'static Weights,
    /// Tokens that end a text. Nothing is foretold of that.
    ends: Arc<[TokenId]>,
    matches: Matches,
    /// The rest of a token without its first bytes, in tokens.
    rests: HashMap<(TokenId, usize), Arc<[TokenId]>>,
    looked: Option<Looked>,
    record: Option<Record>,
}

/// What was found behind a tape.
#[derive(Clone)]
struct Looked {
    tape: Vec<TokenId>,
    prediction: Prediction,
    draft: Supposed,
}

impl Beside {
    /// For the hole at the byte `offset` of `text`. `before` is what stands before the place where the answer begins, with `\n` line
    /// ends; `blocks` are the tokens of what lies around it, the nearest first. `None` where there is no table to weigh with.
    pub(crate) fn new(
        engine: &Engine,
        mixing: Mixing,
        text: &str,
        offset: usize,
        before: &str,
        blocks: &[Arc<[TokenId]>],
        ends: Vec<TokenId>,
    ) -> Option<Beside> {
        let tokenizer = engine.words();
        let seam = Seam::new(&tokenizer, before);
        let document = document(&tokenizer, text, offset, blocks);
        Some(Beside {
            mixing,
            document: Arc::new(document),
            seam: Arc::new(seam),
            weights: Weights::built_in()?,
            ends: ends.iter().chain(tokenizer.eos()).copied().collect(),
            matches: Matches::default(),
            rests: HashMap::new(),
            looked: None,
            record: None,
            tokenizer,
        })
    }

    /// Says nothing, and writes down what it would have said.
    pub(crate) fn recording(mut self) -> (Beside, Record) {
        let record = Record::default();
        self.record = Some(record.clone());
        (self, record)
    }

    fn look(&mut self, tape: &[TokenId]) -> &Looked {
        if self.looked.as_ref().is_none_or(|looked| looked.tape != tape) {
            let (prediction, draft) = self.find(tape).unwrap_or_default();
            self.looked = Some(Looked { tape: tape.to_vec(), prediction, draft });
        }
        // It was put there just now.
        self.looked.get_or_insert_with(|| Looked {
            tape: Vec::new(),
            prediction: Prediction::default(),
            draft: Supposed::default(),
        })
    }

    fn find(&mut self, tape: &[TokenId]) -> Option<(Prediction, Supposed)> {
        let context = self.seam.behind(&self.tokenizer, tape)?;
        let mixing = self.mixing.clone();
        let workspace = mixing.workspace.as_deref().and_then(|one| one.of(&self.tokenizer));
        let document = self.document.clone();
        let caches = Caches { document: &document, workspace: workspace.as_deref() };
        let mut matches = std::mem::take(&mut self.matches);
        matches.clear();
        caches.gather(&mixing.key, &context.tokens, 0, &mut matches);
        let piece = context.open.as_ref().map(|(head, piece)| {
            caches.gather(&mixing.key, head, PIECE, &mut matches);
            piece.as_bytes()
        });
        // What each place foretells, in the model's tokens.
        let all: Vec<(Match, Vec<TokenId>)> = matches
            .all()
            .iter()
            .map(|&found| (found, self.continuation(caches.after(found), found, piece)))
            .collect();
        let mut index = 0;
        let prediction = matches.predict(|_| {
            index += 1;
            all[index - 1].1.first().copied()
        });
        self.matches = matches;
        let mut best: Option<&(Match, Vec<TokenId>)> = None;
        for one in all.iter().filter(|(_, tokens)| !tokens.is_empty()) {
            let rank = |(found, _): &(Match, Vec<TokenId>)| (found.len, found.level);
            if best.is_none_or(|best| rank(one) > rank(best)) {
                best = Some(one);
            }
        }
        let draft = best.map_or_else(Supposed::default, |(found, tokens)| Supposed {
            tokens: tokens.clone(),
            depth: usize::from(found.len),
        });
        Some((prediction, draft))
    }

    /// The tokens that would go on as a place does; none where it does not fit, or where others say the same.
    fn continuation(
        &mut self,
        after: &[TokenId],
        found: Match,
        piece: Option<&[u8]>,
    ) -> Vec<TokenId> {
        let take = |tokens: &[TokenId]| tokens.iter().take(DRAFT_LEN_MAX).copied().collect();
        let Some(mut left) = piece.filter(|_| found.source >= PIECE) else { return take(after) };
        for (index, &token) in after.iter().enumerate() {
            let bytes = self.tokenizer.token_bytes(token);
            if bytes.len() > left.len() {
                if !bytes.starts_with(left) {
                    return Vec::new();
                }
                let rest = self.rest(token, left.len());
                return rest
                    .iter()
                    .chain(&after[index + 1..])
                    .take(DRAFT_LEN_MAX)
                    .copied()
                    .collect();
            }
            let Some(behind) = left.strip_prefix(bytes) else { return Vec::new() };
            left = behind;
            if left.is_empty() {
                // It ends with a token: that is found by what stands before the cursor.
                return Vec::new();
            }
        }
        Vec::new()
    }

    fn rest(&mut self, token: TokenId, from: usize) -> Arc<[TokenId]> {
        let tokenizer = &self.tokenizer;
        let rest = || {
            let text = std::str::from_utf8(&tokenizer.token_bytes(token)[from..]);
            text.map_or_else(|_| Arc::from([]), |text| tokenizer.encode(text).into())
        };
        self.rests.entry((token, from)).or_insert_with(rest).clone()
    }
}

impl Mixture for Beside {
    fn prepare(&mut self, tape: &[TokenId]) {
        self.look(tape);
    }

    fn shares(&mut self, tape: &[TokenId], opinion: Opinion) -> Vec<(TokenId, f32)> {
        let Opinion { top, certainty } = opinion;
        let mut prediction = self.look(tape).prediction.clone();
        if self.ends.contains(&top) {
            // Files do not end where an answer does, so whether to end is the model's business.
            prediction.tokens.iter_mut().for_each(|(_, chance)| *chance *= 1.0 - certainty);
        }
        if let Some(record) = &self.record {
            let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
            record.truncate(tape.len());
            record.push((prediction, opinion));
            return Vec::new();
        }
        let weight = self.weights.weight(&prediction, weights::Opinion { top, certainty });
        prediction.tokens.iter().map(|&(token, chance)| (token, weight * chance)).collect()
    }

    fn draft(&mut self, tape: &[TokenId], len: usize) -> Supposed {
        let Supposed { tokens, depth } = &self.look(tape).draft;
        Supposed { tokens: tokens.iter().take(len).copied().collect(), depth: *depth }
    }

    fn fork(&self) -> Option<Box<dyn Mixture>> {
        Some(Box::new(Beside { looked: None, record: None, ..self.clone() }))
    }
}

/// Where a request looks.
struct Caches<'a> {
    document: &'a Cache,
    workspace: Option<&'a Kept>,
}

impl Caches<'_> {
    /// `part` is 0, or [`PIECE`].
    fn gather(&self, key: &str, context: &[TokenId], part: u8, matches: &mut Matches) {
        matches.begin(part + DOCUMENT, Some(Level::File));
        self.document.gather("", context, Own::Counts, matches);
        if let Some(kept) = self.workspace {
            matches.begin(part + WORKSPACE, None);
            kept.cache.gather(key, context, Own::IsLeftOut, matches);
        }
    }

    fn after(&self, found: Match) -> &[TokenId] {
        match (found.source % PIECE, self.workspace) {
            (DOCUMENT, _) => self.document.after(found),
            (_, Some(kept)) => kept.cache.after(found),
            (_, None) => &[],
        }
    }
}

/// What is known of the document itself: the nearest last, so that it counts as the newest.
fn document(tokenizer: &Tokenizer, text: &str, offset: usize, blocks: &[Arc<[TokenId]>]) -> Cache {
    let limits = Limits { tokens_max: DOCUMENT_TOKENS_MAX, files_max: PIECES_MAX };
    let mut cache = Cache::new(limits);
    let OwnText { before, after } = own_text(text, offset);
    for (index, block) in blocks.iter().enumerate().rev() {
        cache.insert(&index.to_string(), block);
    }
    for (name, part) in [("after", after), ("before", before)] {
        let part = text[part].replace("\r\n", "\n");
        cache.insert(name, &tokenizer.encode(&part));
    }
    cache
}

/// The parts of the cursor's own block that are known to stay: the lines below its own, and what stands before the piece that is
/// written.
struct OwnText {
    before: Range<usize>,
    after: Range<usize>,
}

fn own_text(text: &str, offset: usize) -> OwnText {
    let offset = crate::prompt::floor_boundary(text, offset);
    let block = own_block(text, offset);
    let piece = block.start + crate::seam::last_piece(&text[block.start..offset]);
    let below = text[offset..block.end].find('\n').map_or(block.end, |line| offset + line + 1);
    OwnText { before: block.start..piece, after: below..block.end }
}

#[cfg(test)]
mod tests;
