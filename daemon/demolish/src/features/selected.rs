//! What an editor says beside the cursor when it wants a completion: the item that is selected in its menu, and how it indents.
//!
//! A suggestion goes on with what is selected, as if that were typed already, and takes it in: so it shows what the menu would insert
//! and what comes behind it. `formattingOptions` is no part of the protocol's request; editors that know them may send them.

use std::ops::Range;
use std::sync::Arc;

use decode::{Completion, Indent};
use serde::Deserialize;
use wire::lsp::{InlineCompletionParams, SelectedCompletionInfo};

use super::inline_completion::offset_of;
use super::{Scene, Target};

/// The widest indentation that an editor may have.
const TAB_SIZE_MAX: u32 = 16;

/// The request's params with what some editors add.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Params {
    #[serde(flatten)]
    pub(super) own: InlineCompletionParams,
    #[serde(default)]
    formatting_options: Option<Formatting>,
}

/// The part of the protocol's `FormattingOptions` that says how lines are indented.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Formatting {
    tab_size: u32,
    insert_spaces: bool,
}

impl Params {
    /// How the editor indents this document.
    pub(super) fn indent(&self) -> Option<Indent> {
        let Formatting { tab_size, insert_spaces } = self.formatting_options.as_ref()?;
        let width = (*tab_size).clamp(1, TAB_SIZE_MAX) as usize;
        Some(if *insert_spaces { Indent::Spaces(width) } else { Indent::Tabs })
    }

    /// The item that is selected in the editor's menu, if it stands at the cursor.
    pub(super) fn selected(&self, scene: &Scene, uri: &str, offset: usize) -> Option<Selected> {
        let SelectedCompletionInfo { range, text } =
            self.own.context.selected_completion_info.as_ref()?;
        let range = offset_of(scene, uri, range.start)..offset_of(scene, uri, range.end);
        // The cursor is in what it replaces, and behind it nothing of that is left.
        (range.start <= offset && range.end == offset)
            .then(|| Selected { range, text: text.clone() })
    }
}

/// An item of a menu that is about to be put into a document.
#[derive(Debug)]
pub(super) struct Selected {
    /// The bytes that it takes the place of.
    range: Range<usize>,
    text: String,
}

impl Selected {
    /// The document with the item in it, and the cursor behind it.
    pub(super) fn put(&self, target: &Target) -> (Target, usize) {
        let Range { start, end } = self.range;
        let text: Arc<str> =
            [&target.text[..start], &self.text, &target.text[end..]].concat().into();
        (Target { text, ..target.clone() }, start + self.text.len())
    }

    /// The bytes that it takes the place of.
    pub(super) fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// What was found behind the item, as changes of the document that has it not: the item is part of them.
    pub(super) fn take_in(&self, completion: &mut Completion) {
        for suggestion in completion.suggestions.iter_mut().chain(&mut completion.withheld) {
            suggestion.text.insert_str(0, &self.text);
            let more = suggestion.range.len();
            suggestion.range = self.range.start..self.range.end + more;
        }
        completion.refused.iter_mut().for_each(|refused| refused.text.insert_str(0, &self.text));
    }
}
