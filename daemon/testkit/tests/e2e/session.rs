//! One session of a real Neovim, twice: through the proxy, and with the same language server started by Neovim itself. What
//! the editor gets must be the same.

use anyhow::{Context as _, Result};
use serde_json::Value as Json;

use super::editor::{Desk, START, slow};

/// What is asked for, at which place of the file (line and column from zero), with what more in the parameters.
const QUESTIONS: [(&str, u32, u32, &str); 12] = [
    ("textDocument/hover", 5, 6, "{}"),
    ("textDocument/completion", 7, 20, "{}"),
    ("textDocument/definition", 8, 14, "{}"),
    ("textDocument/references", 5, 6, r#"{"context":{"includeDeclaration":true}}"#),
    ("textDocument/prepareRename", 5, 6, "{}"),
    ("textDocument/rename", 5, 6, r#"{"newName":"read_item"}"#),
    ("textDocument/documentHighlight", 5, 6, "{}"),
    ("textDocument/signatureHelp", 8, 16, "{}"),
    ("textDocument/documentSymbol", 0, 0, "{}"),
    ("textDocument/semanticTokens/full", 0, 0, "{}"),
    ("textDocument/foldingRange", 0, 0, "{}"),
    ("workspace/symbol", 0, 0, r#"{"query":"Cart"}"#),
];

/// Everything that a user asks a server for, as Neovim's client got it; places of this run are taken out.
async fn session(desk: &Desk) -> Result<Vec<(String, Json)>> {
    let mut answers = Vec::new();
    for (method, line, column, more) in QUESTIONS {
        let params = format!(
            "vim.tbl_extend('force', {{ textDocument = vim.lsp.util.make_text_document_params(0), \
             position = {{ line = {line}, character = {column} }} }}, vim.json.decode([[{more}]]))"
        );
        answers.push((method.to_owned(), desk.ask(method, &params).await?));
    }
    let whole = "{ start = { line = 0, character = 0 }, ['end'] = { line = 20, character = 0 } }";
    let hints =
        format!("{{ textDocument = vim.lsp.util.make_text_document_params(0), range = {whole} }}");
    answers.push(("inlay hints".to_owned(), desk.ask("textDocument/inlayHint", &hints).await?));
    let actions = format!(
        "{{ textDocument = vim.lsp.util.make_text_document_params(0), range = {whole}, context = {{ \
         diagnostics = vim.lsp.diagnostic.from(vim.diagnostic.get(0)) }} }}"
    );
    answers.push(("code actions".to_owned(), desk.ask("textDocument/codeAction", &actions).await?));
    Ok(answers)
}

/// What the user does with the answers: a rename by the editor's own command, and what the buffer holds then.
async fn rename(desk: &Desk) -> Result<Vec<String>> {
    desk.editor.run("vim.api.nvim_win_set_cursor(0, { 6, 6 })").await?;
    desk.editor.run("vim.lsp.buf.rename('read_item', { name = 'ty' })").await?;
    let renamed = "table.concat(vim.api.nvim_buf_get_lines(0, 0, -1, false)):find('def read_item')";
    desk.editor.wait_until(renamed, START).await?;
    desk.editor.lines().await
}

#[tokio::test]
async fn a_session_through_the_proxy_is_the_same_as_without() -> Result<()> {
    let Some(()) = slow("a_session_through_the_proxy_is_the_same_as_without") else {
        return Ok(());
    };
    let through = Desk::open("shop/order.py").await?;
    let direct = Desk::unwrapped("shop/order.py").await?;
    let mut sessions = Vec::new();
    for desk in [&direct, &through] {
        desk.wait_for_type_error().await?;
        let shown = desk.editor.diagnostics().await?;
        sessions.push((shown, session(desk).await?, rename(desk).await?));
    }
    assert!(direct.sandbox.find(&["demolish", "lsp", "--"]).is_empty());
    assert!(!through.sandbox.find(&["demolish", "lsp", "--", "ty"]).is_empty());
    let through = sessions.pop().context("two sessions")?;
    let direct = sessions.pop().context("two sessions")?;
    assert_eq!(through.0, direct.0);
    for (through, direct) in through.1.iter().zip(&direct.1) {
        assert_eq!(through, direct);
    }
    assert_eq!(through.2, direct.2);
    // The comparison is of something: the server answers nearly everything.
    let answered = direct.1.iter().filter(|(_, answer)| !answer["result"].is_null()).count();
    assert!(answered >= 11, "{:#?}", direct.1);
    Ok(())
}
