//! Reads a scenario: fenced blocks in a markdown file. `⏎` stands for a line end, `␍⏎` for one of DOS, in everything but the document.
//!
//! ```text
//! python file=a.py [crlf]   the document; `$0` is the cursor of a completion, without one it is a fix; `mixed`: every other line ends as in DOS
//! sql schema                the schema of the project: SQLite itself is asked then, in memory
//! model                     what the model would say, the likeliest first; a line `after CUE ⇒ TEXT` speaks only after that prompt's end
//! diagnostics               `PATTERN  error[code] message`, `PATTERN @ PART  …` (the range is PART), `PATTERN  clean` (overrules rules inside it),
//!                           `PATTERN  unknown(timeout)`; `*` is any text
//! completions               what the server completes, one name a line
//! quickfixes                `PATTERN => REPLACEMENT`: the server's quick fixes, one edit each
//! settings                  `checks 2`, `candidates 3`, `lines 4`, `tokens 9`, `findings show`, `server NAME`, `deadline 50`, `delay 20`, `no model`
//! expect                    what comes of it, as `run.rs` prints it
//! ```

/// One scenario.
#[derive(Debug, Default)]
pub(crate) struct Scenario {
    pub(crate) path: String,
    pub(crate) document: String,
    pub(crate) model: Vec<Said>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) schema: Option<String>,
    pub(crate) completions: Vec<String>,
    pub(crate) quick_fixes: Vec<(String, String)>,
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) expect: String,
}

/// What the model says after a cue.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) cue: String,
    pub(crate) text: String,
}

/// What the server says of a text that holds a pattern.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) pattern: String,
    pub(crate) part: String,
    pub(crate) says: Says,
}

#[derive(Debug)]
pub(crate) enum Says {
    Clean,
    Diagnostic { severity: text::Severity, code: String, message: String },
    Unknown(String),
}

pub(crate) fn scenario(source: &str) -> Scenario {
    let mut scenario = Scenario::default();
    let mut rest = source;
    while let Some((_, opened)) = rest.split_once("```") {
        let (info, body) = opened.split_once('\n').expect("a fence ends its line");
        let (body, after) = body.split_once("```").expect("a fence is closed");
        rest = after;
        block(&mut scenario, info, body);
    }
    assert!(!scenario.path.is_empty(), "a scenario has a document: ```python file=a.py");
    scenario
}

fn block(scenario: &mut Scenario, info: &str, body: &str) {
    let lines = || body.lines().filter(|line| !line.trim().is_empty());
    match info.split_whitespace().next().unwrap_or("") {
        "model" => scenario.model = lines().map(said).collect(),
        "diagnostics" => scenario.rules = lines().map(rule).collect(),
        "completions" => scenario.completions = lines().map(str::to_owned).collect(),
        "quickfixes" => {
            let pairs =
                lines().map(|line| line.split_once(" => ").expect("PATTERN => REPLACEMENT"));
            scenario.quick_fixes =
                pairs.map(|(pattern, with)| (unescape(pattern), unescape(with))).collect();
        }
        "settings" => {
            let words = lines().map(|line| line.split_once(' ').unwrap_or((line, "")));
            scenario.settings =
                words.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        }
        _ if info == "sql schema" => scenario.schema = Some(body.to_owned()),
        "expect" => body.clone_into(&mut scenario.expect),
        _ => {
            let file = info.split_whitespace().find_map(|word| word.strip_prefix("file="));
            scenario.path = file.expect("a document names its file").to_owned();
            scenario.document = match info.rsplit(' ').next() {
                Some("crlf") => body.replace('\n', "\r\n"),
                Some("mixed") => mixed(body),
                _ => body.to_owned(),
            };
        }
    }
}

fn mixed(body: &str) -> String {
    let end = |number: usize| if number.is_multiple_of(2) { "\r\n" } else { "\n" };
    body.lines().enumerate().flat_map(|(number, line)| [line, end(number)]).collect()
}

fn said(line: &str) -> Said {
    let (cue, text) = match line.strip_prefix("after ").and_then(|line| line.split_once(" ⇒ ")) {
        Some((cue, text)) => (cue, text),
        None => ("", line),
    };
    Said { cue: format!("{}<|fim_middle|>", unescape(cue)), text: unescape(text) }
}

fn rule(line: &str) -> Rule {
    let (pattern, says) = line.rsplit_once("  ").expect("PATTERN, two blanks, what is said");
    let (pattern, part) = pattern.trim_end().split_once(" @ ").unwrap_or((pattern.trim_end(), ""));
    Rule { pattern: unescape(pattern), part: unescape(part), says: parse_says(says.trim()) }
}

fn parse_says(says: &str) -> Says {
    if says == "clean" {
        return Says::Clean;
    }
    let (kind, rest) =
        says.split_once(['[', '(']).expect("clean, error[code] message, unknown(why)");
    let (inner, message) = rest.split_once([']', ')']).expect("the bracket is closed");
    let severity = match kind {
        "unknown" => return Says::Unknown(inner.to_owned()),
        "warning" => text::Severity::Warning,
        "hint" => text::Severity::Hint,
        _ => text::Severity::Error,
    };
    Says::Diagnostic { severity, code: inner.to_owned(), message: message.trim().to_owned() }
}

pub(crate) fn unescape(text: &str) -> String {
    text.replace('␍', "\r").replace('⏎', "\n")
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('\r', "␍").replace('\n', "⏎")
}

impl Scenario {
    pub(crate) fn setting(&self, name: &str) -> Option<&str> {
        self.settings.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn number(&self, name: &str) -> Option<u32> {
        self.setting(name).map(|value| value.parse().expect("a number"))
    }
}
