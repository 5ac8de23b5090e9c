//! `make demo`. On a terminal: opens Neovim on a copy of the sample project, with a tour of what to press. Without one, or
//! with `--headless`: drives the same Neovim and prints what a user would see. Nothing is faked: the program is the one that
//! was built beside this one, the language servers and Neovim are those of `.tools`, the model is the default model.
//!
//! Exit status: 0 if every part worked, 1 if one did not, 2 for bad use, 3 if something is not installed.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the demo is a program for people: it starts Neovim and prints"
)]

mod desk;
mod page;
mod parts;

use std::io::IsTerminal as _;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use testkit::places;

use desk::Desk;
use page::Page;

const USAGE: &str = "usage: demo [--headless]

On a terminal: opens Neovim on a small sample project, with a tour of what to press.
--headless     drive the same Neovim and print what a user would see (so does a demo without a terminal)";

fn main() -> ExitCode {
    let mut headless = !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal());
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--headless" => headless = true,
            "--help" | "-h" => {
                println!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            other => {
                eprintln!("demo: unknown argument {other}\n{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    if let Err(error) =
        ["nvim", "ty", "tsc"].into_iter().try_for_each(|name| places::tool(name).map(drop))
    {
        eprintln!("demo: {error:#}");
        return ExitCode::from(3);
    }
    match if headless { transcript() } else { tour() } {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Neovim, in the user's hands.
fn tour() -> Result<bool> {
    let sandbox = desk::sandbox()?;
    let python = sandbox.copy_in(&desk::sample().join("python"))?;
    sandbox.copy_in(&desk::sample().join("typescript"))?;
    let init = sandbox.home().join("init.lua");
    let tour = desk::sample().join("tour.lua");
    std::fs::write(
        &init,
        format!(
            "vim.opt.runtimepath:prepend({:?})\n{}\ndofile({:?})\n",
            places::root().display().to_string(),
            desk::configuration()?,
            tour.display().to_string()
        ),
    )?;
    let status = Command::new(places::tool("nvim")?)
        .args(["--clean", "-u"])
        .arg(&init)
        .arg("shop/order.py")
        .current_dir(python)
        .envs(sandbox.env())
        .status()
        .context("starting Neovim")?;
    println!(
        "The sample is gone again. `make demo` starts over; `:help demolish` in your own Neovim says how to go on."
    );
    Ok(status.success())
}

/// Neovim, driven.
fn transcript() -> Result<bool> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut page = Page::new();
        page.head()?;
        let python = Desk::open("python", "shop/order.py").await?;
        page.part(
            "A language server's own diagnostics, through the daemon",
            parts::diagnostics(&python),
        )
        .await;
        page.part("A suggestion that the language server has checked", parts::suggestion(&python))
            .await;
        page.part("`:Demolish fix` on a type error", parts::fix(&python, "shop/order.py", 9)).await;
        python.close().await?;
        let typescript = Desk::open("typescript", "src/order.ts").await?;
        page.part("The same in TypeScript", parts::fix(&typescript, "src/order.ts", 11)).await;
        page.part("What runs", parts::status(&typescript)).await;
        typescript.close().await?;
        Ok(page.conclude())
    })
}
