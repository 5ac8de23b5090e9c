//! A module that uses most of what the language has.
use std::collections::HashMap;
use std::fmt::{self, Display};

/* a /* nested ( */ comment */
#[derive(Debug, Clone)]
pub struct Names<'a, T> {
    first: &'a str,
    rest: Vec<T>,
}

pub enum Shape {
    Circle(f64),
    Square { side: f64 },
}

impl<'a, T: Display> Names<'a, T> {
    pub fn new(first: &'a str) -> Self {
        Self { first, rest: Vec::new() }
    }

    fn longest(&self) -> Option<char> {
        let quote = '\'';
        let open = '(';
        let raw = r#"a "quoted" ( string"#;
        self.first.chars().chain(raw.chars()).filter(|letter| *letter != quote && *letter != open).max()
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shape::Circle(radius) if *radius > 1.0 => write!(f, "circle {radius:.2}"),
            Shape::Circle(_) => f.write_str("dot"),
            Shape::Square { side } => {
                let text = format!("square {}", side);
                f.write_str(&text)
            }
        }
    }
}

fn count(words: &[&str]) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for word in words {
        *counts.entry((*word).to_owned()).or_insert(0) += 1;
    }
    'outer: loop {
        while let Some(_) = counts.get("x") {
            break 'outer;
        }
        break;
    }
    counts
}
