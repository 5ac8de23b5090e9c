//! llama.cpp and mlx-lm on the same shapes: their own programs, at their best.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;

/// So long a peer may take for one measurement: mlx-lm takes seconds for a token.
const PEER_PATIENCE: Duration = Duration::from_mins(10);
/// Tokens that mlx-lm decodes; the best counts.
const MLX_TOKENS: usize = 3;
/// What mlx-lm runs.
const MLX_SCRIPT: &str = include_str!("mlx_lm.py");

/// The peers' programs.
#[derive(Debug, Clone, Default)]
pub(super) struct Peers {
    /// llama.cpp's `llama-bench`.
    pub(super) llama: Option<PathBuf>,
    /// A Python that has mlx-lm.
    pub(super) python: Option<PathBuf>,
}

/// What llama.cpp did: tokens per second.
#[derive(Debug, Clone, Deserialize)]
struct Speed {
    n_prompt: usize,
    n_gen: usize,
    n_threads: usize,
    avg_ts: f64,
}

/// The fastest of several counts of threads.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Best {
    /// How many.
    pub(super) threads: usize,
    /// Tokens per second.
    pub(super) rate: f64,
}

impl Peers {
    /// Those of the source tree's tools, but for a `llama-bench` elsewhere.
    pub(super) fn find(llama: Option<&Path>) -> Peers {
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools");
        let there = |path: &str| Some(tools.join(path)).filter(|path| path.exists());
        Peers {
            llama: llama.map(Path::to_path_buf).or_else(|| there("llama/bin/llama-bench")),
            python: there("oracle/bin/python"),
        }
    }

    /// llama.cpp at each of `threads`: its best at decoding `written` tokens, and at reading `read`.
    pub(super) async fn llama_best(
        &self,
        gguf: &Path,
        threads: &[usize],
        (read, written): (usize, usize),
    ) -> Result<Option<(Best, Best)>, String> {
        let Some(llama) = &self.llama else { return Ok(None) };
        let speeds = llama_bench(llama, gguf, threads, (&[read], written), 1).await?;
        let best = |is_decode: bool| {
            let of_kind = speeds.iter().filter(|speed| (speed.n_gen > 0) == is_decode);
            let fastest = of_kind.max_by(|a, b| a.avg_ts.total_cmp(&b.avg_ts));
            fastest.map(|speed| Best { threads: speed.n_threads, rate: speed.avg_ts })
        };
        match (best(true), best(false)) {
            (Some(decode), Some(prefill)) => Ok(Some((decode, prefill))),
            _ => Err(format!("{} measured nothing", llama.display())),
        }
    }

    /// How fast llama.cpp decodes `written` tokens (none if 0) and reads each of `read`, on so many threads.
    pub(super) async fn llama(
        &self,
        gguf: &Path,
        threads: usize,
        (read, written): (&[usize], usize),
    ) -> Result<Option<LlamaSpeeds>, String> {
        let Some(llama) = &self.llama else { return Ok(None) };
        let speeds = llama_bench(llama, gguf, &[threads], (read, written), 1).await?;
        let decode = speeds.iter().find(|speed| speed.n_gen > 0).map(|speed| speed.avg_ts);
        let reads = speeds.iter().filter(|speed| speed.n_gen == 0);
        let reads = reads.map(|speed| (speed.n_prompt, speed.avg_ts)).collect();
        Ok(Some(LlamaSpeeds { decode, reads }))
    }

    /// The most tokens per second that mlx-lm decodes.
    pub(super) async fn mlx_lm(&self, folder: &Path) -> Result<Option<f64>, String> {
        let Some(python) = &self.python else { return Ok(None) };
        let arguments = [
            "-c".to_owned(),
            MLX_SCRIPT.to_owned(),
            folder.display().to_string(),
            MLX_TOKENS.to_string(),
        ];
        let printed = output(python, &arguments).await?;
        let rate = printed.trim().parse().map_err(|_| format!("mlx-lm printed {printed:?}"))?;
        Ok(Some(rate))
    }
}

/// Tokens per second.
#[derive(Debug, Clone, Default)]
pub(super) struct LlamaSpeeds {
    /// Of decoding.
    pub(super) decode: Option<f64>,
    /// Of reading so many tokens.
    pub(super) reads: Vec<(usize, f64)>,
}

async fn llama_bench(
    program: &Path,
    gguf: &Path,
    threads: &[usize],
    (read, written): (&[usize], usize),
    repetitions: usize,
) -> Result<Vec<Speed>, String> {
    let list =
        |numbers: &[usize]| numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let read = if read.is_empty() { "0".to_owned() } else { list(read) };
    let arguments = [
        "-m",
        &gguf.display().to_string(),
        "-t",
        &list(threads),
        "-p",
        &read,
        "-n",
        &written.to_string(),
        "-r",
        &repetitions.to_string(),
        "-o",
        "json",
    ]
    .map(str::to_owned);
    let printed = output(program, &arguments).await?;
    serde_json::from_str(&printed)
        .map_err(|error| format!("{} printed no measurements: {error}", program.display()))
}

/// What a program prints.
#[allow(
    clippy::disallowed_methods,
    reason = "a peer that ends by itself, or is killed with what waits for it"
)]
async fn output(program: &Path, arguments: &[String]) -> Result<String, String> {
    let child = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let name = program.display();
    let output = tokio::time::timeout(PEER_PATIENCE, child)
        .await
        .map_err(|_| format!("{name} took more than {} s", PEER_PATIENCE.as_secs()))?
        .map_err(|error| format!("{name} cannot be started: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaints = String::from_utf8_lossy(&output.stderr);
    let last = complaints.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    Err(format!("{name} failed ({}): {last}", output.status))
}
