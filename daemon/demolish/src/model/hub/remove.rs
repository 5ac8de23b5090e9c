//! Takes away what a pull brought, and nothing else.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::manifest::{self, MANIFEST_FILE, PULL_FILE, with_part};
use super::names;

/// Removes the files that the folder's notes name, the notes, and the folders that are empty then. Says how many things of the
/// user's stay in the folder.
///
/// # Errors
/// A pull writes there, or the system does not let us: one sentence with the place.
pub(crate) fn remove(dir: &Path) -> Result<usize, String> {
    let failed = |path: &Path, error: &io::Error| format!("{}: {error}", path.display());
    let lock = File::open(dir).map_err(|error| failed(dir, &error))?;
    if lock.try_lock().is_err() {
        return Err(format!("a pull writes into {}; end it first", dir.display()));
    }
    let mut brought = BTreeSet::new();
    for held in manifest::manifest(dir).into_iter().flat_map(|manifest| manifest.files) {
        brought.insert(held.name);
    }
    if let Some(begun) = manifest::unfinished(dir) {
        brought.extend(begun.files);
        brought.extend(begun.obsolete);
        brought.extend(begun.done.into_keys());
        brought.extend(begun.versions.into_keys());
    }
    // Somebody may have written the notes who wants more to be removed than a pull would write.
    brought.retain(|name| names::trouble(name).is_none());
    // The notes go last: until then the same command can go on.
    let notes = [MANIFEST_FILE, PULL_FILE].map(str::to_owned);
    for path in brought.iter().chain(&notes).map(|name| dir.join(name)) {
        for path in [with_part(&path), path] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed(&path, &error));
                }
                _ => {}
            }
        }
    }
    for name in &brought {
        // Folders that are not empty stay.
        for folder in Path::new(name).ancestors().skip(1).filter(|folder| *folder != Path::new(""))
        {
            let _ = fs::remove_dir(dir.join(folder));
        }
    }
    let left = fs::read_dir(dir).map_err(|error| failed(dir, &error))?.count();
    if left == 0 {
        fs::remove_dir(dir).map_err(|error| failed(dir, &error))?;
    }
    Ok(left)
}
