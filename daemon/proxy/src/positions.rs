//! Positions from one encoding into another (rules 4.26 to 4.28), for a server that counts columns differently from its
//! client.
//!
//! Every position in the protocol's own methods is converted, and nothing else: what stands in `data`, in a command's
//! arguments, in members that the protocol does not have and in methods that it does not know is opaque. Where positions
//! are, is a table ([`shapes`]). Only the numbers change that have to; every other byte stays.

use std::collections::HashMap;

use text::{Change, Document, Encoding, Position, Range, Revision};

use crate::raw::{Raw, Splice};

mod shapes;
mod tokens;

use shapes::Shape;

/// How positions are to be converted.
#[derive(Clone, Copy)]
pub struct Conversion<'a> {
    /// How the text counts that is converted.
    pub from: Encoding,
    /// How it is to count.
    pub to: Encoding,
    /// The text of a document by its URI, at the version that the positions are of. For `didChange` that is the text before
    /// the change.
    pub text_of: &'a dyn Fn(&str) -> Option<Document>,
}

/// What became of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Converted {
    /// The JSON text with its positions converted.
    pub raw: Vec<u8>,
    /// The documents without a text, whose positions had to stay as they are.
    pub left: Vec<String>,
    /// That it has changes of semantic tokens, which cannot be converted: they say nothing of the lines that they are in.
    pub refused: bool,
}

/// Whether the protocol has this method, so that its positions are known and are converted.
pub fn is_typed(method: &str) -> bool {
    shapes::of_params(method).is_some()
        || shapes::of_result(method).is_some()
        || shapes::WITHOUT_POSITIONS.contains(&method)
}

impl Conversion<'_> {
    /// Converts the parameters of a request or notification. `about` is the document of an item that is to be resolved, and
    /// that does not say where it is; otherwise it may be empty.
    pub fn params(&self, method: &str, about: &str, raw: &[u8]) -> Converted {
        self.convert(shapes::of_params(method), about, raw)
    }

    /// Converts the result of a request for the document `about`.
    pub fn result(&self, method: &str, about: &str, raw: &[u8]) -> Converted {
        self.convert(shapes::of_result(method), about, raw)
    }

    fn convert(&self, shape: Option<&Shape>, about: &str, raw: &[u8]) -> Converted {
        let unchanged = || Converted { raw: raw.to_vec(), ..Converted::default() };
        let Some(shape) = shape.filter(|_| self.from != self.to) else { return unchanged() };
        let mut walk = Walk {
            by: self,
            texts: HashMap::new(),
            splice: Splice::new(raw),
            left: Vec::new(),
            refused: false,
        };
        walk.visit(shape, about, Raw::new(raw));
        if !walk.left.is_empty() {
            tracing::info!(documents = ?walk.left, "positions in documents that are not open stay as they are");
        }
        if walk.refused {
            tracing::warn!("changes of semantic tokens cannot be converted");
        }
        Converted { raw: walk.splice.finish(), left: walk.left, refused: walk.refused }
    }

    /// A position beyond the last line stays; beyond the end of a line is its end.
    fn position(&self, document: &Document, position: Position) -> Position {
        if position.line as usize >= document.rope().len_lines() {
            return position;
        }
        document.position(document.offset(position, self.from), self.to)
    }
}

struct Walk<'a> {
    by: &'a Conversion<'a>,
    texts: HashMap<String, Option<Document>>,
    splice: Splice<'a>,
    left: Vec<String>,
    refused: bool,
}

impl Walk<'_> {
    fn visit(&mut self, shape: &Shape, about: &str, value: Raw<'_>) {
        match shape {
            Shape::Position => self.position(about, value),
            Shape::List(inner) if value.is_array() => {
                value.elements().into_iter().for_each(|element| self.visit(inner, about, element));
            }
            Shape::List(inner) => self.visit(inner, about, value),
            Shape::Object(fields) => {
                for member in value.members() {
                    if let Some((_, inner)) = fields.iter().find(|(name, _)| member.is(name)) {
                        self.visit(inner, about, member.value);
                    }
                }
            }
            Shape::In(path, inner) => {
                let uri = value.path(path).and_then(Raw::string);
                self.visit(inner, uri.as_deref().unwrap_or(about), value);
            }
            Shape::Elsewhere(path, inner, here) => {
                let uri = value.path(path).and_then(Raw::string);
                self.visit(inner, uri.as_deref().unwrap_or(about), value);
                self.visit(here, about, value);
            }
            Shape::ByUri(inner) => {
                for member in value.members() {
                    self.visit(inner, &member.name(), member.value);
                }
            }
            Shape::Folds => self.folds(about, value),
            Shape::Tokens => self.tokens(about, value),
            Shape::TokenChanges => self.refused |= !value.elements().is_empty(),
            Shape::Changes => self.changes(about, value),
        }
    }

    /// The text of a document, or a note that there is none.
    fn text(&mut self, uri: &str) -> Option<Document> {
        if let Some(known) = self.texts.get(uri) {
            return known.clone();
        }
        let text = (self.by.text_of)(uri);
        if text.is_none() {
            self.left.push(uri.to_owned());
        }
        self.texts.insert(uri.to_owned(), text.clone());
        text
    }

    fn position(&mut self, uri: &str, value: Raw<'_>) {
        let Some(position) = position_of(value) else { return };
        if position.character == 0 {
            return;
        }
        let Some(document) = self.text(uri) else { return };
        self.write(&document, value, position);
    }

    fn write(&mut self, document: &Document, value: Raw<'_>, position: Position) {
        let new = self.by.position(document, position);
        if new.character != position.character
            && let Some(character) = value.get("character")
        {
            self.splice.replace(character, new.character.to_string());
        }
    }

    /// Folds have their positions as four numbers.
    fn folds(&mut self, uri: &str, value: Raw<'_>) {
        for fold in value.elements() {
            for (line, character) in [("startLine", "startCharacter"), ("endLine", "endCharacter")]
            {
                let (Some(line), Some(at)) = (fold.get(line), fold.get(character)) else {
                    continue;
                };
                let (Some(line), Some(character)) = (line.number(), at.number()) else { continue };
                let Some(document) = self.text(uri) else { return };
                let new = self.by.position(&document, Position { line, character });
                if new.character != character {
                    self.splice.replace(at, new.character.to_string());
                }
            }
        }
    }

    fn tokens(&mut self, uri: &str, value: Raw<'_>) {
        let elements = value.elements();
        let numbers: Option<Vec<u32>> = elements.iter().map(|element| element.number()).collect();
        let Some(numbers) = numbers.filter(|numbers| !numbers.is_empty()) else { return };
        let Some(document) = self.text(uri) else { return };
        if let Some(new) = tokens::convert(&numbers, &document, self.by.from, self.by.to) {
            for (element, (old, new)) in elements.into_iter().zip(numbers.iter().zip(&new)) {
                if old != new {
                    self.splice.replace(element, new.to_string());
                }
            }
        }
    }

    /// Changes of a document, each of which counts in the text that the one before has left.
    fn changes(&mut self, uri: &str, value: Raw<'_>) {
        let Some(mut document) = self.text(uri) else { return };
        for change in value.elements() {
            let Some(text) = change.get("text").and_then(Raw::string) else { return };
            let range = change.get("range").and_then(range_of);
            if let (Some(range), Some(value)) = (range, change.get("range")) {
                for (name, position) in [("start", range.start), ("end", range.end)] {
                    if let Some(value) = value.get(name) {
                        self.write(&document, value, position);
                    }
                }
                if let Some(length) = change.get("rangeLength") {
                    let bytes = document.byte_range(range, self.by.from);
                    let new = tokens::units(&document, bytes, self.by.to);
                    self.splice.replace(length, new.to_string());
                }
            }
            let change = Change { range, text };
            if document.apply(Revision(0), &[change], self.by.from).is_err() {
                return;
            }
        }
    }
}

fn position_of(value: Raw<'_>) -> Option<Position> {
    let members = value.members();
    let number = |name| crate::raw::find(&members, name)?.number();
    Some(Position { line: number("line")?, character: number("character")? })
}

fn range_of(value: Raw<'_>) -> Option<Range> {
    Some(Range {
        start: value.get("start").and_then(position_of)?,
        end: value.get("end").and_then(position_of)?,
    })
}

#[cfg(test)]
mod tests;
