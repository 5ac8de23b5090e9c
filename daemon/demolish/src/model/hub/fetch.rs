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
use super::manifest::{Held, Version, with_part};
use super::{Trouble, Url};

/// How often in a row nothing may come before a file is given up.
const RETRIES_MAX: u32 = 5;
/// What helps when a hub was given up.
pub(super) const AGAIN: &str =
    "look at the network and the hub, and give the same command again: what came is kept";

/// What is to be brought.
pub(super) struct Job<'j> {
    pub(super) client: &'j Client,
    pub(super) url: Url,
    pub(super) file: &'j Remote,
    pub(super) dir: &'j Path,
    /// The version of which a part is there.
    pub(super) version: Version,
    /// Remembers it.
    pub(super) keep: &'j dyn Fn(&Version),
    /// Bytes that are there, of all files.
    pub(super) done: &'j AtomicU64,
    /// How many of them are this file's.
    pub(super) counted: u64,
    /// The most that there ever were of this file.
    pub(super) greatest: u64,
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
            let before = self.greatest;
            match self.attempt().await {
                Err(Trouble::Wrong(why)) => {
                    wrong += 1;
                    if wrong > 1 {
                        return Err(Trouble::Wrong(why));
                    }
                    self.version = Version::default();
                    self.greatest = 0;
                }
                Err(Trouble::Passing(why)) => {
                    let came = self.greatest > before;
                    idle = if came { 1 } else { idle + 1 };
                    if idle > RETRIES_MAX {
                        return Err(Trouble::Away(format!("{why}; tried {idle} times; {AGAIN}")));
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
        if part.len == 0 || self.bytes() != Some(part.len) {
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
        self.count(0);
        Err(Trouble::Wrong(wrong))
    }

    /// Opens what is there, and sums it up.
    fn open(&mut self, path: &Path) -> Result<Part, Trouble> {
        let part_path = with_part(path);
        let open = || -> io::Result<Part> {
            if let Some(folder) = part_path.parent() {
                fs::create_dir_all(folder)?;
            }
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            let mut file = options.open(&part_path)?;
            let expected = self.expected();
            let mut sums = Sums::new(expected.as_ref(), self.bytes());
            // Without a name for the version, and without a checksum, nobody would know whether the rest belongs to it.
            let is_known = expected.is_some() || self.version.etag.is_some();
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
        let part = open().map_err(|error| of_disk(&part_path, &error))?;
        self.count(part.len);
        Ok(part)
    }

    /// The checksum of the listing, or else the one that came with the part that is there.
    fn expected(&self) -> Option<Expected> {
        let kept = || Expected::of_etag(self.version.sum.as_deref()?);
        self.file.expected.clone().or_else(kept)
    }

    /// The length of the whole, from the same places.
    fn bytes(&self) -> Option<u64> {
        self.file.bytes.or(self.version.bytes)
    }

    /// Asks for what is missing, and writes it.
    async fn bring(&mut self, part: &mut Part) -> Result<(), Trouble> {
        let mut headers = Vec::new();
        if part.len > 0 {
            headers.push((RANGE, format!("bytes={}-", part.len)));
            if let Some(etag) = &self.version.etag {
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
        if is_part && (begin != Some(part.len) || self.is_other(&answer)) {
            self.restart(part)?;
            return Err(Trouble::Passing(format!("{place}: another part came than was asked for")));
        }
        if !is_part && part.len > 0 {
            // It sends everything again.
            self.restart(part)?;
        }
        self.learn(&answer, part);
        let total = len_of(&answer).map(|len| part.len.saturating_add(len));
        let failed = |error: io::Error| of_disk(&part.path, &error);
        part.file.seek(SeekFrom::Start(part.len)).map_err(failed)?;
        while let Some(bytes) = answer.more().await? {
            part.file.write_all(&bytes).map_err(failed)?;
            part.sums.add(&bytes);
            part.len += bytes.len() as u64;
            self.count(part.len);
            if self.file.bytes.is_some_and(|most| part.len > most) {
                return Ok(()); // Too much already: what is sent is not what was listed.
            }
        }
        match total.or(self.bytes()) {
            Some(total) if part.len < total => Err(Trouble::Passing(format!("{place}: cut off"))),
            _ => Ok(()),
        }
    }

    /// What the answer says of the file, where the listing did not.
    fn learn(&mut self, answer: &Answer, part: &mut Part) {
        let before = self.version.clone();
        if let Some(etag) = strong_etag(answer) {
            self.version.etag = Some(etag.to_owned());
        }
        if part.len == 0 {
            self.version.bytes = self.file.bytes.or(len_of(answer));
            if part.expected.is_none() {
                let linked = answer.hub_header("x-linked-etag").or(answer.hub_header("etag"));
                part.expected = linked.and_then(Expected::of_etag);
                self.version.sum = part.expected.as_ref().map(|sum| sum.digits().to_owned());
            }
            part.sums = Sums::new(part.expected.as_ref(), self.version.bytes);
        }
        if self.version != before {
            (self.keep)(&self.version);
        }
    }

    /// Whether the rest that a server sends is of another version than the part that is there, although `If-Range` said which.
    fn is_other(&self, answer: &Answer) -> bool {
        let differ = |kept: Option<&str>, told: Option<&str>| {
            kept.zip(told).is_some_and(|(kept, told)| kept != told)
        };
        let linked = answer.hub_header("x-linked-etag").and_then(Expected::of_etag);
        let total = answer.header("content-range").and_then(whole);
        differ(self.version.etag.as_deref(), strong_etag(answer))
            || differ(self.version.sum.as_deref(), linked.as_ref().map(Expected::digits))
            || self.bytes().zip(total).is_some_and(|(kept, told)| kept != told)
    }

    fn restart(&mut self, part: &mut Part) -> Result<(), Trouble> {
        part.file.set_len(0).map_err(|error| of_disk(&part.path, &error))?;
        self.count(0);
        part.len = 0;
        self.version = Version::default();
        part.expected = self.file.expected.clone();
        part.sums = Sums::new(part.expected.as_ref(), self.file.bytes);
        Ok(())
    }

    /// So many bytes of this file are there now.
    fn count(&mut self, len: u64) {
        let change = |done: u64| Some(done.saturating_sub(self.counted).saturating_add(len));
        let _ = self.done.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
        self.counted = len;
        self.greatest = self.greatest.max(len);
    }
}

/// What the server calls exactly these bytes.
fn strong_etag(answer: &Answer) -> Option<&str> {
    answer.header("etag").filter(|etag| !etag.starts_with("W/"))
}

/// The length of the whole, of which `bytes 5-9/10` is a part.
fn whole(range: &str) -> Option<u64> {
    range.rsplit_once('/')?.1.parse().ok()
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
