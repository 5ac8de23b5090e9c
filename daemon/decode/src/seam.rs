//! The seam between the text before the cursor and what the model writes behind it.
//!
//! A prompt ends where the cursor stands, and the model's first token begins there, whatever the tokenizer would have made of the whole:
//! after `self.na` comes `me`, where every other file has the token `name`. So the text around the cursor is cut into tokens anew
//! for whoever looks it up in other files: as it would stand in a file.

use engine::{TokenId, Tokenizer};
use recall::cache::MATCH_LEN_MAX;

/// Tokens of an answer that are cut anew together with what stands before the cursor; later ones are the tokenizer's own.
const RECUT_TOKENS: usize = 8;
/// Bytes before the cursor that are cut into tokens.
const HEAD_BYTES: usize = MATCH_LEN_MAX * 12;
/// A last piece before the cursor is no longer than this.
const PIECE_BYTES_MAX: usize = 96;

/// What stands before the cursor, up to the last place where tokens surely end, and the piece behind that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seam {
    /// The latest tokens before the piece.
    head: Vec<TokenId>,
    piece: String,
}

/// What is to be looked up behind a tape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Context {
    /// The latest tokens as they would stand in a file.
    pub(crate) tokens: Vec<TokenId>,
    /// Where the last piece began before the cursor and may go on: the latest tokens before it, and the piece.
    pub(crate) open: Option<(Vec<TokenId>, String)>,
}

impl Seam {
    /// Of the text before the cursor, with `\n` line ends.
    pub(crate) fn new(tokenizer: &Tokenizer, before: &str) -> Seam {
        let at = last_piece(before);
        let from = head_start(&before[..at]);
        let head = tokenizer.encode(&before[from..at]);
        let head = head[head.len().saturating_sub(MATCH_LEN_MAX)..].to_vec();
        Seam { head, piece: before[at..].to_owned() }
    }

    /// What is to be looked up behind `tape`; `None` where it ends within a character.
    pub(crate) fn behind(&self, tokenizer: &Tokenizer, tape: &[TokenId]) -> Option<Context> {
        let (first, rest) = tape.split_at(tape.len().min(RECUT_TOKENS));
        let mut bytes = self.piece.as_bytes().to_vec();
        first.iter().for_each(|token| bytes.extend_from_slice(tokenizer.token_bytes(*token)));
        let text = String::from_utf8(bytes).ok()?;
        let mut tokens = self.head.clone();
        tokens.extend(tokenizer.encode(&text));
        tokens.extend_from_slice(rest);
        tokens.drain(..tokens.len().saturating_sub(MATCH_LEN_MAX));
        let is_open = rest.is_empty() && !text.is_empty() && last_piece(&text) == 0;
        let open = is_open.then(|| (self.head.clone(), text));
        Some(Context { tokens, open })
    }
}

/// What a piece is made of: tokenizers cut text between these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Word,
    Blank,
    Break,
    Sign,
}

fn kind(character: char) -> Kind {
    match character {
        '\n' => Kind::Break,
        _ if character.is_whitespace() => Kind::Blank,
        _ if character.is_alphanumeric() || character == '_' => Kind::Word,
        _ => Kind::Sign,
    }
}

/// Where the last piece of a text begins: a word or signs with the blank before them, blanks, or a line break with its indentation.
pub(crate) fn last_piece(text: &str) -> usize {
    let floor = crate::prompt::floor_boundary(text, text.len().saturating_sub(PIECE_BYTES_MAX));
    let mut places = text[floor..].char_indices().rev().map(|(at, one)| (floor + at, kind(one)));
    let Some((mut start, last)) = places.next() else { return text.len() };
    for (at, kind) in places {
        match (last, kind) {
            _ if kind == last && kind != Kind::Break => start = at,
            (Kind::Blank, Kind::Break) => return at,
            // One blank goes with what comes behind it.
            (Kind::Word | Kind::Sign, Kind::Blank) => return at,
            _ => return start,
        }
    }
    start
}

/// Where to begin cutting so that enough is cut: at a line.
fn head_start(text: &str) -> usize {
    let far = crate::prompt::floor_boundary(text, text.len().saturating_sub(HEAD_BYTES));
    if far == 0 { 0 } else { text[far..].find('\n').map_or(far, |line| far + line) }
}

#[cfg(test)]
mod tests {
    use engine::{Engine, Script};

    use super::*;

    fn engine() -> Engine {
        Engine::scripted(Script::new().words(&["self", "name", ".", " =", "\n    "]))
    }

    #[test]
    fn the_last_piece_is_what_may_still_grow() {
        let check = |before: &str, piece: &str| assert_eq!(&before[last_piece(before)..], piece);
        check("", "");
        check("x = self.na", "na");
        check("x = self.", ".");
        check("x = sel", " sel");
        check("x =", " =");
        check("x = ", " ");
        check("x\n    ", "\n    ");
        check("x\n\n", "\n");
        check("f(a, b);\nä_1", "ä_1");
        check("if a  b", " b");
        check(&"x".repeat(500), &"x".repeat(PIECE_BYTES_MAX));
        check(&"é".repeat(500), &"é".repeat(PIECE_BYTES_MAX / 2));
    }

    #[test]
    fn tokens_behind_the_cursor_are_those_of_a_file() {
        let engine = engine();
        let tokenizer = engine.tokenizer();
        let seam = Seam::new(tokenizer, "x = self.na");
        let me = tokenizer.encode("me");
        let context = seam.behind(tokenizer, &me).unwrap();
        assert_eq!(context.tokens, tokenizer.encode("x = self.name"));
        let (head, piece) = context.open.unwrap();
        assert_eq!((head, &*piece), (tokenizer.encode("x = self."), "name"));
        let beyond = tokenizer.encode("me.");
        let context = seam.behind(tokenizer, &beyond).unwrap();
        assert_eq!(context.tokens, tokenizer.encode("x = self.name."));
        assert_eq!(context.open, None, "it began behind the cursor");
    }

    #[test]
    fn a_long_tape_is_not_cut_anew_and_half_a_character_says_nothing() {
        let engine = engine();
        let tokenizer = engine.tokenizer();
        let seam = Seam::new(tokenizer, "va");
        let tape = tokenizer.encode("lue = something_else(quite, long)");
        let context = seam.behind(tokenizer, &tape).unwrap();
        assert_eq!(context.tokens.len(), MATCH_LEN_MAX);
        assert!(context.tokens.ends_with(&tape[tape.len() - 20..]) && context.open.is_none());
        assert_eq!(seam.behind(tokenizer, &[0xc3]), None);
        let empty = Seam::new(tokenizer, "").behind(tokenizer, &[]);
        assert_eq!(empty, Some(Context { tokens: vec![], open: None }));
    }
}
