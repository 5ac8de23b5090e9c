//! Where the chat templates of a model are.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{chat::Template, hf::read_json};
use crate::{files, info::LoadError};

/// The template for conversations with tools, where a model has several.
const TOOL_USE: &str = "tool_use";

/// A model's templates by name; the one without a name is `default`.
#[derive(Debug, Clone, Default)]
pub(super) struct Templates(Vec<(String, Template)>);

impl Templates {
    /// From chat_template.jinja and the folder additional_chat_templates, else chat_template.json, else tokenizer_config.json.
    pub(super) fn find(dir: &Path, config: &Value) -> Result<Templates, LoadError> {
        let mut found = Templates::default();
        found.add_file(dir.join("chat_template.jinja"), "default")?;
        let others = fs::read_dir(dir.join("additional_chat_templates")).into_iter().flatten();
        let mut others: Vec<PathBuf> = others.flatten().map(|entry| entry.path()).collect();
        others.sort();
        for path in others
            .into_iter()
            .filter(|path| path.extension().is_some_and(|extension| extension == "jinja"))
        {
            let name = path
                .file_stem()
                .map(|stem| stem.to_string_lossy().into_owned())
                .unwrap_or_default();
            found.add_file(path, &name)?;
        }
        if found.0.is_empty() {
            let path = dir.join("chat_template.json");
            found.add_value(&read_json(&path)?["chat_template"], &path);
        }
        if found.0.is_empty() {
            found.add_value(&config["chat_template"], &dir.join("tokenizer_config.json"));
        }
        Ok(found)
    }

    /// A template that is not the model's own.
    pub(super) fn built_in(name: &str, source: &str) -> Templates {
        let template = Template { file: format!("built in: {name}"), source: source.to_owned() };
        Templates(vec![("default".to_owned(), template)])
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The template for a conversation.
    pub(super) fn choose(&self, has_tools: bool) -> Option<&Template> {
        let get = |wanted: &str| {
            self.0.iter().find(|(name, _)| name == wanted).map(|(_, template)| template)
        };
        let for_tools = has_tools.then(|| get(TOOL_USE)).flatten();
        for_tools
            .or_else(|| get("default"))
            .or_else(|| self.0.first().map(|(_, template)| template))
    }

    fn add_file(&mut self, path: PathBuf, name: &str) -> Result<(), LoadError> {
        match files::read_text(&path) {
            Ok(source) => self
                .0
                .push((name.to_owned(), Template { file: path.display().to_string(), source })),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(LoadError::File { path, reason: error.to_string() }),
        }
        Ok(())
    }

    /// A template, or a list of named ones.
    fn add_value(&mut self, value: &Value, path: &Path) {
        let file = path.display().to_string();
        if let Some(source) = value.as_str() {
            self.0.push(("default".to_owned(), Template { file, source: source.to_owned() }));
            return;
        }
        for entry in value.as_array().into_iter().flatten() {
            if let (Some(name), Some(source)) = (entry["name"].as_str(), entry["template"].as_str())
            {
                let file = format!("{file} ({name})");
                self.0.push((name.to_owned(), Template { file, source: source.to_owned() }));
            }
        }
    }
}
