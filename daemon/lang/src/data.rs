//! Reads the embedded folders of `grammars/`. They are our own files, so a mistake in one is a bug: it panics, and a test reads them all.

use std::sync::OnceLock;

use include_dir::{Dir, DirEntry, include_dir};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{Language, Repair, toolcall::Format};

static GRAMMARS: Dir = include_dir!("$CARGO_MANIFEST_DIR/../../grammars");

/// Every language, in the order of the folder names.
pub(crate) fn languages() -> &'static [Language] {
    static LANGUAGES: OnceLock<Vec<Language>> = OnceLock::new();
    LANGUAGES.get_or_init(|| {
        let mut found: Vec<_> =
            GRAMMARS.dirs().filter(|dir| file(dir, "lang.toml").is_some()).map(read).collect();
        found.sort_by(|a, b| a.id().cmp(b.id()));
        found
    })
}

/// Every format of tool calls, in the order in which they are tried.
pub(crate) fn formats() -> &'static [Format] {
    static FORMATS: OnceLock<Vec<Format>> = OnceLock::new();
    FORMATS.get_or_init(|| {
        let files = GRAMMARS.get_dir("toolcall").into_iter().flat_map(Dir::files);
        let mut formats: Vec<Format> = files
            .map(|file| {
                let text = file.contents_utf8().unwrap_or_default();
                toml::from_str(text)
                    .unwrap_or_else(|error| panic!("grammars/{}: {error}", file.path().display()))
            })
            .collect();
        formats.sort_by_key(Format::rank);
        formats
    })
}

fn read(dir: &'static Dir<'static>) -> Language {
    let mut language: Language =
        parse(dir, "lang.toml").expect("the folder was chosen because it has lang.toml");
    for server in language.servers_mut() {
        let name = format!("policy/{}.toml", server.name());
        if let Some(policy) = parse(dir, &name) {
            server.set_policy(policy);
        }
    }
    let repairs: Option<Repairs> = parse(dir, "repairs.toml");
    language.complete(repairs.map_or_else(Vec::new, |file| file.repair));
    language
}

/// The form of `repairs.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Repairs {
    repair: Vec<Repair>,
}

fn parse<T: DeserializeOwned>(dir: &'static Dir<'static>, name: &str) -> Option<T> {
    let text = file(dir, name)?;
    match toml::from_str(text) {
        Ok(value) => Some(value),
        Err(error) => panic!("grammars/{}/{name}: {error}", dir.path().display()),
    }
}

fn file(dir: &'static Dir<'static>, name: &str) -> Option<&'static str> {
    let path = dir.path().join(name);
    let entry = dir.get_entry(&path)?;
    match entry {
        DirEntry::File(file) => file.contents_utf8(),
        DirEntry::Dir(_) => None,
    }
}
