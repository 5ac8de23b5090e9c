//! The editor that the other tests drive: a sandbox with the sample project, the demo's configuration, and a Neovim.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use testkit::nvim::{Editor, Options};
use testkit::places;
use testkit::sandbox::Sandbox;

/// How long a language server may take to show its first diagnostics.
pub(crate) const START: Duration = Duration::from_secs(30);

/// How long anything may take once all runs.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// The call in the sample that ty objects to.
pub(crate) const TYPE_ERROR: &str = "invalid-argument-type";

/// A Neovim on a copy of the Python sample.
pub(crate) struct Desk {
    pub(crate) editor: Editor,
    pub(crate) sandbox: Sandbox,
    pub(crate) project: PathBuf,
}

/// `None`, and a line that says so, where slow tests are not wanted.
pub(crate) fn slow(name: &str) -> Option<()> {
    if std::env::var_os("DEMOLISH_SLOW").is_some_and(|value| value == "1") {
        return Some(());
    }
    println!("skipped: {name} needs DEMOLISH_SLOW=1");
    None
}

impl Desk {
    /// Starts Neovim with the program of this build behind it, and opens a file of the sample.
    pub(crate) async fn open(file: &str) -> Result<Desk> {
        let program = places::demolish()?;
        let bin = program.parent().map(Path::to_path_buf).unwrap_or_default();
        Desk::with(&[bin], "", file).await
    }

    /// The same where Demolish is not installed.
    pub(crate) async fn without_program(file: &str) -> Result<Desk> {
        Desk::with(&[], "vim.g.demolish = { editor = { cmd = { 'no-such-demolish' } } }", file)
            .await
    }

    /// The same where language servers are started by Neovim itself, and nothing of Demolish runs.
    pub(crate) async fn unwrapped(file: &str) -> Result<Desk> {
        Desk::with(
            &[],
            "vim.g.demolish = { editor = { wrap = false, cmd = { 'no-such-demolish' } } }",
            file,
        )
        .await
    }

    /// Asks ty, as Neovim's own client does, and returns its response; its sandbox is called `HOME`.
    pub(crate) async fn ask(&self, method: &str, params: &str) -> Result<serde_json::Value> {
        let question = format!(
            "(function() local client = vim.lsp.get_clients({{ name = 'ty', bufnr = 0 }})[1] \
             local response, gone = client:request_sync('{method}', {params}, 20000, 0) \
             return response and {{ result = response.result, error = response.err }} or {{ gone = gone }} end)()"
        );
        let answer: serde_json::Value = self.editor.get(&question).await?;
        let text = answer.to_string().replace(&self.sandbox.home().display().to_string(), "HOME");
        Ok(serde_json::from_str(&text)?)
    }

    async fn with(path: &[PathBuf], more: &str, file: &str) -> Result<Desk> {
        let sandbox = Sandbox::new(path)?;
        let project = sandbox.copy_in(&places::root().join("tests/demo/python"))?;
        let mut init = std::fs::read_to_string(places::root().join("tests/demo/init.lua"))?;
        init.push_str(more);
        let options = Options { init, dir: Some(project.clone()), ..Options::default() };
        let editor = Editor::start(&sandbox, &options).await?;
        editor.open(&project.join(file)).await?;
        Ok(Desk { editor, sandbox, project })
    }

    /// Waits for ty's objection to the sample.
    pub(crate) async fn wait_for_type_error(&self) -> Result<Duration> {
        let shown = format!(
            "vim.iter(vim.diagnostic.get(0)):any(function(d) return d.code == '{TYPE_ERROR}' end)"
        );
        self.editor.wait_until(&shown, START).await
    }

    /// Waits until Demolish's own server is attached and has answered `initialize`.
    pub(crate) async fn wait_for_demolish(&self) -> Result<Duration> {
        let attached =
            "(vim.lsp.get_clients({ name = 'demolish', bufnr = 0 })[1] or {}).initialized";
        self.editor.wait_until(attached, START).await
    }
}
