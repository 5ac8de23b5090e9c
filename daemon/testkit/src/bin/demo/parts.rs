//! The parts of the demo: each does what a user would do, and says what the user would see.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use testkit::nvim::{Ghost, Shown};

use crate::desk::{Desk, SOON, START};
use crate::page::Said;

/// Places in `shop/cart.py` where a suggestion is asked for: what is typed at the end of the file.
const SPOTS: &[&str] = &[
    "    def count(self) -> int:\n        return len(",
    "    def is_empty(self) -> bool:\n        return not ",
    "    def pieces(self) -> int:\n        return len(",
    "    def pieces(self) -> int:\n        return ",
    "    def prices(self) -> list[float]:\n        return [item.",
    "    def put(self, item: Item) -> None:\n        self.items.",
    "    def pieces(self) -> int:\n        return sum(",
    "    def first(self) -> Item:\n        return self.",
];

/// What a suggestion carries with it: `data.demolish`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Note {
    refused: Vec<Refused>,
    /// Why there could be no suggestion at all.
    error: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Refused {
    text: String,
    diagnostic: Option<Objection>,
}

#[derive(Debug, Clone, Deserialize)]
struct Objection {
    message: String,
    code: Option<serde_json::Value>,
}

/// Is there a suggestion for what was typed last?
const SHOWN: &str = "clock.drawn ~= nil and testkit.ghost() ~= nil";

/// What came at one of the spots.
struct Answer {
    typed: &'static str,
    /// None if every candidate was refused.
    ghost: Option<Ghost>,
    note: Note,
    took: Duration,
}

impl Answer {
    fn is_clean(&self) -> bool {
        let mark = self.ghost.as_ref().and_then(|ghost| ghost.mark.as_deref());
        mark.is_some_and(|mark| mark.starts_with('✓'))
    }
}

/// The language server's diagnostics arrive, and they arrive again after an edit.
pub(crate) async fn diagnostics(desk: &Desk) -> Result<Said> {
    let mut said = Said::default();
    let editor = &desk.editor;
    said.line("Neovim was told to start `ty server` for Python. The plugin made it `demolish lsp -- ty server`:");
    editor.wait_until("#vim.diagnostic.get(0) > 0", START).await?;
    said.took("first diagnostics: daemon and ty started, project read", desk.opened.elapsed());
    for (words, what) in [
        (&["demolish", "lsp", "--"][..], "what Neovim started"),
        (&["demolish", "daemon"], "the daemon"),
        (&["ty", "server"], "started by the daemon"),
    ] {
        let process = desk.sandbox.find(words).into_iter().last();
        let process = process.with_context(|| format!("no process {words:?} runs"))?;
        let line = process.command.iter().map(|word| word.rsplit('/').next().unwrap_or(word));
        said.line(format!(
            "  process {:<8} {:<32} {what}",
            process.pid,
            line.collect::<Vec<_>>().join(" ")
        ));
    }
    said.line("In Neovim:");
    for shown in editor.diagnostics().await? {
        said.diagnostic("shop/order.py", &shown);
    }
    let started = Instant::now();
    editor
        .run("vim.api.nvim_buf_set_lines(0, -1, -1, false, { 'total: int = \"a text\"' })")
        .await?;
    editor
        .wait_until(
            "#vim.diagnostic.get(0, { lnum = vim.api.nvim_buf_line_count(0) - 1 }) > 0",
            SOON,
        )
        .await?;
    said.took("edit to diagnostics (Neovim waits 150 ms before it sends)", started.elapsed());
    said.line("After a line `total: int = \"a text\"` was added, without saving:");
    if let Some(shown) = editor.diagnostics().await?.last() {
        said.diagnostic("shop/order.py", shown);
    }
    editor.command("undo").await?;
    editor
        .wait_until("#vim.diagnostic.get(0, { lnum = vim.api.nvim_buf_line_count(0) }) == 0", SOON)
        .await?;
    Ok(said)
}

/// A suggestion with its verdict, the candidates that were refused, and its acceptance.
pub(crate) async fn suggestion(desk: &Desk) -> Result<Said> {
    let mut said = Said::default();
    let editor = &desk.editor;
    editor.open(&desk.project.join("shop/cart.py")).await?;
    editor
        .wait_until(
            "(vim.lsp.get_clients({ name = 'demolish', bufnr = 0 })[1] or {}).initialized",
            START,
        )
        .await?;
    let cold = ask(desk, SPOTS[0]).await?;
    if let Some(error) = cold.note.error {
        bail!("no suggestion: {error}");
    }
    said.took("first answer: model loaded, second ty started", cold.took);
    let mut answers = Vec::new();
    for &spot in SPOTS {
        answers.push(ask(desk, spot).await?);
    }
    let (mut shown, refused): (Vec<Answer>, Vec<Answer>) =
        answers.into_iter().partition(|answer| answer.ghost.is_some());
    let mut times: Vec<Duration> = shown.iter().map(|answer| answer.took).collect();
    times.sort_unstable();
    // The best to look at: checked, and with something refused on the way.
    shown.sort_by_key(|answer| {
        std::cmp::Reverse((answer.is_clean(), !answer.note.refused.is_empty()))
    });
    let Some(chosen) = shown.first() else {
        bail!("the language server refused every candidate at all of {} places", SPOTS.len());
    };
    said.took(
        format!("keystroke to checked ghost text, median of {} places", shown.len()),
        times[times.len() / 2],
    );
    describe(&mut said, chosen)?;
    describe_refused(&mut said, chosen, &shown, &refused);
    accept(desk, &mut said, chosen).await?;
    Ok(said)
}

/// Types a spot at the end of the file and waits for the answer. The file is as before afterwards.
async fn ask(desk: &Desk, spot: &'static str) -> Result<Answer> {
    let editor = &desk.editor;
    type_spot(desk, spot).await?;
    editor.wait_until("clock.answered", START).await?;
    let ghost = if editor.get(SHOWN).await? { editor.ghost().await? } else { None };
    let note =
        editor.get("(require('demolish.inline').last or {}).note or vim.empty_dict()").await?;
    let nanoseconds: f64 = editor.get("(clock.drawn or clock.answered) - clock.typed").await?;
    let took = Duration::from_secs_f64(nanoseconds.max(0.0) / 1e9);
    editor.feed("<Esc>").await?;
    editor.command("edit!").await?;
    Ok(Answer { typed: spot, ghost, note, took })
}

/// Goes to the end of the file and types. All but the last blank is put there at once: only it is a keystroke.
async fn type_spot(desk: &Desk, spot: &str) -> Result<()> {
    let editor = &desk.editor;
    let (text, last) = spot.split_at(spot.len() - 1);
    editor
        .run(&format!(
            "vim.api.nvim_buf_set_lines(0, -1, -1, false, vim.split({}, '\\n'))\n\
             clock.drawn, clock.answered = nil, nil",
            serde_json::to_string(&format!("\n{text}"))?
        ))
        .await?;
    editor.feed("G$").await?;
    editor.run("vim.wait(50)").await?;
    editor.feed("a").await?;
    editor.run("require('demolish.inline').last = nil").await?;
    editor.type_text(last).await
}

fn describe(said: &mut Said, chosen: &Answer) -> Result<()> {
    let ghost = chosen.ghost.as_ref().context("no suggestion")?;
    said.line("In shop/cart.py, after typing (▏ is the cursor), the suggestion appears in grey:");
    said.block(&format!("{}▏{}", chosen.typed, ghost.text));
    said.line(format!("  {}", ghost.mark.as_deref().unwrap_or("(no verdict)")));
    Ok(())
}

/// The candidates that the language server refused: on the way to the suggestion, or, if there were none, at another place.
fn describe_refused(said: &mut Said, chosen: &Answer, shown: &[Answer], refused: &[Answer]) {
    if !chosen.note.refused.is_empty() {
        said.line("What the language server refused on the way there:");
        list(said, &chosen.note.refused);
    } else if let Some(other) = refused.iter().find(|other| !other.note.refused.is_empty()) {
        said.line("Here the first candidate satisfied the language server. Elsewhere it refused all of them, and nothing is shown:");
        said.block(&format!("{}▏", other.typed));
        list(said, &other.note.refused);
    } else {
        said.line(
            "Nothing was refused: the first candidate satisfied the language server everywhere.",
        );
    }
    said.line(format!(
        "Of {} places that were tried, {} got a suggestion.",
        shown.len() + refused.len(),
        shown.len()
    ));
}

fn list(said: &mut Said, refused: &[Refused]) {
    for candidate in refused {
        said.block(&candidate.text);
        if let Some(objection) = &candidate.diagnostic {
            let code = objection.code.as_ref().and_then(|code| code.as_str()).unwrap_or("");
            let message = objection.message.lines().next().unwrap_or("");
            said.line(format!("      ✗ {code}: {message}"));
        }
    }
}

/// <Tab> takes the suggestion, and the language server agrees with what then stands there.
async fn accept(desk: &Desk, said: &mut Said, chosen: &Answer) -> Result<()> {
    let editor = &desk.editor;
    type_spot(desk, chosen.typed).await?;
    editor.wait_until(SHOWN, SOON).await?;
    let text = editor.ghost().await?.context("a suggestion that is gone again")?.text;
    let before = editor.lines().await?.join("\n");
    editor.feed("<Tab>").await?;
    editor.wait_until("not require('demolish').is_visible()", SOON).await?;
    editor.feed("<Esc>").await?;
    let after = editor.lines().await?.join("\n");
    if after != format!("{before}{text}") {
        bail!(
            "<Tab> should have added {text:?} to the file, which ends now in {:?}",
            after.lines().last()
        );
    }
    editor.run("vim.wait(300)").await?;
    let shown = editor.diagnostics().await?;
    if let Some(error) = shown.iter().find(|shown| chosen.is_clean() && shown.severity == 1) {
        bail!(
            "the suggestion was called checked, but now the language server says: {}",
            error.message
        );
    }
    said.line("<Tab> takes it. The file ends now in:");
    let lines = chosen.typed.lines().count() + text.lines().count();
    let tail: Vec<&str> = after.lines().rev().take(lines - 1).collect();
    said.block(&tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
    said.line(format!("Diagnostics of the file: {}", count(&shown)));
    editor.command("edit!").await
}

/// `:Demolish fix` on a line, its preview, and the diagnostics before and after.
pub(crate) async fn fix(desk: &Desk, file: &str, line: usize) -> Result<Said> {
    let mut said = Said::default();
    let editor = &desk.editor;
    editor.open(&desk.project.join(file)).await?;
    editor.wait_until("#vim.diagnostic.get(0, { severity = 1 }) > 0", START).await?;
    editor
        .wait_until(
            "(vim.lsp.get_clients({ name = 'demolish', bufnr = 0 })[1] or {}).initialized",
            START,
        )
        .await?;
    said.line("Before:");
    for shown in editor.diagnostics().await? {
        said.diagnostic(file, &shown);
    }
    let started = Instant::now();
    preview(desk, line).await?;
    said.took(format!("`:Demolish fix` in {file}: search, checks, preview"), started.elapsed());
    said.line(format!("`:{line}Demolish fix` shows:"));
    said.block(&editor.lines().await?.join("\n"));
    editor.feed("a").await?;
    editor.wait_until("vim.api.nvim_win_get_config(0).relative == ''", SOON).await?;
    let applied = Instant::now();
    editor.wait_until("#vim.diagnostic.get(0, { severity = 1 }) == 0", SOON).await?;
    said.took("accepted fix to a file without errors", applied.elapsed());
    said.line("After `a` (accept):");
    let changed: String = editor
        .get(&format!("vim.api.nvim_buf_get_lines(0, {}, {line}, false)[1]", line - 1))
        .await?;
    said.line(format!("  {file}:{line}: {}", changed.trim()));
    said.line(format!("  {}", count(&editor.diagnostics().await?)));
    Ok(said)
}

/// Asks for a fix and waits for its preview, or for the reason why there is none.
async fn preview(desk: &Desk, line: usize) -> Result<()> {
    let editor = &desk.editor;
    editor.run("_G.heard = #testkit.said").await?;
    editor.command(&format!("{line}Demolish fix")).await?;
    let opened = "vim.api.nvim_win_get_config(0).relative ~= ''";
    editor.wait_until(&format!("{opened} or #testkit.said > heard"), START).await?;
    if !editor.get::<bool>(opened).await? {
        bail!("no preview: {}", editor.get::<String>("testkit.said[#testkit.said]").await?);
    }
    Ok(())
}

/// What `:Demolish status` shows.
pub(crate) async fn status(desk: &Desk) -> Result<Said> {
    let mut said = Said::default();
    desk.editor.command("Demolish status").await?;
    desk.editor.wait_until("vim.api.nvim_win_get_config(0).relative ~= ''", SOON).await?;
    said.line("`:Demolish status` shows:");
    said.block(&desk.editor.lines().await?.join("\n"));
    desk.editor.feed("q").await?;
    Ok(said)
}

fn count(shown: &[Shown]) -> String {
    match shown.len() {
        0 => "no diagnostics".to_owned(),
        1 => "1 diagnostic".to_owned(),
        n => format!("{n} diagnostics"),
    }
}
