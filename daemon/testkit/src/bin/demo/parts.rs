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
    "    def empty(self) -> bool:\n        return len(",
    "    def prices(self) -> list[float]:\n        return [item.",
    "    def put(self, item: Item) -> None:\n        self.items.",
    "    def pieces(self) -> int:\n        return sum(",
];

/// What a suggestion carries with it: `data.demolish`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Note {
    refused: Vec<Refused>,
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

/// A suggestion at one of the spots.
struct Suggestion {
    typed: &'static str,
    ghost: Ghost,
    note: Note,
    took: Duration,
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
    if let Some(cold) = ask(desk, SPOTS[0]).await? {
        said.took("first suggestion: model loaded, second ty started", cold.took);
    }
    let mut chosen: Option<Suggestion> = None;
    let mut asked = 0;
    let mut times = Vec::new();
    for &spot in SPOTS {
        let Some(suggestion) = ask(desk, spot).await? else { continue };
        asked += 1;
        times.push(suggestion.took);
        let better = chosen.as_ref().is_none_or(|chosen| worth(&suggestion) > worth(chosen));
        if better {
            chosen = Some(suggestion);
        }
    }
    let Some(chosen) = chosen else {
        editor.command("Demolish why").await?;
        bail!(
            "no suggestion at any of {} places; `:Demolish why`: {:?}",
            SPOTS.len(),
            editor.lines().await?
        );
    };
    times.sort_unstable();
    said.took(
        format!("keystroke to checked ghost text, median of {asked} places"),
        times[times.len() / 2],
    );
    describe(&mut said, &chosen, asked);
    accept(desk, &mut said, &chosen).await?;
    Ok(said)
}

/// What is better to show: a verdict, and something refused.
fn worth(suggestion: &Suggestion) -> (bool, usize) {
    (
        suggestion.ghost.mark.as_deref().is_some_and(|mark| mark.starts_with('✓')),
        suggestion.note.refused.len().min(1),
    )
}

/// Types a spot at the end of the file and waits for an answer; none if all candidates were refused. The file is as before afterwards.
async fn ask(desk: &Desk, spot: &'static str) -> Result<Option<Suggestion>> {
    let editor = &desk.editor;
    type_spot(desk, spot).await?;
    editor.wait_until("clock.answered", START).await?;
    let mut suggestion = None;
    if editor.get::<bool>(SHOWN).await? {
        let ghost = editor.ghost().await?.context("a suggestion that is gone again")?;
        let note: Note =
            editor.get("(require('demolish.inline').last or {}).note or vim.empty_dict()").await?;
        let nanoseconds: f64 = editor.get("clock.drawn - clock.typed").await?;
        let took = Duration::from_secs_f64(nanoseconds.max(0.0) / 1e9);
        suggestion = Some(Suggestion { typed: spot, ghost, note, took });
    }
    editor.feed("<Esc>").await?;
    editor.command("edit!").await?;
    Ok(suggestion)
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

fn describe(said: &mut Said, chosen: &Suggestion, asked: usize) {
    said.line("In shop/cart.py, after typing (▏ is the cursor), the suggestion appears in grey:");
    said.block(&format!("{}▏{}", chosen.typed, chosen.ghost.text));
    said.line(format!("  {}", chosen.ghost.mark.as_deref().unwrap_or("(no verdict)")));
    if chosen.note.refused.is_empty() {
        said.line(format!(
            "Nothing was refused: at all {asked} places that were tried, the first candidate satisfied the language server."
        ));
    } else {
        said.line("What the language server refused on the way there:");
    }
    for refused in &chosen.note.refused {
        said.block(&refused.text);
        if let Some(objection) = &refused.diagnostic {
            let code = objection.code.as_ref().and_then(|code| code.as_str()).unwrap_or("");
            said.line(format!(
                "      ✗ {code}: {}",
                objection.message.lines().next().unwrap_or("")
            ));
        }
    }
}

/// <Tab> takes the suggestion, and the language server agrees with what then stands there.
async fn accept(desk: &Desk, said: &mut Said, chosen: &Suggestion) -> Result<()> {
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
    let clean = chosen.ghost.mark.as_deref().is_some_and(|mark| mark.starts_with('✓'));
    if let Some(error) = shown.iter().find(|shown| clean && shown.severity == 1) {
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
