//! Whatever is killed in mid-request: the editor keeps working.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::editor::{Desk, START, slow};

/// Breaks the sample in one more place and waits for the language server to see it.
async fn edit_is_seen(desk: &Desk, name: &str) -> Result<Duration> {
    desk.editor.feed(&format!("<Esc>Go{name}: int = ''<Esc>")).await?;
    let last = "vim.api.nvim_buf_line_count(0) - 1";
    desk.editor.wait_until(&format!("#vim.diagnostic.get(0, {{ lnum = {last} }}) > 0"), START).await
}

/// Sends a request and does not wait for its answer.
async fn ask_and_kill(desk: &Desk, words: &[&str]) -> Result<()> {
    let processes = desk.sandbox.find(words);
    assert!(!processes.is_empty(), "nothing runs as {words:?}: {:?}", desk.sandbox.processes());
    desk.editor.run("vim.lsp.buf_request(0, 'textDocument/documentSymbol', \
        { textDocument = vim.lsp.util.make_text_document_params(0) }, function() _G.answered = true end)").await?;
    for process in processes {
        process.kill();
    }
    Ok(())
}

#[tokio::test]
async fn a_killed_language_server_comes_back() -> Result<()> {
    let Some(()) = slow("a_killed_language_server_comes_back") else { return Ok(()) };
    let desk = Desk::open("shop/order.py").await?;
    desk.wait_for_type_error().await?;
    let server = desk.sandbox.find(&["ty", "server"]);
    ask_and_kill(&desk, &["ty", "server"]).await?;
    edit_is_seen(&desk, "killed").await?;
    let again = desk.sandbox.find(&["ty", "server"]);
    assert!(again.iter().any(|process| !server.contains(process)), "{again:?}");
    Ok(())
}

#[tokio::test]
async fn a_killed_daemon_is_replaced() -> Result<()> {
    let Some(()) = slow("a_killed_daemon_is_replaced") else { return Ok(()) };
    let desk = Desk::open("shop/order.py").await?;
    desk.wait_for_type_error().await?;
    let daemon = desk.sandbox.find(&["demolish", "daemon"]);
    let daemon = daemon.first().context("the daemon")?.clone();
    ask_and_kill(&desk, &["demolish", "daemon"]).await?;
    edit_is_seen(&desk, "killed").await?;
    let again = desk.sandbox.find(&["demolish", "daemon"]);
    assert!(again.iter().all(|process| process.pid != daemon.pid), "{again:?}");
    // The file on disk was not touched.
    let on_disk = std::fs::read_to_string(desk.project.join("shop/order.py"))?;
    assert!(!on_disk.contains("killed"));
    Ok(())
}

#[tokio::test]
async fn without_the_program_language_servers_run_as_they_are() -> Result<()> {
    let Some(()) = slow("without_the_program_language_servers_run_as_they_are") else {
        return Ok(());
    };
    let desk = Desk::without_program("shop/order.py").await?;
    desk.wait_for_type_error().await?;
    let said = desk.editor.messages().await?.join("\n");
    assert!(said.contains("was not found, so language servers run without it"), "{said}");
    Ok(())
}
