//! Calls and literals in Python's syntax, as JSON.

use super::schema::quote;

/// How deep brackets may nest.
const DEPTH_MAX: usize = 100;

/// The JSON of a literal; JSON's own words for true, false and null are taken too.
pub(super) fn literal(text: &str) -> Option<String> {
    let mut reader = Reader { rest: text, depth: 0 };
    let json = reader.value().ok()?;
    reader.space();
    reader.rest.is_empty().then_some(json)
}

/// The calls of `[name(key=value, …), …]`, with their arguments as JSON objects.
pub(super) fn calls(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut reader = Reader { rest: text, depth: 0 };
    let mut calls = Vec::new();
    reader.expect('[')?;
    loop {
        let name = reader.word();
        if name.is_empty() {
            return Err(format!("a call begins with a name, not with {:?}", reader.next()));
        }
        reader.expect('(')?;
        let mut arguments: Vec<String> = Vec::new();
        while !reader.eat(')') {
            let key = reader.word();
            if key.is_empty() {
                return Err(format!("an argument of {name} has no name"));
            }
            reader.expect('=')?;
            arguments.push(format!("{}: {}", quote(&key), reader.value()?));
            if !reader.eat(',') {
                reader.expect(')')?;
                break;
            }
        }
        calls.push((name, format!("{{{}}}", arguments.join(", "))));
        if !reader.eat(',') {
            reader.expect(']')?;
            return Ok(calls);
        }
        if reader.eat(']') {
            return Ok(calls);
        }
    }
}

struct Reader<'t> {
    rest: &'t str,
    depth: usize,
}

impl Reader<'_> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn next(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn eat(&mut self, wanted: char) -> bool {
        self.space();
        let rest = self.rest.strip_prefix(wanted);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        if self.eat(wanted) {
            Ok(())
        } else {
            Err(format!("expected {wanted:?}, found {:?}", self.next()))
        }
    }

    /// A name, with dots in it.
    fn word(&mut self) -> String {
        self.space();
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-');
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word.to_owned()
    }

    fn value(&mut self) -> Result<String, String> {
        self.space();
        match self.next() {
            Some('"' | '\'') => {
                let mut text = self.string()?;
                // Strings that stand side by side are one.
                while matches!(self.rest.trim_start().chars().next(), Some('"' | '\'')) {
                    self.space();
                    text.push_str(&self.string()?);
                }
                Ok(quote(&text))
            }
            Some('[') => self.nested('[', ']', false),
            Some('(') => self.nested('(', ')', false),
            Some('{') => self.nested('{', '}', true),
            _ => {
                let sign = if self.eat('-') { "-" } else { "" };
                let word = self.word();
                match word.as_str() {
                    "True" | "true" => Ok("true".to_owned()),
                    "False" | "false" => Ok("false".to_owned()),
                    "None" | "null" => Ok("null".to_owned()),
                    number if serde_json::from_str::<serde_json::Number>(number).is_ok() => {
                        Ok(format!("{sign}{number}"))
                    }
                    other => Err(format!("{other:?} is no value")),
                }
            }
        }
    }

    /// A list, a tuple or a dictionary.
    fn nested(&mut self, open: char, close: char, has_keys: bool) -> Result<String, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("nested more than {DEPTH_MAX} deep"));
        }
        self.expect(open)?;
        let mut items = Vec::new();
        while !self.eat(close) {
            let mut item = self.value()?;
            if has_keys {
                if !item.starts_with('"') {
                    item = quote(&item);
                }
                self.expect(':')?;
                item = format!("{item}: {}", self.value()?);
            }
            items.push(item);
            if !self.eat(',') {
                self.expect(close)?;
                break;
            }
        }
        self.depth -= 1;
        let [open, close] = if has_keys { ['{', '}'] } else { ['[', ']'] };
        Ok(format!("{open}{}{close}", items.join(", ")))
    }

    fn string(&mut self) -> Result<String, String> {
        let quote = self.next().unwrap_or('"');
        let triple = quote.to_string().repeat(3);
        let close = if self.rest.starts_with(&triple) { triple } else { quote.to_string() };
        self.rest = &self.rest[close.len()..];
        let mut text = String::new();
        loop {
            if let Some(rest) = self.rest.strip_prefix(close.as_str()) {
                self.rest = rest;
                return Ok(text);
            }
            let Some(c) = self.next() else {
                return Err("a string does not end".to_owned());
            };
            self.rest = &self.rest[c.len_utf8()..];
            if c == '\\' { self.escape(&mut text)? } else { text.push(c) }
        }
    }

    fn escape(&mut self, text: &mut String) -> Result<(), String> {
        let Some(c) = self.next() else {
            return Err("a string does not end".to_owned());
        };
        self.rest = &self.rest[c.len_utf8()..];
        let plain = match c {
            'n' => "\n",
            't' => "\t",
            'r' => "\r",
            'b' => "\u{8}",
            'f' => "\u{c}",
            '0' => "\0",
            '\n' => "",
            '\\' => "\\",
            '\'' => "'",
            '"' => "\"",
            'x' | 'u' | 'U' => return self.code(c, text),
            // Python keeps what it does not know.
            _ => {
                text.push('\\');
                text.push(c);
                return Ok(());
            }
        };
        text.push_str(plain);
        Ok(())
    }

    fn code(&mut self, kind: char, text: &mut String) -> Result<(), String> {
        let digits = match kind {
            'x' => 2,
            'u' => 4,
            _ => 8,
        };
        let code = self.rest.get(..digits).and_then(|hex| u32::from_str_radix(hex, 16).ok());
        let character =
            code.and_then(char::from_u32).ok_or("an escape of a string names no character")?;
        text.push(character);
        self.rest = &self.rest[digits..];
        Ok(())
    }
}
