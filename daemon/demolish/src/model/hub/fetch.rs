//! Brings one file: goes on behind what is there already, and compares the whole with its checksum.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::StatusCode;
use hyper::header::{IF_RANGE, RANGE};

use super::checksum::{Expected, Sums};
use super::http::{Answer, Client};
use super::listing::{Remote, refusal};
use super::manifest::{Held, with_part};
use super::{Trouble, Url};

/// How often in a row nothing may come before a file is given up.
const RETRIES_MAX: u32 = 5;

/// What is to be brought.
pub(super) struct Job<'j> {
    pub(super) client: &'j Client,
    pub(super) url: Url,
    pub(super) file: &'j Remote,
    pub(super) dir: &'j Path,
    /// What the server called the version of which a part is there.
    pub(super) etag: Option<String>,
    /// Remembers it.
    pub(super) keep_etag: &'j dyn Fn(&str),
    /// Bytes that are there, of all files.
    pub(super) done: &'j AtomicU64,
}

/// A file that is not whole yet.
struct Part {
    path: PathBuf,
    file: File,
    len: u64,
    sums: Sums,
    expected: Option<Expected>,
}

impl Job<'_> {
    /// Brings the file; it is whole and has its name then.
    pub(super) async fn run(mut self) -> Result<Held, Trouble> {
        let (mut idle, mut wrong) = (0, 0);
        loop {
            let before = self.done.load(Ordering::Relaxed);
            match self.attempt().await {
                Err(Trouble::Wrong(why)) => {
                    wrong += 1;
                    if wrong > 1 {
                        return Err(Trouble::Wrong(why));
                    }
                    self.etag = None;
                }
                Err(Trouble::Passing(why)) => {
                    let came = self.done.load(Ordering::Relaxed) > before;
                    idle = if came { 1 } else { idle + 1 };
                    if idle > RETRIES_MAX {
                        return Err(Trouble::Away(format!("{why}; tried {idle} times")));
                    }
                    tracing::debug!(file = self.file.name, "tried again: {why}");
                    let pause = self.client.patience.pause * 2u32.pow(idle - 1);
                    tokio::time::sleep(pause).await;
                }
                other => return other,
            }
        }
    }

    async fn attempt(&mut self) -> Result<Held, Trouble> {
        let path = self.dir.join(&self.file.name);
        let mut part = self.open(&path)?;
        if part.len == 0 || self.file.bytes != Some(part.len) {
            self.bring(&mut part).await?;
        }
        let Part { path: part_path, file, len, sums, expected } = part;
        let failed = |error: io::Error| of_disk(&part_path, &error);
        let name = &self.file.name;
        let blame = "the hub or the way to it changes it";
        let wrong = match (self.file.bytes, sums.finish(expected.as_ref())) {
            (Some(bytes), _) if bytes != len => {
                format!("{name} came with {len} bytes, which should be {bytes}, twice; {blame}")
            }
            (_, Err([expected, found])) => {
                format!(
                    "{name} came with the checksum {found}, which should be {expected}, twice; {blame}"
                )
            }
            (_, Ok(sha256)) => {
                file.sync_all().map_err(failed)?;
                fs::rename(&part_path, &path).map_err(failed)?;
                return Ok(Held { name: name.clone(), bytes: len, sha256 });
            }
        };
        fs::remove_file(&part_path).map_err(failed)?;
        self.forget(len);
        Err(Trouble::Wrong(wrong))
    }

    /// Opens what is there, and sums it up.
    fn open(&self, path: &Path) -> Result<Part, Trouble> {
        let part_path = with_part(path);
        let open = || -> io::Result<Part> {
            if let Some(folder) = part_path.parent() {
                fs::create_dir_all(folder)?;
            }
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            let mut file = options.open(&part_path)?;
            let expected = self.file.expected.clone();
            let mut sums = Sums::new(expected.as_ref(), self.file.bytes);
            // Without a name for the version, and without a checksum, nobody would know whether the rest belongs to it.
            let is_known = expected.is_some() || self.etag.is_some();
            let there = file.metadata()?.len();
            let mut len = 0;
            if !is_known || self.file.bytes.is_some_and(|bytes| there > bytes) {
                file.set_len(0)?;
            } else {
                let mut buffer = vec![0; 1 << 20];
                loop {
                    match file.read(&mut buffer)? {
                        0 => break,
                        count => {
                            sums.add(&buffer[..count]);
                            len += count as u64;
                        }
                    }
                }
            }
            Ok(Part { path: part_path.clone(), file, len, sums, expected })
        };
        open().map_err(|error| of_disk(&part_path, &error))
    }

    /// Asks for what is missing, and writes it.
    async fn bring(&mut self, part: &mut Part) -> Result<(), Trouble> {
        let mut headers = Vec::new();
        if part.len > 0 {
            headers.push((RANGE, format!("bytes={}-", part.len)));
            if let Some(etag) = &self.etag {
                headers.push((IF_RANGE, etag.clone()));
            }
        }
        let mut answer = self.client.get(&self.url, &headers).await?;
        let place = format!("{} from {}", self.file.name, self.client.hub());
        if answer.status == StatusCode::RANGE_NOT_SATISFIABLE {
            self.restart(part)?;
            return Err(Trouble::Passing(format!("{place}: the part does not fit")));
        }
        if let Some(trouble) = refusal(&answer, &place) {
            return Err(trouble);
        }
        let is_part = answer.status == StatusCode::PARTIAL_CONTENT;
        let begin = answer.header("content-range").and_then(start);
        if is_part && begin != Some(part.len) {
            self.restart(part)?;
            return Err(Trouble::Passing(format!("{place}: another part came than was asked for")));
        }
        if !is_part && part.len > 0 {
            // It sends everything again.
            self.restart(part)?;
        }
        self.learn(&answer, part);
        let total = len_of(&answer).map(|len| part.len + len);
        let failed = |error: io::Error| of_disk(&part.path, &error);
        part.file.seek(SeekFrom::Start(part.len)).map_err(failed)?;
        while let Some(bytes) = answer.more().await? {
            part.file.write_all(&bytes).map_err(failed)?;
            part.sums.add(&bytes);
            part.len += bytes.len() as u64;
            self.done.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            if self.file.bytes.is_some_and(|most| part.len > most) {
                return Ok(()); // Too much already: what is sent is not what was listed.
            }
        }
        match total.or(self.file.bytes) {
            Some(total) if part.len < total => Err(Trouble::Passing(format!("{place}: cut off"))),
            _ => Ok(()),
        }
    }

    /// What the answer says of the file, where the listing did not.
    fn learn(&mut self, answer: &Answer, part: &mut Part) {
        if let Some(etag) = answer.header("etag").filter(|etag| !etag.starts_with("W/")) {
            if self.etag.as_deref() != Some(etag) {
                (self.keep_etag)(etag);
            }
            self.etag = Some(etag.to_owned());
        }
        if part.expected.is_none() && part.len == 0 {
            let linked = answer.hub_header("x-linked-etag").or(answer.hub_header("etag"));
            part.expected = linked.and_then(Expected::of_etag);
            part.sums = Sums::new(part.expected.as_ref(), self.file.bytes.or(len_of(answer)));
        }
    }

    fn restart(&mut self, part: &mut Part) -> Result<(), Trouble> {
        part.file.set_len(0).map_err(|error| of_disk(&part.path, &error))?;
        self.forget(part.len);
        part.len = 0;
        part.sums = Sums::new(part.expected.as_ref(), self.file.bytes);
        self.etag = None;
        Ok(())
    }

    /// So many bytes are not there after all.
    fn forget(&self, bytes: u64) {
        let less = |done: u64| Some(done.saturating_sub(bytes));
        let _ = self.done.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

/// Where `bytes 5-9/10` begins.
fn start(range: &str) -> Option<u64> {
    range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

fn len_of(answer: &Answer) -> Option<u64> {
    answer.header("content-length")?.parse().ok()
}

/// What the system says of the disk, with what would help.
pub(super) fn of_disk(path: &Path, error: &io::Error) -> Trouble {
    let remedy = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; make room, and pull again: what is there is kept"
        }
        io::ErrorKind::PermissionDenied => "; make the folder writable, or name another with --to",
        _ => "",
    };
    Trouble::Away(format!("{}: {error}{remedy}", path.display()))
}
