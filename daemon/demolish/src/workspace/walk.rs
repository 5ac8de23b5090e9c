//! Walks the files of a workspace, a few entries at a time, as git would see them.
//!
//! `.gitignore`, `.ignore` and `.git/info/exclude` hold also where there is no repository. Hidden files, links and other file systems
//! are left out, so that there are no loops. The order is that of the names, and the folder in which somebody works comes first: if
//! the tree is too large, that is what is there.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ignore::{DirEntry, WalkBuilder};

use super::judge;

/// Entries of a tree, files and folders, that one walk looks at.
pub(super) const ENTRIES_MAX: usize = 200_000;
/// Folders inside folders; what lies deeper is left out.
const DEPTH_MAX: usize = 64;

/// A file that is to be read, unless its stamp is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// From the root.
    pub(super) path: PathBuf,
    pub(super) stamp: Stamp,
}

/// What tells one text of a file from the next without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
}

/// A walk that goes on whenever it is told to.
pub(super) struct Walk {
    root: PathBuf,
    walks: Vec<ignore::Walk>,
    /// The hashes of the paths that it has come by.
    seen: HashSet<u64>,
    entries: usize,
    entries_max: usize,
}

impl Walk {
    /// A walk of `root` that begins with its folder `near`.
    pub(super) fn new(root: &Path, near: &Path, entries_max: usize) -> Walk {
        let mut walks = vec![walker(root, root).build()];
        if near != root && near.starts_with(root) {
            walks.push(walker(root, near).build());
        }
        Walk { root: root.to_owned(), walks, seen: HashSet::new(), entries: 0, entries_max }
    }

    /// Looks at up to `entries` entries. `None`: the walk is over.
    pub(super) fn step(&mut self, entries: usize) -> Option<Vec<Found>> {
        let mut found = Vec::new();
        for _ in 0..entries {
            if self.is_cut() {
                self.walks.clear();
            }
            let Some(entry) = self.next() else {
                return (!found.is_empty()).then_some(found);
            };
            self.entries += 1;
            found.extend(entry.ok().and_then(|entry| self.look(&entry)));
        }
        Some(found)
    }

    fn next(&mut self) -> Option<Result<DirEntry, ignore::Error>> {
        loop {
            match self.walks.last_mut()?.next() {
                Some(entry) => return Some(entry),
                None => self.walks.pop(),
            };
        }
    }

    fn look(&mut self, entry: &DirEntry) -> Option<Found> {
        let path = entry.path().strip_prefix(&self.root).ok()?;
        let is_file = entry.file_type().is_some_and(|kind| kind.is_file());
        if !is_file || !judge::is_code(path) {
            return None;
        }
        // What has vanished or has grown too long is not seen, so that what was known of it goes.
        let stamp = Stamp::of(&entry.metadata().ok()?);
        let is_new = stamp.length <= judge::FILE_BYTES_MAX && self.seen.insert(hash(path));
        is_new.then(|| Found { path: path.to_owned(), stamp })
    }

    /// Whether there was more than it may look at.
    pub(super) fn is_cut(&self) -> bool {
        self.entries >= self.entries_max
    }

    /// Whether it has come by a file.
    pub(super) fn has_seen(&self, path: &Path) -> bool {
        self.seen.contains(&hash(path))
    }
}

fn hash(path: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

impl Stamp {
    fn of(found: &std::fs::Metadata) -> Stamp {
        Stamp { length: found.len(), modified: found.modified().ok() }
    }
}

/// The stamp of one file, if a walk of the whole tree would find it.
pub(super) fn find(root: &Path, path: &Path) -> Option<Stamp> {
    if !judge::is_code(path) {
        return None;
    }
    let wanted = root.join(path);
    let mut walker = walker(root, root);
    let on_the_way = wanted.clone();
    walker.filter_entry(move |entry| {
        on_the_way.starts_with(entry.path()) && (entry.depth() == 0 || is_entered(entry))
    });
    let mut entries = walker.build().filter_map(Result::ok);
    let entry = entries.find(|entry| entry.path() == wanted)?;
    let stamp = Stamp::of(&entry.metadata().ok()?);
    let is_file = entry.file_type().is_some_and(|kind| kind.is_file());
    (is_file && stamp.length <= judge::FILE_BYTES_MAX).then_some(stamp)
}

fn walker(root: &Path, from: &Path) -> WalkBuilder {
    let mut walker = WalkBuilder::new(from);
    walker
        .follow_links(false)
        .same_file_system(true)
        .require_git(false)
        .current_dir(root)
        .max_depth(Some(DEPTH_MAX))
        .sort_by_file_name(Ord::cmp)
        .filter_entry(|entry| entry.depth() == 0 || is_entered(entry));
    walker
}

fn is_entered(entry: &DirEntry) -> bool {
    let is_folder = entry.file_type().is_some_and(|kind| kind.is_dir());
    !is_folder || entry.file_name().to_str().is_some_and(judge::enters)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests write files")]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    fn walked(root: &Path, near: &Path, entries_max: usize) -> (Vec<String>, bool) {
        let mut walk = Walk::new(root, near, entries_max);
        let mut found = Vec::new();
        while let Some(some) = walk.step(3) {
            found.extend(some.into_iter().map(|found| found.path.display().to_string()));
        }
        (found, walk.is_cut())
    }

    #[test]
    fn what_git_ignores_is_not_seen() {
        let dir = tree(&[
            (".git/info/exclude", "private.py\n"),
            (".gitignore", "build/\n*.gen.py\n"),
            (".ignore", "notes.py\n"),
            ("a.py", ""),
            ("b.gen.py", ""),
            ("build/c.py", ""),
            ("node_modules/d.js", ""),
            ("notes.py", ""),
            ("private.py", ""),
            ("src/.gitignore", "local.py\n"),
            ("src/.hidden.py", ""),
            ("src/e.py", ""),
            ("src/local.py", ""),
        ]);
        let root = dir.path();
        assert_eq!(
            walked(root, root, 100),
            (vec!["a.py".to_owned(), "src/e.py".to_owned()], false)
        );
        for (path, is_there) in [
            ("a.py", true),
            ("src/e.py", true),
            ("src/local.py", false),
            ("build/c.py", false),
            ("private.py", false),
            ("node_modules/d.js", false),
            ("gone.py", false),
            ("src/.hidden.py", false),
        ] {
            assert_eq!(find(root, Path::new(path)).is_some(), is_there, "{path}");
        }
    }

    #[test]
    fn the_near_folder_comes_first_and_nothing_twice() {
        let dir = tree(&[
            ("a.py", ""),
            ("m/b.py", ""),
            ("z/c.py", ""),
            ("z/.gitignore", "d.py"),
            ("z/d.py", ""),
        ]);
        let root = dir.path();
        let (found, _) = walked(root, &root.join("z"), 100);
        assert_eq!(found, ["z/c.py", "a.py", "m/b.py"]);
    }

    #[test]
    fn rules_above_the_near_folder_hold_in_it() {
        let dir = tree(&[(".gitignore", "d.py\n"), ("z/c.py", ""), ("z/d.py", "")]);
        assert_eq!(walked(dir.path(), &dir.path().join("z"), 100).0, ["z/c.py"]);
    }

    #[test]
    fn a_tree_that_is_too_large_is_cut() {
        let files: Vec<(String, &str)> =
            (0..50).map(|n| (format!("d{}/f{n}.py", n % 5), "")).collect();
        let files: Vec<(&str, &str)> =
            files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
        let dir = tree(&files);
        let (found, cut) = walked(dir.path(), dir.path(), 20);
        assert!(cut && found.len() < 20, "{found:?}");
        assert_eq!(walked(dir.path(), dir.path(), 1000).0.len(), 50);
    }

    #[test]
    fn what_has_grown_too_long_is_not_seen_any_more() {
        let dir = tree(&[("a.py", "a = 1\n"), ("b.py", "b = 1\n")]);
        std::fs::File::create(dir.path().join("b.py"))
            .and_then(|file| file.set_len(judge::FILE_BYTES_MAX + 1))
            .unwrap();
        let mut walk = Walk::new(dir.path(), dir.path(), 100);
        while walk.step(3).is_some() {}
        let seen = ["a.py", "b.py"].map(|path| walk.has_seen(Path::new(path)));
        assert_eq!(seen, [true, false]);
    }

    #[test]
    fn loops_unreadable_folders_and_empty_trees_are_borne() {
        let dir = tree(&[("a/b.py", ""), ("locked/c.py", "")]);
        symlink(dir.path(), dir.path().join("a/loop")).unwrap();
        symlink("self.py", dir.path().join("self.py")).unwrap();
        let locked = dir.path().join("locked");
        std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o000)).unwrap();
        let (found, cut) = walked(dir.path(), dir.path(), 100);
        std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(found[0], "a/b.py");
        assert!(
            !cut && found.len() <= 2,
            "who may read everything sees the locked one too: {found:?}"
        );
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(walked(empty.path(), empty.path(), 100), (Vec::new(), false));
        assert_eq!(walked(&empty.path().join("gone"), empty.path(), 100), (Vec::new(), false));
    }
}
