//! The editor that the demo drives, on a copy of a sample project.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use testkit::nvim::{Editor, Options};
use testkit::places;
use testkit::sandbox::Sandbox;

/// How long a language server, the daemon and the model may take to start, on a busy machine.
pub(crate) const START: Duration = Duration::from_secs(60);

/// How long anything may take once all runs.
pub(crate) const SOON: Duration = Duration::from_secs(15);

/// Measures inside Neovim, so that asking costs nothing: when was the last key typed, when was a suggestion drawn?
const CLOCK: &str = r"
_G.clock = {}
vim.api.nvim_create_autocmd('TextChangedI', { callback = function() clock.typed, clock.drawn, clock.answered = vim.uv.hrtime(), nil, nil end })
vim.api.nvim_create_autocmd('LspRequest', { callback = function(event)
  local request = event.data.request
  if request.method == 'textDocument/inlineCompletion' and request.type == 'complete' then
    vim.schedule(function() clock.answered = vim.uv.hrtime() end)
  end
end })
local ghost = require('demolish.ghost')
local draw = ghost.draw
ghost.draw = function(...)
  if not clock.drawn then clock.drawn = vim.uv.hrtime() end
  return draw(...)
end
";

/// A Neovim, and where it works.
pub(crate) struct Desk {
    pub(crate) editor: Editor,
    pub(crate) sandbox: Sandbox,
    pub(crate) project: PathBuf,
    /// When the first file was opened.
    pub(crate) opened: Instant,
}

/// The samples, as they are in the repository.
pub(crate) fn sample() -> PathBuf {
    places::root().join("tests/demo")
}

/// What a user would have written into their init.lua.
pub(crate) fn configuration() -> Result<String> {
    Ok(std::fs::read_to_string(sample().join("init.lua"))?)
}

/// A home of its own, with the program that was built beside this one.
pub(crate) fn sandbox() -> Result<Sandbox> {
    let program = places::demolish()?;
    Sandbox::new(&[program.parent().map(Path::to_path_buf).unwrap_or_default()])
}

impl Desk {
    /// Copies a sample, starts Neovim in it and opens a file.
    pub(crate) async fn open(name: &str, file: &str) -> Result<Desk> {
        let sandbox = sandbox()?;
        let project = sandbox.copy_in(&sample().join(name))?;
        let options =
            Options { init: configuration()?, dir: Some(project.clone()), ..Options::default() };
        let editor = Editor::start(&sandbox, &options).await?;
        editor.run(CLOCK).await?;
        let opened = Instant::now();
        editor.open(&project.join(file)).await?;
        Ok(Desk { editor, sandbox, project, opened })
    }

    /// Leaves Neovim; what it has started ends with the sandbox.
    pub(crate) async fn close(self) -> Result<()> {
        self.editor.quit().await
    }
}
