//! Text in a quarter of its bytes, of which a part can be had without unpacking all.

use std::io::{Read as _, Write as _};
use std::ops::Range;

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

/// How much text is packed together: to read a part costs about so much.
const BLOCK_BYTES: usize = 8 << 10;

/// A text, packed in blocks.
#[derive(Debug)]
pub(super) struct Packed {
    blocks: Box<[Block]>,
}

#[derive(Debug)]
struct Block {
    /// Where its text starts in the whole.
    start: u32,
    /// The bytes of its text.
    length: u32,
    packed: Box<[u8]>,
}

impl Packed {
    /// Packs a text. Blocks are cut at some of `places`, which are character borders in ascending order.
    pub(super) fn new(text: &str, places: impl Iterator<Item = usize>) -> Packed {
        let mut blocks = Vec::new();
        let mut start = 0;
        let mut before = 0;
        for place in places.chain([text.len()]) {
            if place - start > BLOCK_BYTES && before > start {
                blocks.push(Block::new(start, &text[start..before]));
                start = before;
            }
            before = place;
        }
        blocks.push(Block::new(start, &text[start..]));
        Packed { blocks: blocks.into() }
    }

    /// The bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.blocks.iter().map(|block| block.packed.len() + size_of::<Block>()).sum()
    }

    /// The whole text.
    pub(super) fn whole(&self) -> String {
        let bytes: Vec<u8> = self.blocks.iter().flat_map(Block::text).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The text of some bytes.
    pub(super) fn part(&self, bytes: Range<usize>) -> String {
        let mut part = Vec::with_capacity(bytes.len());
        for block in &self.blocks {
            let (start, end) = (block.start as usize, (block.start + block.length) as usize);
            if start >= bytes.end || end <= bytes.start {
                continue;
            }
            let text = block.text();
            let from = bytes.start.saturating_sub(start).min(text.len());
            let to = (bytes.end - start).min(text.len());
            part.extend_from_slice(&text[from..to]);
        }
        String::from_utf8_lossy(&part).into_owned()
    }
}

impl Block {
    fn new(start: usize, text: &str) -> Block {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        // Writing into memory does not fail; were it to, the block would read as nothing.
        let packed = encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish());
        Block {
            start: start as u32,
            length: text.len() as u32,
            packed: packed.unwrap_or_default().into(),
        }
    }

    fn text(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(self.length as usize);
        let _ = DeflateDecoder::new(&*self.packed).read_to_end(&mut text);
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn parts_and_the_whole_are_what_was_packed(
            lines in prop::collection::vec("[a-zé ]{0,400}\n", 0..120),
            from in 0usize..120,
            count in 0usize..40,
        ) {
            let text = lines.concat();
            let starts: Vec<usize> = lines
                .iter()
                .scan(0, |at, line| { let start = *at; *at += line.len(); Some(start) })
                .collect();
            let packed = Packed::new(&text, starts.iter().copied());
            prop_assert_eq!(packed.whole(), text.as_str());
            let at = |line: usize| starts.get(line).copied().unwrap_or(text.len());
            let range = at(from)..at(from + count);
            prop_assert_eq!(packed.part(range.clone()), &text[range]);
        }
    }

    #[test]
    fn code_takes_a_part_of_its_bytes() {
        let text: String =
            (0..2000).map(|n| format!("let value_{n} = read(source, {n})?;\n")).collect();
        let packed = Packed::new(
            &text,
            (0..text.len()).filter(|at| text.as_bytes()[at.saturating_sub(1)] == b'\n'),
        );
        assert!(packed.bytes() * 3 < text.len(), "{} of {}", packed.bytes(), text.len());
    }
}
