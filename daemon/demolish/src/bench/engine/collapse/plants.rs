//! Loops that are planted after real text, made of real text.

use engine::{TokenId, Tokenizer};

use super::Honest;

/// What a planted loop is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plant {
    /// Up to twelve tokens over and over: three of four real loops have no longer period.
    Short,
    /// Up to sixty.
    Middle,
    /// Up to 188: the longest that was seen.
    Long,
    /// Calls, casts and commas that go on for ever.
    Chain,
    /// A few words in no order.
    Salad,
    /// A line with a running number.
    Counted,
    /// A line in which one token is another one each time.
    Filled,
    /// A passage that is copied with one to three changes.
    Edited,
}

/// What has to be found.
pub(super) const LOOPS: &[Plant] =
    &[Plant::Short, Plant::Middle, Plant::Long, Plant::Chain, Plant::Salad];
/// What reads like a table or like generated code.
pub(super) const LOOKALIKES: &[Plant] = &[Plant::Counted, Plant::Filled, Plant::Edited];

/// Loops that models were seen in.
const CHAINS: &[&str] = &[
    ".valueOf()",
    " as number",
    ".clone()",
    "().unwrap()",
    " and the",
    "foo(bar(",
    "\n    return None",
    " || isValid",
    "self.self.",
    "}\n}\n",
    " I am sorry.",
    "<div><span>",
];
/// Tokens after the loop's second round.
const LOOP_LEN: usize = 300;
/// Texts shorter than this are not used.
const TEXT_LEN_MIN: usize = 1500;

impl Plant {
    pub(super) fn name(self) -> &'static str {
        match self {
            Plant::Short => "periods 1-12",
            Plant::Middle => "periods 13-60",
            Plant::Long => "periods 61-188",
            Plant::Chain => "chains",
            Plant::Salad => "salads",
            Plant::Counted => "running numbers",
            Plant::Filled => "changing literals",
            Plant::Edited => "passages with small changes",
        }
    }
}

/// Where loops are planted: always the same ones.
pub(super) struct Field<'t> {
    tokenizer: &'t Tokenizer,
    texts: Vec<&'t [TokenId]>,
    state: u64,
}

impl<'t> Field<'t> {
    pub(super) fn new(tokenizer: &'t Tokenizer, texts: &'t [Honest]) -> Field<'t> {
        let prose = texts.iter().filter(|text| {
            text.kind != "tables" && text.kind != "logs" && text.tokens.len() >= TEXT_LEN_MIN
        });
        let texts = prose.map(|text| &text.tokens[..]).collect();
        Field { tokenizer, texts, state: 0x9e37_79b9_7f4a_7c15 }
    }

    /// A tape that collapses, and where its second round begins.
    pub(super) fn plant(&mut self, kind: Plant) -> (Vec<TokenId>, usize) {
        let len = 100 + self.below(500);
        let mut tape = self.piece(len);
        match kind {
            Plant::Salad => {
                let second = tape.len();
                let count = 3 + self.below(5);
                let words: Vec<TokenId> = (0..count).map(|_| self.unit(1)[0]).collect();
                for _ in 0..LOOP_LEN {
                    tape.push(words[self.below(count)]);
                }
                (tape, second)
            }
            Plant::Counted | Plant::Filled | Plant::Edited => self.lookalike(tape, kind),
            Plant::Short | Plant::Middle | Plant::Long | Plant::Chain => {
                let unit = match kind {
                    Plant::Short => 1 + self.below(12),
                    Plant::Middle => 13 + self.below(48),
                    _ => 61 + self.below(128),
                };
                let unit = if kind == Plant::Chain {
                    let chain = CHAINS[self.below(CHAINS.len())];
                    // As it is written in the middle of a text: joined to itself.
                    let three = self.tokenizer.encode(&chain.repeat(3));
                    let two = self.tokenizer.encode(&chain.repeat(2));
                    three[..three.len() - two.len()].to_vec()
                } else {
                    self.unit(unit)
                };
                let second = tape.len() + unit.len();
                let round = unit.iter().copied().cycle();
                tape.extend(round.take(unit.len() + LOOP_LEN));
                (tape, second)
            }
        }
    }

    fn lookalike(&mut self, mut tape: Vec<TokenId>, kind: Plant) -> (Vec<TokenId>, usize) {
        let period = if kind == Plant::Edited { 40 + self.below(60) } else { 8 + self.below(25) };
        let unit = self.unit(period);
        let slot = self.below(period);
        let second = tape.len() + period;
        let mut round = 0;
        while tape.len() < second + LOOP_LEN {
            round += 1;
            let mut copy = unit.clone();
            match kind {
                Plant::Counted => {
                    let number = self.tokenizer.encode(&format!("{round}"));
                    copy.splice(slot..slot, number);
                }
                Plant::Filled => copy[slot] = self.piece(1)[0],
                _ => {
                    for _ in 0..=self.below(3) {
                        let at = self.below(copy.len());
                        copy[at] = self.piece(1)[0];
                    }
                }
            }
            tape.extend(copy);
        }
        (tape, second)
    }

    /// A piece of real text that has a word in it and is no long word itself.
    fn unit(&mut self, len: usize) -> Vec<TokenId> {
        loop {
            let piece = self.piece(len);
            let text = self.tokenizer.decode(&piece);
            let letters = text.chars().filter(|sign| sign.is_alphabetic()).count();
            let signs = text.chars().filter(|sign| !sign.is_alphanumeric()).count();
            if letters >= 3 && letters * 5 >= text.len() && signs > 0 {
                return piece;
            }
        }
    }

    fn piece(&mut self, len: usize) -> Vec<TokenId> {
        let index = self.below(self.texts.len());
        let text = self.texts[index];
        let start = self.below(text.len() - len.min(text.len() - 1));
        text[start..start + len].to_vec()
    }

    fn below(&mut self, limit: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        usize::try_from(self.state >> 16).unwrap_or(0) % limit
    }
}
