//! A real Neovim, headless, with the plugin of this repository in it, driven over its RPC.
//!
//! The words are those of a person at the keyboard: open a file, type, wait until something is seen. Everything that is asked
//! of Neovim goes through one Lua function and comes back as JSON, so that no type of the RPC leaves this module.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use nvim_rs::compat::tokio::Compat;
use nvim_rs::rpc::handler::Dummy;
use nvim_rs::{Neovim, Value};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{sleep, timeout};

use crate::places;
use crate::sandbox::Sandbox;

/// How often [`Editor::wait_until`] looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long Neovim may take to answer one request; it answers in microseconds unless it hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// The Lua functions that this module calls.
const PRELUDE: &str = include_str!("nvim/prelude.lua");

/// How Neovim is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The user's configuration, in Lua. It runs before plugins are loaded, as a user's does.
    pub init: String,
    /// Where Neovim is started. None: the sandbox's place for samples.
    pub dir: Option<PathBuf>,
    /// More variables for its environment.
    pub env: Vec<(String, String)>,
}

/// A running Neovim. Dropping it kills it; dropping its [`Sandbox`] kills what it has started.
pub struct Editor {
    nvim: Neovim<Compat<ChildStdin>>,
    child: Child,
}

/// The suggestion on the screen.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Ghost {
    /// Its text, as drawn.
    pub text: String,
    /// The mark at the end of its first line.
    pub mark: Option<String>,
}

/// A diagnostic as the editor shows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Shown {
    /// The line, from 1.
    pub line: usize,
    /// The column in bytes, from 1.
    pub column: usize,
    /// 1 is an error, 2 a warning.
    pub severity: u8,
    /// Who says it.
    pub source: Option<String>,
    /// Its code.
    pub code: Option<String>,
    /// What it says.
    pub message: String,
}

impl Editor {
    /// Starts the Neovim of `.tools` in the sandbox, with this repository on its runtimepath.
    ///
    /// # Errors
    /// Neovim is missing, does not start, or the configuration raises an error.
    pub async fn start(sandbox: &Sandbox, options: &Options) -> Result<Editor> {
        let program = places::tool("nvim")?;
        let init = sandbox.home().join("init.lua");
        let root = places::root();
        let text = format!(
            "vim.opt.runtimepath:prepend({:?})\nvim.o.swapfile = false\n{PRELUDE}\n{}\n",
            root.display().to_string(),
            options.init
        );
        std::fs::write(&init, text)?;
        let mut command = Command::new(program);
        command
            .args(["--embed", "--headless", "--clean", "-u"])
            .arg(&init)
            .current_dir(options.dir.clone().unwrap_or_else(|| sandbox.work()))
            .envs(sandbox.env())
            .envs(options.env.iter().cloned())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        // The pipe's reader ends with Neovim; nobody has to wait for it.
        let (nvim, _reader, child) =
            nvim_rs::create::tokio::new_child_cmd(&mut command, Dummy::new())
                .await
                .context("starting Neovim")?;
        let editor = Editor { nvim, child };
        editor.run("vim.o.lines, vim.o.columns = 40, 120").await?;
        let trouble: String = editor.get("vim.v.errmsg").await?;
        if !trouble.is_empty() {
            bail!("Neovim's configuration: {trouble}");
        }
        Ok(editor)
    }

    /// Opens a file.
    ///
    /// # Errors
    /// Neovim raises an error.
    pub async fn open(&self, file: &Path) -> Result<()> {
        let _nothing: Json =
            self.call("vim.cmd.edit(vim.fn.fnameescape(...))", &json!(file)).await?;
        Ok(())
    }

    /// Types keys, in Neovim's notation (`<Esc>`, `<lt>` for `<`), as if at the keyboard.
    ///
    /// # Errors
    /// Neovim does not take them.
    pub async fn feed(&self, keys: &str) -> Result<()> {
        let taken = timeout(ANSWER_WITHIN, self.nvim.input(keys)).await.context("typing")?;
        let taken = usize::try_from(taken.map_err(|error| anyhow!("typing: {error}"))?)?;
        if taken < keys.len() {
            bail!("Neovim took {taken} of the {} bytes of {keys:?}", keys.len());
        }
        Ok(())
    }

    /// Types a text as it is, without meaning for `<`.
    ///
    /// # Errors
    /// Neovim does not take it.
    pub async fn type_text(&self, text: &str) -> Result<()> {
        self.feed(&text.replace('<', "<lt>")).await
    }

    /// Runs an Ex command.
    ///
    /// # Errors
    /// The command's error.
    pub async fn command(&self, command: &str) -> Result<()> {
        let _nothing: Json = self.call("vim.cmd(...)", &json!(command)).await?;
        Ok(())
    }

    /// Runs Lua statements.
    ///
    /// # Errors
    /// What they raise.
    pub async fn run(&self, lua: &str) -> Result<()> {
        let _nothing: Json = self.call(lua, &Json::Null).await?;
        Ok(())
    }

    /// The value of a Lua expression.
    ///
    /// # Errors
    /// What it raises, or a value of another shape.
    pub async fn get<T: DeserializeOwned>(&self, expression: &str) -> Result<T> {
        self.call(&format!("return {expression}"), &Json::Null).await
    }

    /// Waits until a Lua expression is neither nil nor false, and returns how long that took.
    ///
    /// # Errors
    /// It is not within `within`; the message has what Neovim has said meanwhile.
    pub async fn wait_until(&self, expression: &str, within: Duration) -> Result<Duration> {
        let started = Instant::now();
        loop {
            if self.get::<bool>(&format!("({expression}) and true or false")).await? {
                return Ok(started.elapsed());
            }
            if started.elapsed() > within {
                let said = self.messages().await?;
                bail!("waited {within:?} in vain for `{expression}`; Neovim's messages: {said:?}");
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// The lines of the current buffer.
    ///
    /// # Errors
    /// Neovim does not answer.
    pub async fn lines(&self) -> Result<Vec<String>> {
        self.get("vim.api.nvim_buf_get_lines(0, 0, -1, false)").await
    }

    /// The suggestion on the screen.
    ///
    /// # Errors
    /// Neovim does not answer.
    pub async fn ghost(&self) -> Result<Option<Ghost>> {
        self.get("testkit.ghost()").await
    }

    /// The diagnostics of the current buffer, in order of their places.
    ///
    /// # Errors
    /// Neovim does not answer.
    pub async fn diagnostics(&self) -> Result<Vec<Shown>> {
        self.get("testkit.diagnostics()").await
    }

    /// Everything that was notified or echoed since the start.
    ///
    /// # Errors
    /// Neovim does not answer.
    pub async fn messages(&self) -> Result<Vec<String>> {
        self.get("testkit.messages()").await
    }

    /// The text of every line on the screen.
    ///
    /// # Errors
    /// Neovim does not answer.
    pub async fn screen(&self) -> Result<Vec<String>> {
        self.get("testkit.screen()").await
    }

    /// Leaves Neovim as a user does, so that language servers are told.
    ///
    /// # Errors
    /// It does not end within ten seconds.
    pub async fn quit(mut self) -> Result<()> {
        // The answer does not come: Neovim is gone before it could send one.
        let _gone = timeout(Duration::from_secs(5), self.nvim.command("qall!")).await;
        timeout(Duration::from_secs(10), self.child.wait())
            .await
            .context("Neovim does not end")??;
        Ok(())
    }

    async fn call<T: DeserializeOwned>(&self, lua: &str, argument: &Json) -> Result<T> {
        let call = self.nvim.exec_lua(
            "return testkit.call(...)",
            vec![Value::from(lua), Value::from(argument.to_string())],
        );
        let answer = timeout(ANSWER_WITHIN, call)
            .await
            .with_context(|| format!("Neovim does not answer: {lua}"))?
            .map_err(|error| anyhow!("{lua}: {error}"))?;
        let text = answer.as_str().context("an answer that is no text")?;
        serde_json::from_str(text).with_context(|| format!("the value of `{lua}`: {text}"))
    }
}

impl std::fmt::Debug for Editor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Editor").field("child", &self.child).finish_non_exhaustive()
    }
}
