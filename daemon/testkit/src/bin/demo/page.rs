//! What is printed: parts with a heading each, and at the end what took how long and what failed.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use testkit::nvim::Shown;
use testkit::places;

/// What one part has to say: its lines, and how long things took.
#[derive(Default)]
pub(crate) struct Said {
    lines: Vec<String>,
    times: Vec<(String, Duration)>,
}

impl Said {
    /// One line.
    pub(crate) fn line(&mut self, text: impl Into<String>) {
        self.lines.push(text.into());
    }

    /// A text of several lines, set in.
    pub(crate) fn block(&mut self, text: &str) {
        self.lines.extend(text.lines().map(|line| format!("    {line}")));
    }

    /// How long something took.
    pub(crate) fn took(&mut self, what: impl Into<String>, time: Duration) {
        self.times.push((what.into(), time));
    }

    /// A diagnostic, the way compilers print it.
    pub(crate) fn diagnostic(&mut self, file: &str, shown: &Shown) {
        let word = match shown.severity {
            1 => "error",
            2 => "warning",
            3 => "information",
            _ => "hint",
        };
        let code = shown.code.as_ref().map_or_else(String::new, |code| format!("[{code}]"));
        let source = shown.source.as_deref().unwrap_or("?");
        let message = shown.message.lines().collect::<Vec<_>>().join(" ");
        self.line(format!(
            "  {file}:{}:{}: {source} {word}{code}: {message}",
            shown.line, shown.column
        ));
    }
}

/// The transcript.
pub(crate) struct Page {
    started: Instant,
    parts: usize,
    failed: Vec<String>,
    times: Vec<(String, Duration)>,
}

impl Page {
    pub(crate) fn new() -> Page {
        Page { started: Instant::now(), parts: 0, failed: Vec::new(), times: Vec::new() }
    }

    /// Says what is driven.
    pub(crate) fn head(&self) -> Result<()> {
        println!("Demolish, shown in a real Neovim that nobody sits at.");
        for (what, program) in [
            ("program", places::demolish()?),
            ("editor", places::tool("nvim")?),
            ("Python", places::tool("ty")?),
            ("TypeScript", places::tool("tsc")?),
        ] {
            let printed = std::process::Command::new(&program)
                .arg("--version")
                .output()
                .with_context(|| format!("starting {}", program.display()))?;
            let version = String::from_utf8_lossy(&printed.stdout);
            println!("  {what:<11}{}", version.lines().next().unwrap_or("?"));
        }
        Ok(())
    }

    /// Prints a part, or why it failed.
    pub(crate) async fn part(&mut self, title: &str, part: impl Future<Output = Result<Said>>) {
        self.parts += 1;
        let heading = format!("{}. {title}", self.parts);
        println!("\n{heading}\n{}", "=".repeat(heading.chars().count()));
        match part.await {
            Ok(said) => {
                for line in said.lines {
                    println!("{line}");
                }
                self.times.extend(said.times);
            }
            Err(error) => {
                println!("FAILED: {error:#}");
                self.failed.push(heading);
            }
        }
    }

    /// Prints the times, and whether all worked.
    pub(crate) fn conclude(self) -> bool {
        println!("\nTimes\n=====");
        for (what, time) in &self.times {
            println!("  {what:<58}{:>9.1} ms", time.as_secs_f64() * 1e3);
        }
        println!("  {:<58}{:>9.1} s", "all of this demo", self.started.elapsed().as_secs_f64());
        if self.failed.is_empty() {
            println!("\nAll {} parts worked.", self.parts);
        } else {
            println!(
                "\n{} of {} parts failed: {}",
                self.failed.len(),
                self.parts,
                self.failed.join("; ")
            );
        }
        self.failed.is_empty()
    }
}
