//! The fill-in-the-middle prompt.
//!
//! The windows around the cursor are cut at line starts, and their starts are anchored: they stay where they are while the user types,
//! so that the engine finds the tokens of the last keystroke in its cache. Prefix and suffix are tokenised apart, as the models were trained.

use std::path::Path;

use engine::{Engine, FimTokens, TokenId, Tokenizer};

use crate::Snippet;

/// Tokens of the text before the cursor.
pub const PREFIX_TOKENS_MAX: usize = 384;
/// Tokens of the text after the cursor.
pub const SUFFIX_TOKENS_MAX: usize = 96;
/// The window's start moves by this many lines at a time.
pub const ANCHOR_LINES: usize = 16;
/// Tokens of what other files say, which stands before everything.
pub const CONTEXT_TOKENS_MAX: usize = 768;
/// It takes no more than this part of what the model can read at all.
const CONTEXT_SHARE: (usize, usize) = (3, 8);
/// With less room for it there is none.
const CONTEXT_TOKENS_MIN: usize = 64;
/// Tokens between the parts.
const FIM_TOKENS: usize = 4;
/// Tokens of a path, as the recipe of the default model gives it.
const PATH_TOKENS_MAX: usize = 24;
/// Tokens of the path, and of what stands between the parts.
const HEADER_TOKENS_MAX: usize = PATH_TOKENS_MAX + FIM_TOKENS;
/// Tokens that a small context keeps free for the answer.
const ANSWER_TOKENS: usize = 96;
/// A suffix takes no more than one part in this many of what a small context leaves.
const SUFFIX_SHARE: usize = 5;
/// The names of a path that a model is told, from its end: it was trained on paths inside packages.
const PATH_NAMES: usize = 3;
/// No token is longer, for the purpose of not tokenising a whole file to keep its end.
const TOKEN_BYTES_MAX: usize = 12;

/// The order of the parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Prefix, suffix, middle: what most models are trained on.
    Psm,
    /// Suffix, prefix, middle: while the user types, the prompt only grows at its end.
    Spm,
    /// The prefix alone: all that a model can read that was not trained to fill in. For scores; nothing is completed so.
    Prefix,
}

/// Whether the last token before the cursor is taken back where it may be half a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Healing {
    /// The model was trained on cuts between any two characters.
    Off,
    /// The last token is left out of the prompt, and the answer has to start with its bytes.
    On,
}

/// A prompt, ready for the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// The tokens.
    pub tokens: Vec<TokenId>,
    /// The bytes before the cursor that the prompt leaves out and the answer has to start with.
    pub healed: Vec<u8>,
}

/// What a model's prompts look like.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// The tokens between the parts; `None` where there is only one.
    pub fim: Option<FimTokens>,
    /// Their order.
    pub form: Form,
    /// At most this many tokens of the text before the cursor, at most [`PREFIX_TOKENS_MAX`].
    pub prefix_max: usize,
    /// At most this many tokens of the text after the cursor, at most [`SUFFIX_TOKENS_MAX`].
    pub suffix_max: usize,
    /// At most this many tokens of other files, at most [`CONTEXT_TOKENS_MAX`]; 0 where the model is too small to read them.
    pub context_max: usize,
}

impl Layout {
    /// The layout that a model does best with: suffix first where it was trained for it, as it was trained otherwise, and within its
    /// context. `None` if it cannot fill in.
    pub fn of(engine: &Engine) -> Option<Layout> {
        let fim = engine.tokenizer().fim()?;
        let form = if fim.suffix_first { Form::Spm } else { Form::Psm };
        Some(Layout { fim: Some(fim), form, ..Layout::before(engine) })
    }

    /// The layout that shows a model what stands before the cursor, and nothing else.
    pub(crate) fn before(engine: &Engine) -> Layout {
        let room = engine.info().context_max.saturating_sub(ANSWER_TOKENS + HEADER_TOKENS_MAX);
        let suffix_max = SUFFIX_TOKENS_MAX.min(room / SUFFIX_SHARE);
        let prefix_max = PREFIX_TOKENS_MAX.min(room - suffix_max);
        let (part, whole) = CONTEXT_SHARE;
        let most = CONTEXT_TOKENS_MAX.min(engine.info().context_max / whole * part);
        let left = most.min(room - suffix_max - prefix_max);
        let context_max = if left >= CONTEXT_TOKENS_MIN { left } else { 0 };
        Layout { fim: None, form: Form::Prefix, prefix_max, suffix_max, context_max }
    }

    /// The token that a model knows as the beginning of a file.
    fn file_sep(&self) -> Option<TokenId> {
        self.fim.and_then(|fim| fim.file_sep)
    }
}

/// The prompt for the hole between `before` and `after`; both with `\n` line ends. `context` is what other files say, the most relevant
/// last; of it the prompt has as much as there is room for.
pub fn fill_in(
    tokenizer: &Tokenizer,
    layout: &Layout,
    healing: Healing,
    path: &Path,
    before: &str,
    after: &str,
    context: &[Snippet],
) -> Prompt {
    let Layout { form, prefix_max, suffix_max, .. } = *layout;
    let mut prefix = window_before(tokenizer, before, prefix_max);
    let suffix = window_after(tokenizer, after, suffix_max);
    let inside_word = before.ends_with(|last: char| last.is_alphanumeric() || last == '_');
    let last = if healing == Healing::On && inside_word { prefix.pop() } else { None };
    let healed = last.map_or_else(Vec::new, |token| tokenizer.token_bytes(token).to_vec());
    let header = header(tokenizer, layout, path);
    let (context, comments) = match layout.file_sep() {
        Some(_) => (others(layout, context, |one| file(tokenizer, layout, one)), Vec::new()),
        None => (Vec::new(), others(layout, context, |one| comment(tokenizer, path, one))),
    };
    let parts: &[&[TokenId]] = match (layout.fim, form) {
        (None, _) | (_, Form::Prefix) => &[&comments, &prefix],
        (Some(fim), Form::Psm) => &[
            &context,
            &[fim.prefix],
            &header,
            &comments,
            &prefix,
            &[fim.suffix],
            &suffix,
            &[fim.middle],
        ],
        (Some(fim), Form::Spm) => &[
            &context,
            &[fim.suffix],
            &suffix,
            &[fim.prefix],
            &header,
            &comments,
            &prefix,
            &[fim.middle],
        ],
    };
    Prompt { tokens: parts.concat(), healed }
}

/// What a file begins with: its sign and its name, where the model knows such a sign.
fn header(tokenizer: &Tokenizer, layout: &Layout, path: &Path) -> Vec<TokenId> {
    layout.file_sep().map_or_else(Vec::new, |separator| {
        let name = tokenizer.encode(&format!("{}\n", last_names(path)));
        let end = name.len().saturating_sub(PATH_TOKENS_MAX);
        [&[separator], &name[end..]].concat()
    })
}

/// The tokens of other files, in their order. Where there is no room for all, the first go: the last are the most relevant.
fn others(
    layout: &Layout,
    context: &[Snippet],
    tokens_of: impl Fn(&Snippet) -> Vec<TokenId>,
) -> Vec<TokenId> {
    let mut parts: Vec<Vec<TokenId>> = Vec::new();
    let mut room = layout.context_max;
    for snippet in context.iter().rev() {
        // No model has tokens that long: it cannot fit.
        if snippet.text.len() > room * TOKEN_BYTES_MAX {
            continue;
        }
        let part = tokens_of(snippet);
        if part.len() <= room {
            room -= part.len();
            parts.push(part);
        }
    }
    parts.reverse();
    parts.concat()
}

/// Another file as models know it that were trained on several.
fn file(tokenizer: &Tokenizer, layout: &Layout, snippet: &Snippet) -> Vec<TokenId> {
    let text = snippet.text.replace("\r\n", "\n");
    let mut tokens = header(tokenizer, layout, &snippet.path);
    tokens.extend(tokenizer.encode(&format!("{}\n", text.trim_end_matches('\n'))));
    tokens
}

/// Another file for those that know one alone: as comments of the file that is written. Nothing where that has no comments by lines.
fn comment(tokenizer: &Tokenizer, path: &Path, snippet: &Snippet) -> Vec<TokenId> {
    let sign = lang::detect(path).map_or("", |language| language.comment().line.as_str());
    if sign.is_empty() {
        return Vec::new();
    }
    let mut text = format!("{sign} From {}:\n", last_names(&snippet.path));
    for line in snippet.text.trim_end().lines() {
        text.push_str(format!("{sign} {line}").trim_end());
        text.push('\n');
    }
    tokenizer.encode(&text)
}

/// The end of a path, with `/` between its names.
fn last_names(path: &Path) -> String {
    let names: Vec<_> = path.iter().map(|name| name.to_string_lossy()).collect();
    names[names.len().saturating_sub(PATH_NAMES)..].join("/").replace('\\', "/")
}

/// The tokens of the end of `before`, from an anchored line start.
fn window_before(tokenizer: &Tokenizer, before: &str, tokens_max: usize) -> Vec<TokenId> {
    let far = floor_boundary(before, before.len().saturating_sub(tokens_max * TOKEN_BYTES_MAX));
    let line = before[..far].matches('\n').count() + usize::from(far > 0);
    let start = if far == 0 {
        0
    } else {
        before[far..].find('\n').map_or(before.len(), |newline| far + newline + 1)
    };
    let mut line = line;
    let mut at = start;
    loop {
        if line.is_multiple_of(ANCHOR_LINES) {
            let tokens = tokenizer.encode(&before[at..]);
            if tokens.len() <= tokens_max {
                return tokens;
            }
        }
        let Some(newline) = before[at..].find('\n') else { break };
        at += newline + 1;
        line += 1;
    }
    tail_at_line(tokenizer, &before[far..], tokens_max)
}

/// Where a few lines alone fill the window: its end, from a line start if there is one.
fn tail_at_line(tokenizer: &Tokenizer, text: &str, tokens_max: usize) -> Vec<TokenId> {
    let mut at = 0;
    while let Some(newline) = text[at..].find('\n') {
        at += newline + 1;
        let tokens = tokenizer.encode(&text[at..]);
        if tokens.len() <= tokens_max && at < text.len() {
            return tokens;
        }
    }
    let tokens = tokenizer.encode(text);
    tokens[tokens.len().saturating_sub(tokens_max)..].to_vec()
}

fn window_after(tokenizer: &Tokenizer, after: &str, tokens_max: usize) -> Vec<TokenId> {
    let near = floor_boundary(after, after.len().min(tokens_max * TOKEN_BYTES_MAX));
    let mut tokens = tokenizer.encode(&after[..near]);
    tokens.truncate(tokens_max);
    tokens
}

/// The nearest character boundary at or before `at`.
pub(crate) fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use engine::{Engine, Script};

    use super::*;

    fn prompt(engine: &Engine, form: Form, healing: Healing, before: &str, after: &str) -> Prompt {
        let tokenizer = engine.tokenizer();
        let layout = Layout { form, ..Layout::of(engine).unwrap() };
        fill_in(tokenizer, &layout, healing, Path::new("a.py"), before, after, &[])
    }

    fn shown(engine: &Engine, prompt: &Prompt) -> String {
        let bytes: Vec<u8> = prompt
            .tokens
            .iter()
            .flat_map(|token| engine.tokenizer().token_bytes(*token).to_vec())
            .collect();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn both_forms_are_spelled_as_trained() {
        let engine = Engine::scripted(Script::new());
        let psm = prompt(&engine, Form::Psm, Healing::Off, "x = ", "\ny\n");
        assert_eq!(
            shown(&engine, &psm),
            "<|fim_prefix|><|file_sep|>a.py\nx = <|fim_suffix|>\ny\n<|fim_middle|>"
        );
        let spm = prompt(&engine, Form::Spm, Healing::Off, "x = ", "\ny\n");
        assert_eq!(
            shown(&engine, &spm),
            "<|fim_suffix|>\ny\n<|fim_prefix|><|file_sep|>a.py\nx = <|fim_middle|>"
        );
    }

    #[test]
    fn half_a_word_is_held_back() {
        let engine = Engine::scripted(Script::new().words(&["retu"]));
        let healed = prompt(&engine, Form::Spm, Healing::On, "    retu", "");
        assert_eq!(healed.healed, b"retu");
        assert!(shown(&engine, &healed).ends_with("    <|fim_middle|>"));
        assert_eq!(prompt(&engine, Form::Spm, Healing::On, "    retu(", "").healed, b"");
    }

    #[test]
    fn typing_keeps_the_start_of_the_window() {
        let engine = Engine::scripted(Script::new());
        let text: String = (0..200).map(|line| format!("v{line} = 1\n")).collect();
        let mut starts = std::collections::HashSet::new();
        for typed in ["", "x", "xy", "xy = ", "xy = 1\n", "xy = 1\nz"] {
            let tokens =
                prompt(&engine, Form::Spm, Healing::Off, &format!("{text}{typed}"), "").tokens;
            assert!(tokens.len() <= PREFIX_TOKENS_MAX + 16);
            starts.insert(tokens[..40].to_vec());
        }
        assert_eq!(starts.len(), 1);
    }

    #[test]
    fn long_lines_and_wide_characters_are_cut_within_the_budget() {
        let engine = Engine::scripted(Script::new());
        for text in ["é".repeat(9000), format!("{}\nend", "x".repeat(9000)), "😀\n".repeat(4000)]
        {
            let made = prompt(&engine, Form::Psm, Healing::Off, &text, &text);
            assert!(
                made.tokens.len() <= PREFIX_TOKENS_MAX + SUFFIX_TOKENS_MAX + 16,
                "{}",
                made.tokens.len()
            );
        }
    }

    #[test]
    fn a_small_context_has_small_windows() {
        let engine = Engine::scripted(Script::new());
        let tokenizer = engine.tokenizer();
        let layout = Layout { prefix_max: 40, suffix_max: 10, ..Layout::of(&engine).unwrap() };
        let text = "value = 1\n".repeat(100);
        let made = fill_in(
            tokenizer,
            &layout,
            Healing::Off,
            Path::new("a/very/long/path/of/a.py"),
            &text,
            &text,
            &[],
        );
        assert!(made.tokens.len() <= 40 + 10 + HEADER_TOKENS_MAX, "{}", made.tokens.len());
        assert!(!shown(&engine, &made).contains("very"));
    }

    #[test]
    fn of_a_long_path_the_end_is_told_as_the_recipe_tells_it() {
        let engine = Engine::scripted(Script::new());
        let layout = Layout::of(&engine).unwrap();
        let path = Path::new("a/some_longer_folder/the_name_of_a_module.py");
        let header = header(engine.tokenizer(), &layout, path);
        let name: Vec<TokenId> =
            b"/the_name_of_a_module.py\n".iter().copied().map(u32::from).collect();
        assert_eq!(header.len(), 1 + 24, "HEADER_TOKENS of daemon/nano/samples.py");
        assert_eq!(header[1..], name[name.len() - 24..]);
    }

    fn snippet(path: &str, text: &str) -> Snippet {
        Snippet { path: path.into(), text: text.into() }
    }

    #[test]
    fn other_files_stand_before_everything_as_trained() {
        let engine = Engine::scripted(Script::new());
        let layout = |form| Layout { form, context_max: 200, ..Layout::of(&engine).unwrap() };
        let context = [snippet("far/away/in/b.py", "y = 1\r\n\n"), snippet("c.py", "z = 1")];
        let made = |form| {
            let path = Path::new("a.py");
            let (tokenizer, layout) = (engine.tokenizer(), layout(form));
            shown(&engine, &fill_in(tokenizer, &layout, Healing::Off, path, "x = ", "\n", &context))
        };
        let others = "<|file_sep|>away/in/b.py\ny = 1\n<|file_sep|>c.py\nz = 1\n";
        assert_eq!(
            made(Form::Spm),
            format!("{others}<|fim_suffix|>\n<|fim_prefix|><|file_sep|>a.py\nx = <|fim_middle|>")
        );
        assert_eq!(
            made(Form::Psm),
            format!("{others}<|fim_prefix|><|file_sep|>a.py\nx = <|fim_suffix|>\n<|fim_middle|>")
        );
    }

    #[test]
    fn where_a_model_knows_one_file_alone_others_are_comments_of_it() {
        let engine = Engine::scripted(Script::new());
        let tokenizer = engine.tokenizer();
        let known = Layout { context_max: 200, ..Layout::of(&engine).unwrap() };
        let fim = known.fim.map(|fim| FimTokens { file_sep: None, ..fim });
        let context = [snippet("b/b.py", "y = 1\r\n\n"), snippet("c.py", "def f():\n\n    z = 1")];
        let made = |form, path: &str| {
            let layout = Layout { fim, form, ..known };
            let path = Path::new(path);
            shown(&engine, &fill_in(tokenizer, &layout, Healing::Off, path, "x = ", "\n", &context))
        };
        let comments = "# From b/b.py:\n# y = 1\n# From c.py:\n# def f():\n#\n#     z = 1\n";
        assert_eq!(
            made(Form::Psm, "a.py"),
            format!("<|fim_prefix|>{comments}x = <|fim_suffix|>\n<|fim_middle|>")
        );
        assert_eq!(
            made(Form::Spm, "a.py"),
            format!("<|fim_suffix|>\n<|fim_prefix|>{comments}x = <|fim_middle|>")
        );
        assert_eq!(made(Form::Prefix, "a.py"), format!("{comments}x = "));
        assert_eq!(made(Form::Prefix, "a.strange"), "x = ", "its comments are not known");
        let small = Layout { fim, context_max: 8, ..known };
        let path = Path::new("a.py");
        let made = fill_in(tokenizer, &small, Healing::Off, path, "x = ", "", &context);
        assert_eq!(shown(&engine, &made), "<|fim_suffix|><|fim_prefix|>x = <|fim_middle|>");
    }

    #[test]
    fn what_has_no_room_is_left_out_from_the_front() {
        let engine = Engine::scripted(Script::new());
        let tokenizer = engine.tokenizer();
        let one = snippet("b.py", "value = 1\n");
        let others = |layout: &Layout, context: &[Snippet]| {
            super::others(layout, context, |one| file(tokenizer, layout, one))
        };
        let large = Layout { context_max: 1000, ..Layout::of(&engine).unwrap() };
        let cost = others(&large, std::slice::from_ref(&one)).len();
        let layout = Layout { context_max: cost, ..large };
        let long = snippet("c.py", &"long = 1\n".repeat(5000));
        let all = [snippet("d.py", "first = 1\n"), one.clone(), long];
        assert_eq!(others(&layout, &all), others(&layout, &[one]));
        let none = Layout { context_max: 0, ..layout };
        assert!(others(&none, &all).is_empty());
    }
}
