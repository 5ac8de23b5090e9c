//! What has changed on disk behind the servers' backs: a branch that was checked out, a file that another program wrote.
//!
//! A server that is not told goes on judging by what it read once. Editors rarely tell (Neovim does not, by default), so a
//! twin looks for itself: at the files of its language below its root, as many as are looked at in a moment.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The most files and folders that one look takes in; what is beyond is not noticed.
const ENTRIES_MAX: usize = 4000;
/// Folders that are not the user's own code, or too large to look through.
const PASSED_OVER: &[&str] =
    &["node_modules", "target", "__pycache__", "site-packages", "dist", "build", "venv"];

/// How a file has changed; the numbers are the protocol's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Created = 1,
    Changed = 2,
    Deleted = 3,
}

/// The files as they were at the last look.
#[derive(Debug, Default)]
pub(super) struct Disk {
    seen: Option<HashMap<PathBuf, SystemTime>>,
}

impl Disk {
    /// Looks again; what has changed since the last look. The first one finds nothing.
    pub(super) fn look(
        &mut self,
        root: &Path,
        is_ours: &dyn Fn(&Path) -> bool,
    ) -> Vec<(PathBuf, Change)> {
        let now = files(root, is_ours);
        let Some(before) = self.seen.replace(now) else { return Vec::new() };
        let Some(now) = &self.seen else { return Vec::new() };
        let mut changes: Vec<(PathBuf, Change)> = now
            .iter()
            .filter_map(|(path, time)| match before.get(path) {
                None => Some((path.clone(), Change::Created)),
                Some(old) if old != time => Some((path.clone(), Change::Changed)),
                Some(_) => None,
            })
            .collect();
        let gone = before.keys().filter(|path| !now.contains_key(*path));
        changes.extend(gone.map(|path| (path.clone(), Change::Deleted)));
        changes.sort_by(|a, b| a.0.cmp(&b.0));
        changes
    }
}

fn files(root: &Path, is_ours: &dyn Fn(&Path) -> bool) -> HashMap<PathBuf, SystemTime> {
    let mut found = HashMap::new();
    let mut folders = std::collections::VecDeque::from([root.to_owned()]);
    let mut left = ENTRIES_MAX;
    while let Some(folder) = folders.pop_front() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            if left == 0 {
                return found;
            }
            left -= 1;
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                if !name.starts_with('.') && !PASSED_OVER.contains(&&*name) {
                    folders.push_back(path);
                }
            } else if is_ours(&path)
                && let Ok(time) = entry.metadata().and_then(|meta| meta.modified())
            {
                found.insert(path, time);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "the files are the test's own")]
    fn changes_are_noticed_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(path("src/node_modules")).unwrap();
        for name in ["a.py", "src/b.py", "src/node_modules/c.py", "notes.txt"] {
            std::fs::write(path(name), "").unwrap();
        }
        let mut disk = Disk::default();
        let mut look = || {
            disk.look(dir.path(), &|path| {
                path.extension().is_some_and(|extension| extension == "py")
            })
        };
        assert_eq!(look(), []);
        assert_eq!(look(), []);
        let past = SystemTime::UNIX_EPOCH;
        std::fs::File::open(path("a.py")).unwrap().set_modified(past).unwrap();
        std::fs::remove_file(path("src/b.py")).unwrap();
        std::fs::write(path("src/d.py"), "").unwrap();
        std::fs::write(path("src/node_modules/c.py"), "x").unwrap();
        let expected = [
            (path("a.py"), Change::Changed),
            (path("src/b.py"), Change::Deleted),
            (path("src/d.py"), Change::Created),
        ];
        assert_eq!(look(), expected);
        assert_eq!(look(), []);
    }
}
