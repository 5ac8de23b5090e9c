//! The tokens of what lies around a cursor, beyond the prompt's window: what is written there may be written again, so a completion
//! looks its drafts up in it.
//!
//! A document is cut into blocks behind lines that are chosen by what is in them, so that an edit changes the blocks that it is in and
//! no others, and a keystroke none: the cursor's own block is left out, since the prompt has most of it and it would be read anew each
//! time. Blocks are turned into tokens once, beside the typing; a keystroke takes what is known by then.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use engine::{TokenId, Tokenizer};

use crate::prompt::floor_boundary;

/// Bytes of a document that are looked at on either side of the cursor.
const AROUND_BYTES_MAX: usize = 48 << 10;
/// One line in so many ends a block.
const BLOCK_LINES: u64 = 16;
/// Lines with fewer bytes than this, blank ones and brackets, are too alike to end a block.
const END_BYTES_MIN: usize = 8;
/// Longer blocks are left out: they are data, or a single line.
const BLOCK_BYTES_MAX: usize = 4 << 10;
/// Blocks that one completion looks at, the nearest.
const BLOCKS_MAX: usize = 96;
/// Blocks of all documents whose tokens are kept, the latest.
const KEPT_BLOCKS_MAX: usize = 512;

/// The tokens of blocks. One for all documents; cloning the `Arc` shares it.
#[derive(Debug, Default)]
pub struct Around {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Whose tokens they are.
    tokenizer: Weak<Tokenizer>,
    blocks: HashMap<Box<str>, Block>,
    /// How often somebody asked.
    asked: u64,
    /// Somebody reads.
    reading: bool,
}

#[derive(Debug)]
struct Block {
    tokens: Arc<[TokenId]>,
    /// When it was last asked for.
    asked: u64,
}

/// Blocks whose tokens nobody knows yet. Nobody else is given any until it is read or dropped.
#[derive(Debug)]
pub struct Unread {
    around: Arc<Around>,
    blocks: Vec<Box<str>>,
}

impl Around {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tokens of the blocks around the byte `offset` of `text`, the nearest first, as far as they are known; and what is to be read
    /// for the next time. Costs what it takes to look once at some kilobytes.
    pub fn of(
        self: &Arc<Self>,
        tokenizer: &Arc<Tokenizer>,
        text: &str,
        offset: usize,
    ) -> (Vec<Arc<[TokenId]>>, Option<Unread>) {
        let mut kept = self.lock();
        if !std::ptr::eq(kept.tokenizer.as_ptr(), Arc::as_ptr(tokenizer)) {
            let asked = kept.asked;
            let reading = kept.reading;
            *kept =
                Kept { tokenizer: Arc::downgrade(tokenizer), asked, reading, ..Kept::default() };
        }
        kept.asked += 1;
        let asked = kept.asked;
        let (mut known, mut unread) = (Vec::new(), Vec::new());
        for block in blocks(text, offset) {
            match kept.blocks.get_mut(block) {
                Some(found) => {
                    found.asked = asked;
                    known.push(found.tokens.clone());
                }
                None => unread.push(Box::from(block)),
            }
        }
        if unread.is_empty() || kept.reading {
            return (known, None);
        }
        kept.reading = true;
        (known, Some(Unread { around: self.clone(), blocks: unread }))
    }
}

impl Unread {
    /// Turns them into tokens. Takes milliseconds.
    pub fn read(mut self, tokenizer: &Arc<Tokenizer>) {
        for text in std::mem::take(&mut self.blocks) {
            // As the prompt has it.
            let tokens = tokenizer.encode(&text.replace("\r\n", "\n")).into();
            let mut kept = self.around.lock();
            if !std::ptr::eq(kept.tokenizer.as_ptr(), Arc::as_ptr(tokenizer)) {
                return; // Another model has come.
            }
            let asked = kept.asked;
            kept.blocks.insert(text, Block { tokens, asked });
            if kept.blocks.len() > KEPT_BLOCKS_MAX
                && let Some(oldest) = kept.blocks.values().map(|block| block.asked).min()
            {
                kept.blocks.retain(|_, block| block.asked > oldest);
            }
        }
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.around.lock().reading = false;
    }
}

/// The block that `offset` lies in, or as much of it as lies near.
pub(crate) fn own_block(text: &str, offset: usize) -> Range<usize> {
    let near = floor_boundary(text, offset.saturating_sub(BLOCK_BYTES_MAX));
    let far = floor_boundary(text, offset.saturating_add(BLOCK_BYTES_MAX));
    let line = text[..offset].rfind('\n').map_or(0, |line| line + 1);
    let (mut start, mut at) = (near, line);
    for line in text[near..line].split_inclusive('\n').rev() {
        // The first one is cut off.
        // Both blocks that meet at the cursor are its own.
        if at < offset && is_end(line) && (at - line.len() > near || near == 0) {
            start = at;
            break;
        }
        at -= line.len();
    }
    let mut end = line.max(near);
    for line in text[end..far].split_inclusive('\n') {
        end += line.len();
        if is_end(line) {
            break;
        }
    }
    start.min(offset)..end.max(offset)
}

/// The whole blocks around `offset` but its own, the nearest first.
pub(crate) fn blocks(text: &str, offset: usize) -> Vec<&str> {
    let offset = floor_boundary(text, offset);
    let start = floor_boundary(text, offset.saturating_sub(AROUND_BYTES_MAX));
    let end = floor_boundary(text, offset.saturating_add(AROUND_BYTES_MAX));
    let mut found: Vec<(usize, &str)> = Vec::new();
    let (mut at, mut from) = (start, (start == 0).then_some(0));
    for line in text[start..end].split_inclusive('\n') {
        at += line.len();
        // A line that is cut off is chosen by another part of it each time.
        let is_end = is_end(line) && (at - line.len() > start || start == 0);
        if !is_end && at != text.len() {
            continue;
        }
        if let Some(from) = from
            && !(from..=at).contains(&offset)
            && at - from <= BLOCK_BYTES_MAX
        {
            found.push((from.abs_diff(offset).min(at.abs_diff(offset)), &text[from..at]));
        }
        from = Some(at);
    }
    found.sort_by_key(|(distance, _)| *distance);
    found.into_iter().take(BLOCKS_MAX).map(|(_, block)| block).collect()
}

/// Whether a block ends behind a line.
fn is_end(line: &str) -> bool {
    let text = line.trim();
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    line.ends_with('\n')
        && text.len() >= END_BYTES_MIN
        && hasher.finish().is_multiple_of(BLOCK_LINES)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use engine::{DRAFT_SOURCES, Engine, Script, Speculation};

    use super::*;
    use crate::writer::AHEAD_MAX;
    use crate::{CompleteRequest, NoCritic, Unknown, complete};

    fn document(lines: usize) -> String {
        (0..lines).map(|line| format!("value_{line} = compute({}, 'ä')\n", line * 7919)).collect()
    }

    fn read(around: &Arc<Around>, engine: &Engine, text: &str, offset: usize) -> usize {
        let Some(unread) = around.of(&engine.words(), text, offset).1 else { return 0 };
        let count = unread.blocks.len();
        unread.read(&engine.words());
        count
    }

    #[test]
    fn blocks_are_whole_lines_of_the_document_around_the_cursor() {
        let text = document(2000);
        for offset in [0, 1, 40_000, 40_001, text.len() - 1, text.len(), text.len() + 9] {
            let found = blocks(&text, offset);
            assert!(found.len() > 3, "{offset}: {}", found.len());
            for block in found {
                let at = text.find(block).unwrap();
                assert!(at == 0 || text[..at].ends_with('\n'), "{block:?}");
                assert!(block.ends_with('\n') && block.len() <= BLOCK_BYTES_MAX);
                assert!(at > offset || at + block.len() < offset, "{offset}");
                assert!(at.abs_diff(offset) <= AROUND_BYTES_MAX + BLOCK_BYTES_MAX);
            }
        }
        assert!(blocks("", 0).is_empty());
        assert!(blocks(&"x".repeat(100_000), 50_000).is_empty(), "one line");
        assert!(blocks(&"same line again\n".repeat(9000), 50_000).len() <= BLOCKS_MAX);
    }

    #[test]
    fn a_keystroke_reads_nothing_anew_and_an_edit_its_own_block() {
        let engine = Engine::scripted(Script::new());
        let around = Arc::new(Around::default());
        let mut text = document(900);
        let mut offset = text.len() / 2;
        assert!(read(&around, &engine, &text, offset) > 3);
        let before = around.of(&engine.words(), &text, offset).0;
        for letter in "let it be\n".chars() {
            text.insert(offset, letter);
            offset += 1;
            // The ends of what is looked at move on by a byte, and so may come by a block.
            assert!(read(&around, &engine, &text, offset) <= 1);
        }
        let after = around.of(&engine.words(), &text, offset).0;
        let same = |tokens: &&Arc<[TokenId]>| after.iter().any(|other| Arc::ptr_eq(tokens, other));
        assert!(before.iter().filter(same).count() + 3 >= before.len());
        let elsewhere = text[..offset - 3000].rfind('\n').unwrap();
        text.insert_str(elsewhere, " # changed");
        assert!((1..=3).contains(&read(&around, &engine, &text, offset + 10)));
    }

    #[test]
    fn one_reads_at_a_time_and_another_model_begins_anew() {
        let (one, other) = (Engine::scripted(Script::new()), Engine::scripted(Script::new()));
        let around = Arc::new(Around::default());
        let text = document(300);
        let (known, unread) = around.of(&one.words(), &text, 0);
        assert!(known.is_empty() && unread.is_some());
        assert!(around.of(&one.words(), &text, 0).1.is_none(), "it is being read");
        drop(unread);
        assert!(read(&around, &one, &text, 0) > 0);
        assert!(!around.of(&one.words(), &text, 0).0.is_empty());
        let (known, unread) = around.of(&other.words(), &text, 0);
        assert!(known.is_empty());
        unread.unwrap().read(&one.words());
        assert!(around.of(&other.words(), &text, 0).0.is_empty(), "of another model");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let engine = Engine::scripted(Script::new());
        let around = Arc::new(Around::default());
        let text = document(40_000);
        for offset in (0..text.len()).step_by(AROUND_BYTES_MAX) {
            read(&around, &engine, &text, offset);
        }
        let kept = around.lock().blocks.len();
        assert!(kept <= KEPT_BLOCKS_MAX && kept > BLOCKS_MAX, "{kept}");
    }

    #[tokio::test]
    async fn drafts_come_from_beyond_the_window() {
        // The engine supposes no more than it may decode ahead of its caller, and a slow caller leaves it room for one token at a
        // time from then on. So the answer is no longer than that.
        const SAID: &str = "quick(foxy)";
        assert!(SAID.len() < AHEAD_MAX as usize);
        let far = format!("answer = {SAID}\n");
        // Bytes are tokens here, so the prompt has the last 384 of them.
        let text: Arc<str> = [&far, &*document(60), "answer = "].concat().into();
        let accepted = async |lookup: bool| {
            let script = Script::new().line("<|fim_middle|>", SAID, 10.0);
            let engine = Engine::scripted(script.speculation(Speculation::Always));
            let around = Arc::new(Around::default());
            let mut request = CompleteRequest::typing("a.txt".into(), text.clone(), text.len());
            request.budget.deadline = Duration::from_secs(3600);
            if lookup {
                read(&around, &engine, &text, text.len());
                request.lookup = around.of(&engine.words(), &text, text.len()).0;
            }
            let completion =
                complete(&engine, &NoCritic(Unknown::NoLanguage), request).await.unwrap();
            assert_eq!(completion.suggestions[0].text, SAID);
            let source = DRAFT_SOURCES.iter().position(|&name| name == "text").unwrap();
            engine.stats().accepted[source]
        };
        assert_eq!(accepted(false).await, 0);
        assert!(accepted(true).await as usize > SAID.len() / 2);
    }
}
