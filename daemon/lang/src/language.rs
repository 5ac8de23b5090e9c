//! A language and the servers that speak for it.

use std::path::Path;

use serde::Deserialize;

use crate::close::Close;
use crate::lex::Lex;
use crate::statements::Ends;
use crate::syntax::Kinds;
use crate::{Policy, Repair, Server, data};

/// One language, as its folder under `grammars/` describes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Language {
    id: String,
    name: String,
    #[serde(default)]
    parser: Option<String>,
    #[serde(default)]
    roots: Vec<String>,
    #[serde(default)]
    suppressions: Vec<String>,
    files: Vec<Files>,
    comment: Comment,
    #[serde(default, rename = "server")]
    servers: Vec<Server>,
    #[serde(default)]
    lex: Lex,
    #[serde(default)]
    syntax: Kinds,
    #[serde(default)]
    statements: Option<Ends>,
    #[serde(default)]
    close: Close,
    #[serde(skip)]
    repairs: Vec<Repair>,
}

/// One group of file names and the language id that editors give it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Files {
    lsp_id: String,
    #[serde(default)]
    parser: Option<String>,
    #[serde(default)]
    extensions: Vec<String>,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    shebangs: Vec<String>,
}

/// How comments are written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comment {
    /// What starts a comment that ends with the line.
    pub line: String,
    /// What opens and closes a comment that may span lines.
    #[serde(default)]
    pub block: Option<[String; 2]>,
}

/// The language of a file by its name, if it is known.
pub fn detect(path: &Path) -> Option<&'static Language> {
    all().iter().find(|language| language.group(path).is_some())
}

/// The language that the first line of a text declares (`#!/usr/bin/env python3`), for files whose name says nothing.
pub fn detect_shebang(text: &str) -> Option<&'static Language> {
    let line = text.lines().next()?.strip_prefix("#!")?;
    let mut words = line.split_whitespace().map(|word| word.rsplit('/').next().unwrap_or(word));
    let program = words.find(|word| *word != "env" && !word.starts_with('-'))?;
    all().iter().find(|language| {
        language.files.iter().any(|files| files.shebangs.iter().any(|name| name == program))
    })
}

/// The language with this id: our own (`typescript`), or one that editors use (`typescriptreact`).
pub fn by_id(id: &str) -> Option<&'static Language> {
    let own = all().iter().find(|language| language.id == id);
    own.or_else(|| {
        all().iter().find(|language| language.files.iter().any(|files| files.lsp_id == id))
    })
}

/// Every known language, ordered by id.
pub fn all() -> &'static [Language] {
    data::languages()
}

/// The server that a command line starts, with the first language that it is listed under.
pub fn server_for(command: &[String]) -> Option<(&'static Language, &'static Server)> {
    let pairs = all()
        .iter()
        .flat_map(|language| language.servers.iter().map(move |server| (language, server)));
    pairs.into_iter().find(|(_, server)| server.recognises(command))
}

impl Language {
    /// Our own id, the name of the folder: `typescript` also for JavaScript.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The name that people use.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The language id that LSP wants for this file (`typescriptreact` for `a.tsx`).
    pub fn lsp_id(&self, path: &Path) -> &str {
        self.group(path).map_or(self.files[0].lsp_id.as_str(), |files| files.lsp_id.as_str())
    }

    /// Every language id that LSP clients use for it.
    pub fn lsp_ids(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|files| files.lsp_id.as_str())
    }

    /// How comments are written.
    pub fn comment(&self) -> &Comment {
        &self.comment
    }

    /// Files and folders that mark the root of a project, the more telling first.
    pub fn root_markers(&self) -> &[String] {
        &self.roots
    }

    /// The servers that are known, the preferred first.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The server of this name.
    pub fn server(&self, name: &str) -> Option<&Server> {
        self.servers.iter().find(|server| server.is_named(name))
    }

    /// How far this server's diagnostics can be trusted; the cautious default if nothing was measured.
    pub fn policy(&self, server: &str) -> &Policy {
        match self.server(server) {
            Some(server) => server.policy(),
            None => Policy::unmeasured(),
        }
    }

    /// The name of the tree-sitter grammar for a file.
    pub fn parser(&self, path: &Path) -> Option<&str> {
        self.group(path).and_then(|files| files.parser.as_deref()).or(self.parser.as_deref())
    }

    pub(crate) fn lex(&self) -> &Lex {
        &self.lex
    }

    pub(crate) fn kinds(&self) -> &Kinds {
        &self.syntax
    }

    pub(crate) fn ends(&self) -> Option<&Ends> {
        self.statements.as_ref()
    }

    pub(crate) fn closing(&self) -> &Close {
        &self.close
    }

    /// Whether blocks are shown by indentation alone.
    pub fn indents(&self) -> bool {
        self.close.indents()
    }

    /// What silences a checker instead of heeding it.
    pub fn suppressions(&self) -> &[String] {
        &self.suppressions
    }

    /// Small rewrites that often repair a diagnostic, the likelier first.
    pub fn repairs(&self) -> &[Repair] {
        &self.repairs
    }

    /// What the folder says beyond `lang.toml`, and what one table of it needs to know of another.
    pub(crate) fn complete(&mut self, repairs: Vec<Repair>) {
        self.repairs = repairs;
        self.lex.set_comments(&self.comment.line, self.comment.block.as_ref());
    }

    pub(crate) fn servers_mut(&mut self) -> &mut [Server] {
        &mut self.servers
    }

    fn group(&self, path: &Path) -> Option<&Files> {
        let name = path.file_name()?.to_str()?;
        let extension = path.extension().and_then(|extension| extension.to_str());
        self.files.iter().find(|files| {
            files.names.iter().any(|known| known == name)
                || extension.is_some_and(|extension| {
                    files.extensions.iter().any(|known| known == extension)
                })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_folder_of_grammars_reads() {
        let ids: Vec<_> = all().iter().map(Language::id).collect();
        assert_eq!(ids, ["c", "cpp", "go", "lua", "python", "rust", "sql", "typescript"]);
    }

    #[test]
    fn files_are_told_by_their_names() {
        let check = |path: &str, id: Option<&str>, lsp_id: &str| {
            let language = detect(Path::new(path));
            assert_eq!(language.map(Language::id), id, "{path}");
            assert_eq!(
                language.map_or("", |language| language.lsp_id(Path::new(path))),
                lsp_id,
                "{path}"
            );
        };
        check("a/b.py", Some("python"), "python");
        check("SConstruct", Some("python"), "python");
        check("x.tsx", Some("typescript"), "typescriptreact");
        check("x.d.mts", Some("typescript"), "typescript");
        check("x.cjs", Some("typescript"), "javascript");
        check("x.h", Some("c"), "c");
        check("README", None, "");
        assert_eq!(
            detect_shebang("#!/usr/bin/env -S python3 -u\n").map(Language::id),
            Some("python")
        );
        assert_eq!(by_id("typescriptreact").map(Language::id), Some("typescript"));
    }

    #[test]
    fn servers_are_told_by_their_commands() {
        let check = |command: &[&str], name: Option<&str>| {
            let command: Vec<_> = command.iter().map(ToString::to_string).collect();
            assert_eq!(server_for(&command).map(|(_, server)| server.name()), name, "{command:?}");
        };
        check(&["/usr/bin/ty", "server"], Some("ty"));
        check(&["C:\\tools\\tsgo.exe", "--lsp", "--stdio"], Some("tsc"));
        check(&["unheard-of"], None);
        check(&[], None);
    }

    #[test]
    fn only_those_steer_that_were_measured_or_cannot_err() {
        let steering: Vec<_> = all()
            .iter()
            .flat_map(Language::servers)
            .filter(|server| server.steers())
            .map(Server::name)
            .collect();
        assert_eq!(steering, ["ty", "sqlite", "tsc"]);
    }
}
