//! What the suite looks at: a command with holes, and what has to be there before it is started.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A proxy, as the command line describes it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subject {
    /// What it is called in the table.
    pub(crate) name: String,
    /// How the editor starts it.
    pub(crate) command: Vec<String>,
    /// Commands that run beside it, each one text with quotes as a shell has them.
    pub(crate) besides: Vec<String>,
    /// The socket, below its folder, that shows that they are ready; without one, the port, or a short pause.
    pub(crate) appears: Option<String>,
    /// Files that it reads, below its folder: path and text.
    pub(crate) files: Vec<(String, String)>,
    /// Whether nothing stands between the two ends.
    pub(crate) is_pipe: bool,
}

/// What fills the holes.
#[derive(Clone, Debug)]
pub(super) struct Holes {
    pub(super) program: OsString,
    pub(super) folder: PathBuf,
    pub(super) socket: PathBuf,
    pub(super) port: u16,
}

impl Subject {
    /// No proxy at all.
    pub(crate) fn direct() -> Subject {
        Subject {
            name: "direct".to_owned(),
            command: vec!["{server}".to_owned()],
            is_pipe: true,
            ..Subject::default()
        }
    }

    /// This program, with a daemon of its own.
    pub(crate) fn ours(program: &Path) -> Subject {
        let program = program.display().to_string();
        Subject {
            name: "demolish".to_owned(),
            command: [&*program, "lsp", "--", "{server}"].map(str::to_owned).to_vec(),
            besides: vec![format!("{} daemon", quote(&program))],
            appears: Some("run/demolish.sock".to_owned()),
            ..Subject::default()
        }
    }

    /// This program with two servers on one connection.
    pub(crate) fn ours_merged(program: &Path) -> Subject {
        let mut subject = Subject::ours(program);
        subject.name = "demolish --merge".to_owned();
        subject.command.truncate(2);
        let list = "{server-string},{server2-string}";
        subject.command.extend(["--merge", list].map(str::to_owned));
        subject
    }

    /// How many servers it takes: as many as its command has holes for.
    pub(crate) fn servers(&self) -> usize {
        let has = |n: usize| {
            let (words, text) = (format!("{{server{n}}}"), format!("{{server{n}-string}}"));
            self.command.iter().any(|word| word.contains(&words) || word.contains(&text))
        };
        (2..=SERVERS_MAX).take_while(|n| has(*n)).last().unwrap_or(1)
    }

    /// Whether the port is used, so that somebody has to listen there.
    pub(super) fn listens(&self) -> bool {
        let texts = self.files.iter().map(|(_, text)| text);
        let mut all = self.command.iter().chain(&self.besides).chain(texts);
        all.any(|text| text.contains("{port}"))
    }
}

/// Servers behind one proxy.
pub(super) const SERVERS_MAX: usize = 9;

impl Holes {
    /// The command of the scripted server of this name.
    fn server(&self, name: &str) -> Vec<String> {
        let program = self.program.to_string_lossy().into_owned();
        let socket = self.socket.display().to_string();
        vec![program, "conformance-server".to_owned(), socket, name.to_owned()]
    }

    /// Fills a command: `{server}` becomes several words, the rest stays within its word. `editor` tells the servers of
    /// two editors apart; an empty one is that of the first.
    pub(super) fn fill(&self, command: &[String], editor: &str) -> Vec<OsString> {
        let mut out = Vec::new();
        for word in command {
            let whole = |form| (1..=SERVERS_MAX).find(|n| *word == hole(*n, form));
            match (whole(""), whole("-args")) {
                (Some(n), _) => out.extend(self.server(&format!("{n}{editor}"))),
                (None, Some(n)) => {
                    out.extend(self.server(&format!("{n}{editor}")).split_off(1));
                }
                (None, None) => out.push(self.text(word, editor)),
            }
        }
        out.into_iter().map(OsString::from).collect()
    }

    /// Fills a text.
    pub(super) fn text(&self, text: &str, editor: &str) -> String {
        let mut text = text
            .replace("{dir}", &self.folder.display().to_string())
            .replace("{port}", &self.port.to_string());
        for n in 1..=SERVERS_MAX {
            let words = self.server(&format!("{n}{editor}"));
            let line = words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ");
            text = text
                .replace(&hole(n, "-string"), &line)
                .replace(&hole(n, "-program"), &words[0])
                .replace(&hole(n, "-json"), &serde_json::json!(words).to_string());
        }
        text
    }
}

fn hole(n: usize, form: &str) -> String {
    if n == 1 { format!("{{server{form}}}") } else { format!("{{server{n}{form}}}") }
}

/// A word as a shell reads it back.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// The words of a command line, with single quotes, double quotes and backslashes.
pub(super) fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, None);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quoted, c) {
            (Some(quote), c) if c == quote => quoted = None,
            (Some('"') | None, '\\') => word.get_or_insert_default().extend(chars.next()),
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                word.get_or_insert_default();
                quoted = Some(c);
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_a_shell_does() {
        let line = r#"a 'b c' "d \" e" f\ g '' h"i"j"#;
        assert_eq!(words(line), ["a", "b c", "d \" e", "f g", "", "hij"]);
        assert_eq!(words(&quote("it's")), ["it's"]);
    }

    #[test]
    fn holes_are_filled() {
        let holes = Holes {
            program: "demolish".into(),
            folder: "/d".into(),
            socket: "/d/s".into(),
            port: 7,
        };
        let command = ["x", "{server}", "--at={port}", "{server2-string}"].map(str::to_owned);
        let filled = holes.fill(&command, "b");
        let expected = [
            "x",
            "demolish",
            "conformance-server",
            "/d/s",
            "1b",
            "--at=7",
            "demolish conformance-server /d/s 2b",
        ];
        assert_eq!(filled, expected);
        let subject = Subject { command: command.to_vec(), ..Subject::default() };
        assert_eq!((subject.servers(), subject.listens()), (2, true));
    }
}
