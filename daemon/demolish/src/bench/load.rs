//! `demolish bench load`: how soon a big model says its first token, compared with the time that its files take to be read.
//!
//! A random mixture of experts is written to the folder for temporary files. Then, with nothing of it in the page cache each time, it is
//! read with plain big reads, by one thread and by four, through the page cache and past it, and loaded and asked for a token. Where the system does not say that all of it
//! came from the disk each time, nothing is said of the time.

mod model;

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use engine::{Class, Engine, Job, Limits, LoadOptions, Sampling, Speculation};

use super::report::{Report, Row, Samples};

/// How often both are measured, in turns; medians count.
const ROUNDS: usize = 3;
/// One plain read, in bytes.
const READ_BYTES: usize = 8 << 20;
/// Threads of the plain reads, and whether they pass the page cache: the faster count of threads counts.
const READERS: [(usize, bool); 4] = [(1, false), (4, false), (1, true), (4, true)];
/// So much of the files has to have come from the disk, or they were not read from it.
const COLD_SHARE: f64 = 0.9;
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
    let mut measured = Measured::default();
    for _ in 0..ROUNDS {
        let [mut plain, mut direct] = [f64::INFINITY; 2];
        for (readers, is_direct) in READERS {
            let Plain { seconds, bytes_read } =
                read(&folder.0, readers, is_direct).map_err(told)?;
            let best = if is_direct { &mut direct } else { &mut plain };
            *best = best.min(seconds);
            measured.note_reads(bytes_read, bytes);
        }
        forget(&folder.0).map_err(told)?;
        let Loaded { seconds, bytes_read, peak, weights } = load(&folder.0).await?;
        measured.note_reads(bytes_read, bytes);
        measured.reading.push(plain);
        measured.loading.push(seconds);
        measured.ratios.push(seconds / plain);
        measured.direct.push(seconds / direct);
        measured.reads.push(bytes_read.unwrap_or(0) as f64 / bytes as f64);
        measured.beside.push(peak.saturating_sub(weights) as f64 / f64::from(1 << 20));
    }
    Ok(measured.report(bytes))
}

/// What the rounds found.
struct Measured {
    /// Seconds of the plain reads and of the loads.
    reading: Samples,
    loading: Samples,
    ratios: Samples,
    /// Likewise, of reads past the page cache.
    direct: Samples,
    /// What the loads read, in times of the files' size.
    reads: Samples,
    /// MiB.
    beside: Samples,
    /// The least share of the files that came from the disk.
    coldest: f64,
}

impl Default for Measured {
    fn default() -> Measured {
        let [reading, loading, ratios, direct, reads, beside] =
            std::array::from_fn(|_| Samples::default());
        Measured { reading, loading, ratios, direct, reads, beside, coldest: 1.0 }
    }
}

impl Measured {
    /// So many bytes came from the disk when all files were read; `None`: nobody knows.
    fn note_reads(&mut self, bytes_read: Option<u64>, bytes: u64) {
        self.coldest = self.coldest.min(bytes_read.unwrap_or(0) as f64 / bytes as f64);
    }

    fn report(&self, bytes: u64) -> Report {
        let memory = Row::new("load_memory_beside_weights", self.beside.quantile(1.0), "MiB")
            .at_most((BESIDE_BYTES_MAX >> 20) as f64)
            .noted("the highest resident memory of the load and the first token");
        if self.coldest < COLD_SHARE {
            let note = format!(
                "load_first_token and load_reads are not measured: the system says that {:.0} % of the files came from the disk; \
                 --folder names a folder on another one",
                self.coldest * 100.0
            );
            return Report::new("load", vec![memory]).noted(vec![note]);
        }
        Report::new("load", self.timed(bytes).into_iter().chain([memory]).collect())
    }

    fn timed(&self, bytes: u64) -> [Row; 3] {
        let note = format!(
            "{:.1} GiB: {:.2} s to the first token, {:.2} s to read the files, by one thread or four",
            bytes as f64 / (1u64 << 30) as f64,
            self.loading.quantile(0.5),
            self.reading.quantile(0.5)
        );
        [
            Row::new("load_first_token", self.ratios.quantile(0.5), "times reading the files")
                .at_most(FIRST_TOKEN_MAX)
                .noted(&note),
            Row::new("load_first_token_direct", self.direct.quantile(0.5), "times reading the files")
                .noted("past the page cache, into one small buffer that is never kept: no program that uses the bytes can be as fast"),
            Row::new("load_reads", self.reads.quantile(1.0), "times the files' size")
                .at_most(READS_MAX)
                .noted("bytes that the process had read from the disk"),
        ]
    }
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
    /// From the disk; `None`: the system does not say.
    bytes_read: Option<u64>,
    /// The most resident memory beyond what the process had before.
    peak: u64,
    weights: u64,
}

/// Loads the model, asks it for a token and drops it.
async fn load(folder: &Path) -> Result<Loaded, String> {
    let resident = |name| kernel_number("/proc/self/status", name).unwrap_or(0) * 1024;
    // Has the kernel forget the highest resident memory so far.
    #[allow(clippy::disallowed_methods, reason = "no file, but a word to the kernel")]
    fs::write("/proc/self/clear_refs", "5").map_err(|error| format!("/proc: {error}"))?;
    let (before, read_before, started) = (resident("VmRSS:"), from_disk(), Instant::now());
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
        mixture: None,
        lookup: Vec::new(),
        speculation: Speculation::Auto,
    };
    let mut sequence = engine.submit(job).map_err(|error| error.to_string())?;
    sequence.next().await.map_err(|error| error.to_string())?;
    Ok(Loaded {
        seconds: started.elapsed().as_secs_f64(),
        bytes_read: since(read_before),
        peak: resident("VmHWM:").saturating_sub(before),
        weights: engine.info().bytes_resident,
    })
}

/// What this process has had read from disks; `None`: the system does not say.
fn from_disk() -> Option<u64> {
    kernel_number("/proc/self/io", "read_bytes:")
}

fn since(before: Option<u64>) -> Option<u64> {
    Some(from_disk()?.saturating_sub(before?))
}

/// What plain reads took.
struct Plain {
    seconds: f64,
    /// From the disk; `None`: the system does not say.
    bytes_read: Option<u64>,
}

/// Plain big reads of all files, none of which is in memory, by so many threads. Past the page cache only where the file system can.
fn read(folder: &Path, readers: usize, is_direct: bool) -> std::io::Result<Plain> {
    forget(folder)?;
    let files = model::files(folder)?.into_iter().map(|path| open(&path, is_direct));
    let files: Vec<File> = files.collect::<std::io::Result<_>>()?;
    let mut pieces = Vec::new();
    for file in &files {
        pieces.extend((0..file.metadata()?.len()).step_by(READ_BYTES).map(|at| (file, at)));
    }
    let (before, next, started) = (from_disk(), AtomicUsize::new(0), Instant::now());
    let reader = || {
        let mut buffer = kernels::Pages::new(READ_BYTES);
        while let Some((file, at)) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut filled = 0;
            // Behind the end of a file a direct read would be refused.
            while filled < READ_BYTES && filled.is_multiple_of(kernels::PAGE) {
                match file.read_at(&mut buffer[filled..], at + filled as u64)? {
                    0 => break,
                    read => filled += read,
                }
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..readers).map(|_| scope.spawn(reader)).collect();
        let lost = |_| Err(std::io::Error::other("a reader panicked"));
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(lost))
    })?;
    Ok(Plain { seconds: started.elapsed().as_secs_f64(), bytes_read: since(before) })
}

fn open(path: &Path, is_direct: bool) -> std::io::Result<File> {
    #[cfg(target_os = "linux")]
    if is_direct {
        use std::os::unix::fs::OpenOptionsExt as _;
        let flags = rustix::fs::OFlags::DIRECT.bits().cast_signed();
        if let Ok(file) = File::options().read(true).custom_flags(flags).open(path) {
            return Ok(file);
        }
    }
    let _ = is_direct;
    File::open(path)
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
        let value =
            |metric: &str| report.rows.iter().find(|row| row.metric == metric).map(|row| row.value);
        assert!(value("load_memory_beside_weights").is_some_and(|value| value >= 0.0));
        // Whether the folder for temporary files is on a disk, no test can know.
        if report.notes.is_empty() {
            assert!(value("load_first_token").is_some_and(|value| value > 0.0), "{report:?}");
            assert!(value("load_reads").is_some_and(|value| value >= COLD_SHARE), "{report:?}");
        } else {
            assert!(report.notes[0].contains("not measured"), "{report:?}");
            assert_eq!(report.rows.len(), 1, "{report:?}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_did_not_come_from_the_disk_each_time_is_not_measured() {
        for (third, is_measured) in [
            (Some(100), true),
            (Some(90), true),
            (Some(89), false),
            (Some(0), false),
            (None, false),
        ] {
            let mut measured = Measured::default();
            for bytes_read in [Some(100), Some(101), third] {
                measured.note_reads(bytes_read, 100);
            }
            let report = measured.report(100);
            let names: Vec<_> = report.rows.iter().map(|row| &*row.metric).collect();
            let timed = ["load_first_token", "load_reads"];
            assert!(timed.iter().all(|name| names.contains(name) == is_measured), "{report:?}");
            assert!(names.contains(&"load_memory_beside_weights"));
            assert_eq!(report.notes.len(), usize::from(!is_measured));
        }
    }

    #[tokio::test]
    async fn files_in_memory_are_not_measured() {
        let memory = Path::new("/dev/shm");
        if !memory.is_dir() {
            return; // Of Linux alone.
        }
        let dir = tempfile::tempdir_in(memory).unwrap();
        let options = Options { bytes: 12 << 20, folder: Some(dir.path().to_owned()) };
        let report = run(&options).await.unwrap();
        assert!(report.rows.iter().all(|row| row.metric == "load_memory_beside_weights"));
        assert!(report.notes[0].contains("not measured"), "{report:?}");
    }

    #[tokio::test]
    async fn a_model_for_which_there_is_no_room_is_not_measured() {
        let options = Options { bytes: 1 << 50, folder: None };
        let report = run(&options).await.unwrap();
        assert!(report.rows.is_empty() && report.notes[0].contains("--gib"), "{report:?}");
    }
}
