//! A hub of models on this machine, with all the faults that hubs have. It speaks the two paths of Hugging Face's layout; large files
//! are redirected to another path of the same server, or to another server, as hubs do it.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// A file of the hub.
#[derive(Debug, Clone)]
pub struct File {
    /// What it holds.
    pub bytes: Vec<u8>,
    /// The SHA-256 that the hub tells of it; such files are redirected.
    pub sha256: Option<String>,
}

/// What goes wrong.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// The connection ends after so many bytes of a body, so many times.
    pub cut: Option<(usize, u32)>,
    /// Ranges are ignored: everything is sent again.
    pub ignores_ranges: bool,
    /// A byte of this file is changed on its way, so many times.
    pub wrong: Option<(String, u32)>,
    /// Nothing is sent after the head of an answer, so many times.
    pub hangs: u32,
    /// Another status for every request, with the hub's word for the reason.
    pub status: Option<(u16, &'static str)>,
    /// The listing says no checksums.
    pub hides_sums: bool,
    /// The `ETag` changes with every answer.
    pub changes_etags: bool,
    /// No answer has an `ETag`.
    pub hides_etags: bool,
    /// Ranges are given of whatever version there is.
    pub ignores_versions: bool,
    /// The listing says no commit, and files are asked for at the branch `main`.
    pub hides_commit: bool,
    /// After so many bytes of a body nothing more is sent, and the connection stays.
    pub holds: Option<usize>,
    /// Large files are redirected to the hub at this address.
    pub elsewhere: Option<String>,
}

/// The hub. It ends with the process.
#[derive(Clone)]
pub struct Hub {
    /// Its address, such as `http://127.0.0.1:4711`.
    pub url: String,
    inner: Arc<Inner>,
}

struct Inner {
    repo: String,
    files: Mutex<BTreeMap<String, File>>,
    faults: Mutex<Faults>,
    requests: Mutex<Vec<String>>,
    commit: Mutex<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// Starts a hub with one repository.
    ///
    /// # Panics
    /// There is no port to listen on.
    #[must_use]
    pub fn start(repo: &str, files: impl IntoIterator<Item = (String, File)>) -> Hub {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port to listen on");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let inner = Arc::new(Inner {
            repo: repo.to_owned(),
            files: Mutex::new(files.into_iter().collect()),
            faults: Mutex::default(),
            requests: Mutex::default(),
            commit: Mutex::new("c0ffee".to_owned()),
        });
        let hub = Hub { url, inner };
        let own = hub.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let hub = own.clone();
                thread::spawn(move || hub.serve(&stream));
            }
        });
        hub
    }

    /// What goes wrong from now on.
    pub fn fail(&self, faults: Faults) {
        *lock(&self.inner.faults) = faults;
    }

    /// The repository has other files from now on, at another commit.
    pub fn change(&self, commit: &str, name: &str, file: File) {
        *lock(&self.inner.commit) = commit.to_owned();
        lock(&self.inner.files).insert(name.to_owned(), file);
    }

    /// The repository does not have this file any longer.
    pub fn lose(&self, name: &str) {
        lock(&self.inner.files).remove(name);
    }

    /// The heads of all requests so far, since the last call.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.inner.requests))
    }

    fn serve(&self, stream: &TcpStream) {
        let mut head = String::new();
        let mut reader = BufReader::new(stream);
        while !head.ends_with("\r\n\r\n") {
            if !matches!(reader.read_line(&mut head), Ok(count) if count > 0) {
                return;
            }
        }
        lock(&self.inner.requests).push(head.clone());
        // The client may be gone; that is its right.
        let _ = self.answer(stream, &head);
    }

    fn answer(&self, stream: &TcpStream, head: &str) -> std::io::Result<()> {
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let (faults, commit) = (lock(&self.inner.faults).clone(), lock(&self.inner.commit).clone());
        if let Some((status, code)) = faults.status {
            return respond(stream, status, &format!("X-Error-Code: {code}\r\n"), b"");
        }
        let repo = &self.inner.repo;
        if path.starts_with(&format!("/api/models/{repo}/revision/")) {
            let mut listing = self.listing(&commit, faults.hides_sums);
            if faults.hides_commit {
                listing["sha"] = Value::Null;
            }
            let body = listing.to_string();
            return respond(stream, 200, "Content-Type: application/json\r\n", body.as_bytes());
        }
        let commit = if faults.hides_commit { "main".to_owned() } else { commit };
        let resolved = path.strip_prefix(&format!("/{repo}/resolve/{commit}/"));
        let name = resolved.or(path.strip_prefix("/cdn/")).unwrap_or_default();
        let Some(file) = lock(&self.inner.files).get(name).cloned() else {
            return respond(stream, 404, "X-Error-Code: RepoNotFound\r\n", b"");
        };
        match (&file.sha256, resolved) {
            (Some(sum), Some(name)) => {
                let place = faults.elsewhere.as_deref().unwrap_or_default();
                let mut head = format!("Location: {place}/cdn/{name}\r\n");
                if !faults.hides_etags {
                    head += &format!("X-Linked-Etag: \"{sum}\"\r\n");
                }
                respond(stream, 302, &head, b"")
            }
            _ => self.send(stream, head, name, file, &faults),
        }
    }

    fn listing(&self, commit: &str, hides_sums: bool) -> Value {
        let sibling = |(name, file): (&String, &File)| {
            let size = file.bytes.len();
            match &file.sha256 {
                _ if hides_sums => json!({"rfilename": name, "size": size}),
                Some(sum) => {
                    json!({"rfilename": name, "size": size, "lfs": {"sha256": sum, "size": size}})
                }
                None => json!({"rfilename": name, "size": size}),
            }
        };
        let siblings: Vec<Value> = lock(&self.inner.files).iter().map(sibling).collect();
        json!({"sha": commit, "siblings": siblings})
    }

    fn send(
        &self,
        mut stream: &TcpStream,
        head: &str,
        name: &str,
        file: File,
        faults: &Faults,
    ) -> std::io::Result<()> {
        let etag = match faults.changes_etags {
            true => format!("\"version-{}\"", lock(&self.inner.requests).len()),
            false => format!("\"{}-{}\"", file.bytes.len(), lock(&self.inner.commit)),
        };
        let header = |name: &str| {
            let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let is_same =
            faults.ignores_versions || header("if-range").is_none_or(|asked| asked == etag);
        let range = header("range").filter(|_| is_same && !faults.ignores_ranges);
        let start = range.and_then(|range| {
            range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok()
        });
        let total = file.bytes.len();
        let mut body = file.bytes[start.unwrap_or(0).min(total)..].to_vec();
        let spoil = |faults: &mut Faults| {
            let wrong = faults.wrong.as_mut().filter(|(wrong, _)| wrong == name);
            wrong.map_or(0, |(_, times)| count(times))
        };
        if self.happens(spoil)
            && let Some(byte) = body.last_mut()
        {
            *byte ^= 1;
        }
        let mut lines = format!("Content-Length: {}\r\n", body.len());
        if !faults.hides_etags {
            lines += &format!("ETag: {etag}\r\n");
        }
        let status = match start {
            Some(start) => {
                lines += &format!("Content-Range: bytes {start}-{}/{total}\r\n", total - 1);
                "206 Partial Content"
            }
            None => "200 OK",
        };
        write!(stream, "HTTP/1.1 {status}\r\n{lines}Connection: close\r\n\r\n")?;
        stream.flush()?;
        if self.happens(|faults| count(&mut faults.hangs)) {
            thread::sleep(Duration::from_secs(3600));
        }
        let cut = faults.cut.map(|(bytes, _)| bytes).filter(|bytes| *bytes < body.len());
        let cut = cut.filter(|_| {
            self.happens(|faults| faults.cut.as_mut().map_or(0, |(_, times)| count(times)))
        });
        let held = faults.holds.filter(|bytes| *bytes < body.len());
        stream.write_all(&body[..held.or(cut).unwrap_or(body.len())])?;
        if held.is_some() {
            stream.flush()?;
            thread::sleep(Duration::from_secs(3600));
        }
        Ok(())
    }

    /// Whether a fault still has to happen; it has happened once more then.
    fn happens(&self, times_left: impl FnOnce(&mut Faults) -> u32) -> bool {
        times_left(&mut lock(&self.inner.faults)) > 0
    }
}

/// How often it still has to happen, which is once less from now on.
fn count(times: &mut u32) -> u32 {
    let left = *times;
    *times = left.saturating_sub(1);
    left
}

fn respond(mut stream: &TcpStream, status: u16, head: &str, body: &[u8]) -> std::io::Result<()> {
    let len = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} Said\r\n{head}Content-Length: {len}\r\nConnection: close\r\n\r\n"
    )?;
    stream.write_all(body)
}
