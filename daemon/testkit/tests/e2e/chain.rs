//! Diagnostics, suggestions and fixes, from the keyboard to the model and back.

use anyhow::{Context as _, Result};

use super::editor::{Desk, SOON, START, TYPE_ERROR, slow};

#[tokio::test]
async fn diagnostics_come_through_the_daemon() -> Result<()> {
    let Some(()) = slow("diagnostics_come_through_the_daemon") else { return Ok(()) };
    let desk = Desk::open("shop/order.py").await?;
    desk.wait_for_type_error().await?;
    let shown = desk.editor.diagnostics().await?;
    let error = shown
        .iter()
        .find(|shown| shown.code.as_deref() == Some(TYPE_ERROR))
        .context("the error")?;
    assert_eq!((error.line, error.source.as_deref()), (9, Some("ty")));
    // Neovim started a shim, and the daemon started the server.
    assert!(!desk.sandbox.find(&["demolish", "lsp", "--", "ty"]).is_empty());
    assert!(!desk.sandbox.find(&["demolish", "daemon"]).is_empty());
    assert!(!desk.sandbox.find(&["ty", "server"]).is_empty());
    Ok(())
}

#[tokio::test]
async fn a_suggestion_has_a_verdict_and_is_accepted() -> Result<()> {
    let Some(()) = slow("a_suggestion_has_a_verdict_and_is_accepted") else { return Ok(()) };
    let desk = Desk::open("shop/cart.py").await?;
    desk.wait_for_demolish().await?;
    desk.editor.feed("Go<CR>").await?;
    desk.editor.type_text("    def count(self) -> int:\n        return len(").await?;
    desk.editor.wait_until("testkit.ghost() ~= nil", START).await?;
    let ghost = desk.editor.ghost().await?.context("a suggestion")?;
    let mark = ghost.mark.context("a verdict")?;
    assert!(mark.starts_with("✓ checked by ty") || mark.starts_with("? unchecked"), "{mark}");
    let before = desk.editor.lines().await?.join("\n");
    desk.editor.feed("<Tab>").await?;
    desk.editor
        .wait_until("testkit.ghost() == nil or not require('demolish').is_visible()", SOON)
        .await?;
    let after = desk.editor.lines().await?.join("\n");
    assert_eq!(after, format!("{before}{}", ghost.text));
    desk.editor.feed("<Esc>u").await?;
    assert_eq!(desk.editor.lines().await?.join("\n"), before);
    Ok(())
}

#[tokio::test]
async fn a_type_error_is_fixed() -> Result<()> {
    let Some(()) = slow("a_type_error_is_fixed") else { return Ok(()) };
    let desk = Desk::open("shop/order.py").await?;
    desk.wait_for_type_error().await?;
    desk.wait_for_demolish().await?;
    let before = desk.editor.lines().await?;
    desk.editor.command("9Demolish fix!").await?;
    let after = desk.editor.lines().await?;
    assert_ne!(after, before, "{:?}", desk.editor.messages().await?);
    desk.editor.wait_until("#vim.diagnostic.get(0, { severity = 1 }) == 0", SOON).await?;
    desk.editor.command("undo").await?;
    assert_eq!(desk.editor.lines().await?, before);
    Ok(())
}
