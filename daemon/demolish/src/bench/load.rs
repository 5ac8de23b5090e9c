//! `demolish bench load`: how soon a big model says its first token, compared with the time that its files take to be read.
//!
//! A random mixture of experts is written to the folder for temporary files. Then, with nothing of it in the page cache each time, it is
//! read with plain big reads, and loaded and asked for a token.

mod model;

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use engine::{Class, Engine, Job, Limits, LoadOptions, Sampling, Speculation};

use super::report::{Report, Row, Samples};

/// How often both are measured, in turns; medians count.
const ROUNDS: usize = 3;
/// One plain read, in bytes.
const READ_BYTES: usize = 8 << 20;
/// Memory that a load may take beside the weights: read buffers, caches, and what the process is.
const BESIDE_BYTES_MAX: u64 = 1 << 30;
/// Tokens of the prompt.
const PROMPT: u32 = 16;
/// The goal for the first token, in times of reading the files.
const FIRST_TOKEN_MAX: f64 = 1.5;
/// The goal for bytes read, as a multiple of the files' size.
const READS_MAX: f64 = 1.02;

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The size of the files.
    pub(crate) bytes: u64,
    /// The folder for them; `None`: that of temporary files.
    pub(crate) folder: Option<PathBuf>,
}

/// Runs it.
///
/// # Errors
/// The model cannot be written or loaded: one sentence.
pub(crate) async fn run(options: &Options) -> Result<Report, String> {
    let parent = options.folder.clone().unwrap_or_else(std::env::temp_dir);
    if let Some(note) = no_room(&parent, options.bytes) {
        return Ok(Report::new("load", Vec::new()).noted(vec![note]));
    }
    let folder = Folder(parent.join(format!("demolish-bench-load-{}", std::process::id())));
    let told = |error: std::io::Error| format!("{}: {error}", folder.0.display());
    let bytes = model::write(&folder.0, options.bytes).map_err(told)?;
    let (mut reading, mut loading) = (Samples::default(), Samples::default());
    let (mut ratios, mut reads, mut beside) =
        (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..ROUNDS {
        let plain = read(&folder.0).map_err(told)?;
        forget(&folder.0).map_err(told)?;
        let Loaded { seconds, bytes_read, peak, weights } = load(&folder.0).await?;
        reading.push(plain);
        loading.push(seconds);
        ratios.push(seconds / plain);
        reads.push(bytes_read as f64 / bytes as f64);
        beside.push(peak.saturating_sub(weights) as f64 / f64::from(1 << 20));
    }
    let size = format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64);
    let seconds = |samples: &Samples| samples.quantile(0.5);
    let note = format!(
        "{size}: {:.2} s to the first token, {:.2} s to read the files",
        seconds(&loading),
        seconds(&reading)
    );
    Ok(Report::new(
        "load",
        vec![
            Row::new("load_first_token", ratios.quantile(0.5), "times reading the files")
                .at_most(FIRST_TOKEN_MAX)
                .noted(&note),
            Row::new("load_reads", reads.quantile(1.0), "times the files' size")
                .at_most(READS_MAX)
                .noted("bytes that the process had read from the disk"),
            Row::new("load_memory_beside_weights", beside.quantile(1.0), "MiB")
                .at_most((BESIDE_BYTES_MAX >> 20) as f64)
                .noted("the highest resident memory of the load and the first token"),
        ],
    ))
}

/// Why there is no room for the model, if there is none.
fn no_room(parent: &Path, bytes: u64) -> Option<String> {
    let disk = rustix::fs::statvfs(parent).ok().map(|disk| disk.f_bavail * disk.f_frsize);
    let memory = kernel_number("/proc/meminfo", "MemAvailable:").map(|kib| kib * 1024);
    let needed = bytes + BESIDE_BYTES_MAX;
    for (free, what) in [(disk, "on the disk"), (memory, "of memory")] {
        if free.is_none_or(|free| free < needed) {
            let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
            return Some(format!(
                "not measured: {:.1} GiB are needed {what}, {:.1} are free; --gib asks for a smaller model",
                gib(needed),
                gib(free.unwrap_or(0))
            ));
        }
    }
    None
}

/// What a load took.
struct Loaded {
    seconds: f64,
    /// From the disk.
    bytes_read: u64,
    /// The most resident memory beyond what the process had before.
    peak: u64,
    weights: u64,
}

/// Loads the model, asks it for a token and drops it.
async fn load(folder: &Path) -> Result<Loaded, String> {
    let resident = |name| kernel_number("/proc/self/status", name).unwrap_or(0) * 1024;
    let read = || kernel_number("/proc/self/io", "read_bytes:").unwrap_or(0);
    // Has the kernel forget the highest resident memory so far.
    #[allow(clippy::disallowed_methods, reason = "no file, but a word to the kernel")]
    fs::write("/proc/self/clear_refs", "5").map_err(|error| format!("/proc: {error}"))?;
    let (before, read_before, started) = (resident("VmRSS:"), read(), Instant::now());
    let dir = folder.to_owned();
    let options = LoadOptions { context_max: Some(4096), ..LoadOptions::AUTO };
    let loading = tokio::task::spawn_blocking(move || crate::model::load(&dir, options));
    let engine: Engine = loading.await.map_err(|error| error.to_string())??;
    let job = Job {
        prompt: (1..=PROMPT).collect(),
        constraint: None,
        sampling: Sampling::GREEDY,
        limits: Limits { tokens_max: 1, stop: Vec::new(), ahead_max: 1 },
        class: Class::Agent,
        soul: None,
        lookup: Vec::new(),
        speculation: Speculation::Auto,
    };
    let mut sequence = engine.submit(job).map_err(|error| error.to_string())?;
    sequence.next().await.map_err(|error| error.to_string())?;
    Ok(Loaded {
        seconds: started.elapsed().as_secs_f64(),
        bytes_read: read() - read_before,
        peak: resident("VmHWM:").saturating_sub(before),
        weights: engine.info().bytes_resident,
    })
}

/// Seconds that plain big reads of all files take, none of which is in memory.
fn read(folder: &Path) -> std::io::Result<f64> {
    forget(folder)?;
    let mut buffer = vec![0; READ_BYTES];
    let started = Instant::now();
    for path in model::files(folder)? {
        let file = File::open(path)?;
        let mut at = 0;
        loop {
            match file.read_at(&mut buffer, at)? {
                0 => break,
                read => at += read as u64,
            }
        }
    }
    Ok(started.elapsed().as_secs_f64())
}

/// Has the system forget what it holds of the files.
fn forget(folder: &Path) -> std::io::Result<()> {
    for path in model::files(folder)? {
        let file = File::open(path)?;
        #[cfg(target_os = "linux")]
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        #[cfg(not(target_os = "linux"))]
        drop(file);
    }
    Ok(())
}

/// The number behind a name in one of the kernel's tables.
fn kernel_number(table: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(table).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The model's folder. It goes with this value.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // It is in the folder for temporary files.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_small_model_is_written_read_loaded_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { bytes: 12 << 20, folder: Some(dir.path().to_owned()) };
        let report = run(&options).await.unwrap();
        let value = |metric: &str| {
            report
                .rows
                .iter()
                .find(|row| row.metric == metric)
                .unwrap_or_else(|| panic!("{report:?}"))
                .value
        };
        assert!(value("load_first_token") > 0.0 && value("load_memory_beside_weights") >= 0.0);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_model_for_which_there_is_no_room_is_not_measured() {
        let options = Options { bytes: 1 << 50, folder: None };
        let report = run(&options).await.unwrap();
        assert!(report.rows.is_empty() && report.notes[0].contains("--gib"), "{report:?}");
    }
}
